//! Causal attention over concatenated sequences, forward and backward.
//!
//! ```text
//! score_ij = q_i . k_j / sqrt(w)                 for the keys j of i's sequence up to i;  w: width of a head
//! log_sum_i = ln(sum over j of e^score_ij)
//! p_ij = e^(score_ij - log_sum_i)
//! y_i  = sum over j of p_ij v_j
//! ```
//!
//! q and y are (T, H w), k and v (M, G w): each of the G key heads serves a group of H / G query heads. A task takes one
//! group and a block of queries. A row is one query of one head; the rows of a block run token by token, and within a
//! token over the heads of the group. The block needs the keys up to its last query's, so its scores (rows, keys) never
//! take the square of a sequence's length; the backward pass computes them again.
//!
//! All products are [`super::gemm`], in which a key that a query must not see has weight 0 exactly. So, for finite
//! numbers, the bits of a row depend only on its query and the keys up to it.

use super::gemm::{Mat, Start};
use super::par::{self, Parts};
use super::reduce::{self, LANES, padded};
use super::{elem::Elem, pool::Buffer, simd::fast};

/// Approximate rows of a block: enough to be worth packing the keys, few enough to waste few scores on masked keys.
const ROWS: usize = 64;

/// How the heads share a row of queries and a row of keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads H of a row of queries.
    pub count: usize,
    /// Heads G of a row of keys or values: query head h reads key head `h / (H / G)`.
    pub groups: usize,
    /// Width w of a head.
    pub width: usize,
}

impl Heads {
    /// Query heads per key head.
    pub fn per_group(&self) -> usize {
        self.count / self.groups
    }

    /// The factor of the scores, `1 / sqrt(width)`.
    fn scale<F: Elem>(&self) -> F {
        F::of(1.0 / (self.width as f64).sqrt())
    }
}

/// Where the sequences start: the first row of each, and the end of the last.
#[derive(Clone, Copy, Debug)]
pub struct Starts<'a> {
    /// Rows of queries. A sequence may have fewer queries than keys: its last ones.
    pub queries: &'a [usize],
    /// Rows of keys and values.
    pub keys: &'a [usize],
}

/// Consecutive queries of one sequence.
#[derive(Clone, Copy)]
struct Block {
    /// The first query.
    row: usize,
    /// The number of queries.
    count: usize,
    /// The first key of the sequence.
    key: usize,
    /// Keys that the first query sees; each later query sees one more.
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
    /// Divided into blocks of `size` queries.
    fn cut(self, size: usize) -> impl Iterator<Item = Block> {
        (0..self.count).step_by(size).map(move |i| Block {
            row: self.row + i,
            count: size.min(self.count - i),
            seen: self.seen + i,
            ..self
        })
    }

    /// Keys that the last query sees.
    fn keys(&self) -> usize {
        self.seen + self.count - 1
    }

    /// The rows of a group in this block, (count H / G, w), gathered from `x` (T, H w) and times `scale`.
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

    /// The key head of a group for all keys that the block sees: (keys, w), a view of `x` (M, G w).
    fn seen<'a, F: Elem>(&self, x: &'a [F], heads: Heads, group: usize) -> Mat<'a, F> {
        let row = heads.groups * heads.width;
        Mat::new(&x[self.key * row..], self.keys(), row).columns(group * heads.width, heads.width)
    }
}

/// Queries of a block.
fn tokens(heads: Heads) -> usize {
    (ROWS / heads.per_group()).max(1)
}

/// Every sequence as one block.
fn sequences(starts: Starts) -> impl Iterator<Item = Block> {
    starts.queries.windows(2).zip(starts.keys.windows(2)).map(|(queries, keys)| {
        let (count, len) = (queries[1] - queries[0], keys[1] - keys[0]);
        assert!(count <= len, "{count} queries of a sequence of {len} keys");
        Block { row: queries[0], count, key: keys[0], seen: len + 1 - count }
    })
}

