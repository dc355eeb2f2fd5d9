//! Dispatch of tokens to experts and back: gather, two products, weighted combination, and the reverse.
//!
//! Assignments (token, expert) are grouped by expert, in token order. An expert's tokens are worked on
//! in blocks that fit in cache, so no gathered copy of the batch is ever written out. Sums over a
//! token's experts run in rising expert order, sums over an expert's tokens in rising token order.

use super::gemm::{self, Mat, Packed, Start};
use super::routes::Routes;
use super::{elem::Elem, par, pool, reduce, rows, simd::fast};

/// What stands between an expert's two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `silu(x) * y`, the first product being twice as wide: x and y side by side. (Shazeer, GLU Variants
    /// Improve Transformer, 2020.)
    SwiGlu,
}

/// The experts' parameters, stacked: `w1` (E, d, f), `w2` (E, h, d), biases (E, f) and (E, d), where the first
/// product's width f is h, or 2h for [`Activation::SwiGlu`].
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, F> {
    /// First layer's weights.
    pub w1: &'a [F],
    /// Second layer's weights.
    pub w2: &'a [F],
    /// Both layers' biases, if there are any.
    pub biases: Option<[&'a [F]; 2]>,
    /// Between the layers.
    pub activation: Activation,
    /// Width d of a token.
    pub width: usize,
    /// Width h of the hidden layer.
    pub hidden: usize,
}

impl<'a, F> Weights<'a, F> {
    /// Width f of the first product.
    pub fn first(&self) -> usize {
        match self.activation {
            Activation::Relu => self.hidden,
            Activation::SwiGlu => 2 * self.hidden,
        }
    }
    fn w1(&self, e: usize) -> Mat<'a, F> {
        Mat::new(&self.w1[e * self.width * self.first()..], self.width, self.first())
    }
    fn w2(&self, e: usize) -> Mat<'a, F> {
        Mat::new(&self.w2[e * self.width * self.hidden..], self.hidden, self.width)
    }
    fn b1(&self, e: usize) -> Start<'a, F> {
        self.biases.map_or(Start::Zero, |[b1, _]| Start::Bias(&b1[e * self.first()..][..self.first()]))
    }
    fn b2(&self, e: usize) -> Option<&'a [F]> {
        self.biases.map(|[_, b2]| &b2[e * self.width..][..self.width])
    }
}

/// `of(e)` for each expert e, with a copy for products where several blocks share it.
fn shared<'a, F: Elem>(routes: &Routes, of: impl Fn(usize) -> Mat<'a, F>) -> Packed<'a, F> {
    /// Blocks that are worth a copy.
    const BLOCKS: usize = 3;
    let mut blocks = vec![0; routes.experts()];
    routes.blocks.iter().for_each(|block| blocks[block.expert] += 1);
    Packed::new((0..blocks.len()).map(of).collect(), |e| blocks[e] >= BLOCKS)
}

/// `first = x W1 + b1` (with [`Activation::Relu`] what follows from it) and `output = activation(first) W2 + b2` for
/// each assignment, in dispatch order.
pub fn forward<F: Elem>(x: &[F], weights: Weights<F>, routes: &Routes, first: &mut [F], output: &mut [F]) {
    let (d, f, h) = (weights.width, weights.first(), weights.hidden);
    let relu = weights.activation == Activation::Relu;
    let b2 = |e: usize| weights.b2(e).map_or(Start::Zero, Start::Bias);
    let (w1, w2) = (shared(routes, |e| weights.w1(e)), shared(routes, |e| weights.w2(e)));
    par::spans(((first, f), (output, d)), &routes.blocks, |block, (first, output)| {
        let (x, e) = (Mat::gather(x, d, block.tokens(routes)), block.expert);
        F::gemm(first, x, w1.get(e), weights.b1(e), relu);
        with_hidden(weights, first, |hidden| {
            F::gemm(output, Mat::new(hidden, block.count, h), w2.get(e), b2(e), false);
        });
    });
}

