//! Dispatch of tokens to experts and back: gather, two products, weighted combination, and the reverse.
//!
//! Assignments (token, expert) are grouped by expert, in token order. An expert's tokens are worked on
//! in blocks that fit in cache, so no gathered copy of the batch is ever written out. Sums over a
//! token's experts run in rising expert order, sums over an expert's tokens in rising token order.

use super::gemm::{self, Mat};
use super::routes::Routes;
use super::{elem::Elem, par, pool, reduce, simd::fast};

/// Assignments of one task.
const BLOCK: usize = 64;
/// Tokens whose expert outputs are combined by one task.
const TOKENS: usize = 32;

/// The experts' parameters, stacked: `w1` (E, d, h), `b1` (E, h), `w2` (E, h, d), `b2` (E, d).
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, E> {
    /// First layer's weights.
    pub w1: &'a [E],
    /// First layer's biases.
    pub b1: &'a [E],
    /// Second layer's weights.
    pub w2: &'a [E],
    /// Second layer's biases.
    pub b2: &'a [E],
    /// Width d of a token.
    pub width: usize,
    /// Width h of the hidden layer.
    pub hidden: usize,
}

impl<'a, E> Weights<'a, E> {
    fn w1(&self, e: usize) -> Mat<'a, E> {
        Mat::new(&self.w1[e * self.width * self.hidden..], self.width, self.hidden)
    }
    fn b1(&self, e: usize) -> &'a [E] {
        &self.b1[e * self.hidden..][..self.hidden]
    }
    fn w2(&self, e: usize) -> Mat<'a, E> {
        Mat::new(&self.w2[e * self.width * self.hidden..], self.hidden, self.width)
    }
    fn b2(&self, e: usize) -> &'a [E] {
        &self.b2[e * self.width..][..self.width]
    }
}

/// Cuts `data` into consecutive pieces of the given lengths.
fn split<E>(mut data: &mut [E], lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = &mut [E]> {
    lengths.map(move |length| {
        let (piece, rest) = std::mem::take(&mut data).split_at_mut(length);
        data = rest;
        piece
    })
}

fn gather<E: Copy>(out: &mut [E], x: &[E], tokens: &[u32], width: usize) {
    for (row, &t) in out.chunks_exact_mut(width).zip(tokens) {
        row.copy_from_slice(&x[t as usize * width..][..width]);
    }
}

/// `hidden = relu(x W1 + b1)` and `output = hidden W2 + b2` for each assignment, in dispatch order.
pub fn forward<E: Elem>(x: &[E], weights: Weights<E>, routes: &Routes, hidden: &mut [E], output: &mut [E]) {
    let (d, h) = (weights.width, weights.hidden);
    let blocks = || routes.blocks(BLOCK);
    let tasks = blocks()
        .zip(split(hidden, blocks().map(|(_, _, n)| n * h)))
        .zip(split(output, blocks().map(|(_, _, n)| n * d)))
        .collect();
    par::each(tasks, |(((e, first, n), hidden), output): ((_, &mut [E]), &mut [E])| {
        pool::scratch(n * d, |tokens| {
            gather(tokens, x, &routes.tokens[first..][..n], d);
            bias(hidden, weights.b1(e));
            E::gemm(hidden, Mat::new(tokens, n, d), weights.w1(e));
        });
        fast::<E, _>(
            #[inline(always)]
            || hidden.iter_mut().for_each(|v| *v = v.relu()),
        );
        bias(output, weights.b2(e));
        E::gemm(output, Mat::new(hidden, n, h), weights.w2(e));
    });
}

fn bias<E: Copy>(out: &mut [E], bias: &[E]) {
    for row in out.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
}

/// `y_t = sum over the token's experts of gate * output`, in rising expert order; `gates` is (T, E).
pub fn combine<E: Elem>(y: &mut [E], output: &[E], gates: &[E], routes: &Routes, width: usize) {
    let experts = routes.experts();
    sum_slots(y, output, routes, width, |slot, token| gates[token * experts + routes.expert_of(slot)]);
}

/// `y_t = sum over the token's assignments of scale * rows[assignment]`.
fn sum_slots<E: Elem>(
    y: &mut [E],
    rows: &[E],
    routes: &Routes,
    width: usize,
    scale: impl Fn(usize, usize) -> E + Sync,
) {
    par::chunks(y, TOKENS * width, |i, y| {
        for (j, y) in y.chunks_exact_mut(width).enumerate() {
            let token = i * TOKENS + j;
            y.fill(E::zero());
            for &slot in routes.slots_of(token) {
                let row = &rows[slot as usize * width..][..width];
                let scale = scale(slot as usize, token);
                fast::<E, _>(
                    #[inline(always)]
                    || {
                        for (y, &v) in y.iter_mut().zip(row) {
                            *y = scale.mul_add(v, *y);
                        }
                    },
                );
            }
        }
    });
}

/// Where the gradients of the experts' inputs go; shapes as in [`Weights`], `x` (T, d), `gates` (T, E).
pub struct Gradients<'a, E> {
    /// Of the tokens; left out when nobody asks for it.
    pub x: Option<&'a mut [E]>,
    /// Of the gates; zero where an expert was not chosen.
    pub gates: &'a mut [E],
    /// Of the first layer's weights.
    pub w1: &'a mut [E],
    /// Of the first layer's biases.
    pub b1: &'a mut [E],
    /// Of the second layer's weights.
    pub w2: &'a mut [E],
    /// Of the second layer's biases.
    pub b2: &'a mut [E],
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy)]
pub struct Forward<'a, E> {
    /// The tokens, (T, d).
    pub x: &'a [E],
    /// The gates, (T, E).
    pub gates: &'a [E],
    /// Hidden activations of each assignment.
    pub hidden: &'a [E],
    /// Outputs of each assignment.
    pub output: &'a [E],
}

