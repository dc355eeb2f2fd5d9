//! The cross-entropy of a linear head over a vocabulary, with its gradients, without storing the logits of all tokens.
//!
//! ```text
//! x      = W h_t + b                 logits (V) of token t;  W (V, d), h (T, d), b (V)
//! loss_t = -log softmax(x)[target_t]
//! g_x    = (softmax(x) - onehot(target_t)) / T      gradient of the mean loss
//! g_h_t  = W^T g_x;   g_W = sum over t of g_x h_t^T;   g_b = sum over t of g_x
//! ```
//!
//! Tokens are processed in chunks of n <= 512, and the vocabulary in blocks of v rows. A block (v, n) has a row per
//! entry of the vocabulary and a column per token. It stays in the second-level cache from its product to its
//! exponentials `e = exp(x - m)`, where m (n) are the largest logits of this block alone, so that blocks do not wait for
//! each other. The m and the sums of e of all blocks give the losses, and per block one factor per token with
//! `softmax(x) / T = factor * e`. The backward pass then reads each block once, for both of its products. In all there
//! are three products, and the exponentials of a chunk (V, n) pass through memory once.

use super::gemm::{self, Mat, Start};
use super::{elem::Elem, par, pool::Buffer, pool::scratch, reduce, rows, simd::fast};

/// Tokens of a chunk: a multiple of the products' inner chunk, so that the gradient of W, accumulated over chunks, has
/// the bits of one product over all tokens. The multiple 2 halves the passes over that gradient (4% of the time).
const TOKENS: usize = 2 * gemm::CHUNK;

/// The parameters of the head.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a, F> {
    /// W, (V, d).
    pub weights: &'a [F],
    /// b, (V), if there is one.
    pub bias: Option<&'a [F]>,
    /// Width d of a token.
    pub width: usize,
}

/// Outputs: the gradients of the mean loss.
pub struct Gradients<'a, F> {
    /// Of the tokens, (T, d).
    pub h: &'a mut [F],
    /// Of W, (V, d).
    pub weights: &'a mut [F],
    /// Of b, (V); written even if the head has none.
    pub bias: &'a mut [F],
}

/// `losses` (T) of the tokens `h` (T, d) with `targets` (T). `right` (T) tells whether the target is the argmax of the
/// logits, the first of equals.
///
/// # Panics
/// If the lengths disagree or a target is not below V.
pub fn losses<F: Elem>(h: &[F], head: Head<F>, targets: &[u32], losses: &mut [F], right: &mut [bool]) {
    run(h, head, targets, losses, right, None, Cut::of(head.vocabulary()));
}

/// [`losses`], and the gradients of their mean; zero if there is no token.
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

/// How the vocabulary is divided. The bits of the tokens' gradients depend on it, so it depends only on V.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Rows of a block.
    block: usize,
    /// Rows of a part: the blocks that one task of the backward pass takes.
    part: usize,
}

impl Cut {
    fn of(vocabulary: usize) -> Cut {
        /// Minimum and maximum rows of a block: enough to be worth packing a chunk's tokens, few enough for the cache.
        const BLOCK: (usize, usize) = (64, 512);
        /// Maximum number of parts: each stores gradients of all tokens of a chunk, which are then added.
        const PARTS: usize = 16;
        let share = vocabulary.div_ceil(PARTS).max(1);
        let block = share.next_multiple_of(gemm::GRAIN).clamp(BLOCK.0, BLOCK.1);
        Cut { block, part: share.next_multiple_of(block) }
    }
}

/// Rows of a block's statistics (4, n), one column per token:
/// 0. m, the largest logit of the block;
/// 1. the sum of the exponentials;
/// 2. the logit of the target, if it lies in this block;
/// 3. 1 if the target is the block's argmax, else 0, if it lies in this block.
const STATISTICS: usize = 4;

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
    let chunk_size = TOKENS.min(tokens);
    let (blocks, parts) = (vocabulary.div_ceil(cut.block), vocabulary.div_ceil(cut.part));
    let mut statistics = Buffer::new(blocks * STATISTICS * chunk_size);
    let mut factors = Buffer::new(blocks * chunk_size);
    let (mut exponentials, mut shares) = match gradients {
        Some(_) => (Buffer::new(vocabulary * chunk_size), Buffer::new(parts * chunk_size * d)),
        None => (Buffer::new(0), Buffer::new(0)),
    };
    for first in (0..tokens).step_by(TOKENS) {
        let count = TOKENS.min(tokens - first);
        let here = first..first + count;
        let chunk = Chunk { h: &h[first * d..][..count * d], targets: &targets[here.clone()], head, cut };
        let statistics = &mut statistics[..blocks * STATISTICS * count];
        let factors = &mut factors[..blocks * count];
        let exponentials = &mut exponentials[..if gradients.is_some() { vocabulary * count } else { 0 }];
        par::sized(vocabulary * count * d, || {
            chunk.forward(exponentials, statistics);
            chunk.losses(statistics, scale, factors, &mut losses[here.clone()], &mut right[here]);
            if let Some(g) = &mut gradients {
                let shares = &mut shares[..parts * count * d];
                chunk.backward(exponentials, factors, scale, (g.weights, g.bias, shares));
                add_shares(&mut g.h[first * d..][..count * d], shares, d);
            }
        });
    }
}

