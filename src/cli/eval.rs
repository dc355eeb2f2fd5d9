//! `dynamoe eval`: scores of a trained network on the test split.

use anyhow::Result;
use serde::Serialize;

use super::flags::{Json, Machine, Saved};
use super::output::layers;
use crate::data::Examples;
use crate::engine::error::Error;
use crate::lab::analysis::bigram;
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
    /// Of text: the perplexity of a bigram model, for comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    bigram_perplexity: Option<f64>,
    layers: Vec<LayerRecord>,
}

/// Score a trained network on the test split
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    saved: Saved,
    /// Score it on the test split of another data set of its kind, or on a text by path [default: the run's own]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    json: Json,
}

/// Prints loss, accuracy and expert usage.
pub fn run(args: Args) -> Result<()> {
    let Args { saved, dataset, machine, json } = args;
    let evaluation = machine.threads.run(|| {
        let trained = saved.open()?;
        let data = trained.data(dataset.as_deref(), machine.data.path())?;
        let (scores, layers) = evaluate(&trained.model, &data.test)?;
        if !scores.test_loss.is_finite() {
            let what = format!("the test loss is {}: training diverged", scores.test_loss);
            return Err(Error::data(&saved.run, what).into());
        }
        Ok(Evaluation {
            dataset: data.name.clone(),
            examples: data.test.len(),
            steps: trained.steps,
            scores,
            bigram_perplexity: match (&data.train, &data.test) {
                (Examples::Text(train), Examples::Text(test)) => {
                    Some(bigram::perplexity(train, test, data.encoding.classes()))
                }
                _ => None,
            },
            layers,
        })
    })?;
    json.print(&evaluation, describe)
}

fn describe(evaluation: &Evaluation) -> String {
    let Evaluation { dataset, examples, steps, scores, bigram_perplexity, layers: records } = evaluation;
    let (things, perplexity) = match scores.perplexity {
        None => ("images", String::new()),
        Some(perplexity) => {
            let bigram = bigram_perplexity.unwrap_or(f64::NAN);
            ("sequences", format!("   perplexity {perplexity:.2} (bigram model: {bigram:.2})"))
        }
    };
    format!(
        "{dataset}, {examples} test {things}, after {steps} steps\naccuracy {:.2}%   loss {:.4}{perplexity}\n\n{}",
        100.0 * scores.test_accuracy,
        scores.test_loss,
        layers(records)
    )
}
