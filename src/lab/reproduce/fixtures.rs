//! Synthetic results for tests.

use std::path::Path;

use super::experiment::Experiment;
use super::results::{Outcome, Record, Store, Trained};
use crate::train::config::{Config, Sources};
use crate::train::metrics::{Best, LayerRecord, Scores, Seconds};

/// The configuration of `settings` with this seed.
pub fn config(settings: &[&str], seed: u64) -> Config {
    let set = settings.iter().map(|s| s.to_string()).chain([format!("seed={seed}")]).collect();
    Config::resolve(&Sources { set, ..Sources::default() }).unwrap()
}

/// A synthetic trained network in which every token has one expert per layer.
pub fn trained(accuracy: f64, experts: &[usize]) -> Trained {
    let layer = |&experts: &usize| LayerRecord {
        experts,
        mean_active: 1.0,
        utilization: 100.0 / experts as f64,
        usage_entropy_bits: 0.0,
        usage_entropy_normalized: if experts > 1 { 0.0 } else { 1.0 },
        effective_experts: 1.0,
        routing_entropy_bits: 0.0,
        dropped_share: 0.0,
        usage: (0..experts).map(|e| f64::from(u8::from(e == 0))).collect(),
        k_share: vec![0.0, 1.0],
    };
    Trained {
        last: Scores { test_accuracy: accuracy, test_loss: 0.1, perplexity: None },
        best: Best { epoch: 2, test_accuracy: accuracy, test_loss: 0.1 },
        epochs_to_95: 2,
        epochs: 3,
        parameters: 1000,
        active_flops_per_token: 5000.0,
        layers: experts.iter().map(layer).collect(),
        patterns: vec![1; experts.len()],
        gradient_variance: None,
        seconds: Seconds { train: 2.0, eval: 0.5 },
        digest: format!("{accuracy}"),
    }
}

/// A store with a synthetic network for every cell, whose accuracy is a function of experiment, label and seed. A cell in
/// several experiments counts for the first. Networks of equal accuracy have equal digests.
pub fn filled(
    folder: &Path,
    experiments: &[&Experiment],
    seeds: u64,
    accuracy: impl Fn(&str, &str, u64) -> f64,
) -> Store {
    let mut store = Store::open(folder).unwrap();
    for seed in 1..=seeds {
        for experiment in experiments {
            for cell in &experiment.cells {
                let config = cell.config(seed, &store).expect("cells come after those they are made of");
                let network = trained(
                    accuracy(experiment.name, &cell.label, seed),
                    &config.model.experts().unwrap_or_else(|| config.spec(1, 1).experts),
                );
                store.append(Record::new(&config, Outcome::Trained(Box::new(network)))).unwrap();
            }
        }
    }
    store
}

/// Deterministic noise that depends on label and seed.
pub fn noise(label: &str, seed: u64) -> f64 {
    let bytes: u64 = label.bytes().map(u64::from).sum();
    1e-4 * (bytes * (2 * seed + 3) % 11) as f64
}