/// Gradients of everything that went into `y = combine(forward(x))`, from the gradient `gy` of y.
pub fn backward<E: Elem>(
    gy: &[E],
    saved: Forward<E>,
    weights: Weights<E>,
    routes: &Routes,
    out: Gradients<E>,
) {
    let (d, h, experts, total) = (weights.width, weights.hidden, routes.experts(), routes.len());
    let (mut g_out, mut g_hidden) = (pool::take(total * d), pool::take(total * h));
    let (mut g_gate, mut g_x) = (pool::take(total), pool::take(if out.x.is_some() { total * d } else { 0 }));

    // 1. For each block of assignments: gradients of gate, output, hidden layer and gathered token.
    let blocks = || routes.blocks(BLOCK);
    let tasks = blocks()
        .zip(split(&mut g_out, blocks().map(|(_, _, n)| n * d)))
        .zip(split(&mut g_hidden, blocks().map(|(_, _, n)| n * h)))
        .zip(split(&mut g_gate, blocks().map(|(_, _, n)| n)))
        .zip(split(&mut g_x, blocks().map(|(_, _, n)| if out.x.is_some() { n * d } else { 0 })))
        .collect();
    type Task<'a, E> = ((((BlockOf, &'a mut [E]), &'a mut [E]), &'a mut [E]), &'a mut [E]);
    type BlockOf = (usize, usize, usize);
    par::each(tasks, |((((block, g_out), g_hidden), g_gate), g_x): Task<E>| {
        let (e, first, n) = block;
        for i in 0..n {
            let token = routes.tokens[first + i] as usize;
            let (gy, output) = (&gy[token * d..][..d], &saved.output[(first + i) * d..][..d]);
            let (gate, g_out) = (saved.gates[token * experts + e], &mut g_out[i * d..][..d]);
            g_gate[i] = fast::<E, _>(
                #[inline(always)]
                || {
                    for (o, &g) in g_out.iter_mut().zip(gy) {
                        *o = gate * g;
                    }
                    reduce::dot_lanes(gy, output)
                },
            );
        }
        g_hidden.fill(E::zero());
        E::gemm(g_hidden, Mat::new(g_out, n, d), weights.w2(e).t());
        let hidden = &saved.hidden[first * h..][..n * h];
        fast::<E, _>(
            #[inline(always)]
            || {
                for (g, &v) in g_hidden.iter_mut().zip(hidden) {
                    *g = if v > E::zero() { *g } else { E::zero() };
                }
            },
        );
        if !g_x.is_empty() {
            g_x.fill(E::zero());
            E::gemm(g_x, Mat::new(g_hidden, n, h), weights.w1(e).t());
        }
    });

    // 2. Back to the tokens.
    if let Some(x) = out.x {
        sum_slots(x, &g_x, routes, d, |_, _| E::one());
    }
    out.gates.fill(E::zero());
    for e in 0..experts {
        let slots = routes.starts[e]..routes.starts[e + 1];
        for (&token, &g) in routes.tokens[slots.clone()].iter().zip(&g_gate[slots]) {
            out.gates[token as usize * experts + e] = g;
        }
    }

    // 3. The parameters: products over each expert's tokens, in strips of rows.
    let mut tasks = Vec::new();
    for (e, (w1, w2)) in out.w1.chunks_exact_mut(d * h).zip(out.w2.chunks_exact_mut(d * h)).enumerate() {
        strips(&mut tasks, w1, h, e, Layer::First);
        strips(&mut tasks, w2, d, e, Layer::Second);
    }
    par::each(tasks, |Strip { layer, expert, first_row, out }| {
        out.fill(E::zero());
        let range = routes.starts[expert]..routes.starts[expert + 1];
        // Blocks of the length of the products' own chunks: the split moves no bit.
        for first in range.clone().step_by(gemm::CHUNK) {
            let n = gemm::CHUNK.min(range.end - first);
            match layer {
                Layer::First => {
                    let rows = out.len() / h;
                    pool::scratch(n * rows, |part| {
                        for (part, &t) in part.chunks_exact_mut(rows).zip(&routes.tokens[first..]) {
                            part.copy_from_slice(&saved.x[t as usize * d + first_row..][..rows]);
                        }
                        E::gemm(out, Mat::new(part, n, rows).t(), Mat::new(&g_hidden[first * h..], n, h));
                    });
                }
                Layer::Second => {
                    let hidden =
                        Mat::new(&saved.hidden[first * h..], n, h).t().rows(first_row, out.len() / d);
                    E::gemm(out, hidden, Mat::new(&g_out[first * d..], n, d));
                }
            }
        }
    });
    out.b1.fill(E::zero());
    out.b2.fill(E::zero());
    for (e, (b1, b2)) in out.b1.chunks_exact_mut(h).zip(out.b2.chunks_exact_mut(d)).enumerate() {
        let (first, end) = (routes.starts[e], routes.starts[e + 1]);
        reduce::add_rows(b1, &g_hidden[first * h..end * h]);
        reduce::add_rows(b2, &g_out[first * d..end * d]);
    }
    [g_out, g_hidden, g_gate, g_x].into_iter().for_each(pool::give);
}

