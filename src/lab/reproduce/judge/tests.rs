//! Verdicts on synthetic results.

use super::*;
use crate::lab::reproduce::cell::Scale;
use crate::lab::reproduce::experiments;
use crate::lab::reproduce::fixtures::{filled, noise};
use crate::lab::reproduce::paper;

/// The verdicts on table 2 with these accuracies by label and seed.
fn table2(seeds: u64, accuracy: impl Fn(&str, u64) -> f64) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiments::named(&["table2".into()], Scale::Full).unwrap().remove(0);
    let store = filled(folder.path(), &[&experiment], seeds, |_, label, seed| accuracy(label, seed));
    let results = ExperimentResults::new(&experiment, &store);
    experiment.claims.iter().map(|claim| judge(claim, &results)).collect()
}

fn of<'a>(judged: &'a [Finding], says: &str) -> &'a Finding {
    judged.iter().find(|j| j.claim == says).unwrap()
}

#[test]
fn a_clear_difference_holds_and_its_opposite_fails() {
    let ordered = |best: &'static str, worst: &'static str| {
        table2(3, move |label, seed| {
            let base = [(best, 0.95), (worst, 0.85)].iter().find(|(l, _)| *l == label).map_or(0.9, |l| l.1);
            base + noise(label, seed)
        })
    };
    let judged = ordered("descending", "ascending");
    let best = of(&judged, "Descending is the most accurate schedule");
    assert_eq!((best.verdict, best.seeds), (Verdict::Holds, 3));
    assert!(best.evidence.starts_with("highest accuracy % here: descending, 95."), "{}", best.evidence);
    assert_eq!(of(&judged, "Ascending is the worst schedule").verdict, Verdict::Holds);
    let beats = of(&judged, "Descending beats uniform on MNIST");
    assert_eq!((beats.verdict, beats.word()), (Verdict::Holds, "held".into()));
    assert!(beats.evidence.starts_with("+5.0") && beats.evidence.ends_with("reported: +1.33"));

    let judged = ordered("ascending", "descending");
    for says in [
        "Descending is the most accurate schedule",
        "Ascending is the worst schedule",
        "Descending beats uniform on MNIST",
        "Descending beats the dense baseline (MLP, equal parameters)",
    ] {
        let found = of(&judged, says);
        assert_eq!((found.verdict, found.word()), (Verdict::Fails, "did not hold".into()), "{says}");
    }
}

#[test]
fn differences_below_the_noise_are_undecided() {
    let judged = table2(3, |label, seed| 0.9 + 100.0 * noise(label, seed));
    let beats = of(&judged, "Descending beats uniform on MNIST");
    assert_eq!((beats.verdict, beats.word()), (Verdict::Undecided, "cannot be decided with 3 seeds".into()));
    let best = of(&judged, "Descending is the most accurate schedule");
    assert_eq!(best.verdict, Verdict::Undecided);
    assert!(best.evidence.contains("descending is not significantly different from"), "{}", best.evidence);
}

#[test]
fn one_seed_decides_nothing() {
    let judged = table2(1, |label, _| if label == "descending" { 0.99 } else { 0.5 });
    for found in &judged {
        assert_eq!(found.word(), "cannot be decided with 1 seed", "{}", found.claim);
    }
}

#[test]
fn reported_values_in_the_interval_agree() {
    let paper = |label: &str| {
        let of_schedule =
            paper::TABLE2.iter().find(|row| crate::nn::schedule::Schedule::ALL.contains(&(row.0, label)));
        of_schedule.map_or(paper::TABLE2_MLP.0, |row| row.1)
    };
    let near = table2(3, |label, seed| (paper(label) + 0.1 * (seed as f64 - 2.0)) / 100.0);
    let found = of(&near, "Our accuracies agree with the paper's");
    assert_eq!(found.verdict, Verdict::Holds);
    assert!(found.evidence.contains("in 9 of 9 cells"), "{}", found.evidence);
    let far = table2(3, |label, seed| (paper(label) + 5.0 + 0.1 * (seed as f64 - 2.0)) / 100.0);
    let found = of(&far, "Our accuracies agree with the paper's");
    assert_eq!(found.verdict, Verdict::Fails);
    assert!(found.evidence.ends_with("ours minus reported: +5.00 to +5.00"), "{}", found.evidence);
}

#[test]
fn reported_values_count_as_rounded() {
    assert!(against(&[2.44, 2.44], 2.4).unwrap().p.unwrap() > LEVEL);
    assert!(against(&[2.46, 2.46], 2.4).unwrap().p.unwrap() < LEVEL);
    assert_eq!((decimals(30.0), decimals(2.12), decimals(1.5)), (0, 2, 1));
}

#[test]
fn layers_and_equal_networks() {
    let folder = tempfile::tempdir().unwrap();
    let all = experiments::named(&["table6".into(), "table7".into()], Scale::Full).unwrap();
    // All settings of tau give one network; all other networks differ.
    let store = filled(folder.path(), &[&all[0], &all[1]], 2, |_, label, seed| {
        let tau = label.starts_with("tau") || label.starts_with("percentile (token)");
        0.9 + 0.01 * seed as f64 + if tau { 0.0 } else { 1e-3 * label.len() as f64 }
    });
    let judged = |experiment| {
        let results = ExperimentResults::new(experiment, &store);
        let claims = results.experiment.claims.iter();
        claims.map(|claim| judge(claim, &results)).collect::<Vec<_>>()
    };
    // The synthetic networks give every token one expert.
    let literal = &judged(&all[0])[0];
    assert_eq!(literal.verdict, Verdict::Fails);
    assert!(
        literal.evidence.starts_with("1.00, 1.00, 1.00, 1.00 (reported: 2.4, 2.1"),
        "{}",
        literal.evidence
    );
    assert!(literal.evidence.ends_with("in 1 of 4 layers"), "{}", literal.evidence);
    let taus = judged(&all[1]);
    let tau = of(&taus, "The best tau is 0.7");
    assert_eq!(tau.verdict, Verdict::Undecided);
    assert!(tau.evidence.contains("tau 0.7 is bit-identical to tau 0.5, tau 0.6, tau 0.8, tau 0.9"));
}
