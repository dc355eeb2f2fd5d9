//! An experiment with its results, the input of tables, claims and figures.

use std::collections::BTreeSet;

use super::cell::Cell;
use super::experiment::Experiment;
use super::quantity::Quantity;
use super::results::{Record, Store, Trained};
use crate::lab::analysis::stats::Mean;

/// A cell and its results, by ascending seed.
pub struct CellResults<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// A result for each seed that has one.
    pub records: Vec<&'a Record>,
}

/// An experiment and its results.
pub struct ExperimentResults<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// All results, of this and other experiments.
    pub store: &'a Store,
    /// The cells, in the order of the experiment.
    pub cells: Vec<CellResults<'a>>,
}

impl<'a> ExperimentResults<'a> {
    /// Finds the results of an experiment for every seed in the store.
    pub fn new(experiment: &'a Experiment, store: &'a Store) -> ExperimentResults<'a> {
        let seeds = store.seeds();
        let row = |cell: &'a Cell| {
            let configs = seeds.iter().filter_map(|&seed| cell.config(seed, store));
            CellResults { cell, records: configs.filter_map(|config| store.get(&config)).collect() }
        };
        ExperimentResults { experiment, store, cells: experiment.cells.iter().map(row).collect() }
    }

    /// Whether every cell has a result, except those matched to a network that diverged.
    pub fn is_complete(&self) -> bool {
        let seeds = self.store.seeds();
        let can_be =
            |row: &CellResults| seeds.iter().any(|&seed| row.cell.config(seed, self.store).is_some());
        !seeds.is_empty() && self.cells.iter().all(|row| !row.records.is_empty() || !can_be(row))
    }

    /// The results of the cell with this label.
    ///
    /// # Panics
    /// If there is no such cell: claims are part of the source, and a test judges all of them.
    pub fn cell(&self, label: &str) -> &CellResults<'a> {
        let found = self.cells.iter().find(|row| row.cell.label == label);
        found.unwrap_or_else(|| panic!("{}: no cell `{label}`", self.experiment.name))
    }

    /// The seeds for which any cell has a result.
    pub fn seeds(&self) -> BTreeSet<u64> {
        self.cells.iter().flat_map(|row| &row.records).map(|r| r.seed).collect()
    }
}

impl CellResults<'_> {
    /// The trained networks with their seeds.
    pub fn trained(&self) -> impl Iterator<Item = (u64, &Trained)> {
        self.records.iter().filter_map(|r| Some((r.seed, r.trained()?)))
    }

    /// The number of seeds whose training diverged.
    pub fn diverged(&self) -> usize {
        self.records.len() - self.trained().count()
    }

    /// The mean of any number over the seeds.
    pub fn mean_of(&self, value: impl Fn(&Trained) -> f64) -> Option<Mean> {
        Mean::of(&self.trained().map(|(_, t)| value(t)).collect::<Vec<_>>())
    }

    /// The mean of a quantity over the seeds.
    pub fn mean(&self, quantity: Quantity) -> Option<Mean> {
        self.mean_of(|t| quantity.of(t))
    }

    /// The value that the paper reports.
    pub fn paper(&self, quantity: Quantity) -> Option<f64> {
        self.cell.paper.iter().find(|(q, _)| *q == quantity).map(|(_, figure)| *figure)
    }

    /// A quantity of this and another cell for each seed that both have.
    pub fn pairs(&self, other: &CellResults, quantity: Quantity) -> Vec<(f64, f64)> {
        let same = |(seed, mine): (u64, &Trained)| {
            let (_, theirs) = other.trained().find(|(s, _)| *s == seed)?;
            Some((quantity.of(mine), quantity.of(theirs)))
        };
        self.trained().filter_map(same).collect()
    }

    /// Whether the trained networks are bit-identical for every seed that both have.
    pub fn is_same(&self, other: &CellResults) -> bool {
        let mut pairs = self.trained().filter_map(|(seed, mine)| {
            let (_, theirs) = other.trained().find(|(s, _)| *s == seed)?;
            Some(mine.digest == theirs.digest)
        });
        pairs.next() == Some(true) && pairs.all(|same| same)
    }
}
