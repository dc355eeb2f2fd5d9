//! Claims about an experiment, as data; [`judge`](super::judge) tests them.

use super::quantity::Quantity;
use crate::train::metrics::LayerRecord;

/// A statement that results can support or contradict.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The statement: a sentence without its full stop.
    pub says: String,
    /// The test.
    pub test: Test,
}

/// How a claim is tested.
#[derive(Clone, Debug)]
pub enum Test {
    /// The first cell has a larger value than the second (paired test over seeds).
    Larger(Quantity, String, String),
    /// One of several cells has the largest or smallest value (paired tests against each of the others).
    IsExtreme {
        /// The compared value.
        quantity: Quantity,
        /// Largest or smallest.
        extreme: Extreme,
        /// The label of the cell.
        label: String,
        /// The labels of all compared cells.
        among: Vec<String>,
    },
    /// The values that the paper reports for a quantity agree with the results (a t-test for each cell).
    Figures(Quantity),
    /// The values that the paper reports for a cell's layers, as pairs of the layer's number of experts and the value,
    /// agree with the results (a t-test for each layer).
    Layers(LayerQuantity, String, Vec<(usize, f64)>),
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The largest value.
    Largest,
    /// The smallest value.
    Smallest,
}

/// A measurement of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerQuantity {
    /// Mean active experts.
    MeanActive,
    /// Utilization in percent.
    Utilization,
    /// Usage entropy in bits.
    UsageEntropy,
}

impl LayerQuantity {
    /// Its value for a layer.
    pub fn of(self, layer: &LayerRecord) -> f64 {
        match self {
            LayerQuantity::MeanActive => layer.mean_active,
            LayerQuantity::Utilization => layer.utilization,
            LayerQuantity::UsageEntropy => layer.usage_entropy_bits,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            LayerQuantity::MeanActive => "mean active experts",
            LayerQuantity::Utilization => "utilization in percent",
            LayerQuantity::UsageEntropy => "usage entropy in bits",
        }
    }
}

impl Claim {
    /// `a` has a larger `quantity` than `b`.
    pub fn larger(says: impl Into<String>, quantity: Quantity, a: &str, b: &str) -> Claim {
        Claim { says: says.into(), test: Test::Larger(quantity, a.into(), b.into()) }
    }

    /// `label` has the most extreme `quantity` of the cells `among`.
    pub fn extreme(
        says: impl Into<String>,
        quantity: Quantity,
        extreme: Extreme,
        label: &str,
        among: &[String],
    ) -> Claim {
        let test = Test::IsExtreme { quantity, extreme, label: label.into(), among: among.to_vec() };
        Claim { says: says.into(), test }
    }
}
