//! An experiment, as data.

use super::cell::Cell;
use super::claim::Claim;
use super::quantity::Quantity;

/// The networks to train, the table to show and the claims to test.
pub struct Experiment {
    /// Name on the command line.
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// Description, in one or two sentences.
    pub about: &'static str,
    /// The cells. A cell that is matched to the reference comes after the cell it is derived from.
    pub cells: Vec<Cell>,
    /// The columns of the table.
    pub columns: Vec<Column>,
    /// The claims.
    pub claims: Vec<Claim>,
    /// What its section shows besides table and claims.
    pub extra: Extra,
}

/// A column of an experiment's table.
#[derive(Clone, Debug)]
pub enum Column {
    /// The mean of a quantity with its interval, beside the value that the paper reports, if any.
    Mean(Quantity),
    /// The mean ratio of a quantity to that of another cell with the same seed.
    Ratio(Quantity, &'static str),
}

/// What a section of the report shows besides its table and claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// A picture of the accuracies.
    Accuracy,
    /// The use of experts in each layer.
    Layers,
    /// Accuracy against cost.
    Fairness,
    /// Theorems 1 and 2 and proposition 1 of the first paper.
    Theory,
}
