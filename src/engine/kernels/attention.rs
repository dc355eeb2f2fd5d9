//! Causal attention over sequences that lie one after another, forward and backward.
//!
//! A block of queries meets the keys up to its last query's, so the scores take the block's height times a sequence's
//! length and never its square; the backward pass finds them again. The rows of a block are those of every head that
//! reads the same keys, token by token.
//!
//! All products are the engine's own ([`super::gemm`]), and a key that a query does not see weighs an exact 0 in them: as
//! long as numbers are finite, a row's bits depend on its query and the keys up to it alone.

use super::gemm::{Mat, Start};
use super::par::{self, Parts};
use super::reduce::{self, LANES, padded};
use super::{elem::Elem, pool::Buffer, simd::fast};

/// Rows of a block, about: enough to be worth packing the keys for, and few scores beyond the causal ones.
const ROWS: usize = 64;

/// How a row of queries, and one of keys or values, is made up of heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads H of a row of queries.
    pub count: usize,
    /// Heads G of a row of keys or values: query head h reads key head `h / (H / G)`.
    pub groups: usize,
    /// Numbers of a head.
    pub width: usize,
}

impl Heads {
    /// Query heads that read one key head.
    pub fn per_group(&self) -> usize {
        self.count / self.groups
    }

    /// What queries are multiplied by: `1 / sqrt(width)`.
    fn scale<F: Elem>(&self) -> F {
        F::of(1.0 / (self.width as f64).sqrt())
    }
}

/// Where sequences begin: the first row of each, and the end of the last.
#[derive(Clone, Copy, Debug)]
pub struct Starts<'a> {
    /// Among the queries, which are the last ones of each sequence.
    pub queries: &'a [usize],
    /// Among the keys and values.
    pub keys: &'a [usize],
}

/// Queries of a sequence that follow one another.
#[derive(Clone, Copy)]
struct Block {
    /// The first row of queries.
    row: usize,
    count: usize,
    /// The sequence's first row of keys, and how many the first query sees.
    key: usize,
    seen: usize,
}

// SAFETY: fields behind a shared borrow do not change.
unsafe impl par::Span for Block {
    fn first(&self) -> usize {
        self.row
    }
    fn count(&self) -> usize {
        self.count
    }
}

impl Block {
    /// In pieces of `size` rows.
    fn cut(self, size: usize) -> impl Iterator<Item = Block> {
        (0..self.count).step_by(size).map(move |i| Block {
            row: self.row + i,
            count: size.min(self.count - i),
            seen: self.seen + i,
            ..self
        })
    }

    /// Keys that its last query sees.
    fn keys(&self) -> usize {
        self.seen + self.count - 1
    }

    /// A group's heads of its rows of `x`, one row for each, times `scale`.
    fn queries<F: Elem>(&self, x: &[F], heads: Heads, group: usize, scale: F) -> Buffer<F> {
        let width = heads.per_group() * heads.width;
        let mut out = Buffer::new(self.count * width);
        fast::<F, _>(
            #[inline(always)]
            || {
                for (i, out) in out.chunks_exact_mut(width).enumerate() {
                    let x = &x[((self.row + i) * heads.groups + group) * width..][..width];
                    for (out, &x) in out.iter_mut().zip(x) {
                        *out = x * scale;
                    }
                }
            },
        );
        out
    }

    /// A group's head of all rows of `x` that its queries see.
    fn seen<'a, F: Elem>(&self, x: &'a [F], heads: Heads, group: usize) -> Mat<'a, F> {
        let row = heads.groups * heads.width;
        Mat::new(&x[self.key * row..], self.keys(), row).t().slice(group * heads.width, heads.width).t()
    }
}

/// Tokens of a block.
fn tokens(heads: Heads) -> usize {
    (ROWS / heads.per_group()).max(1)
}

/// Every sequence.
fn sequences(starts: Starts) -> impl Iterator<Item = Block> {
    starts.queries.windows(2).zip(starts.keys.windows(2)).map(|(queries, keys)| {
        let (count, len) = (queries[1] - queries[0], keys[1] - keys[0]);
        assert!(count <= len, "{count} queries of a sequence of {len} keys");
        Block { row: queries[0], count, key: keys[0], seen: len + 1 - count }
    })
}

