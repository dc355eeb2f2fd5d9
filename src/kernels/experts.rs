//! Dispatch of tokens to experts and back: gather, two products, weighted combination, and the reverse.
//!
//! Assignments (token, expert) are grouped by expert, in token order. An expert's tokens are worked on
//! in blocks that fit in cache, so no gathered copy of the batch is ever written out. Sums over a
//! token's experts run in rising expert order, sums over an expert's tokens in rising token order.

use super::gemm::{self, Mat, Start};
use super::routes::Routes;
use super::{elem::Elem, par, pool, reduce, rows, simd::fast};

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

/// `hidden = relu(x W1 + b1)` and `output = hidden W2 + b2` for each assignment, in dispatch order.
pub fn forward<E: Elem>(x: &[E], weights: Weights<E>, routes: &Routes, hidden: &mut [E], output: &mut [E]) {
    let (d, h) = (weights.width, weights.hidden);
    par::spans(((hidden, h), (output, d)), &routes.blocks, |block, (hidden, output)| {
        let x = Mat::gather(x, d, block.tokens(routes));
        E::gemm(hidden, x, weights.w1(block.expert), Start::Bias(weights.b1(block.expert)), true);
        let hidden = Mat::new(hidden, block.count, h);
        E::gemm(output, hidden, weights.w2(block.expert), Start::Bias(weights.b2(block.expert)), false);
    });
}

/// `y_t = sum over the token's experts of gate * output`, in rising expert order; `gates` has one number for each
/// assignment.
pub fn combine<E: Elem>(y: &mut [E], output: &[E], gates: &[E], routes: &Routes, width: usize) {
    sum_slots(
        y,
        output,
        routes,
        width,
        #[inline(always)]
        |slot| gates[slot],
    );
}

/// `y_t = sum over the token's assignments of scale * rows[assignment]`.
#[inline(always)]
fn sum_slots<E: Elem>(
    y: &mut [E],
    rows: &[E],
    routes: &Routes,
    width: usize,
    scale: impl Fn(usize) -> E + Sync,
) {
    rows::each(
        y,
        width,
        #[inline(always)]
        |token, y| {
            y.fill(E::zero());
            for &slot in routes.slots_of(token) {
                let (scale, row) = (scale(slot as usize), &rows[slot as usize * width..][..width]);
                for (y, &v) in y.iter_mut().zip(row) {
                    *y = scale.mul_add(v, *y);
                }
            }
        },
    );
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
    /// The gate of each assignment.
    pub gates: &'a [E],
    /// Hidden activations of each assignment.
    pub hidden: &'a [E],
}