/// Runs `work` with the hidden layer of some assignments.
fn with_hidden<F: Elem>(weights: Weights<F>, first: &[F], work: impl FnOnce(&[F])) {
    let (f, h) = (weights.first(), weights.hidden);
    match weights.activation {
        Activation::Relu => work(first),
        Activation::SwiGlu => pool::scratch(first.len() / 2, |hidden| {
            fast::<F, _>(
                #[inline(always)]
                || {
                    for (hidden, first) in hidden.chunks_exact_mut(h).zip(first.chunks_exact(f)) {
                        let (gate, up) = first.split_at(h);
                        for ((hidden, &gate), &up) in hidden.iter_mut().zip(gate).zip(up) {
                            *hidden = gate * gate.sigmoid() * up;
                        }
                    }
                },
            );
            work(hidden);
        }),
    }
}

/// `y_t = sum over the token's experts of gate * output`, in rising expert order; `gates` has one number for each
/// assignment.
pub fn combine<F: Elem>(y: &mut [F], output: &[F], gates: &[F], routes: &Routes, width: usize) {
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
fn sum_slots<F: Elem>(
    y: &mut [F],
    rows: &[F],
    routes: &Routes,
    width: usize,
    scale: impl Fn(usize) -> F + Sync,
) {
    rows::each(
        y,
        width,
        #[inline(always)]
        |token, y| {
            y.fill(F::zero());
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
pub struct Gradients<'a, F> {
    /// Of the tokens; left out when nobody asks for it.
    pub x: Option<&'a mut [F]>,
    /// Of the gates; zero where an expert was not chosen.
    pub gates: &'a mut [F],
    /// Of the first layer's weights.
    pub w1: &'a mut [F],
    /// Of the second layer's weights.
    pub w2: &'a mut [F],
    /// Of both layers' biases, if there are any.
    pub biases: Option<[&'a mut [F]; 2]>,
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy)]
pub struct Forward<'a, F> {
    /// The tokens, (T, d).
    pub x: &'a [F],
    /// The gate of each assignment.
    pub gates: &'a [F],
    /// What [`forward`] wrote as `first` for each assignment.
    pub first: &'a [F],
}

/// Gradients of everything that went into `y = combine(forward(x))`, from the gradient `gy` of y.
///
/// With `u = gy W2^T`: the gate's is `u . hidden + gy . b2` (so the outputs need not be kept), the hidden layer's
/// `gate u`, which the activation turns into the first product's; `W2`'s is the product of `gate hidden` with `gy`,
/// `W1`'s that of x with the first product's.
pub fn backward<F: Elem>(
    gy: &[F],
    saved: Forward<F>,
    weights: Weights<F>,
    routes: &Routes,
    out: Gradients<F>,
) {
    let (d, f, h) = (weights.width, weights.first(), weights.hidden);
    let (experts, total) = (routes.experts(), routes.len());
    let (mut g_first, mut gated) = (pool::Buffer::new(total * f), pool::Buffer::new(total * h));
    let (mut g_gate, mut g_x) = (pool::Buffer::new(total), pool::Buffer::new(total * d));

    // 1. For each block of assignments: gradients of gate, first product and gathered token.
    let w2_t = shared(routes, |e| weights.w2(e).t());
    let w1_t = out.x.is_some().then(|| shared(routes, |e| weights.w1(e).t()));
    let slots = ((&mut g_first[..], f), (&mut gated[..], h), (&mut g_gate[..], 1), (&mut g_x[..], d));
    par::spans(slots, &routes.blocks, |block, (g_first, gated, g_gate, g_x)| {
        let tokens = block.tokens(routes);
        // u stands where it is replaced by `gate hidden`.
        F::gemm(gated, Mat::gather(gy, d, tokens), w2_t.get(block.expert), Start::Zero, false);
        let (first, gates) = (&saved.first[block.first * f..], &saved.gates[block.first..]);
        fast::<F, _>(
            #[inline(always)]
            || {
                for (i, &token) in tokens.iter().enumerate() {
                    let (first, g_first) = (&first[i * f..][..f], &mut g_first[i * f..][..f]);
                    let u = &mut gated[i * h..][..h];
                    let dot = match weights.activation {
                        Activation::Relu => relu_backward(first, u, g_first, gates[i]),
                        Activation::SwiGlu => swiglu_backward(first, u, g_first, gates[i]),
                    };
                    g_gate[i] = match weights.b2(block.expert) {
                        Some(b2) => dot + reduce::dot_lanes(&gy[token as usize * d..][..d], b2),
                        None => dot,
                    };
                }
            },
        );
        if let Some(w1_t) = &w1_t {
            let g_first = Mat::new(g_first, block.count, f);
            F::gemm(g_x, g_first, w1_t.get(block.expert), Start::Zero, false);
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
            |_| F::one(),
        );
    }
    out.gates.fill(F::zero());
    for e in 0..experts {
        for slot in routes.slots(e) {
            out.gates[routes.tokens[slot] as usize * experts + e] = g_gate[slot];
        }
    }

    // 3. The parameters: products over each expert's tokens, in strips of rows.
    let strips = (strips(experts, d), strips(experts, h));
    par::spans2(
        ((out.w1, f), &strips.0),
        |strip, w1| {
            let slots = routes.slots(strip.expert);
            let x = Mat::gather(saved.x, d, &routes.tokens[slots.clone()]).t();
            let g_first = Mat::new(&g_first[slots.start * f..], slots.len(), f);
            F::gemm(w1, x.slice(strip.row, strip.count), g_first, Start::Zero, false);
        },
        ((out.w2, d), &strips.1),
        |strip, w2| {
            let slots = routes.slots(strip.expert);
            let gated = Mat::new(&gated[slots.start * h..], slots.len(), h).t();
            let gy = Mat::gather(gy, d, &routes.tokens[slots]);
            F::gemm(w2, gated.slice(strip.row, strip.count), gy, Start::Zero, false);
        },
    );
    let Some([b1, b2]) = out.biases else { return };
    par::rows(((b1, f), (b2, d)), 1, |e, (b1, b2)| {
        let slots = routes.slots(e);
        b1.fill(F::zero());
        reduce::add_rows(b1, &g_first[slots.start * f..slots.end * f]);
        let gates = Mat::new(&saved.gates[slots.clone()], 1, slots.len());
        F::gemm(b2, gates, Mat::gather(gy, d, &routes.tokens[slots]), Start::Zero, false);
    });
}

/// For one assignment: in place of `u` comes `gate hidden`, in `g_first` the gradient of the first product; returns
/// `u . hidden`. The forward pass has left the hidden layer itself.
#[inline(always)]
fn relu_backward<F: Elem>(hidden: &[F], u: &mut [F], g_first: &mut [F], gate: F) -> F {
    let dot = reduce::dot_lanes(u, hidden);
    for ((u, g), &v) in u.iter_mut().zip(g_first).zip(hidden) {
        *g = if v > F::zero() { gate * *u } else { F::zero() };
        *u = gate * v;
    }
    dot
}

/// The same where `hidden = silu(x) y` with x and y side by side in `first`: with `s = sigmoid(x)` the gradient of x
/// is that of hidden times `y (s + x s (1 - s))`, the gradient of y that of hidden times `x s`.
#[inline(always)]
fn swiglu_backward<F: Elem>(first: &[F], u: &mut [F], g_first: &mut [F], gate: F) -> F {
    let (x, y) = first.split_at(u.len());
    let (g_x, g_y) = g_first.split_at_mut(u.len());
    // The hidden layer and the sigmoid stand where the gradients will.
    for (((hidden, s), &x), &y) in g_x.iter_mut().zip(g_y.iter_mut()).zip(x).zip(y) {
        *s = x.sigmoid();
        *hidden = x * *s * y;
    }
    let dot = reduce::dot_lanes(u, g_x);
    for ((((u, g_x), g_y), &x), &y) in u.iter_mut().zip(g_x).zip(g_y).zip(x).zip(y) {
        let (g, s, hidden) = (gate * *u, *g_y, *g_x);
        let silu = x * s;
        *g_x = g * y * (s + silu * (F::one() - s));
        *g_y = g * silu;
        *u = gate * hidden;
    }
    dot
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
    use crate::engine::kernels::random::{Purpose, Stream};
    use crate::engine::kernels::scalar::Scalar;
    use crate::engine::kernels::simd;

    /// A layer large enough for several blocks and chunks: 5 experts, the last of them without tokens.
    struct Example {
        x: Vec<f32>,
        gates: Vec<f32>,
        /// W1, W2 and, with relu, both biases.
        parameters: Vec<Vec<f32>>,
        mask: Vec<bool>,
        routes: Routes,
        activation: Activation,
    }

    const T: usize = if cfg!(miri) { 100 } else { 700 };
    const E: usize = 5;
    const D: usize = 21;
    const H: usize = 13;

    fn example(activation: Activation) -> Example {
        let numbers = |len: usize, seed: u64| {
            let mut out = vec![0.0; len];
            Stream::new(seed, Purpose::Check, 0, 0).normal(&mut out, 1.0);
            out
        };
        let mut mask = vec![false; T * E];
        Stream::new(7, Purpose::Check, 0, 0).coin(&mut mask, 0.5);
        mask.iter_mut().skip(E - 1).step_by(E).for_each(|m| *m = false);
        let lengths = match activation {
            Activation::Relu => vec![E * D * H, E * H * D, E * H, E * D],
            Activation::SwiGlu => vec![E * D * 2 * H, E * H * D],
        };
        let parameters = lengths.into_iter().zip(3..).map(|(len, seed)| numbers(len, seed)).collect();
        let (x, gates) = (numbers(T * D, 1), numbers(T * E, 2));
        Example { x, gates, parameters, routes: Routes::new(&mask, E), mask, activation }
    }

    impl Example {
        fn weights(&self) -> Weights<'_, f32> {
            let [w1, w2, biases @ ..] = &self.parameters[..] else { unreachable!() };
            let biases = <&[Vec<f32>; 2]>::try_from(biases).ok().map(|b| b.each_ref().map(Vec::as_slice));
            Weights { w1, w2, biases, activation: self.activation, width: D, hidden: H }
        }

        /// Outputs and all gradients, through the kernels.
        fn run(&self, gy: &[f32]) -> Vec<Vec<f32>> {
            let (n, f) = (self.routes.len(), self.weights().first());
            let (mut first, mut output, mut y) = (vec![0.0; n * f], vec![0.0; n * D], vec![0.0; T * D]);
            forward(&self.x, self.weights(), &self.routes, &mut first, &mut output);
            let gates = self.routes.gather(&self.gates);
            combine(&mut y, &output, &gates, &self.routes, D);
            let saved = Forward { x: &self.x, gates: &gates, first: &first };
            let mut g: Vec<_> = [&self.x, &self.gates]
                .into_iter()
                .chain(&self.parameters)
                .map(|of| vec![f32::NAN; of.len()])
                .collect();
            let [x, gates, w1, w2, biases @ ..] = &mut g[..] else { unreachable!() };
            let biases =
                <&mut [Vec<f32>; 2]>::try_from(biases).ok().map(|b| b.each_mut().map(Vec::as_mut_slice));
            let gradients = Gradients { x: Some(x), gates, w1, w2, biases };
            backward(gy, saved, self.weights(), &self.routes, gradients);
            [vec![y], g].concat()
        }

        /// The same as plain loops, one expert after the other, over matrices gathered whole.
        fn plain(&self, gy: &[f32]) -> Vec<Vec<f32>> {
            let (w, routes) = (self.weights(), &self.routes);
            let (f, relu) = (w.first(), self.activation == Activation::Relu);
            let mut y = vec![0.0f32; T * D];
            let mut g = [T * D, T * E, E * D * f, E * H * D, E * f, E * D].map(|len| vec![0.0f32; len]);
            for e in 0..E {
                let tokens = &routes.tokens[routes.starts[e]..routes.starts[e + 1]];
                let n = tokens.len();
                let rows = |from: &[f32]| -> Vec<f32> {
                    tokens.iter().flat_map(|&t| from[t as usize * D..][..D].to_vec()).collect()
                };
                let gate = |i: usize| self.gates[tokens[i] as usize * E + e];
                let (x, gy) = (rows(&self.x), rows(gy));
                let b2 = w.b2(e).map_or(vec![0.0; D], <[f32]>::to_vec);
                let mut first = vec![0.0; n * f];
                gemm::plain(&mut first, Mat::new(&x, n, D), w.w1(e), w.b1(e), relu);
                let half = |i: usize| (first[i / H * f + i % H], first[i / H * f + f - H + i % H]);
                let hidden: Vec<f32> = (0..n * H)
                    .map(|i| match half(i) {
                        (v, _) if relu => v,
                        (x, y) => x * x.sigmoid() * y,
                    })
                    .collect();
                let mut output = b2.repeat(n);
                gemm::plain(&mut output, Mat::new(&hidden, n, H), w.w2(e), Start::Sum, false);
                let mut u = vec![0.0; n * H];
                gemm::plain(&mut u, Mat::new(&gy, n, D), w.w2(e).t(), Start::Sum, false);
                let by_gate =
                    |x: &[f32]| x.iter().enumerate().map(|(i, v)| gate(i / H) * v).collect::<Vec<_>>();
                let (g_hidden, gated) = (by_gate(&u), by_gate(&hidden));
                let mut g_first = vec![0.0; n * f];
                for (i, g) in g_hidden.into_iter().enumerate() {
                    let (at, (x, y)) = (i / H * f + i % H, half(i));
                    if relu {
                        g_first[at] = if x > 0.0 { g } else { 0.0 };
                    } else {
                        let s = x.sigmoid();
                        g_first[at] = g * y * (s + x * s * (1.0 - s));
                        g_first[at + H] = g * (x * s);
                    }
                }
                let mut g_x = vec![0.0; n * D];
                gemm::plain(&mut g_x, Mat::new(&g_first, n, f), w.w1(e).t(), Start::Sum, false);
                for (i, &t) in tokens.iter().enumerate() {
                    for j in 0..D {
                        let (to, from) = (t as usize * D + j, i * D + j);
                        y[to] = gate(i).mul_add(output[from], y[to]);
                        g[0][to] += g_x[from];
                    }
                    g[1][t as usize * E + e] = reduce::dot::<f32>(&u[i * H..][..H], &hidden[i * H..][..H])
                        + reduce::dot::<f32>(&gy[i * D..][..D], &b2);
                }
                let rows = |x, width| Mat::new(x, n, width);
                let (g_first, gy) = (rows(&g_first, f), rows(&gy, D));
                gemm::plain(&mut g[2][e * D * f..][..D * f], rows(&x, D).t(), g_first, Start::Sum, false);
                gemm::plain(&mut g[3][e * D * H..][..D * H], rows(&gated, H).t(), gy, Start::Sum, false);
                let ones = vec![1.0; n];
                let gates: Vec<f32> = (0..n).map(gate).collect();
                gemm::plain(&mut g[4][e * f..][..f], Mat::new(&ones, 1, n), g_first, Start::Sum, false);
                gemm::plain(&mut g[5][e * D..][..D], Mat::new(&gates, 1, n), gy, Start::Sum, false);
            }
            [vec![y], g[..2 + self.parameters.len()].to_vec()].concat()
        }
    }

    #[test]
    fn a_token_alone_has_the_bits_it_has_in_a_batch() {
        for activation in [Activation::Relu, Activation::SwiGlu] {
            let example = example(activation);
            let all = &example.run(&[0.0; T * D])[0];
            let f = example.weights().first();
            for t in [0, 1, T / 2, T - 1] {
                let routes = Routes::new(&example.mask[t * E..][..E], E);
                let (mut first, mut output) = (vec![0.0; routes.len() * f], vec![0.0; routes.len() * D]);
                forward(&example.x[t * D..][..D], example.weights(), &routes, &mut first, &mut output);
                let mut y = [f32::NAN; D];
                combine(&mut y, &output, &routes.gather(&example.gates[t * E..][..E]), &routes, D);
                assert_eq!(y[..], all[t * D..][..D], "{activation:?}, token {t}");
            }
        }
    }

    #[test]
    fn the_layer_and_its_gradients_are_the_plain_loops_to_the_bit_at_every_level_and_thread_count() {
        for activation in [Activation::Relu, Activation::SwiGlu] {
            let example = example(activation);
            let mut gy = vec![0.0; T * D];
            Stream::new(8, Purpose::Check, 0, 0).normal(&mut gy, 1.0);
            let plain = example.plain(&gy);
            simd::on_every_level(|level| {
                for threads in [1, 2, 3, 8] {
                    let got = par::with_threads(threads, || example.run(&gy));
                    assert_eq!(got.len(), plain.len());
                    let names = ["y", "g_x", "g_gates", "g_w1", "g_w2", "g_b1", "g_b2"];
                    for ((got, plain), name) in got.iter().zip(&plain).zip(names) {
                        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                        let what = format!("{activation:?} at level {level}, {threads} threads");
                        assert!(bits(got) == bits(plain), "{name} of {what}");
                    }
                }
            });
        }
    }
}
