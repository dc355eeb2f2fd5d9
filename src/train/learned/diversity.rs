//! How much a layer has to represent, from four signals.
//!
//! For each layer, on images of the training split and without anything random:
//! - **spectral entropy** of the covariance of its outputs: `-sum p log p / log d` over the shares p of its
//!   eigenvalues, 1 where all directions are used alike;
//! - **curvature**: the trace of the loss's Hessian with respect to its outputs by Hutchinson probes,
//!   `v (grad(h + e v) - grad(h - e v)) / 2e`, per image or token. The choice of experts is frozen: a token whose loss
//!   passes through experts that change is left out of a probe (with attention a token's gradient holds the losses of all
//!   later tokens of its sequence, too);
//! - **complexity**: `(C(in, out) - C(in)) / |out|` with deflate on 8-bit random projections, what the outputs add to
//!   the inputs;
//! - **noise-to-signal** of the gradients of its parameters, attention's included, over micro-batches: variance over
//!   squared mean.
//!
//! The signals are standardized across layers and averaged with equal weights.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use flate2::{Compression, write::DeflateEncoder};
use serde::Serialize;

use super::gradients::gradients;
use super::spectrum::{covariance, eigenvalues};
use crate::data::Examples;
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::routes::Routes;
use crate::engine::tape::{Mode, Tape};
use crate::nn::{Feed, Model, Phase};

/// The most images, or about as many tokens, to measure on.
const ROWS: usize = 1024;
/// Micro-batches for the noise of gradients, and images (or about as many tokens) in each.
const MICRO_BATCHES: (usize, usize) = (32, 32);
/// Probes of the curvature.
const PROBES: u64 = 4;
/// Step of a probe, as a share of the outputs' root mean square.
const PROBE_STEP: f32 = 1e-2;
/// Directions of the random projection.
const PROJECTED: usize = 16;

/// The signals of one layer, and their standardized mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Diversity {
    /// Spectral entropy of the outputs, 0 to 1.
    pub spectral_entropy: f64,
    /// Trace of the Hessian with respect to the outputs, mean over images.
    pub curvature: f64,
    /// Bytes that the outputs add, per byte of them.
    pub complexity: f64,
    /// Noise-to-signal of the layer's gradients.
    pub noise_to_signal: f64,
    /// Mean of the four, each standardized across layers.
    pub score: f64,
}

/// The profile of a network over its layers.
///
/// # Errors
/// Examples of another kind or size than the model takes.
pub fn profile(model: &Model<f32>, examples: &Examples, seed: u64) -> Result<Vec<Diversity>> {
    let order = Stream::new(seed, Purpose::Shuffle, 2, 0).permutation(examples.len());
    let one = examples.rows_of_one();
    let seen = &order[..(ROWS / one).max(1).min(order.len())];
    let (feed, targets) = examples.batch(seen);
    let outputs = outputs(model, &feed)?;
    let batches: Vec<&[u32]> =
        order.chunks_exact((MICRO_BATCHES.1 / one).max(1)).take(MICRO_BATCHES.0).collect();
    let noise = noise_to_signal(model, examples, &batches)?;
    let mut profile = Vec::with_capacity(noise.len());
    for (l, noise_to_signal) in noise.into_iter().enumerate() {
        profile.push(Diversity {
            spectral_entropy: spectral_entropy(&outputs[l + 1]),
            curvature: curvature(model, l + 1, &outputs[l + 1], (&targets, &feed.starts()), seed)?,
            complexity: complexity(&outputs[l], &outputs[l + 1], seed),
            noise_to_signal,
            score: 0.0,
        });
    }
    let signals: [fn(&Diversity) -> f64; 4] =
        [|d| d.spectral_entropy, |d| d.curvature, |d| d.complexity, |d| d.noise_to_signal];
    for signal in signals {
        let scores = standardized(&profile.iter().map(signal).collect::<Vec<_>>());
        profile.iter_mut().zip(scores).for_each(|(layer, score)| layer.score += score / 4.0);
    }
    Ok(profile)
}

