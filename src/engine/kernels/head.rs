//! The head over a vocabulary and its loss: logits, softmax and cross-entropy of each token and all gradients, without
//! the logits of all tokens ever being whole.
//!
//! Tokens come in chunks, and a chunk's logits in blocks: a row for each vector of the vocabulary, a column for each
//! token. A block stays in the second-level cache from its product to its exponentials, which are taken from the
//! block's own largest logits, so that it waits for no other. From the largest logits and the sums of all blocks
//! follow the losses, and for each block one factor per token that turns exponentials into gradients of the logits.
//! With these each block is read once more, for both products of the backward pass. So there are three products in
//! all, and a chunk's exponentials pass through memory once.

use super::gemm::{self, Mat, Start};
use super::{elem::Elem, par, pool::Buffer, pool::scratch, reduce, rows, simd::fast};

/// Tokens of a chunk: whole inner chunks of the products' definition, so that the gradient of the vocabulary, added up
/// chunk by chunk, has the bits of one product over all tokens. With two it is read and written half as often as with
/// one (4% of the time).
const TOKENS: usize = 2 * gemm::CHUNK;

/// The vectors of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a, F> {
    /// One after another, (V, d).
    pub weights: &'a [F],
    /// What is added to the logits (V), if anything.
    pub bias: Option<&'a [F]>,
    /// Width d of a vector and of a token.
    pub width: usize,
}

/// Where the gradients of the mean loss go.
pub struct Gradients<'a, F> {
    /// Of the tokens, (T, d).
    pub h: &'a mut [F],
    /// Of the vocabulary, (V, d).
    pub weights: &'a mut [F],
    /// Of the biases (V), whether there are any or not.
    pub bias: &'a mut [F],
}

/// `-log softmax(h W^T + b)[target]` of each token of `h` (T, d), and whether no logit is larger than the target's
/// nor any before it as large.
///
/// # Panics
/// If lengths do not agree or a target is not in the vocabulary.
pub fn losses<F: Elem>(h: &[F], head: Head<F>, targets: &[u32], losses: &mut [F], right: &mut [bool]) {
    run(h, head, targets, losses, right, None, Cut::of(head.vocabulary()));
}

/// [`losses`], and the gradients of their mean; zero where there is no token.
///
/// # Panics
/// As [`losses`].
pub fn losses_and_gradients<F: Elem>(
    h: &[F],
    head: Head<F>,
    targets: &[u32],
    losses: &mut [F],
    right: &mut [bool],
    gradients: Gradients<F>,
) {
    run(h, head, targets, losses, right, Some(gradients), Cut::of(head.vocabulary()));
}

impl<F> Head<'_, F> {
    fn vocabulary(&self) -> usize {
        self.weights.len() / self.width
    }
}

/// How the vocabulary is cut. The gradients of tokens depend on it, so it depends on the vocabulary alone.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Rows of a block.
    block: usize,
    /// Rows of a part, which are whole blocks: a task's share of the backward pass.
    part: usize,
}

impl Cut {
    fn of(vocabulary: usize) -> Cut {
        /// Rows of a block, at least and at most: enough to be worth packing a chunk's tokens for, few enough to stay
        /// in cache.
        const BLOCK: (usize, usize) = (64, 512);
        /// Parts at most: each has gradients of all tokens of a chunk, which are then added up.
        const PARTS: usize = 16;
        let share = vocabulary.div_ceil(PARTS).max(1);
        let block = share.next_multiple_of(gemm::GRAIN).clamp(BLOCK.0, BLOCK.1);
        Cut { block, part: share.next_multiple_of(block) }
    }
}

/// Facts of a block, one row of each with a number for each token: the largest logit; the sum of exponentials, and
/// then their factor; where the target lies in the block its logit, and whether it is the first of the largest (1, 0).
const FACTS: usize = 4;

