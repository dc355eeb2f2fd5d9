//! `dynamoe eval`: scores of a trained network on the test split.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::run::{on_threads, open};
use super::text::{layers, print};
use crate::data::Dataset;
use crate::engine::error::Error;
use crate::lab::analysis::bigram;
use crate::train::Examples;
use crate::train::evaluate::evaluate;
use crate::train::metrics::{LayerRecord, Scores};

/// What `--json` prints.
#[derive(Serialize)]
struct Evaluation {
    dataset: String,
    /// Images, or sequences.
    examples: usize,
    steps: u64,
    #[serde(flatten)]
    scores: Scores,
    /// Of text: what a model of counted pairs of tokens comes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    bigram_perplexity: Option<f64>,
    layers: Vec<LayerRecord>,
}

/// Scores the run's network, on its own data set or on `dataset`, and prints loss, accuracy and expert usage.
///
/// # Errors
/// A run or data set that is missing or damaged.
pub fn run(
    run: &Path,
    checkpoint: &str,
    dataset: Option<&str>,
    data_dir: Option<&Path>,
    threads: Option<usize>,
    json: bool,
) -> Result<()> {
    let evaluation = on_threads(threads, || {
        let trained = open(run, checkpoint)?;
        let data = trained.data(dataset, data_dir)?;
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
            bigram_perplexity: match &data {
                Dataset::Images(_) => None,
                Dataset::Text(set) => {
                    Some(bigram::perplexity(&set.train, &set.test, set.tokenizer.vocabulary()))
                }
            },
            layers,
        })
    })?;
    if json {
        return print(&(serde_json::to_string_pretty(&evaluation)? + "\n"));
    }
    let Evaluation { dataset, examples, steps, scores, bigram_perplexity, layers: records } = evaluation;
    let (things, perplexity) = match scores.perplexity {
        None => ("images", String::new()),
        Some(perplexity) => {
            let bigram = bigram_perplexity.unwrap_or(f64::NAN);
            let text = format!("   perplexity {perplexity:.2} (counted pairs of tokens: {bigram:.2})");
            ("sequences", text)
        }
    };
    print(&format!(
        "{dataset}, {examples} test {things}, after {steps} steps\naccuracy {:.2}%   loss {:.4}{perplexity}\n\n{}",
        100.0 * scores.test_accuracy,
        scores.test_loss,
        layers(&records)
    ))
}
