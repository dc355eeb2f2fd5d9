//! Loss, accuracy and expert usage on a split, without noise.

use super::metrics::{LayerRecord, Scores};
use crate::arr::{self, Arr};
use crate::data::{Images, Standardize};
use crate::error::Result;
use crate::kernels::{par, select};
use crate::nn::moe::Usage;
use crate::nn::{Model, Phase};
use crate::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use crate::tape::{Mode, Tape};

/// Images of one forward pass.
const BATCH: usize = 500;

/// The images at `indices`, standardised, as (T, features).
pub fn gather(images: &Images, indices: &[u32], standardize: &Standardize) -> Arr<f32> {
    let features = images.features();
    let mut x = arr::fresh(&[indices.len(), features]);
    const ROWS: usize = 16;
    par::chunks(arr::data_mut(&mut x), ROWS * features, |i, rows| {
        for (row, &index) in rows.chunks_exact_mut(features).zip(&indices[i * ROWS..]) {
            standardize.apply(&images.pixels[index as usize * features..][..features], row);
        }
    });
    x
}

/// The classes of the images at `indices`.
pub fn labels(images: &Images, indices: &[u32]) -> Vec<u32> {
    indices.iter().map(|&i| u32::from(images.labels[i as usize])).collect()
}

/// How many rows of `logits` (T, C) are largest at their target.
pub fn correct(logits: &Arr<f32>, targets: &[u32]) -> usize {
    let classes = logits.shape()[1];
    let rows = arr::data(logits).chunks_exact(classes);
    rows.zip(targets).filter(|(row, target)| select::argmax(row) == **target as usize).count()
}

/// Scores of `model` on all of `images`, and how each layer used its experts.
///
/// # Errors
/// Images of another size than the model's inputs.
pub fn evaluate(
    model: &Model<f32>,
    images: &Images,
    standardize: &Standardize,
) -> Result<(Scores, Vec<LayerRecord>)> {
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let (mut loss, mut right) = (0.0, 0);
    let mut usage: Vec<Usage> = vec![Usage::default(); model.spec().experts.len()];
    for part in indices.chunks(BATCH) {
        let tape = Tape::new(Mode::Infer);
        let (logits, dispatch) =
            model.forward(tape.constant(gather(images, part, standardize)), Phase::Eval)?;
        let targets = labels(images, part);
        right += correct(&logits.value(), &targets);
        let mean = tape.apply(SoftmaxCrossEntropy { targets: targets.into() }, [logits])?.item();
        loss += f64::from(mean) * part.len() as f64;
        usage.iter_mut().zip(&dispatch).for_each(|(all, layer)| all.add(&layer.usage));
    }
    let count = images.len() as f64;
    let scores = Scores { test_accuracy: right as f64 / count, test_loss: loss / count };
    Ok((scores, usage.iter().map(LayerRecord::new).collect()))
}
