//! The kernel against plain loops, to the bit.

use super::*;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::scalar::Scalar;
use crate::engine::kernels::simd;

const T: usize = if cfg!(miri) { 520 } else { 1_100 };
const V: usize = 150;
const D: usize = 5;

/// More than two chunks of tokens and several blocks of the vocabulary, the last of each short.
struct Example {
    h: Vec<f32>,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    targets: Vec<u32>,
}

fn example(biased: bool) -> Example {
    let numbers = |len: usize, seed: u64| {
        let mut out = vec![0.0; len];
        Stream::new(seed, Purpose::Check, 0, 0).normal(&mut out, 1.0);
        out
    };
    let targets = (0..T).map(|t| (t * 37 % V) as u32).collect();
    Example { h: numbers(T * D, 1), weights: numbers(V * D, 2), bias: biased.then(|| numbers(V, 3)), targets }
}

/// Losses, whether the targets lead, and all gradients.
type Results = (Vec<u32>, Vec<bool>, [Vec<u32>; 3]);

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

impl Example {
    fn head(&self) -> Head<'_, f32> {
        Head { weights: &self.weights, bias: self.bias.as_deref(), width: D }
    }

    /// Computed by the kernel.
    fn run(&self, cut: Cut) -> Results {
        let (mut losses, mut right) = (vec![f32::NAN; T], vec![false; T]);
        let mut g = [T * D, V * D, V].map(|len| vec![f32::NAN; len]);
        let [h, weights, bias] = &mut g;
        let g_out = Gradients { h, weights, bias };
        run(&self.h, self.head(), &self.targets, &mut losses, &mut right, Some(g_out), cut);
        (bits(&losses), right, g.map(|g| bits(&g)))
    }

    /// Computed by plain loops over all logits at once, a row per entry of the vocabulary, with one product for the
    /// gradient of the weights.
    fn plain(&self, cut: Cut) -> Results {
        let (h, mut x) = (Mat::new(&self.h, T, D), vec![0.0f32; V * T]);
        let bias = self.bias.clone().unwrap_or(vec![0.0; V]);
        x.chunks_exact_mut(T).zip(&bias).for_each(|(row, &b)| row.fill(b));
        gemm::plain(&mut x, Mat::new(&self.weights, V, D), h.t(), Start::Sum, false);
        let (mut losses, mut right, scale) = (vec![0.0; T], vec![false; T], 1.0 / T as f32);
        let blocks: Vec<_> =
            (0..V).step_by(cut.block).map(|first| first..(first + cut.block).min(V)).collect();
        for t in 0..T {
            let at = |v: usize| v * T + t;
            let (target, of) = (self.targets[t] as usize, |x: &[f32]| (0..V).map(|v| x[at(v)]).collect());
            let logits: Vec<f32> = of(&x);
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            right[t] = logits.iter().position(|&x| x == largest) == Some(target);
            let (mut total, mut factors) = (0.0f32, Vec::new());
            for block in &blocks {
                let own = logits[block.clone()].iter().copied().fold(f32::MIN, f32::max);
                let mut sum = 0.0f32;
                for v in block.clone() {
                    x[at(v)] = Scalar::exp(x[at(v)] - own);
                    sum += x[at(v)];
                }
                factors.push(Scalar::exp(own - largest));
                total = factors[factors.len() - 1].mul_add(sum, total);
            }
            for (block, factor) in blocks.iter().zip(factors) {
                block.clone().for_each(|v| x[at(v)] *= factor * (scale / total));
            }
            losses[t] = (largest - logits[target]) + Scalar::ln(total);
        }
        let (mut weights, mut bias) = (vec![0.0; V * D], vec![0.0; V]);
        for first in (0..T).step_by(TOKENS) {
            let tokens = first..(first + TOKENS).min(T);
            for (bias, row) in bias.iter_mut().zip(x.chunks_exact(T)) {
                *bias += reduce::sum(&row[tokens.clone()]);
            }
            for t in tokens {
                let target = self.targets[t] as usize;
                x[target * T + t] -= scale;
                bias[target] -= scale;
            }
        }
        gemm::plain(&mut weights, Mat::new(&x, V, T), h, Start::Zero, false);
        let mut tokens = vec![0.0; T * D];
        for part in blocks.chunks(cut.part / cut.block) {
            let mut share = vec![0.0; T * D];
            for block in part {
                let g = Mat::new(&x[block.start * T..], block.len(), T).t();
                let vectors = Mat::new(&self.weights[block.start * D..], block.len(), D);
                gemm::plain(&mut share, g, vectors, Start::Sum, false);
            }
            tokens.iter_mut().zip(share).for_each(|(sum, v)| *sum += v);
        }
        (bits(&losses), right, [tokens, weights, bias].map(|g| bits(&g)))
    }
}

