//! The lines of `metrics.jsonl` and the content of `summary.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nn::spec::Spec;
use crate::nn::usage::Usage;

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: u64,
    /// Counted from 1.
    pub epoch: usize,
    /// Loss of the batch, without the routers' own losses.
    pub loss: f64,
    /// The routers' losses by name, weighted, each summed over the layers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub router_losses: BTreeMap<String, f64>,
    /// Share of the assignments dropped for lack of capacity, over all layers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_share: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradients before clipping.
    pub gradient_norm: f64,
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

/// Share of the assignments to experts dropped for lack of capacity.
pub fn dropped_share(layers: &[Usage]) -> f64 {
    let dropped: u64 = layers.iter().map(|layer| layer.dropped).sum();
    let served: u64 = layers.iter().flat_map(|layer| &layer.counts).sum();
    dropped as f64 / (served + dropped).max(1) as f64
}

/// One epoch with its evaluation on the test split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps taken so far.
    pub step: u64,
    /// Mean loss over the epoch's batches, with noise on the gates.
    pub train_loss: f64,
    /// Accuracy over the epoch, with noise on the gates.
    pub train_accuracy: f64,
    /// Mean loss on the test split.
    pub test_loss: f64,
    /// Accuracy on the test split.
    pub test_accuracy: f64,
    /// How each layer used its experts on the test split.
    pub layers: Vec<LayerRecord>,
}

/// How one layer used its experts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Experts of the layer.
    pub experts: usize,
    /// Mean number of active experts per token.
    pub mean_active: f64,
    /// `100 mean_active / experts`, in percent.
    #[serde(alias = "utilisation")]
    pub utilization: f64,
    /// Entropy of the shares of assignments over experts, in bits.
    pub usage_entropy_bits: f64,
    /// `usage_entropy_bits / log2(experts)`, 1 for one expert.
    #[serde(alias = "usage_entropy_normalised")]
    pub usage_entropy_normalized: f64,
    /// `2^usage_entropy_bits`.
    pub effective_experts: f64,
    /// Mean over tokens of the entropy of the router's probabilities, in bits.
    pub routing_entropy_bits: f64,
    /// Share of the assignments dropped for lack of capacity.
    #[serde(default)]
    pub dropped_share: f64,
    /// Share of the assignments that each expert served.
    pub usage: Vec<f64>,
    /// Share of tokens with k experts, at index k.
    pub k_share: Vec<f64>,
}

impl LayerRecord {
    /// From the counts of a layer.
    pub fn new(usage: &Usage) -> LayerRecord {
        let (experts, tokens) = (usage.counts.len(), usage.tokens.max(1) as f64);
        let assignments: u64 = usage.counts.iter().sum();
        let share = |&c: &u64| c as f64 / assignments.max(1) as f64;
        let shares: Vec<f64> = usage.counts.iter().map(share).collect();
        let term = |&f: &f64| if f > 0.0 { -f * libm::log2(f) } else { 0.0 };
        // Adding 0 turns the -0 of a single expert into 0.
        let bits = shares.iter().map(term).sum::<f64>() + 0.0;
        let mean_active = assignments as f64 / tokens;
        LayerRecord {
            experts,
            mean_active,
            utilization: 100.0 * mean_active / experts as f64,
            usage_entropy_bits: bits,
            usage_entropy_normalized: if experts > 1 { bits / libm::log2(experts as f64) } else { 1.0 },
            effective_experts: libm::exp2(bits),
            routing_entropy_bits: usage.entropy_bits / tokens,
            dropped_share: dropped_share(std::slice::from_ref(usage)),
            usage: shares,
            k_share: usage.k_counts.iter().map(|&c| c as f64 / tokens).collect(),
        }
    }
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    /// One optimizer step.
    Step(StepRecord),
    /// One epoch.
    Epoch(EpochRecord),
}