/// `V / |mean|^2` of each layer's gradients over micro-batches, with `V = (sum |g|^2 - |sum g|^2 / M) / (M - 1)`.
fn noise_to_signal(model: &Model<f32>, examples: &Examples, batches: &[&[u32]]) -> Result<Vec<f64>> {
    let layers = model.spec().experts.len();
    // For each layer the sum of squares, and the sum of each number by the name of its parameter.
    let mut squares = vec![0.0; layers];
    let mut sums = vec![BTreeMap::<String, Vec<f64>>::new(); layers];
    gradients(model, examples, batches, |_, name, gradient| {
        let mut parts = name.split('.');
        let Some("layers" | "attention") = parts.next() else { return };
        let Some(l) = parts.next().and_then(|l| l.parse::<usize>().ok()) else { return };
        let sum = sums[l].entry(name.into()).or_insert_with(|| vec![0.0; gradient.len()]);
        for (sum, &g) in sum.iter_mut().zip(gradient) {
            *sum += f64::from(g);
            squares[l] += f64::from(g) * f64::from(g);
        }
    })?;
    let count = batches.len() as f64;
    let ratio = |(squares, sums): (&f64, &BTreeMap<String, Vec<f64>>)| {
        let of_sum: f64 = sums.values().flatten().map(|sum| sum * sum).sum();
        (squares - of_sum / count) / (count - 1.0) / (of_sum / (count * count))
    };
    Ok(squares.iter().zip(&sums).map(ratio).collect())
}

/// The inputs of the first layer, and the outputs of each, (T, d).
fn outputs(model: &Model<f32>, feed: &Feed<f32>) -> Result<Vec<Arr<f32>>> {
    let tape = Tape::new(Mode::Infer);
    let mut h = model.start(&tape, feed)?;
    let mut all = vec![h.value()];
    for l in 0..model.spec().experts.len() {
        h = model.layer(l, h, &feed.starts(), Phase::Eval)?.0;
        all.push(h.value());
    }
    Ok(all)
}

/// `(v - mean) / deviation` of each; zeros if nothing varies or a value is not finite.
pub fn standardized(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt();
    let usable = deviation.is_finite() && deviation > 1e-12 * mean.abs();
    values.iter().map(|v| if usable { (v - mean) / deviation } else { 0.0 }).collect()
}

/// Entropy of the shares of the covariance's eigenvalues, over `log d`.
fn spectral_entropy(h: &Arr<f32>) -> f64 {
    let width = h.shape()[1];
    if width == 1 {
        return 0.0;
    }
    let eigenvalues = eigenvalues(covariance(h));
    let total: f64 = eigenvalues.iter().map(|v| v.max(0.0)).sum();
    if total <= 0.0 {
        return 0.0;
    }
    let term = |v: &f64| {
        let p = v / total;
        if p > 0.0 { -p * libm::log(p) } else { 0.0 }
    };
    eigenvalues.iter().map(term).sum::<f64>() / libm::log(width as f64)
}

/// The tokens' targets, and where sequences begin ([`Feed::starts`]).
type Answers<'a> = (&'a [u32], &'a Arc<[usize]>);

/// The gradient of the sum of all tokens' losses with respect to the outputs `h` of layer number `first - 1`, and the
/// choices of the layers from `first` on.
fn gradient(
    model: &Model<f32>,
    first: usize,
    h: Arr<f32>,
    (targets, starts): Answers,
) -> Result<(Arr<f32>, Vec<Arc<Routes>>)> {
    let tape = Tape::new(Mode::Train);
    let start = tape.variable(h);
    let (mut h, mut routes) = (start, Vec::new());
    for l in first..model.spec().experts.len() {
        let (y, dispatch) = model.layer(l, h, starts, Phase::Eval)?;
        routes.push(dispatch.routes);
        h = y;
    }
    let loss = model.loss(h, targets)?.mean;
    // The loss is a mean.
    let cotangent = arr::full(&loss.shape(), targets.len() as f32);
    Ok((tape.backward_from(loss, cotangent).wrt(start), routes))
}