/// Gradients of everything that went into `y = combine(forward(x))`, from the gradient `gy` of y.
///
/// With `u = gy W2^T`: the gate's is `u . hidden + gy . b2` (so the outputs need not be kept), the hidden layer's
/// `gate u` where the hidden unit is positive; `W2`'s is the product of `gate hidden` with `gy`, `W1`'s that of x with
/// the hidden layer's.
pub fn backward<E: Elem>(
    gy: &[E],
    saved: Forward<E>,
    weights: Weights<E>,
    routes: &Routes,
    out: Gradients<E>,
) {
    let (d, h, experts, total) = (weights.width, weights.hidden, routes.experts(), routes.len());
    let (mut g_hidden, mut gated) = (pool::Buffer::new(total * h), pool::Buffer::new(total * h));
    let (mut g_gate, mut g_x) = (pool::Buffer::new(total), pool::Buffer::new(total * d));

    // 1. For each block of assignments: gradients of gate, hidden layer and gathered token.
    let slots = ((&mut g_hidden[..], h), (&mut gated[..], h), (&mut g_gate[..], 1), (&mut g_x[..], d));
    par::spans(slots, &routes.blocks, |block, (g_hidden, gated, g_gate, g_x)| {
        let tokens = block.tokens(routes);
        E::gemm(g_hidden, Mat::gather(gy, d, tokens), weights.w2(block.expert).t(), Start::Zero, false);
        let (hidden, gates) = (&saved.hidden[block.first * h..], &saved.gates[block.first..]);
        fast::<E, _>(
            #[inline(always)]
            || {
                for (i, &token) in tokens.iter().enumerate() {
                    let here = i * h..(i + 1) * h;
                    let (hidden, u, gate) = (&hidden[here.clone()], &mut g_hidden[here.clone()], gates[i]);
                    let gy = &gy[token as usize * d..][..d];
                    g_gate[i] =
                        reduce::dot_lanes(u, hidden) + reduce::dot_lanes(gy, weights.b2(block.expert));
                    for ((u, gated), &v) in u.iter_mut().zip(&mut gated[here]).zip(hidden) {
                        *gated = gate * v;
                        *u = if v > E::zero() { gate * *u } else { E::zero() };
                    }
                }
            },
        );
        if out.x.is_some() {
            let g_hidden = Mat::new(g_hidden, block.count, h);
            E::gemm(g_x, g_hidden, weights.w1(block.expert).t(), Start::Zero, false);
        }
    });

    // 2. Back to the tokens.
    if let Some(x) = out.x {
        sum_slots(
            x,
            &g_x,
            routes,
            d,
            #[inline(always)]
            |_| E::one(),
        );
    }
    out.gates.fill(E::zero());
    for e in 0..experts {
        for slot in routes.slots(e) {
            out.gates[routes.tokens[slot] as usize * experts + e] = g_gate[slot];
        }
    }

    // 3. The parameters: products over each expert's tokens, in strips of rows.
    let strips = (strips(experts, d), strips(experts, h));
    par::spans2(
        ((out.w1, h), &strips.0),
        |strip, w1| {
            let slots = routes.slots(strip.expert);
            let x = Mat::gather(saved.x, d, &routes.tokens[slots.clone()]).t();
            let g_hidden = Mat::new(&g_hidden[slots.start * h..], slots.len(), h);
            E::gemm(w1, x.slice(strip.row, strip.count), g_hidden, Start::Zero, false);
        },
        ((out.w2, d), &strips.1),
        |strip, w2| {
            let slots = routes.slots(strip.expert);
            let gated = Mat::new(&gated[slots.start * h..], slots.len(), h).t();
            let gy = Mat::gather(gy, d, &routes.tokens[slots]);
            E::gemm(w2, gated.slice(strip.row, strip.count), gy, Start::Zero, false);
        },
    );
    par::rows(((out.b1, h), (out.b2, d)), 1, |e, (b1, b2)| {
        let slots = routes.slots(e);
        b1.fill(E::zero());
        reduce::add_rows(b1, &g_hidden[slots.start * h..slots.end * h]);
        let gates = Mat::new(&saved.gates[slots.clone()], 1, slots.len());
        E::gemm(b2, gates, Mat::gather(gy, d, &routes.tokens[slots]), Start::Zero, false);
    });
}

/// A strip of rows of one expert's weight gradient.
struct Strip {
    expert: usize,
    /// Its first row among this expert's, and among all experts'.
    row: usize,
    first: usize,
    count: usize,
}

// SAFETY: fields behind a shared borrow do not change.
unsafe impl par::Span for Strip {
    fn first(&self) -> usize {
        self.first
    }
    fn count(&self) -> usize {
        self.count
    }
}