fn run<F: Elem>(
    h: &[F],
    head: Head<F>,
    targets: &[u32],
    losses: &mut [F],
    right: &mut [bool],
    mut gradients: Option<Gradients<F>>,
    cut: Cut,
) {
    let (d, vocabulary, tokens) = (head.width, head.vocabulary(), targets.len());
    assert!(head.weights.len() == vocabulary * d && head.bias.is_none_or(|b| b.len() == vocabulary));
    assert!(h.len() == tokens * d && losses.len() == tokens && right.len() == tokens);
    assert!(targets.iter().all(|&t| (t as usize) < vocabulary), "a target is not in the vocabulary");
    if let Some(g) = &mut gradients {
        assert!(g.h.len() == h.len() && g.weights.len() == vocabulary * d && g.bias.len() == vocabulary);
        g.weights.fill(F::zero());
        g.bias.fill(F::zero());
    }
    let scale = F::of(1.0 / tokens as f64);
    let (most, blocks, parts) =
        (TOKENS.min(tokens), vocabulary.div_ceil(cut.block), vocabulary.div_ceil(cut.part));
    let mut facts = Buffer::new(blocks * FACTS * most);
    let (mut powers, mut shares) = match gradients {
        Some(_) => (Buffer::new(vocabulary * most), Buffer::new(parts * most * d)),
        None => (Buffer::new(0), Buffer::new(0)),
    };
    for first in (0..tokens).step_by(TOKENS) {
        let count = TOKENS.min(tokens - first);
        let here = first..first + count;
        let chunk = Chunk { h: &h[first * d..][..count * d], targets: &targets[here.clone()], head, cut };
        let facts = &mut facts[..blocks * FACTS * count];
        let powers = &mut powers[..if gradients.is_some() { vocabulary * count } else { 0 }];
        par::sized(vocabulary * count * d, || {
            chunk.powers(powers, facts);
            chunk.losses(facts, scale, &mut losses[here.clone()], &mut right[here]);
            if let Some(g) = &mut gradients {
                let shares = &mut shares[..parts * count * d];
                chunk.gradients(powers, facts, scale, (g.weights, g.bias, shares));
                add_up(&mut g.h[first * d..][..count * d], shares, d);
            }
        });
    }
}

/// Some tokens, and what they are held against.
#[derive(Clone, Copy)]
struct Chunk<'a, F> {
    h: &'a [F],
    targets: &'a [u32],
    head: Head<'a, F>,
    cut: Cut,
}

impl<F: Elem> Chunk<'_, F> {
    /// Exponentials of the chunk's logits (V, tokens), each from its block's largest, and the facts of all blocks.
    /// With no room for them the exponentials are not kept.
    fn powers(&self, powers: &mut [F], facts: &mut [F]) {
        let (count, size) = (self.targets.len(), self.cut.block);
        let facts = (facts, FACTS * count);
        if powers.is_empty() {
            par::rows(facts, 1, |i, facts| {
                let rows = size.min(self.head.vocabulary() - i * size);
                scratch(rows * count, |block| self.block(i * size, block, facts));
            });
        } else {
            par::rows(((powers, size * count), facts), 1, |i, (block, facts)| {
                self.block(i * size, block, facts);
            });
        }
    }

    /// One block, from row `first` of the vocabulary on.
    fn block(&self, first: usize, block: &mut [F], facts: &mut [F]) {
        let (count, d) = (self.targets.len(), self.head.width);
        let rows = block.len() / count;
        let start = match self.head.bias {
            Some(bias) => {
                block.chunks_exact_mut(count).zip(&bias[first..]).for_each(|(row, &b)| row.fill(b));
                Start::Sum
            }
            None => Start::Zero,
        };
        let weights = Mat::new(&self.head.weights[first * d..], rows, d);
        F::gemm(block, weights, Mat::new(self.h, count, d).t(), start, false);

        let (largest, facts) = facts.split_at_mut(count);
        let (sums, facts) = facts.split_at_mut(count);
        let (target, leads) = facts.split_at_mut(count);
        largest.fill(lowest());
        fast::<F, _>(
            #[inline(always)]
            || {
                for row in block.chunks_exact(count) {
                    for (m, &x) in largest.iter_mut().zip(row) {
                        *m = x.larger(*m);
                    }
                }
            },
        );
        for (t, row) in self.targets_in(first, rows) {
            let logit = block[row * count + t];
            let first =
                logit == largest[t] && block[t..].iter().step_by(count).take(row).all(|&x| x != logit);
            (target[t], leads[t]) = (logit, if first { F::one() } else { F::zero() });
        }
        sums.fill(F::zero());
        fast::<F, _>(
            #[inline(always)]
            || {
                for row in block.chunks_exact_mut(count) {
                    for ((x, &m), sum) in row.iter_mut().zip(&*largest).zip(sums.iter_mut()) {
                        *x = (*x - m).exp();
                        *sum += *x;
                    }
                }
            },
        );
    }

    /// The tokens whose target is one of `rows` rows of the vocabulary from `first` on, and which of these it is.
    fn targets_in(&self, first: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        let row = move |(t, &target): (usize, &u32)| Some((t, (target as usize).checked_sub(first)?));
        self.targets.iter().enumerate().filter_map(row).filter(move |&(_, row)| row < rows)
    }

    /// The losses, from the facts of all blocks. Where a sum of exponentials stood comes what makes each of them
    /// `scale` times its probability.
    fn losses(&self, facts: &mut [F], scale: F, losses: &mut [F], right: &mut [bool]) {
        let count = self.targets.len();
        let (mut largest, mut total) = (Buffer::new(count), Buffer::new(count));
        largest.fill(lowest());
        total.fill(F::zero());
        fast::<F, _>(
            #[inline(always)]
            || {
                for facts in facts.chunks_exact(FACTS * count) {
                    for (m, &x) in largest.iter_mut().zip(facts) {
                        *m = x.larger(*m);
                    }
                }
                for facts in facts.chunks_exact_mut(FACTS * count) {
                    let (own, sums) = facts.split_at_mut(count);
                    for (((sum, &own), &m), total) in
                        sums.iter_mut().zip(&*own).zip(&largest[..]).zip(total.iter_mut())
                    {
                        let factor = (own - m).exp();
                        *total = factor.mul_add(*sum, *total);
                        *sum = factor;
                    }
                }
                for facts in facts.chunks_exact_mut(FACTS * count) {
                    for (factor, &total) in facts[count..].iter_mut().zip(&total[..]) {
                        *factor = *factor * (scale / total);
                    }
                }
            },
        );
        for (t, &target) in self.targets.iter().enumerate() {
            let block = target as usize / self.cut.block;
            let own = &facts[block * FACTS * count..];
            let earlier = facts.chunks_exact(FACTS * count).take(block).any(|facts| facts[t] == largest[t]);
            let (logit, leads) = (own[2 * count + t], own[3 * count + t] == F::one());
            losses[t] = (largest[t] - logit) + total[t].ln();
            right[t] = leads && logit == largest[t] && !earlier;
        }
    }

    /// Gradients of the vocabulary and of the biases, added to what is there, and each part's share of the tokens'
    /// gradients. Exponentials become gradients of the logits on the way.
    fn gradients(
        &self,
        powers: &mut [F],
        facts: &[F],
        scale: F,
        (weights, bias, shares): (&mut [F], &mut [F], &mut [F]),
    ) {
        let (count, d, Cut { block, part }) = (self.targets.len(), self.head.width, self.cut);
        let out = ((powers, part * count), (weights, part * d), (bias, part), (shares, count * d));
        par::rows(out, 1, |i, (powers, weights, bias, share)| {
            let blocks = powers.chunks_mut(block * count).zip(weights.chunks_mut(block * d));
            for (j, ((g, weights), bias)) in blocks.zip(bias.chunks_mut(block)).enumerate() {
                let (first, rows) = (i * part + j * block, bias.len());
                let factors = &facts[(first / block * FACTS + 1) * count..][..count];
                fast::<F, _>(
                    #[inline(always)]
                    || {
                        for (row, bias) in g.chunks_exact_mut(count).zip(bias.iter_mut()) {
                            for (g, &factor) in row.iter_mut().zip(factors) {
                                *g = *g * factor;
                            }
                            *bias += reduce::sum_lanes(row);
                        }
                    },
                );
                for (t, row) in self.targets_in(first, rows) {
                    g[row * count + t] += -scale;
                    bias[row] += -scale;
                }
                let g = Mat::new(g, rows, count);
                F::gemm(weights, g, Mat::new(self.h, count, d), Start::Sum, false);
                let vectors = Mat::new(&self.head.weights[first * d..], rows, d);
                F::gemm(share, g.t(), vectors, if j == 0 { Start::Zero } else { Start::Sum }, false);
            }
        });
    }
}