#[test]
fn chunks_and_blocks_are_the_plain_loops_over_everything_to_the_bit_at_every_level_and_thread_count() {
    for biased in [false, true] {
        let example = example(biased);
        for cut in [Cut::of(V), Cut { block: 20, part: 60 }] {
            let plain = example.plain(cut);
            assert!(plain.1.contains(&true));
            simd::on_every_level(|level| {
                for threads in [1, 2, 3, 8] {
                    let got = par::with_threads(threads, || example.run(cut));
                    let what = format!("at level {level}, {threads} threads, bias {biased}, {cut:?}");
                    assert!(got.0 == plain.0 && got.1 == plain.1, "losses {what}");
                    for ((got, plain), name) in got.2.iter().zip(&plain.2).zip(["h", "weights", "bias"]) {
                        assert!(got == plain, "g_{name} {what}");
                    }
                }
            });
        }
    }
}

#[test]
fn losses_alone_are_the_same_and_a_token_has_the_same_alone_and_in_a_batch() {
    let example = example(true);
    let (expected, expected_right, _) = example.run(Cut::of(V));
    let of = |tokens: std::ops::Range<usize>| {
        let (mut own, mut right) = (vec![f32::NAN; tokens.len()], vec![false; tokens.len()]);
        let h = &example.h[tokens.start * D..tokens.end * D];
        losses(h, example.head(), &example.targets[tokens], &mut own, &mut right);
        (bits(&own), right)
    };
    assert_eq!(of(0..T), (expected.clone(), expected_right.clone()));
    for t in [0, 17, T - 1] {
        assert_eq!(of(t..t + 1), (vec![expected[t]], vec![expected_right[t]]));
    }
}

#[test]
fn the_vocabulary_is_cut_into_whole_blocks_and_few_parts() {
    for vocabulary in [0, 1, 63, 256, 1_500, 8_193, 50_257, 128_000] {
        let Cut { block, part } = Cut::of(vocabulary);
        assert!(
            part.is_multiple_of(block) && vocabulary.div_ceil(part) <= 16,
            "{vocabulary}: {block}, {part}"
        );
    }
}

/// Loss and whether the target leads for one token `1` and a vocabulary of single numbers.
fn of_logits(logits: &[f32], target: u32) -> (f32, bool) {
    let (mut loss, mut right) = ([f32::NAN], [false]);
    losses(&[1.0], Head { weights: logits, bias: None, width: 1 }, &[target], &mut loss, &mut right);
    (loss[0], right[0])
}

#[test]
fn of_equal_logits_the_first_leads_in_its_block_and_in_others() {
    let mut logits = [0.0; 300];
    for (target, leads) in [(0, true), (1, false), (299, false)] {
        let (loss, right) = of_logits(&logits, target);
        approx::assert_relative_eq!(loss, 5.703_782_5, max_relative = 1e-6);
        assert_eq!(right, leads, "target {target}");
    }
    (logits[150], logits[151], logits[250]) = (1.0, 1.0, 1.0);
    assert_eq!([0, 150, 151, 250].map(|target| of_logits(&logits, target).1), [false, true, false, false]);
}

#[test]
fn large_logits_do_not_overflow_and_infinitely_small_ones_weigh_nothing() {
    let mut logits = [f32::NEG_INFINITY; 300];
    (logits[7], logits[200]) = (1000.0, 0.0);
    assert_eq!(of_logits(&logits, 7), (0.0, true));
    assert_eq!(of_logits(&logits, 200), (1000.0, false));
    logits[100] = f32::NAN;
    assert!(of_logits(&logits, 7).0.is_nan());
}

#[test]
#[should_panic(expected = "not in the vocabulary")]
fn a_target_beyond_the_vocabulary_is_refused() {
    of_logits(&[0.0; 3], 3);
}
