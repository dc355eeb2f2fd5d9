//! The measurements of a trained network that tables show.

use super::results::Trained;
use crate::lab::analysis::stats::Mean;
use crate::train::metrics::perplexity;

/// A measurement of a trained network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Test accuracy after the last epoch, in percent.
    Accuracy,
    /// Test accuracy of the best epoch, in percent: chosen on the test split, so it is optimistic.
    BestAccuracy,
    /// Perplexity on the test split after the last epoch.
    Perplexity,
    /// Perplexity on the test split of the best epoch: chosen on the test split, so it is optimistic.
    BestPerplexity,
    /// The first epoch that reached 95% of the final accuracy.
    EpochsTo95,
    /// Parameters.
    Parameters,
    /// Active FLOPs per token, in thousands.
    ActiveFlops,
    /// Percent of accuracy per 10,000 parameters (the first paper's efficiency).
    Efficiency,
    /// Active experts per token, mean over layers.
    MeanActive,
    /// Usage entropy over the largest possible, mean over the layers with more than one expert.
    UsageEntropy,
    /// Share of assignments dropped for lack of capacity, in percent, mean over layers.
    Dropped,
    /// Training time in CPU seconds, without evaluation.
    TrainSeconds,
}

/// The mean; 0 if there are no values.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v, count + 1));
    sum / f64::from(count.max(1))
}

impl Quantity {
    /// The heading of its column.
    pub fn head(self) -> &'static str {
        match self {
            Quantity::Accuracy => "accuracy %",
            Quantity::BestAccuracy => "best epoch %",
            Quantity::Perplexity => "perplexity",
            Quantity::BestPerplexity => "best epoch's perplexity",
            Quantity::EpochsTo95 => "epochs to 95%",
            Quantity::Parameters => "parameters",
            Quantity::ActiveFlops => "active kFLOPs",
            Quantity::Efficiency => "% per 10K parameters",
            Quantity::MeanActive => "mean k",
            Quantity::UsageEntropy => "usage entropy / max",
            Quantity::Dropped => "dropped %",
            Quantity::TrainSeconds => "training s",
        }
    }

    /// Its value.
    pub fn of(self, t: &Trained) -> f64 {
        match self {
            Quantity::Accuracy => 100.0 * t.last.test_accuracy,
            Quantity::BestAccuracy => 100.0 * t.best.test_accuracy,
            Quantity::Perplexity => perplexity(t.last.test_loss),
            Quantity::BestPerplexity => perplexity(t.best.test_loss),
            Quantity::EpochsTo95 => t.epochs_to_95 as f64,
            Quantity::Parameters => t.parameters as f64,
            Quantity::ActiveFlops => t.active_flops_per_token / 1e3,
            Quantity::Efficiency => efficiency(100.0 * t.last.test_accuracy, t.parameters as f64),
            Quantity::MeanActive => mean(t.layers.iter().map(|l| l.mean_active)),
            Quantity::UsageEntropy => {
                mean(t.layers.iter().filter(|l| l.experts > 1).map(|l| l.usage_entropy_normalized))
            }
            Quantity::Dropped => 100.0 * mean(t.layers.iter().map(|l| l.dropped_share)),
            Quantity::TrainSeconds => t.seconds.train,
        }
    }

    /// Decimals to show.
    pub fn digits(self) -> usize {
        match self {
            Quantity::Parameters => 0,
            Quantity::EpochsTo95 | Quantity::ActiveFlops | Quantity::Dropped | Quantity::TrainSeconds => 1,
            _ => 2,
        }
    }
}

/// Percent of accuracy per 10,000 parameters.
pub fn efficiency(percent: f64, parameters: f64) -> f64 {
    percent / (parameters / 1e4)
}

/// A mean with its interval, which is left out if it rounds to zero.
pub fn shown(mean: &Mean, digits: usize) -> String {
    let unit = libm::pow(10.0, -(digits as f64));
    let mean = match mean.half {
        Some(half) if half < 0.5 * unit => Mean { half: None, ..*mean },
        _ => *mean,
    };
    format!("{mean:.digits$}")
}