/// Clears the tokens that have one that is not frozen after them in their sequence.
fn until_a_change(frozen: &mut [bool], starts: &[usize]) {
    for ends in starts.windows(2) {
        let mut all = true;
        for frozen in frozen[ends[0]..ends[1]].iter_mut().rev() {
            all &= *frozen;
            *frozen = all;
        }
    }
}

/// Mean over tokens and probes of `v H v`.
fn curvature(model: &Model<f32>, first: usize, h: &Arr<f32>, answers: Answers, seed: u64) -> Result<f64> {
    let (tokens, width) = (h.shape()[0], h.shape()[1]);
    let looks_back = model.spec().text.is_some_and(|text| text.attention.is_some());
    let square: f64 = arr::data(h).iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let step = PROBE_STEP * (square / h.len().max(1) as f64).sqrt().max(1e-12) as f32;
    let (mut sum, mut count) = (0.0, 0usize);
    for probe in 0..PROBES {
        let mut signs = vec![false; h.len()];
        Stream::new(seed, Purpose::Check, first as u64, probe).coin(&mut signs, 0.5);
        let moved = |by: f32| {
            let numbers = arr::data(h).iter().zip(&signs);
            arr::from_vec(h.shape(), numbers.map(|(&h, &s)| if s { h + by } else { h - by }).collect())
        };
        let (ahead, ahead_routes) = gradient(model, first, moved(step), answers)?;
        let (behind, behind_routes) = gradient(model, first, moved(-step), answers)?;
        let mut frozen: Vec<bool> = (0..tokens)
            .map(|t| {
                let same = |(a, b): (&Arc<Routes>, &Arc<Routes>)| a.experts_of(t) == b.experts_of(t);
                ahead_routes.iter().zip(&behind_routes).all(same)
            })
            .collect();
        if looks_back {
            until_a_change(&mut frozen, answers.1);
        }
        for t in (0..tokens).filter(|&t| frozen[t]) {
            let here = t * width..(t + 1) * width;
            let change = arr::data(&ahead)[here.clone()].iter().zip(&arr::data(&behind)[here.clone()]);
            sum += change
                .zip(&signs[here])
                .map(|((a, b), &s)| f64::from(a - b) * if s { 1.0 } else { -1.0 })
                .sum::<f64>()
                / (2.0 * f64::from(step));
            count += 1;
        }
    }
    Ok(if count > 0 { sum / count as f64 } else { 0.0 })
}

/// `(C(in, out) - C(in)) / |out|`, with deflate on random projections of both to 8 bits.
fn complexity(input: &Arr<f32>, output: &Arr<f32>, seed: u64) -> f64 {
    let (input, output) = (quantized(input, seed), quantized(output, seed));
    let size = |parts: &[&[u8]]| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        parts.iter().for_each(|part| encoder.write_all(part).expect("memory takes everything"));
        encoder.finish().expect("memory takes everything").len() as f64
    };
    (size(&[&input, &output]) - size(&[&input])) / output.len().max(1) as f64
}

