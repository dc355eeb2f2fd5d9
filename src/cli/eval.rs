//! `dynamoe eval`: scores of a trained network on the test split.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::run::{on_threads, open};
use super::text::{layers, print};
use crate::error::Error;
use crate::train::evaluate::evaluate;
use crate::train::metrics::{LayerRecord, Scores};
use crate::train::{Examples, examples};

/// What `--json` prints.
#[derive(Serialize)]
struct Evaluation {
    dataset: String,
    /// Images, or sequences.
    examples: usize,
    steps: u64,
    #[serde(flatten)]
    scores: Scores,
    layers: Vec<LayerRecord>,
}

/// Scores the run's network and prints loss, accuracy and expert usage.
///
/// # Errors
/// A run or data set that is missing or damaged.
pub fn run(
    run: &Path,
    checkpoint: &str,
    data_dir: Option<&Path>,
    threads: Option<usize>,
    json: bool,
) -> Result<()> {
    let evaluation = on_threads(threads, || {
        let trained = open(run, checkpoint)?;
        let data = examples::load(&trained.config, data_dir)?;
        let standardize = trained.input.standardize()?;
        let (scores, layers) = evaluate(&trained.model, Examples::test(&data, &standardize))?;
        if !scores.test_loss.is_finite() {
            return Err(Error::data(
                run,
                format!("the network's test loss is {}: it is ruined", scores.test_loss),
            )
            .into());
        }
        Ok(Evaluation {
            dataset: data.name().into(),
            examples: data.counts().1,
            steps: trained.steps,
            scores,
            layers,
        })
    })?;
    if json {
        return print(&(serde_json::to_string_pretty(&evaluation)? + "\n"));
    }
    let Evaluation { dataset, examples, steps, scores, layers: records } = evaluation;
    let (things, perplexity) = match scores.perplexity {
        None => ("images", String::new()),
        Some(perplexity) => ("sequences", format!("   perplexity {perplexity:.2}")),
    };
    print(&format!(
        "{dataset}, {examples} test {things}, after {steps} steps\naccuracy {:.2}%   loss {:.4}{perplexity}\n\n{}",
        100.0 * scores.test_accuracy,
        scores.test_loss,
        layers(&records)
    ))
}