/// Writes `y` (T, H w) and, for the backward pass, `log_sums` (T, H), from q (T, H w), k and v (M, G w).
///
/// The queries are the last ones of their sequences, so keys and values may come from a cache.
///
/// # Panics
/// If a sequence has more queries than keys.
pub fn forward<F: Elem>([q, k, v]: [&[F]; 3], heads: Heads, starts: Starts, y: &mut [F], log_sums: &mut [F]) {
    let (per_group, width, scale) = (heads.per_group(), heads.width, heads.scale());
    let blocks: Vec<Block> = sequences(starts).flat_map(|sequence| sequence.cut(tokens(heads))).collect();
    let scores: usize = blocks.iter().map(|block| block.count * block.keys() * heads.count).sum();
    let out = (Parts::new(y, heads.groups, per_group * width), Parts::new(log_sums, heads.groups, per_group));
    let work = |block: &Block, group: usize, (mut y, mut log_sums): (par::Columns<F>, par::Columns<F>)| {
        let (rows, keys) = (block.count * per_group, block.keys());
        let queries = block.queries(q, heads, group, scale);
        let (k, v) = (block.seen(k, heads, group), block.seen(v, heads, group));
        let [mut max, mut sums] = [(); 2].map(|()| Buffer::<F>::new(rows));
        let (mut scores, mut values) = (Buffer::new(rows * keys), Buffer::new(rows * width));
        F::gemm(&mut scores, Mat::new(&queries, rows, width), k.t(), Start::Zero, false);
        let exponentials = exponentials(scores, block, per_group, &mut max, &mut sums);
        let mut logs = Buffer::<F>::new(rows);
        F::gemm(&mut values, Mat::new(&exponentials, rows, keys), v, Start::Zero, false);
        fast::<F, _>(
            #[inline(always)]
            || {
                for ((log, &max), &sum) in logs.iter_mut().zip(&max[..]).zip(&sums[..]) {
                    *log = max + sum.ln();
                }
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

/// Converts the scores (rows, keys) of a block in place to `e^(score - max)`, 0 for keys that the row must not see;
/// writes the max and the sum of each row.
fn exponentials<F: Elem>(
    mut scores: Buffer<F>,
    block: &Block,
    per_group: usize,
    max: &mut [F],
    sums: &mut [F],
) -> Buffer<F> {
    fast::<F, _>(
        #[inline(always)]
        || {
            for (i, scores) in scores.chunks_exact_mut(block.keys()).enumerate() {
                let (seen, later) = scores.split_at_mut(block.seen + i / per_group);
                let largest = reduce::max_lanes(seen);
                in_vectors(
                    seen,
                    #[inline(always)]
                    |score| (score - largest).exp(),
                );
                later.fill(F::zero());
                (max[i], sums[i]) = (largest, reduce::sum_lanes(seen));
            }
        },
    );
    scores
}

/// Values of the forward pass that the backward pass reads, of the shapes given at [`forward`].
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
    /// `ln(sum of e^score)` of each query and head.
    pub log_sums: &'a [F],
}

/// Outputs of [`backward`]: the gradients, each of the shape of its value.
pub struct Gradients<'a, F> {
    /// Of the queries.
    pub q: &'a mut [F],
    /// Of the keys.
    pub k: &'a mut [F],
    /// Of the values.
    pub v: &'a mut [F],
}

/// Gradients of all inputs of [`forward`], from the gradient `gy` (T, H w) of y; every sequence has as many queries as
/// keys.
///
/// ```text
/// g_v_j      = sum over i of p_ij gy_i
/// g_p_ij     = gy_i . v_j
/// g_score_ij = p_ij (g_p_ij - gy_i . y_i)
/// g_q_i      = sum over j of g_score_ij k_j / sqrt(w)
/// g_k_j      = sum over i of g_score_ij q_i / sqrt(w)
/// ```
///
/// Sums over the rows i run in the order of the rows, block by block.
pub fn backward<F: Elem>(gy: &[F], saved: Forward<F>, heads: Heads, starts: &[usize], out: Gradients<F>) {
    let Forward { q, k, v, y, log_sums } = saved;
    let (per_group, width, scale) = (heads.per_group(), heads.width, heads.scale());
    // An empty sequence would be a task without rows.
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
            let [mut scores, mut g_weights] = [(); 2].map(|()| Buffer::new(rows * keys));
            let (queries, gy_rows) = (Mat::new(&queries, rows, width), Mat::new(&gy, rows, width));
            F::gemm(&mut scores, queries, block.seen(k, heads, group).t(), Start::Zero, false);
            F::gemm(&mut g_weights, gy_rows, block.seen(v, heads, group).t(), Start::Zero, false);
            let (weights, g_scores) = softmax_backward(
                (scores, g_weights),
                &block,
                per_group,
                #[inline(always)]
                |i| {
                    let token = block.row + i / per_group;
                    let head = token * heads.count + group * per_group + i % per_group;
                    let y = &y[head * width..][..width];
                    (log_sums[head], reduce::dot_lanes(&gy[i * width..][..width], y))
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

/// Converts the scores (rows, keys) of a block and the gradients of its weights in place to the weights
/// `p = e^(score - log_sum)` and the gradients `p (g_p - gy . y)` of the scores; 0 for keys that the row must not see.
/// `row(i)` is the log-sum and `gy . y` of row i.
#[inline(always)]
fn softmax_backward<F: Elem>(
    (mut scores, mut g_weights): (Buffer<F>, Buffer<F>),
    block: &Block,
    per_group: usize,
    row: impl Fn(usize) -> (F, F),
) -> (Buffer<F>, Buffer<F>) {
    let keys = block.keys();
    fast::<F, _>(
        #[inline(always)]
        || {
            let rows = scores.chunks_exact_mut(keys).zip(g_weights.chunks_exact_mut(keys));
            for (i, (scores, g_weights)) in rows.enumerate() {
                let (log_sum, common) = row(i);
                let (seen, later) = scores.split_at_mut(block.seen + i / per_group);
                let (g_seen, g_later) = g_weights.split_at_mut(seen.len());
                in_vectors(
                    seen,
                    #[inline(always)]
                    |score| (score - log_sum).exp(),
                );
                for (g, &p) in g_seen.iter_mut().zip(&*seen) {
                    *g = p * (*g - common);
                }
                later.fill(F::zero());
                g_later.fill(F::zero());
            }
        },
    );
    (scores, g_weights)
}

/// `x = f(x)`, in whole vectors: the last is padded with zeros, so that no element is computed alone.
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
mod tests;