/// Cuts the rows of each expert's matrix into strips that are worth a task.
fn strips(experts: usize, rows: usize) -> Vec<Strip> {
    const ROWS: usize = 192;
    let size = rows.div_ceil(rows.div_ceil(ROWS)).next_multiple_of(gemm::GRAIN);
    let strip = |expert: usize, row: usize| Strip {
        expert,
        row,
        first: expert * rows + row,
        count: size.min(rows - row),
    };
    (0..experts).flat_map(|e| (0..rows).step_by(size).map(move |row| strip(e, row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::random::{Purpose, Stream};
    use crate::kernels::simd;

    /// A layer large enough for several blocks and chunks: 5 experts, the last of them without tokens.
    struct Example {
        x: Vec<f32>,
        gates: Vec<f32>,
        parameters: [Vec<f32>; 4],
        routes: Routes,
    }

    const T: usize = if cfg!(miri) { 100 } else { 700 };
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
            let gates = self.routes.gather(&self.gates);
            combine(&mut y, &output, &gates, &self.routes, D);
            let mut g = [T * D, T * E, E * D * H, E * H, E * H * D, E * D].map(|len| vec![f32::NAN; len]);
            let saved = Forward { x: &self.x, gates: &gates, hidden: &hidden };
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
                gemm::plain(&mut hidden, Mat::new(&x, n, D), w.w1(e), Start::Sum, true);
                let mut output = w.b2(e).repeat(n);
                gemm::plain(&mut output, Mat::new(&hidden, n, H), w.w2(e), Start::Sum, false);
                let mut u = vec![0.0; n * H];
                gemm::plain(&mut u, Mat::new(&gy, n, D), w.w2(e).t(), Start::Sum, false);
                let by_gate =
                    |x: &[f32]| x.iter().enumerate().map(|(i, v)| gate(i / H) * v).collect::<Vec<_>>();
                let (mut g_hidden, gated) = (by_gate(&u), by_gate(&hidden));
                g_hidden.iter_mut().zip(&hidden).for_each(|(g, &h)| *g = if h > 0.0 { *g } else { 0.0 });
                let mut g_x = vec![0.0; n * D];
                gemm::plain(&mut g_x, Mat::new(&g_hidden, n, H), w.w1(e).t(), Start::Sum, false);
                for (i, &t) in tokens.iter().enumerate() {
                    for j in 0..D {
                        let (to, from) = (t as usize * D + j, i * D + j);
                        y[to] = gate(i).mul_add(output[from], y[to]);
                        g[0][to] += g_x[from];
                    }
                    g[1][t as usize * E + e] = reduce::dot::<f32>(&u[i * H..][..H], &hidden[i * H..][..H])
                        + reduce::dot::<f32>(&gy[i * D..][..D], w.b2(e));
                }
                let rows = |x, width| Mat::new(x, n, width);
                let g_hidden = rows(&g_hidden, H);
                gemm::plain(&mut g[2][e * D * H..][..D * H], rows(&x, D).t(), g_hidden, Start::Sum, false);
                gemm::plain(
                    &mut g[4][e * D * H..][..D * H],
                    rows(&gated, H).t(),
                    rows(&gy, D),
                    Start::Sum,
                    false,
                );
                let ones = vec![1.0; n];
                let gates: Vec<f32> = (0..n).map(gate).collect();
                gemm::plain(&mut g[3][e * H..][..H], Mat::new(&ones, 1, n), g_hidden, Start::Sum, false);
                gemm::plain(&mut g[5][e * D..][..D], Mat::new(&gates, 1, n), rows(&gy, D), Start::Sum, false);
                all_hidden.extend(hidden);
            }
            [vec![y, all_hidden], g.to_vec()].concat()
        }
    }

    #[test]
    fn the_layer_and_its_gradients_are_the_plain_loops_to_the_bit_at_every_level_and_thread_count() {
        let example = example();
        let mut gy = vec![0.0; T * D];
        Stream::new(8, Purpose::Check, 0, 0).normal(&mut gy, 1.0);
        let plain = example.plain(&gy);
        simd::on_every_level(|level| {
            for threads in [1, 2, 3, 8] {
                let got = par::with_threads(threads, || example.run(&gy));
                let names = ["y", "hidden", "g_x", "g_gates", "g_w1", "g_b1", "g_w2", "g_b2"];
                for ((got, plain), name) in got.iter().zip(&plain).zip(names) {
                    let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert!(bits(got) == bits(plain), "{name} at level {level}, {threads} threads");
                }
            }
        });
    }
}