/// `y = softmax(q k^T / sqrt(width)) v` for each head, over the keys of the query's sequence up to the query's own.
///
/// Queries and `y` are (T, H width), keys and values (M, G width); the queries are the last ones of their sequences, so
/// that keys and values may come from a cache. `log_sums` (T, H) becomes `ln(sum of e^score)`, for the backward pass.
pub fn forward<F: Elem>([q, k, v]: [&[F]; 3], heads: Heads, starts: Starts, y: &mut [F], log_sums: &mut [F]) {
    let (per_group, width, scale) = (heads.per_group(), heads.width, heads.scale());
    let blocks: Vec<Block> = sequences(starts).flat_map(|sequence| sequence.cut(tokens(heads))).collect();
    let scores: usize = blocks.iter().map(|block| block.count * block.keys() * heads.count).sum();
    let out = (Parts::new(y, heads.groups, per_group * width), Parts::new(log_sums, heads.groups, per_group));
    let work = |block: &Block, group: usize, (mut y, mut log_sums): (par::Columns<F>, par::Columns<F>)| {
        let (rows, keys) = (block.count * per_group, block.keys());
        let queries = block.queries(q, heads, group, scale);
        let (k, v) = (block.seen(k, heads, group), block.seen(v, heads, group));
        let [mut logs, mut sums] = [(); 2].map(|()| Buffer::<F>::new(rows));
        let (mut weights, mut values) = (Buffer::new(rows * keys), Buffer::new(rows * width));
        F::gemm(&mut weights, Mat::new(&queries, rows, width), k.t(), Start::Zero, false);
        fast::<F, _>(
            #[inline(always)]
            || {
                for (i, weights) in weights.chunks_exact_mut(keys).enumerate() {
                    let (seen, later) = weights.split_at_mut(block.seen + i / per_group);
                    let max = reduce::max_lanes(seen);
                    in_vectors(
                        seen,
                        #[inline(always)]
                        |score| (score - max).exp(),
                    );
                    later.fill(F::zero());
                    (logs[i], sums[i]) = (max, reduce::sum_lanes(seen));
                }
                for (log, &sum) in logs.iter_mut().zip(&*sums) {
                    *log += sum.ln();
                }
            },
        );
        F::gemm(&mut values, Mat::new(&weights, rows, keys), v, Start::Zero, false);
        fast::<F, _>(
            #[inline(always)]
            || {
                for (i, values) in values.chunks_exact(width).enumerate() {
                    log_sums.row(i / per_group)[i % per_group] = logs[i];
                    let (y, sum) = (&mut y.row(i / per_group)[i % per_group * width..][..width], sums[i]);
                    for (y, &value) in y.iter_mut().zip(values) {
                        *y = value / sum;
                    }
                }
            },
        );
    };
    par::sized(2 * scores * width, || par::parts(out, heads.groups, &blocks, work));
}

/// What the forward pass leaves for the backward pass, of the shapes it had there.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a, F> {
    /// Queries.
    pub q: &'a [F],
    /// Keys.
    pub k: &'a [F],
    /// Values.
    pub v: &'a [F],
    /// Output.
    pub y: &'a [F],
    /// `ln(sum of e^score)` of each row and head.
    pub log_sums: &'a [F],
}

/// Where the gradients of the inputs go.
pub struct Gradients<'a, F> {
    /// Of the queries.
    pub q: &'a mut [F],
    /// Of the keys.
    pub k: &'a mut [F],
    /// Of the values.
    pub v: &'a mut [F],
}