/// `summary.json`: a run and its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this layout.
    pub schema_version: u32,
    /// The data.
    pub dataset: DatasetSummary,
    /// The network.
    pub model: ModelSummary,
    /// After the last step.
    #[serde(rename = "final")]
    pub last: Scores,
    /// The best epoch.
    pub best: Best,
    /// The first epoch that reached 95% of the final test accuracy.
    pub epochs_to_95: usize,
    /// Epochs started.
    pub epochs: usize,
    /// Steps taken.
    pub steps: u64,
    /// How each layer used its experts on the test split, after the last step.
    pub layers: Vec<LayerRecord>,
    /// BLAKE3 of all parameters and running statistics.
    pub digests: Digests,
    /// Wall-clock time.
    pub seconds: Seconds,
    /// Training images, or tokens, per second of training time.
    pub samples_per_second: f64,
    /// The seed.
    pub seed: u64,
    /// Threads used; they change no result.
    pub threads: usize,
}

/// The data of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetSummary {
    /// Its name.
    pub name: String,
    /// Training images, or sequences.
    pub train: usize,
    /// Test images, or sequences.
    pub test: usize,
    /// BLAKE3 of its content.
    pub digest: String,
}

/// The network of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Number of parameters.
    pub parameters: usize,
    /// Experts of each layer.
    pub experts: Vec<usize>,
    /// How experts are chosen, in words.
    pub router: String,
    /// Multiplications and additions per token with the mean number of active experts on the test split.
    pub active_flops_per_token: f64,
}

impl ModelSummary {
    /// Of a network whose layers had `k` active experts on average.
    pub fn new(spec: &Spec, k: &[f64]) -> ModelSummary {
        ModelSummary {
            parameters: spec.parameters(),
            experts: spec.experts.clone(),
            router: spec.router_name(),
            active_flops_per_token: spec.active_flops(k),
        }
    }
}

/// Loss and accuracy on the test split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of correct predictions.
    pub test_accuracy: f64,
    /// Mean loss.
    pub test_loss: f64,
    /// Of text: [`perplexity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
}

/// The best epoch: the highest accuracy for images, the lowest loss for text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Counted from 1.
    pub epoch: usize,
    /// Its accuracy on the test split.
    pub test_accuracy: f64,
    /// Its mean loss on the test split.
    #[serde(default)]
    pub test_loss: f64,
}

/// BLAKE3 of the parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Digests {
    /// Before the first step.
    pub init: String,
    /// After the last.
    #[serde(rename = "final")]
    pub last: String,
}

/// Wall-clock time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// In training steps.
    pub train: f64,
    /// In evaluations.
    pub eval: f64,
}

/// Perplexity of a loss per token: `e^loss`.
pub fn perplexity(loss: f64) -> f64 {
    libm::exp(loss)
}

/// The first epoch whose accuracy is at least 95% of the last one's.
pub fn epochs_to_95(history: &[EpochRecord]) -> usize {
    let Some(last) = history.last() else { return 0 };
    let near = history.iter().find(|e| e.test_accuracy >= 0.95 * last.test_accuracy);
    near.map_or(last.epoch, |e| e.epoch)
}

/// Mean number of active experts of each layer.
pub fn mean_active(layers: &[LayerRecord]) -> Vec<f64> {
    layers.iter().map(|l| l.mean_active).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_numbers_by_hand() {
        let usage = Usage {
            tokens: 4,
            counts: vec![4, 2, 2, 0],
            k_counts: vec![0, 2, 1, 1, 0],
            dropped: 2,
            entropy_bits: 6.0,
            threshold: None,
        };
        let layer = LayerRecord::new(&usage);
        assert_eq!((layer.mean_active, layer.utilization, layer.usage_entropy_bits), (2.0, 50.0, 1.5));
        assert_eq!((layer.routing_entropy_bits, layer.usage_entropy_normalized), (1.5, 0.75));
        assert_eq!(layer.dropped_share, 0.2);
        assert_eq!(layer.k_share, [0.0, 0.5, 0.25, 0.25, 0.0]);
        let one =
            LayerRecord::new(&Usage { tokens: 3, counts: vec![3], k_counts: vec![0, 3], ..Usage::default() });
        assert_eq!(
            (one.usage_entropy_bits, one.usage_entropy_normalized, one.effective_experts),
            (0.0, 1.0, 1.0)
        );
    }
}
