//! Gradients of single micro-batches, with frozen weights.

use crate::data::Examples;
use crate::engine::arr;
use crate::engine::error::{Error, Result};
use crate::engine::tape::{Mode, Tape};
use crate::nn::{Model, Module, Phase};

/// Calls `see` with the gradient of every parameter for each micro-batch, with the batch's number and the parameter's
/// name. Returns the mean number of active experts of each layer.
pub fn gradients(
    model: &Model<f32>,
    examples: &Examples,
    batches: &[&[u32]],
    mut see: impl FnMut(usize, &str, &[f32]),
) -> Result<Vec<f64>> {
    let mut k = vec![0.0; model.spec().experts.len()];
    for (m, batch) in batches.iter().enumerate() {
        let tape = Tape::new(Mode::Train);
        let (feed, targets) = examples.batch(batch);
        let (h, layers) = model.hidden(&tape, &feed, Phase::Train { seed: None, step: 0 })?;
        let loss = model.loss(h, &targets)?.mean;
        let gradients = tape.backward(loss)?;
        for (k, layer) in k.iter_mut().zip(&layers) {
            *k += layer.routes.len() as f64 / (targets.len() * batches.len()) as f64;
        }
        for (name, param) in model.parameters() {
            let gradient = gradients.parameter(param.id());
            let gradient = gradient.ok_or_else(|| Error::MissingGradient { parameter: name.clone() })?;
            see(m, &name, arr::data(gradient.values));
        }
    }
    Ok(k)
}