/// Which of an expert's two weight matrices.
enum Layer {
    First,
    Second,
}

/// A strip of rows of one weight gradient.
struct Strip<'a, E> {
    layer: Layer,
    expert: usize,
    first_row: usize,
    out: &'a mut [E],
}

fn strips<'a, E>(tasks: &mut Vec<Strip<'a, E>>, out: &'a mut [E], width: usize, expert: usize, layer: Layer) {
    const ROWS: usize = 128;
    let first = matches!(layer, Layer::First);
    for (i, out) in out.chunks_mut(ROWS * width).enumerate() {
        let layer = if first { Layer::First } else { Layer::Second };
        tasks.push(Strip { layer, expert, first_row: i * ROWS, out });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::random::{Purpose, Stream};

    /// A layer large enough for several blocks and chunks: 5 experts, the last of them without tokens.
    struct Example {
        x: Vec<f32>,
        gates: Vec<f32>,
        parameters: [Vec<f32>; 4],
        routes: Routes,
    }

    const T: usize = 700;
    const E: usize = 5;
    const D: usize = 21;
    const H: usize = 13;

    fn example() -> Example {
        let numbers = |len: usize, seed: u64| {
            let mut out = vec![0.0; len];
            Stream::new(seed, Purpose::Check, 0, 0).normal(&mut out, 1.0);
            out
        };
        let mut mask = vec![false; T * E];
        Stream::new(7, Purpose::Check, 0, 0).coin(&mut mask, 0.5);
        mask.iter_mut().skip(E - 1).step_by(E).for_each(|m| *m = false);
        let parameters =
            [(E * D * H, 3), (E * H, 4), (E * H * D, 5), (E * D, 6)].map(|(len, seed)| numbers(len, seed));
        Example { x: numbers(T * D, 1), gates: numbers(T * E, 2), parameters, routes: Routes::new(&mask, E) }
    }

    impl Example {
        fn weights(&self) -> Weights<'_, f32> {
            let [w1, b1, w2, b2] = &self.parameters;
            Weights { w1, b1, w2, b2, width: D, hidden: H }
        }

        /// Outputs, hidden activations and all gradients, through the kernels.
        fn run(&self, gy: &[f32]) -> Vec<Vec<f32>> {
            let n = self.routes.len();
            let (mut hidden, mut output, mut y) = (vec![0.0; n * H], vec![0.0; n * D], vec![0.0; T * D]);
            forward(&self.x, self.weights(), &self.routes, &mut hidden, &mut output);
            combine(&mut y, &output, &self.gates, &self.routes, D);
            let mut g = [T * D, T * E, E * D * H, E * H, E * H * D, E * D].map(|len| vec![f32::NAN; len]);
            let saved = Forward { x: &self.x, gates: &self.gates, hidden: &hidden, output: &output };
            let [x, gates, w1, b1, w2, b2] = &mut g;
            let gradients = Gradients { x: Some(x), gates, w1, b1, w2, b2 };
            backward(gy, saved, self.weights(), &self.routes, gradients);
            [vec![y, hidden], g.to_vec()].concat()
        }

        /// The same as plain loops, one expert after the other, over matrices gathered whole.
        fn plain(&self, gy: &[f32]) -> Vec<Vec<f32>> {
            let (w, routes) = (self.weights(), &self.routes);
            let (mut y, mut all_hidden) = (vec![0.0f32; T * D], Vec::new());
            let mut g = [T * D, T * E, E * D * H, E * H, E * H * D, E * D].map(|len| vec![0.0f32; len]);
            for e in 0..E {
                let tokens = &routes.tokens[routes.starts[e]..routes.starts[e + 1]];
                let n = tokens.len();
                let rows = |from: &[f32]| -> Vec<f32> {
                    tokens.iter().flat_map(|&t| from[t as usize * D..][..D].to_vec()).collect()
                };
                let gate = |i: usize| self.gates[tokens[i] as usize * E + e];
                let (x, gy) = (rows(&self.x), rows(gy));
                let mut hidden = w.b1(e).repeat(n);
                gemm::plain(&mut hidden, Mat::new(&x, n, D), w.w1(e));
                hidden.iter_mut().for_each(|v| *v = v.relu());
                let mut output = w.b2(e).repeat(n);
                gemm::plain(&mut output, Mat::new(&hidden, n, H), w.w2(e));
                let mut g_out = gy.clone();
                g_out.iter_mut().enumerate().for_each(|(i, g)| *g *= gate(i / D));
                let mut g_hidden = vec![0.0; n * H];
                gemm::plain(&mut g_hidden, Mat::new(&g_out, n, D), w.w2(e).t());
                g_hidden.iter_mut().zip(&hidden).for_each(|(g, &h)| *g = if h > 0.0 { *g } else { 0.0 });
                let mut g_x = vec![0.0; n * D];
                gemm::plain(&mut g_x, Mat::new(&g_hidden, n, H), w.w1(e).t());
                for (i, &t) in tokens.iter().enumerate() {
                    for j in 0..D {
                        let (to, from) = (t as usize * D + j, i * D + j);
                        y[to] = gate(i).mul_add(output[from], y[to]);
                        g[0][to] += g_x[from];
                    }
                    g[1][t as usize * E + e] = reduce::dot::<f32>(&gy[i * D..][..D], &output[i * D..][..D]);
                }
                gemm::plain(
                    &mut g[2][e * D * H..][..D * H],
                    Mat::new(&x, n, D).t(),
                    Mat::new(&g_hidden, n, H),
                );
                gemm::plain(
                    &mut g[4][e * D * H..][..D * H],
                    Mat::new(&hidden, n, H).t(),
                    Mat::new(&g_out, n, D),
                );
                for (bias, rows, width) in [(3, &g_hidden, H), (5, &g_out, D)] {
                    for block in rows.chunks(256 * width) {
                        for j in 0..width {
                            g[bias][e * width + j] += block.chunks(width).fold(0.0, |sum, row| sum + row[j]);
                        }
                    }
                }
                all_hidden.extend(hidden);
            }
            [vec![y, all_hidden], g.to_vec()].concat()
        }
    }

    #[test]
    fn the_layer_and_its_gradients_are_the_plain_loops_to_the_bit_at_every_thread_count() {
        let example = example();
        let mut gy = vec![0.0; T * D];
        Stream::new(8, Purpose::Check, 0, 0).normal(&mut gy, 1.0);
        let plain = example.plain(&gy);
        for threads in [1, 2, 3, 8] {
            let got = par::with_threads(threads, || example.run(&gy));
            let names = ["y", "hidden", "g_x", "g_gates", "g_w1", "g_b1", "g_w2", "g_b2"];
            for ((got, plain), name) in got.iter().zip(&plain).zip(names) {
                let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(bits(got) == bits(plain), "{name} at {threads} threads");
            }
        }
    }
}
