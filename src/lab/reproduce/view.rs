//! An experiment together with its results: what tables, claims and figures are read from.

use std::collections::BTreeSet;

use super::cell::Cell;
use super::experiments::Experiment;
use super::quantity::Quantity;
use super::results::{Record, Store, Trained};
use crate::lab::analysis::stats::Mean;

/// A cell and its results, by rising seeds.
pub struct Row<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// A result for each seed that has one.
    pub records: Vec<&'a Record>,
}

/// An experiment and its results.
pub struct View<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// All results, of this and other experiments.
    pub store: &'a Store,
    /// Its cells in order.
    pub rows: Vec<Row<'a>>,
}

impl<'a> View<'a> {
    /// Finds the results of an experiment, under every seed that the store knows.
    pub fn new(experiment: &'a Experiment, store: &'a Store) -> View<'a> {
        let seeds = store.seeds();
        let row = |cell: &'a Cell| {
            let configs = seeds.iter().filter_map(|&seed| cell.config(seed, store));
            Row { cell, records: configs.filter_map(|config| store.get(&config)).collect() }
        };
        View { experiment, store, rows: experiment.cells.iter().map(row).collect() }
    }

    /// Whether every cell has a result, except those that are made equal to a network that diverged.
    pub fn is_complete(&self) -> bool {
        let seeds = self.store.seeds();
        let can_be = |row: &Row| seeds.iter().any(|&seed| row.cell.config(seed, self.store).is_some());
        !seeds.is_empty() && self.rows.iter().all(|row| !row.records.is_empty() || !can_be(row))
    }

    /// The row with this label.
    ///
    /// # Panics
    /// If there is none: claims are written by hand, and a test judges all of them.
    pub fn row(&self, label: &str) -> &Row<'a> {
        let found = self.rows.iter().find(|row| row.cell.label == label);
        found.unwrap_or_else(|| panic!("{}: no cell `{label}`", self.experiment.name))
    }

    /// The seeds that any cell has a result for.
    pub fn seeds(&self) -> BTreeSet<u64> {
        self.rows.iter().flat_map(|row| &row.records).map(|r| r.seed).collect()
    }
}

impl Row<'_> {
    /// Its trained networks with their seeds.
    pub fn trained(&self) -> impl Iterator<Item = (u64, &Trained)> {
        self.records.iter().filter_map(|r| Some((r.seed, r.trained()?)))
    }

    /// How many seeds ended in NaN or infinity.
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

    /// What a paper reports of it.
    pub fn paper(&self, quantity: Quantity) -> Option<f64> {
        self.cell.paper.iter().find(|(q, _)| *q == quantity).map(|(_, figure)| *figure)
    }

    /// A quantity of this and of another row under each seed that both have.
    pub fn pairs(&self, other: &Row, quantity: Quantity) -> Vec<(f64, f64)> {
        let same = |(seed, mine): (u64, &Trained)| {
            let (_, theirs) = other.trained().find(|(s, _)| *s == seed)?;
            Some((quantity.of(mine), quantity.of(theirs)))
        };
        self.trained().filter_map(same).collect()
    }

    /// Whether both ended in the same networks, to the bit, under every seed that both have.
    pub fn is_same(&self, other: &Row) -> bool {
        let mut pairs = self.trained().filter_map(|(seed, mine)| {
            let (_, theirs) = other.trained().find(|(s, _)| *s == seed)?;
            Some(mine.digest == theirs.digest)
        });
        pairs.next() == Some(true) && pairs.all(|same| same)
    }
}
