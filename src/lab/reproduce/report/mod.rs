//! The report, a function of the results alone: a section for each complete experiment, and inconsistencies of the
//! first paper.

mod best;
pub mod document;
mod extras;
mod fairness;
mod inconsistencies;
mod theory;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::cell::Scale;
use super::experiment::{Column, Experiment};
use super::experiment_results::{CellResults, ExperimentResults};
use super::experiments;
use super::judge::{Finding, judge};
use super::quantity::shown;
use super::results::{Record, Store};
use crate::engine::error::Result;
use crate::engine::files;
use crate::lab::analysis::stats::{Mean, Verdict};
use document::Block;

/// The results of one experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// Name.
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// Description.
    pub about: &'static str,
    /// The seeds with results.
    pub seeds: Vec<u64>,
    /// Whether results are missing for some cells and seeds.
    pub is_partial: bool,
    /// The table, a [`Block::Table`].
    pub table: Block,
    /// The claims with their verdicts.
    pub claims: Vec<Finding>,
    /// Further blocks.
    pub more: Vec<Block>,
}

impl Section {
    /// The section of an experiment; `None` if a cell has no result.
    pub fn of(experiment: &Experiment, store: &Store) -> Option<Section> {
        let results = ExperimentResults::new(experiment, store);
        results.is_complete().then(|| Section {
            name: experiment.name,
            title: experiment.title,
            about: experiment.about,
            is_partial: results.cells.iter().any(|row| row.records.len() < results.seeds().len()),
            seeds: results.seeds().into_iter().collect(),
            table: table(&results),
            claims: experiment.claims.iter().map(|claim| judge(claim, &results)).collect(),
            more: extras::blocks(&results),
        })
    }

    /// The number of claims with this verdict.
    fn count(&self, verdict: Verdict) -> usize {
        self.claims.iter().filter(|claim| claim.verdict == verdict).count()
    }

    fn blocks(&self) -> Vec<Block> {
        let partial = if self.is_partial { " (some networks lack some of these seeds)" } else { "" };
        let seeds = join(&self.seeds) + partial;
        let mut blocks = vec![
            Block::Heading(2, self.title.into()),
            Block::Text(format!("{} Seeds {seeds}. (`dynamoe reproduce {}`)", self.about, self.name)),
            self.table.clone(),
        ];
        blocks.extend(verdicts(&self.claims));
        blocks.extend(self.more.iter().cloned());
        blocks
    }
}

