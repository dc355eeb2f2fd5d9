//! Loss, accuracy and expert usage on a split, without noise.

use std::sync::atomic::{AtomicBool, Ordering};

use super::metrics::{LayerRecord, Scores, perplexity};
use crate::data::Examples;
use crate::engine::error::Result;
use crate::engine::tape::{Mode, Tape};
use crate::nn::usage::Usage;
use crate::nn::{Model, Phase};

/// Scores of `model` on all `examples`, and how each layer used its experts.
///
/// # Errors
/// Examples of another kind or size than the model takes.
pub fn evaluate(model: &Model<f32>, examples: &Examples) -> Result<(Scores, Vec<LayerRecord>)> {
    Ok(evaluate_until(model, examples, &AtomicBool::new(false))?.expect("nothing stops it"))
}

/// [`evaluate`]; none once `stop` is set.
///
/// # Errors
/// Examples of another kind or size than the model takes.
pub fn evaluate_until(
    model: &Model<f32>,
    examples: &Examples,
    stop: &AtomicBool,
) -> Result<Option<(Scores, Vec<LayerRecord>)>> {
    let (mut loss, mut right, mut count) = (0.0, 0, 0);
    let mut usage: Vec<Usage> = vec![Usage::default(); model.spec().experts.len()];
    for (feed, targets) in examples.batches() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let tape = Tape::new(Mode::Infer);
        let (h, dispatch) = model.hidden(&tape, &feed, Phase::Eval)?;
        let found = model.loss(h, &targets)?;
        right += found.right;
        loss += f64::from(found.mean.item()) * targets.len() as f64;
        count += targets.len();
        usage.iter_mut().zip(&dispatch).for_each(|(all, layer)| all.add(&layer.usage));
    }
    let count = count as f64;
    let (test_accuracy, test_loss) = (right as f64 / count, loss / count);
    let perplexity = examples.task().predicts_next.then(|| perplexity(test_loss));
    let scores = Scores { test_accuracy, test_loss, perplexity };
    Ok(Some((scores, usage.iter().map(LayerRecord::new).collect())))
}
