//! The expert layer, forward and backward: a token's output is the gated sum of its experts' outputs.
//!
//! For a token x_t (d) and each of its experts e, an assignment:
//!
//! ```text
//! first  = x_t W1_e + b1_e        W1 (E, d, f), b1 (E, f)
//! hidden = activation(first)      (h);  f = h, or 2h with SwiGLU
//! output = hidden W2_e + b2_e     W2 (E, h, d), b2 (E, d)
//! y_t    = sum over the token's experts of gate * output
//! ```
//!
//! Read [`super::routes`] first. The assignments are grouped by expert, in token order; a buffer "per assignment" has
//! one row for each, in this order. A task works on a block of one expert's assignments that fits in cache, and gathers
//! their tokens inside the product. Sums over a token's experts run in rising expert order, sums over an expert's tokens
//! in rising token order.

use super::gemm::{self, Mat, Packed, Start};
use super::routes::Routes;
use super::{elem::Elem, par, pool, reduce, rows, simd::fast};

/// The function between an expert's two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `silu(x) * y`, where the first product has x and y side by side in each row (Shazeer, "GLU Variants Improve
    /// Transformer", 2020).
    SwiGlu,
}

/// The parameters of all experts.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, F> {
    /// First layer's weights, (E, d, f).
    pub w1: &'a [F],
    /// Second layer's weights, (E, h, d).
    pub w2: &'a [F],
    /// Both layers' biases, (E, f) and (E, d), if there are any.
    pub biases: Option<[&'a [F]; 2]>,
    /// The function between the layers.
    pub activation: Activation,
    /// Width d of a token.
    pub width: usize,
    /// Width h of the hidden layer.
    pub hidden: usize,
}

impl<'a, F> Weights<'a, F> {
    /// Width f of the first product: h, or 2h with [`Activation::SwiGlu`].
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

/// The matrix `of(e)` of each expert e, packed for the product if several blocks share it.
fn packed<'a, F: Elem>(routes: &Routes, of: impl Fn(usize) -> Mat<'a, F>) -> Packed<'a, F> {
    /// With this many blocks packing saves time.
    const BLOCKS: usize = 3;
    let mut blocks = vec![0; routes.experts()];
    routes.blocks.iter().for_each(|block| blocks[block.expert] += 1);
    Packed::new((0..blocks.len()).map(of).collect(), |e| blocks[e] >= BLOCKS)
}

/// `first` (f) and `output` (d) of each assignment, from the tokens `x` (T, d). With [`Activation::Relu`] `first` has
/// the activation applied: it is the hidden layer.
pub fn forward<F: Elem>(x: &[F], weights: Weights<F>, routes: &Routes, first: &mut [F], output: &mut [F]) {
    let (d, f, h) = (weights.width, weights.first(), weights.hidden);
    let relu = weights.activation == Activation::Relu;
    let b2 = |e: usize| weights.b2(e).map_or(Start::Zero, Start::Bias);
    let (w1, w2) = (packed(routes, |e| weights.w1(e)), packed(routes, |e| weights.w2(e)));
    par::spans(((first, f), (output, d)), &routes.blocks, |block, (first, output)| {
        let (x, e) = (Mat::gather(x, d, block.tokens(routes)), block.expert);
        F::gemm(first, x, w1.get(e), weights.b1(e), relu);
        with_hidden(weights, first, |hidden| {
            F::gemm(output, Mat::new(hidden, block.count, h), w2.get(e), b2(e), false);
        });
    });
}

/// Calls `work` with the hidden layer (h) of some assignments, from their `first` (f).
fn with_hidden<F: Elem>(weights: Weights<F>, first: &[F], work: impl FnOnce(&[F])) {
    let (f, h) = (weights.first(), weights.hidden);
    match weights.activation {
        Activation::Relu => work(first),
        Activation::SwiGlu => pool::scratch(first.len() / 2, |hidden| {
            fast::<F, _>(
                #[inline(always)]
                || {
                    for (hidden, first) in hidden.chunks_exact_mut(h).zip(first.chunks_exact(f)) {
                        let (x, y) = first.split_at(h);
                        for ((hidden, &x), &y) in hidden.iter_mut().zip(x).zip(y) {
                            *hidden = x * x.sigmoid() * y;
                        }
                    }
                },
            );
            work(hidden);
        }),
    }
}

/// `y_t = sum over the token's assignments of gate * output`: `y` (T, d), `output` (d) and `gates` (1) per assignment.
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

/// `y_t = sum over the token's assignments of scale(assignment) * rows[assignment]`, in rising expert order.
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

/// Outputs of [`backward`]: the gradients, each of the shape of its value.
pub struct Gradients<'a, F> {
    /// Of the tokens, (T, d); `None` if it is not required.
    pub x: Option<&'a mut [F]>,
    /// Of the gates, (T, E); zero where an expert was not chosen.
    pub gates: &'a mut [F],
    /// Of the first layer's weights.
    pub w1: &'a mut [F],
    /// Of the second layer's weights.
    pub w2: &'a mut [F],
    /// Of both layers' biases, if there are any.
    pub biases: Option<[&'a mut [F]; 2]>,
}