/// The n tokens of a chunk, and the head.
#[derive(Clone, Copy)]
struct Chunk<'a, F> {
    h: &'a [F],
    targets: &'a [u32],
    head: Head<'a, F>,
    cut: Cut,
}

impl<F: Elem> Chunk<'_, F> {
    /// The exponentials (V, n) and the statistics (blocks, 4, n). With an empty `exponentials` only the statistics.
    fn forward(&self, exponentials: &mut [F], statistics: &mut [F]) {
        let (count, size) = (self.targets.len(), self.cut.block);
        let statistics = (statistics, STATISTICS * count);
        if exponentials.is_empty() {
            par::rows(statistics, 1, |i, statistics| {
                let rows = size.min(self.head.vocabulary() - i * size);
                scratch(rows * count, |block| self.block(i * size, block, statistics));
            });
        } else {
            par::rows(((exponentials, size * count), statistics), 1, |i, (block, statistics)| {
                self.block(i * size, block, statistics);
            });
        }
    }

    /// The block (v, n) that starts at row `first` of the vocabulary: its logits, from them its statistics (4, n), and
    /// in place of the logits their exponentials.
    fn block(&self, first: usize, block: &mut [F], statistics: &mut [F]) {
        let count = self.targets.len();
        let (largest, statistics) = statistics.split_at_mut(count);
        let (sums, statistics) = statistics.split_at_mut(count);
        let (target, leads) = statistics.split_at_mut(count);

        let logits = self.logits(first, block);
        largest.fill(lowest());
        fast::<F, _>(
            #[inline(always)]
            || {
                for row in logits.chunks_exact(count) {
                    for (m, &x) in largest.iter_mut().zip(row) {
                        *m = x.larger(*m);
                    }
                }
            },
        );
        for (t, row) in self.targets_in(first, logits.len() / count) {
            let logit = logits[row * count + t];
            let first =
                logit == largest[t] && logits[t..].iter().step_by(count).take(row).all(|&x| x != logit);
            (target[t], leads[t]) = (logit, if first { F::one() } else { F::zero() });
        }
        exponentiate(logits, largest, sums);
    }

    /// `x = W h^T + b` for the rows of the vocabulary from `first` on that `block` (v, n) has room for.
    fn logits<'b>(&self, first: usize, block: &'b mut [F]) -> &'b mut [F] {
        let (count, d) = (self.targets.len(), self.head.width);
        let start = match self.head.bias {
            Some(bias) => {
                block.chunks_exact_mut(count).zip(&bias[first..]).for_each(|(row, &b)| row.fill(b));
                Start::Sum
            }
            None => Start::Zero,
        };
        let weights = Mat::new(&self.head.weights[first * d..], block.len() / count, d);
        F::gemm(block, weights, Mat::new(self.h, count, d).t(), start, false);
        block
    }

    /// The tokens whose target is one of the `rows` rows of the vocabulary from `first` on, each with this row, counted
    /// from `first`.
    fn targets_in(&self, first: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        let row = move |(t, &target): (usize, &u32)| Some((t, (target as usize).checked_sub(first)?));
        self.targets.iter().enumerate().filter_map(row).filter(move |&(_, row)| row < rows)
    }

    /// From the statistics of all blocks the losses (n), whether the targets lead (n), and the factors (blocks, n).
    ///
    /// With m over the blocks and `M = max m`: `total = sum of exp(m - M) sum`, `loss = (M - x[target]) + ln(total)` and
    /// `factor = exp(m - M) (scale / total)`.
    fn losses(&self, statistics: &[F], scale: F, factors: &mut [F], losses: &mut [F], right: &mut [bool]) {
        let count = self.targets.len();
        let (mut largest, mut total) = (Buffer::new(count), Buffer::new(count));
        largest.fill(lowest());
        total.fill(F::zero());
        fast::<F, _>(
            #[inline(always)]
            || {
                for statistics in statistics.chunks_exact(STATISTICS * count) {
                    for (m, &x) in largest.iter_mut().zip(statistics) {
                        *m = x.larger(*m);
                    }
                }
                let blocks = statistics.chunks_exact(STATISTICS * count);
                for (statistics, factors) in blocks.zip(factors.chunks_exact_mut(count)) {
                    let (own, sums) = statistics.split_at(count);
                    for ((((factor, &own), &sum), &m), total) in
                        factors.iter_mut().zip(own).zip(sums).zip(&largest[..]).zip(total.iter_mut())
                    {
                        *factor = (own - m).exp();
                        *total = factor.mul_add(sum, *total);
                    }
                }
                for factors in factors.chunks_exact_mut(count) {
                    for (factor, &total) in factors.iter_mut().zip(&total[..]) {
                        *factor = *factor * (scale / total);
                    }
                }
            },
        );
        for (t, &target) in self.targets.iter().enumerate() {
            let block = target as usize / self.cut.block;
            let own = &statistics[block * STATISTICS * count..];
            let mut earlier = statistics.chunks_exact(STATISTICS * count).take(block);
            let (logit, leads) = (own[2 * count + t], own[3 * count + t] == F::one());
            losses[t] = (largest[t] - logit) + total[t].ln();
            right[t] = leads && logit == largest[t] && !earlier.any(|statistics| statistics[t] == largest[t]);
        }
    }

    /// Adds the gradients of W (V, d) and b (V) to `weights` and `bias`, and writes each part's share of the tokens'
    /// gradients to `shares` (parts, n, d). Overwrites the exponentials.
    fn backward(
        &self,
        exponentials: &mut [F],
        factors: &[F],
        scale: F,
        (weights, bias, shares): (&mut [F], &mut [F], &mut [F]),
    ) {
        let (count, d, Cut { block, part }) = (self.targets.len(), self.head.width, self.cut);
        let out = ((exponentials, part * count), (weights, part * d), (bias, part), (shares, count * d));
        par::rows(out, 1, |i, (exponentials, weights, bias, share)| {
            let blocks = exponentials.chunks_mut(block * count).zip(weights.chunks_mut(block * d));
            for (j, ((exponentials, weights), bias)) in blocks.zip(bias.chunks_mut(block)).enumerate() {
                let (first, rows) = (i * part + j * block, bias.len());
                let factors = &factors[first / block * count..][..count];
                let g_logits = self.logit_gradients(first, exponentials, factors, scale, bias);
                let g_logits = Mat::new(g_logits, rows, count);
                F::gemm(weights, g_logits, Mat::new(self.h, count, d), Start::Sum, false);
                let vectors = Mat::new(&self.head.weights[first * d..], rows, d);
                let start = if j == 0 { Start::Zero } else { Start::Sum };
                F::gemm(share, g_logits.t(), vectors, start, false);
            }
        });
    }

    /// Converts the exponentials (v, n) of the block at row `first` in place to the gradients of its logits,
    /// `factor e - scale onehot(target)`, and adds their sums over the tokens to `bias` (v).
    fn logit_gradients<'b>(
        &self,
        first: usize,
        exponentials: &'b mut [F],
        factors: &[F],
        scale: F,
        bias: &mut [F],
    ) -> &'b [F] {
        let count = self.targets.len();
        fast::<F, _>(
            #[inline(always)]
            || {
                for (row, bias) in exponentials.chunks_exact_mut(count).zip(bias.iter_mut()) {
                    for (e, &factor) in row.iter_mut().zip(factors) {
                        *e = *e * factor;
                    }
                    *bias += reduce::sum_lanes(row);
                }
            },
        );
        for (t, row) in self.targets_in(first, bias.len()) {
            exponentials[row * count + t] += -scale;
            bias[row] += -scale;
        }
        exponentials
    }
}

/// `e = exp(x - m)` in place of the logits x (v, n), with m (n); and the sums (n) of e over the rows.
fn exponentiate<F: Elem>(logits: &mut [F], largest: &[F], sums: &mut [F]) {
    sums.fill(F::zero());
    fast::<F, _>(
        #[inline(always)]
        || {
            for row in logits.chunks_exact_mut(sums.len()) {
                for ((x, &m), sum) in row.iter_mut().zip(largest).zip(sums.iter_mut()) {
                    *x = (*x - m).exp();
                    *sum += *x;
                }
            }
        },
    );
}

/// `out` (n, d) = the sum of the shares (parts, n, d), in order.
fn add_shares<F: Elem>(out: &mut [F], shares: &[F], width: usize) {
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

/// Below any finite logit. Not -infinity: a block of -infinities then has exponentials of 0 and not of NaN.
fn lowest<F: Elem>() -> F {
    F::of(f64::from(f32::MIN))
}

#[cfg(test)]
mod tests;