fn join(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// The claims, grouped by verdict.
fn verdicts(claims: &[Finding]) -> Vec<Block> {
    let groups = [
        (Verdict::Holds, "Held"),
        (Verdict::Fails, "Did not hold"),
        (Verdict::Undecided, "Undecided with this number of seeds"),
    ];
    let mut blocks = Vec::new();
    for (verdict, head) in groups {
        let lines = claims.iter().filter(|claim| claim.verdict == verdict);
        let lines: Vec<String> = lines.map(|c| format!("{} ({})", c.claim, c.evidence)).collect();
        if !lines.is_empty() {
            blocks.extend([Block::Text(format!("**{head}:**")), Block::List(lines)]);
        }
    }
    blocks
}

/// The experiment's table: means with 95% intervals, beside the reported values.
fn table(results: &ExperimentResults) -> Block {
    let columns = &results.experiment.columns;
    let has_paper = |column: &Column| match column {
        Column::Mean(quantity) => results.cells.iter().any(|row| row.paper(*quantity).is_some()),
        Column::Ratio(..) => false,
    };
    let mut head = vec![String::new()];
    for column in columns {
        head.push(match column {
            Column::Mean(quantity) => quantity.head().into(),
            Column::Ratio(quantity, label) => format!("{}, ratio to {label}", quantity.head()),
        });
        if has_paper(column) {
            head.push("paper".into());
        }
    }
    let none = || "–".to_string();
    let cells = |row: &CellResults| {
        let mut cells = vec![row.cell.label.clone()];
        for column in columns {
            cells.push(match column {
                Column::Mean(quantity) => {
                    row.mean(*quantity).map_or_else(none, |mean| shown(&mean, quantity.digits()))
                }
                Column::Ratio(quantity, label) => {
                    let ratios = row.pairs(results.cell(label), *quantity).into_iter().map(|(a, b)| a / b);
                    Mean::of(&ratios.collect::<Vec<_>>()).map_or_else(none, |mean| shown(&mean, 2))
                }
            });
            if let (true, Column::Mean(quantity)) = (has_paper(column), column) {
                cells.push(row.paper(*quantity).map_or_else(none, |figure| figure.to_string()));
            }
        }
        if row.diverged() > 0 {
            cells[0] += &format!(" (NaN in {} of {} seeds)", row.diverged(), row.records.len());
        }
        cells
    };
    Block::Table { head, rows: results.cells.iter().map(cells).collect() }
}

/// The report: title and blocks.
pub fn compose(scale: Scale, store: &Store) -> (&'static str, Vec<Block>) {
    let experiments = experiments::all(scale);
    let sections: Vec<Section> = experiments.iter().filter_map(|e| Section::of(e, store)).collect();
    let title = "The first paper's experiments, reproduced";
    let mut blocks = vec![Block::Heading(1, title.into())];
    if scale == Scale::Quick {
        let what = "**This is a smoke test (`--quick`): tiny networks, one epoch on the bundled digits or text in place of \
                    every data set. Its numbers say nothing about the paper.**";
        blocks.push(Block::Text(what.into()));
    }
    blocks.push(Block::Text(preface(store)));
    blocks.push(Block::Table {
        head: ["experiment", "held", "did not hold", "undecided"].map(String::from).into(),
        rows: sections.iter().filter(|s| !s.claims.is_empty()).map(summary).collect(),
    });
    let missing: Vec<String> = experiments
        .iter()
        .filter(|e| !sections.iter().any(|s| s.name == e.name))
        .map(|e| format!("`{}`", e.name))
        .collect();
    if !missing.is_empty() {
        blocks.push(Block::Text(format!("Not run, or incomplete: {}.", missing.join(", "))));
    }
    blocks.extend(sections.iter().flat_map(Section::blocks));
    blocks.extend(best::blocks(store));
    blocks.extend(inconsistencies::blocks(store));
    (title, blocks)
}

fn summary(section: &Section) -> Vec<String> {
    let counts = [Verdict::Holds, Verdict::Fails, Verdict::Undecided].map(|v| section.count(v).to_string());
    [section.title.to_string()].into_iter().chain(counts).collect()
}

/// How to read the numbers.
fn preface(store: &Store) -> String {
    let records: Vec<&Record> = store.records().collect();
    let versions: BTreeSet<&str> = records.iter().map(|r| r.version.as_str()).collect();
    let seconds: f64 =
        records.iter().filter_map(|r| r.trained()).map(|t| t.seconds.train + t.seconds.eval).sum();
    format!(
        "{} networks were trained with seeds {}, in {:.1} CPU hours, by dynamoe {}. A value such as 98.37 ± 0.12 is the \
         mean over seeds with its 95% interval (Student's t); without ± there is one seed, or all seeds agree to the \
         digits shown. A claim held or did not hold if a paired test over seeds is significant at the 5% level \
         (with Bonferroni's correction where a single difference refutes the claim); otherwise it is undecided with this \
         number of seeds. Reported values agree with ours if they do not differ significantly. Accuracies are those of \
         the test split after the last epoch; \"best epoch\" is selected on the test split, so it is optimistic. Papers: \
         [G] Gülmez, arXiv 2603.01697 (\"the paper\"); [H] Huang et al., arXiv 2403.07652. Every result is a line of \
         `{}` with the settings that reproduce it bit for bit: `dynamoe train --seed N --set KEY=VALUE ..`.",
        records.len(),
        join(&store.seeds().into_iter().collect::<Vec<_>>()),
        seconds / 3600.0,
        versions.into_iter().collect::<Vec<_>>().join(" and "),
        super::results::FILE,
    )
}

/// Writes `report.md`, `report.html` and the pictures into `folder`.
///
/// # Errors
/// I/O errors, with the path.
pub fn write(folder: &Path, scale: Scale, store: &Store) -> Result<()> {
    let (title, blocks) = compose(scale, store);
    let figures = folder.join(document::FIGURES);
    files::create_dir(&figures)?;
    for block in &blocks {
        if let Block::Figure { name, svg, .. } = block {
            files::write(&figures.join(format!("{name}.svg")), svg.as_bytes())?;
        }
    }
    files::write(&folder.join("report.md"), document::markdown(&blocks).as_bytes())?;
    files::write(&folder.join("report.html"), document::html(title, &blocks).as_bytes())
}

#[cfg(test)]
mod tests;