/// `out` = the sum of `shares`, each as large as `out`, in order.
fn add_up<F: Elem>(out: &mut [F], shares: &[F], width: usize) {
    let size = out.len();
    rows::each(
        out,
        width,
        #[inline(always)]
        |r, out| {
            out.fill(F::zero());
            for share in shares.chunks_exact(size) {
                for (out, &v) in out.iter_mut().zip(&share[r * width..]) {
                    *out += v;
                }
            }
        },
    );
}

/// What any logit is larger than: not -infinity, so that blocks of nothing else weigh nothing.
fn lowest<F: Elem>() -> F {
    F::of(f64::from(f32::MIN))
}

#[cfg(test)]
mod tests {
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
        Example {
            h: numbers(T * D, 1),
            weights: numbers(V * D, 2),
            bias: biased.then(|| numbers(V, 3)),
            targets,
        }
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

        /// Through the kernel.
        fn run(&self, cut: Cut) -> Results {
            let (mut losses, mut right) = (vec![f32::NAN; T], vec![false; T]);
            let mut g = [T * D, V * D, V].map(|len| vec![f32::NAN; len]);
            let [h, weights, bias] = &mut g;
            let g_out = Gradients { h, weights, bias };
            run(&self.h, self.head(), &self.targets, &mut losses, &mut right, Some(g_out), cut);
            (bits(&losses), right, g.map(|g| bits(&g)))
        }

        /// As plain loops over all logits at once, a row for each word; one product for the gradient of the weights.
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
        assert_eq!(
            [0, 150, 151, 250].map(|target| of_logits(&logits, target).1),
            [false, true, false, false]
        );
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
}