/// Values of the forward pass that the backward pass reads.
#[derive(Clone, Copy)]
pub struct Forward<'a, F> {
    /// The tokens, (T, d).
    pub x: &'a [F],
    /// The gate of each assignment.
    pub gates: &'a [F],
    /// `first` of each assignment, as [`forward`] wrote it.
    pub first: &'a [F],
}

/// Gradients of all inputs of `y = combine(forward(x))`, from the gradient `gy` (T, d) of y.
///
/// ```text
/// u       = gy_t W2_e^T                   gradient of an ungated hidden layer, (h)
/// g_gate  = u . hidden + gy_t . b2_e      so the outputs need not be kept
/// g_first = gate u activation'(first)
/// gated   = gate hidden
/// g_x_t   = sum over the token's experts of g_first W1_e^T
/// g_W1_e  = sum over the expert's tokens of x_t^T g_first;   g_b1_e = sum of g_first
/// g_W2_e  = sum over the expert's tokens of gated^T gy_t;    g_b2_e = sum of gate gy_t
/// ```
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

    // 1. Per assignment: gradients of the gate, the first product and the token.
    let w2_t = packed(routes, |e| weights.w2(e).t());
    let w1_t = out.x.is_some().then(|| packed(routes, |e| weights.w1(e).t()));
    let slots = ((&mut g_first[..], f), (&mut gated[..], h), (&mut g_gate[..], 1), (&mut g_x[..], d));
    par::spans(slots, &routes.blocks, |block, (g_first, gated, g_gate, g_x)| {
        let tokens = block.tokens(routes);
        let (first, gates) = (&saved.first[block.first * f..], &saved.gates[block.first..]);
        pool::scratch((block.count + 2) * h, |scratch| {
            let (u, rows) = scratch.split_at_mut(block.count * h);
            let (hidden, sigmoid) = rows.split_at_mut(h);
            F::gemm(u, Mat::gather(gy, d, tokens), w2_t.get(block.expert), Start::Zero, false);
            fast::<F, _>(
                #[inline(always)]
                || {
                    for (i, &token) in tokens.iter().enumerate() {
                        let (first, u) = (&first[i * f..][..f], &u[i * h..][..h]);
                        let (g_first, gated) = (&mut g_first[i * f..][..f], &mut gated[i * h..][..h]);
                        let dot = match weights.activation {
                            Activation::Relu => relu_backward(first, u, gates[i], g_first, gated),
                            Activation::SwiGlu => {
                                swiglu_backward(first, u, gates[i], (hidden, sigmoid), g_first, gated)
                            }
                        };
                        g_gate[i] = match weights.b2(block.expert) {
                            Some(b2) => dot + reduce::dot_lanes(&gy[token as usize * d..][..d], b2),
                            None => dot,
                        };
                    }
                },
            );
        });
        if let Some(w1_t) = &w1_t {
            let g_first = Mat::new(g_first, block.count, f);
            F::gemm(g_x, g_first, w1_t.get(block.expert), Start::Zero, false);
        }
    });

    // 2. Per token: the sum over its assignments.
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

    // 3. Per expert: the parameters, as products over its tokens, in strips of rows.
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

/// One assignment with [`Activation::Relu`]: writes `g_first` (h) and `gated` (h), returns `u . hidden`.
///
/// `g_first = gate u` where `hidden > 0`, else 0; `gated = gate hidden`.
#[inline(always)]
fn relu_backward<F: Elem>(hidden: &[F], u: &[F], gate: F, g_first: &mut [F], gated: &mut [F]) -> F {
    for (((g, gated), &u), &hidden) in g_first.iter_mut().zip(gated).zip(u).zip(hidden) {
        *g = if hidden > F::zero() { gate * u } else { F::zero() };
        *gated = gate * hidden;
    }
    reduce::dot_lanes(u, hidden)
}

/// One assignment with [`Activation::SwiGlu`]: writes `g_first` (2h) and `gated` (h), returns `u . hidden`.
///
/// With x and y side by side in `first`, `s = sigmoid(x)` and `hidden = x s y`, the gradients side by side in `g_first`
/// are `g_x = gate u y (s + x s (1 - s))` and `g_y = gate u x s`. `hidden` and `s` (h each) are scratch rows.
#[inline(always)]
fn swiglu_backward<F: Elem>(
    first: &[F],
    u: &[F],
    gate: F,
    (hidden, s): (&mut [F], &mut [F]),
    g_first: &mut [F],
    gated: &mut [F],
) -> F {
    let h = u.len();
    let (x, y) = first.split_at(h);
    let (g_x, g_y) = g_first.split_at_mut(h);
    for (((hidden, s), &x), &y) in hidden.iter_mut().zip(s.iter_mut()).zip(x).zip(y) {
        *s = x.sigmoid();
        *hidden = x * *s * y;
    }
    for i in 0..h {
        let g_hidden = gate * u[i];
        let silu = x[i] * s[i];
        g_x[i] = g_hidden * y[i] * (s[i] + silu * (F::one() - s[i]));
        g_y[i] = g_hidden * silu;
        gated[i] = gate * hidden[i];
    }
    reduce::dot_lanes(u, hidden)
}

/// A strip of rows of one expert's weight gradient.
struct Strip {
    expert: usize,
    /// Its first row, counted within this expert.
    row: usize,
    /// Its first row, counted over all experts.
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

/// Divides the rows of each expert's matrix into strips, each enough work for a task.
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
mod tests;