/// Gradients of everything that went into [`forward`], from the gradient `gy` of y; as many queries as keys.
///
/// With the weights `p = e^(score - log_sum)`: a value's gradient is the sum of `p gy` over the rows that see it; a
/// score's is `p (gy . v - gy . y)`, and goes to its query times its key, and to its key times its query. Sums over rows
/// run block by block in rising order, and so within a block, token by token and for each in rising order of heads.
pub fn backward<F: Elem>(gy: &[F], saved: Forward<F>, heads: Heads, starts: &[usize], out: Gradients<F>) {
    let Forward { q, k, v, y, log_sums } = saved;
    let (per_group, width, scale) = (heads.per_group(), heads.width, heads.scale());
    // An empty one has no rows to share out.
    let sequences: Vec<Block> =
        sequences(Starts { queries: starts, keys: starts }).filter(|sequence| sequence.count > 0).collect();
    let out = (
        Parts::new(out.q, heads.groups, per_group * width),
        Parts::new(out.k, heads.groups, width),
        Parts::new(out.v, heads.groups, width),
    );
    par::parts(out, heads.groups, &sequences, |sequence, group, (mut gq, mut gk, mut gv)| {
        let mut sums = [(); 2].map(|()| Buffer::new(sequence.count * width));
        sums.iter_mut().for_each(|sums| sums.fill(F::zero()));
        let [k_sums, v_sums] = &mut sums;
        for block in sequence.cut(tokens(heads)) {
            let (rows, keys) = (block.count * per_group, block.keys());
            let queries = block.queries(q, heads, group, scale);
            let gy = block.queries(gy, heads, group, F::one());
            let [mut weights, mut g_scores] = [(); 2].map(|()| Buffer::new(rows * keys));
            let (queries, gy_rows) = (Mat::new(&queries, rows, width), Mat::new(&gy, rows, width));
            F::gemm(&mut weights, queries, block.seen(k, heads, group).t(), Start::Zero, false);
            F::gemm(&mut g_scores, gy_rows, block.seen(v, heads, group).t(), Start::Zero, false);
            fast::<F, _>(
                #[inline(always)]
                || {
                    let scores = weights.chunks_exact_mut(keys).zip(g_scores.chunks_exact_mut(keys));
                    for ((i, (weights, g_scores)), gy) in scores.enumerate().zip(gy.chunks_exact(width)) {
                        let head =
                            (block.row + i / per_group) * heads.count + group * per_group + i % per_group;
                        let common = reduce::dot_lanes(gy, &y[head * width..][..width]);
                        let (weights, later) = weights.split_at_mut(block.seen + i / per_group);
                        let (g_scores, g_later) = g_scores.split_at_mut(weights.len());
                        in_vectors(
                            weights,
                            #[inline(always)]
                            |score| (score - log_sums[head]).exp(),
                        );
                        for (g, &weight) in g_scores.iter_mut().zip(&*weights) {
                            *g = weight * (*g - common);
                        }
                        later.fill(F::zero());
                        g_later.fill(F::zero());
                    }
                },
            );
            let (weights, g_scores) = (Mat::new(&weights, rows, keys), Mat::new(&g_scores, rows, keys));
            let mut g_queries = Buffer::new(rows * width);
            F::gemm(&mut v_sums[..keys * width], weights.t(), gy_rows, Start::Sum, false);
            F::gemm(&mut k_sums[..keys * width], g_scores.t(), queries, Start::Sum, false);
            F::gemm(&mut g_queries, g_scores, block.seen(k, heads, group), Start::Zero, false);
            fast::<F, _>(
                #[inline(always)]
                || {
                    for (i, g) in g_queries.chunks_exact(per_group * width).enumerate() {
                        let gq = gq.row(block.row - sequence.row + i);
                        for (gq, &g) in gq.iter_mut().zip(g) {
                            *gq = g * scale;
                        }
                    }
                },
            );
        }
        for (i, (k, v)) in k_sums.chunks_exact(width).zip(v_sums.chunks_exact(width)).enumerate() {
            gk.row(i).copy_from_slice(k);
            gv.row(i).copy_from_slice(v);
        }
    });
}

