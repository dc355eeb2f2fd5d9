//! Tests of the report on synthetic results.

use super::super::cell::Match;
use super::super::fixtures::{filled, noise, trained};
use super::super::results::{Outcome, Record};
use super::*;

#[test]
fn the_report_follows_the_results() {
    let folder = tempfile::tempdir().unwrap();
    let all = experiments::all(Scale::Full);
    let table2 = all.iter().find(|e| e.name == "table2").unwrap();
    let mut store = filled(folder.path(), &[table2], 3, |_, label, seed| {
        let base = if label == "wave-up" { 0.97 } else { 0.96 };
        base + noise(label, seed)
    });
    let text = document::markdown(&compose(Scale::Full, &store).1);
    for part in [
        "# The first paper's experiments, reproduced",
        "27 networks were trained with seeds 1, 2, 3",
        "| Table 2: schedules on MNIST | 0 | ",
        "Not run, or incomplete: `table3`, `table4`",
        "## Table 2: schedules on MNIST",
        "| accuracy % | paper | best epoch % | epochs to 95% | paper |",
        "| descending | 96.0",
        "| 92.68 |",
        "**Did not hold:**",
        "- Descending is the most accurate schedule (highest accuracy % here: wave-up, 97.0",
        "**Undecided with this number of seeds:**",
        "- Descending beats uniform on MNIST (",
        "![Table 2: schedules on MNIST: accuracy with 95% intervals](figures/table2-accuracy.svg)",
        "## The best of all results",
        "| mnist small | `schedule=wave-up` | 97.0",
        "## Inconsistencies in the first paper",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("NaN") && !text.contains("smoke test"), "{text}");

    // The opposite order gives the opposite conclusion.
    drop(store);
    let folder = tempfile::tempdir().unwrap();
    store = filled(folder.path(), &[table2], 3, |_, label, seed| {
        let base = if label == "descending" { 0.97 } else { 0.96 };
        base + noise(label, seed)
    });
    let text = document::markdown(&compose(Scale::Full, &store).1);
    let held = text.split("**Held:**").nth(1).unwrap().split("**").next().unwrap();
    assert!(held.contains("Descending is the most accurate schedule") && held.contains("beats uniform"));
}

#[test]
fn every_section_can_be_written_and_html_contains_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let all = experiments::all(Scale::Quick);
    let unmatched = |e: &&Experiment| e.cells.iter().all(|c| c.matched == Match::None);
    let (plain, matched): (Vec<&Experiment>, Vec<&Experiment>) = all.iter().partition(unmatched);
    let order: Vec<&Experiment> = plain.into_iter().chain(matched).collect();
    let store =
        filled(folder.path(), &order, 2, |_, label, seed| 0.9 + 1e-4 * (label.len() as u64 + seed) as f64);
    assert!(all.iter().all(|e| Section::of(e, &store).is_some_and(|s| s.seeds == [1, 2])));
    write(folder.path(), Scale::Quick, &store).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (markdown, html) = (read("report.md"), read("report.html"));
    assert!(markdown.contains("This is a smoke test") && !markdown.contains("Not run"), "{markdown}");
    for experiment in &all {
        assert!(markdown.contains(&format!("## {}\n", experiment.title)), "{}", experiment.name);
    }
    let figures: Vec<&str> =
        markdown.split("](figures/").skip(1).map(|p| p.split(')').next().unwrap()).collect();
    assert!(figures.len() >= 7 && figures.iter().all(|f| read(&format!("figures/{f}")).starts_with("<svg")));
    assert_eq!(html.matches("<svg ").count(), figures.len());
    assert!(!html.contains("src=") && !html.contains("href="), "self-contained");
    // The same results give the same bytes.
    write(folder.path(), Scale::Quick, &store).unwrap();
    assert!(read("report.md") == markdown && read("report.html") == html);
}

#[test]
fn networks_that_diverged_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let all = experiments::all(Scale::Full);
    let table3 = all.iter().find(|e| e.name == "table3").unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    for (cell, seed) in table3.cells.iter().flat_map(|cell| [(cell, 1), (cell, 2)]) {
        let config = cell.config(seed, &store).unwrap();
        let outcome = match (&cell.label[..], seed) {
            ("E16-1", _) | ("E2-1", 1) => Outcome::Diverged("step 7".into()),
            _ => Outcome::Trained(Box::new(trained(0.9, &config.model.experts().unwrap_or_default()))),
        };
        store.append(Record::new(&config, outcome)).unwrap();
    }
    let section = Section::of(table3, &store).unwrap();
    let Block::Table { rows, .. } = &section.table else { panic!("a table") };
    let row = |label: &str| rows.iter().find(|row| row[0].starts_with(label)).unwrap();
    assert_eq!((&row("E16-1")[0][..], &row("E16-1")[1][..]), ("E16-1 (NaN in 2 of 2 seeds)", "–"));
    assert_eq!((&row("E2-1")[0][..], &row("E2-1")[1][..]), ("E2-1 (NaN in 1 of 2 seeds)", "90.00"));
    let beats = section.claims.iter().find(|c| c.claim.starts_with("E8-1 beats E16-1")).unwrap();
    assert_eq!((beats.word(), beats.seeds), ("cannot be decided without results".into(), 0));
}