/// A random projection of the rows to a few directions, each number in 256 steps from the least to the largest.
fn quantized(h: &Arr<f32>, seed: u64) -> Vec<u8> {
    let width = h.shape()[1];
    let mut directions = vec![0.0f32; width * PROJECTED];
    Stream::new(seed, Purpose::Check, 1, 1).normal(&mut directions, 1.0);
    let project = |row: &[f32], j: usize| -> f32 {
        row.iter().enumerate().map(|(i, v)| v * directions[i * PROJECTED + j]).sum()
    };
    let rows = arr::data(h).chunks_exact(width);
    let projected: Vec<f32> = rows.flat_map(|row| (0..PROJECTED).map(move |j| project(row, j))).collect();
    let low = projected.iter().copied().fold(f32::INFINITY, f32::min);
    let high = projected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    projected.iter().map(|v| ((v - low) * scale).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Dataset};
    use crate::train::Learner;
    use crate::train::config::{Resolved, Sources};

    #[test]
    fn a_change_clears_what_comes_before_it_in_its_sequence() {
        let mut frozen = [true, false, true, true, true, false];
        until_a_change(&mut frozen, &[0, 4, 5, 6]);
        assert_eq!(frozen, [false, false, true, true, true, false]);
    }

    #[test]
    fn spectra_from_one_direction_to_all() {
        let mut numbers = vec![0.0f32; 4000 * 8];
        Stream::new(1, Purpose::Check, 0, 0).normal(&mut numbers, 1.0);
        assert!(spectral_entropy(&arr::from_vec(&[4000, 8], numbers.clone())) > 0.99);
        let line: Vec<f32> = numbers.iter().take(500).flat_map(|&t| [t, 2.0 * t, -t, 0.5 * t]).collect();
        assert!(spectral_entropy(&arr::from_vec(&[500, 4], line)) < 1e-6);
        assert_eq!(spectral_entropy(&arr::zeros(&[9, 4])), 0.0);
    }

    #[test]
    fn what_is_already_in_the_input_adds_little() {
        let mut numbers = vec![0.0f32; 2 * 256 * 20];
        Stream::new(2, Purpose::Check, 0, 0).normal(&mut numbers, 1.0);
        let [a, b] = [0, 1].map(|i| arr::from_vec(&[256, 20], numbers[i * 5120..][..5120].to_vec()));
        let (same, other) = (complexity(&a, &a, 1), complexity(&a, &b, 1));
        assert!(same < 0.2 && other > 0.7, "{same} {other}");
    }

    #[test]
    fn a_profile_is_finite_repeatable_and_centered() {
        let set =
            ["layers=3", "width=16", "experts_max=4", "percentile_scope=batch"].map(String::from).to_vec();
        let config = Resolved::resolve(&Sources { set, ..Sources::default() }).unwrap();
        let data = Dataset::from(data::load("digits", None).unwrap());
        let mut learner = Learner::new(&config, &data).unwrap();
        (0..40).for_each(|_| drop(learner.step(None).unwrap()));
        let profile = || profile(&learner.model, learner.train(), 1).unwrap();
        let layers = profile();
        assert_eq!(layers.len(), 3);
        for layer in &layers {
            let Diversity { spectral_entropy, curvature, complexity, noise_to_signal, score } = *layer;
            assert!((0.0..=1.0).contains(&spectral_entropy) && curvature.is_finite() && score.is_finite());
            assert!(complexity > 0.0 && complexity < 1.5 && noise_to_signal > 0.0, "{layer:?}");
        }
        assert!(layers.iter().map(|l| l.score).sum::<f64>().abs() < 1e-9);
        assert_eq!(profile(), layers);
    }

    #[test]
    fn the_curvature_of_a_linear_head_is_the_one_of_softmax() {
        // After the last layer only norm and head follow. Against the exact trace by differences along every axis.
        let set = ["layers=1", "width=6", "norm=post"].map(String::from).to_vec();
        let config = Resolved::resolve(&Sources { set, ..Sources::default() }).unwrap();
        let data = Dataset::from(data::load("digits", None).unwrap());
        let learner = Learner::new(&config, &data).unwrap();
        let seen: Vec<u32> = (0..64).collect();
        let (feed, targets) = learner.train().batch(&seen);
        let h = outputs(&learner.model, &feed).unwrap()[1].clone();
        let step = 1e-2f32;
        let mut exact = 0.0;
        for j in 0..6 {
            let moved = |by: f32| {
                let at = |(i, &v): (usize, &f32)| if i % 6 == j { v + by } else { v };
                arr::from_vec(h.shape(), arr::data(&h).iter().enumerate().map(at).collect())
            };
            let [ahead, behind] = [step, -step]
                .map(|by| gradient(&learner.model, 1, moved(by), (&targets, &feed.starts())).unwrap().0);
            for t in 0..64 {
                let at = t * 6 + j;
                exact += f64::from(arr::data(&ahead)[at] - arr::data(&behind)[at])
                    / (2.0 * f64::from(step))
                    / 64.0;
            }
        }
        let found = curvature(&learner.model, 1, &h, (&targets, &feed.starts()), 3).unwrap();
        // Four probes of 64 images estimate it within some tenths.
        assert!(exact > 0.0 && (found / exact - 1.0).abs() < 0.3, "{found} {exact}");
    }
}