/// `x = f(x)` in whole vectors; the last is filled up with zeros, so that no element is worked on alone.
#[inline(always)]
fn in_vectors<F: Elem>(x: &mut [F], f: impl Fn(F) -> F) {
    let (vectors, rest) = x.as_chunks_mut::<LANES>();
    for vector in vectors {
        for x in vector {
            *x = f(*x);
        }
    }
    let mut last = padded(rest, F::zero());
    for x in &mut last {
        *x = f(*x);
    }
    rest.copy_from_slice(&last[..rest.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::gemm;
    use crate::engine::kernels::random::{Purpose, Stream};
    use crate::engine::kernels::scalar::Scalar;
    use crate::engine::kernels::simd;

    const HEADS: Heads = Heads { count: 6, groups: 2, width: 10 };
    /// Numbers in a row of queries, and of keys.
    const Q: usize = 60;
    const K: usize = 20;

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut out = vec![0.0; len];
        Stream::new(seed, Purpose::Check, 0, 0).normal(&mut out, 2.0);
        out
    }

    /// Queries, keys, values, and a gradient of the output.
    fn inputs(rows: usize) -> [Vec<f32>; 4] {
        [(Q, 1), (K, 2), (K, 3), (Q, 4)].map(|(width, seed)| numbers(rows * width, seed))
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|v| v.to_bits()).collect()
    }

    /// Output and log-sums through the kernel.
    fn run(q: &[f32], k: &[f32], v: &[f32], queries: &[usize], keys: &[usize]) -> [Vec<f32>; 2] {
        let (mut y, mut log_sums) = (vec![f32::NAN; q.len()], vec![f32::NAN; q.len() / HEADS.width]);
        forward([q, k, v], HEADS, Starts { queries, keys }, &mut y, &mut log_sums);
        [y, log_sums]
    }

    /// Output, log-sums and gradients as plain loops, with all scores of a sequence at once.
    fn plain([q, k, v, gy]: &[Vec<f32>; 4], starts: &[usize]) -> Vec<Vec<f32>> {
        let Heads { count, groups, width } = HEADS;
        let (per_group, scale) = (HEADS.per_group(), HEADS.scale::<f32>());
        let mut out: Vec<Vec<f32>> =
            [q.len(), q.len() / width, q.len(), k.len(), k.len()].map(|len| vec![0.0; len]).into();
        for (sequence, group) in starts.windows(2).flat_map(|s| (0..groups).map(move |g| (s, g))) {
            let (first, n) = (sequence[0], sequence[1] - sequence[0]);
            let head = |i: usize| (first + i / per_group) * count + group * per_group + i % per_group;
            let rows = |x: &[f32], scale: f32| -> Vec<f32> {
                (0..n * per_group)
                    .flat_map(|i| x[head(i) * width..][..width].iter().map(move |x| x * scale))
                    .collect()
            };
            let key = |i: usize| ((first + i) * groups + group) * width;
            let keys =
                |x: &[f32]| -> Vec<f32> { (0..n).flat_map(|i| x[key(i)..][..width].to_vec()).collect() };
            let (queries, gy, k, v) = (rows(q, scale), rows(gy, 1.0), keys(k), keys(v));
            let product = |a: Mat<f32>, b: Mat<f32>| {
                let mut out = vec![0.0; a.rows() * b.cols()];
                gemm::plain(&mut out, a, b, Start::Zero, false);
                out
            };
            let (mut weights, mut g_scores) = (vec![0.0; n * per_group * n], vec![0.0; n * per_group * n]);
            for i in 0..n * per_group {
                let (seen, query, gy) = (i / per_group + 1, &queries[i * width..], &gy[i * width..][..width]);
                let scores = product(Mat::new(query, 1, width), Mat::new(&k, seen, width).t());
                let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let powers: Vec<f32> = scores.iter().map(|s| Scalar::exp(s - max)).collect();
                let sum = reduce::sum(&powers);
                let log_sum = max + Scalar::ln(sum);
                let y: Vec<f32> = product(Mat::new(&powers, 1, seen), Mat::new(&v, seen, width))
                    .iter()
                    .map(|v| v / sum)
                    .collect();
                let g_weights = product(Mat::new(gy, 1, width), Mat::new(&v, seen, width).t());
                for j in 0..seen {
                    weights[i * n + j] = Scalar::exp(scores[j] - log_sum);
                    g_scores[i * n + j] = weights[i * n + j] * (g_weights[j] - reduce::dot(gy, &y));
                }
                out[0][head(i) * width..][..width].copy_from_slice(&y);
                out[1][head(i)] = log_sum;
                let g = product(Mat::new(&g_scores[i * n..], 1, n), Mat::new(&k, n, width));
                for (j, g) in g.iter().enumerate() {
                    out[2][head(i) * width + j] = g * scale;
                }
            }
            let (mut gk, mut gv) = (vec![0.0; n * width], vec![0.0; n * width]);
            let block = ROWS / per_group * per_group;
            for first in (0..n * per_group).step_by(block) {
                let rows = block.min(n * per_group - first);
                let part = |x, width| Mat::new(x, n * per_group, width).slice(first, rows);
                gemm::plain(&mut gk, part(&g_scores, n).t(), part(&queries, width), Start::Sum, false);
                gemm::plain(&mut gv, part(&weights, n).t(), part(&gy, width), Start::Sum, false);
            }
            for i in 0..n {
                out[3][key(i)..][..width].copy_from_slice(&gk[i * width..][..width]);
                out[4][key(i)..][..width].copy_from_slice(&gv[i * width..][..width]);
            }
        }
        out
    }

    #[test]
    fn outputs_and_gradients_are_the_plain_loops_to_the_bit_at_every_level_and_thread_count() {
        // Some blocks each, one row, no row, more than a chunk of keys.
        let starts: &[usize] = if cfg!(miri) { &[0, 1, 1, 20] } else { &[0, 40, 41, 41, 58, 341, 400] };
        let inputs = inputs(starts[starts.len() - 1]);
        let expected = plain(&inputs, starts);
        let [q, k, v, gy] = &inputs;
        simd::on_every_level(|level| {
            for threads in [1, 2, 3, 8] {
                let got = par::with_threads(threads, || {
                    let [y, log_sums] = run(q, k, v, starts, starts);
                    let mut g = [q, k, v].map(|x| vec![f32::NAN; x.len()]);
                    let saved = Forward { q, k, v, y: &y, log_sums: &log_sums };
                    let [gq, gk, gv] = &mut g;
                    backward(gy, saved, HEADS, starts, Gradients { q: gq, k: gk, v: gv });
                    [vec![y, log_sums], g.into()].concat()
                });
                for ((got, expected), name) in
                    got.iter().zip(&expected).zip(["y", "log_sums", "gq", "gk", "gv"])
                {
                    assert!(bits(got) == bits(expected), "{name} at level {level}, {threads} threads");
                }
            }
        });
    }

    #[test]
    fn a_row_has_the_same_bits_alone_in_a_block_and_in_a_batch() {
        let longest = if cfg!(miri) { 20 } else { 300 };
        let [q, k, v, _] = inputs(longest);
        simd::on_every_level(|level| {
            let [whole, log_sums] = run(&q, &k, &v, &[0, longest], &[0, longest]);
            for len in 1..=longest {
                let query = &q[(len - 1) * Q..len * Q];
                let [y, log_sum] = run(query, &k[..len * K], &v[..len * K], &[0, 1], &[0, len]);
                assert_eq!(bits(&y), bits(&whole[(len - 1) * Q..len * Q]), "{level}, {len} keys");
                assert_eq!(bits(&log_sum), bits(&log_sums[(len - 1) * HEADS.count..len * HEADS.count]));
            }
            // After another sequence and before a third; and as the last queries of a cache.
            let before = 7;
            let (q_all, k_all, v_all) = (
                [&q[..before * Q], &q, &q[..3 * Q]].concat(),
                [&k[..before * K], &k, &k[..3 * K]].concat(),
                [&v[K..(before + 1) * K], &v, &v[..3 * K]].concat(),
            );
            let starts = [0, before, before + longest, before + longest + 3];
            let [batch, _] = run(&q_all, &k_all, &v_all, &starts, &starts);
            assert_eq!(bits(&batch[before * Q..][..longest * Q]), bits(&whole), "{level}");
            for count in [2, 5, 17, longest] {
                let [last, _] = run(&q[(longest - count) * Q..], &k, &v, &[0, count], &[0, longest]);
                assert_eq!(bits(&last), bits(&whole[(longest - count) * Q..]), "{level}, {count} queries");
            }
        });
    }

    #[test]
    #[should_panic(expected = "3 queries of a sequence of 2 keys")]
    fn more_queries_than_keys_are_refused() {
        let [q, k, v, _] = inputs(3);
        run(&q, &k, &v, &[0, 3], &[0, 2]);
    }
}
