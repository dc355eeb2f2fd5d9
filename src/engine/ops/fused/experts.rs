//! The whole expert layer in one operation: dispatch, two products per expert, weighted combination.

use std::sync::Arc;

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::experts::{self as kernel, Activation, Forward, Gradients, Weights};
use crate::engine::kernels::{elem::Elem, par, pool::Buffer, routes::Routes};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// `y_t = sum over the token's experts i of gate_ti (relu(x_t W1_i + b1_i) W2_i + b2_i)`.
///
/// Inputs: x (T, d), gates (T, E), W1 (E, d, h), b1 (E, h), W2 (E, h, d), b2 (E, d). Only the experts in
/// `routes` run; the gate of any other counts as 0. (Gülmez, DynaMoE: the layer's output.)
pub struct Experts {
    /// Which token goes to which expert.
    pub routes: Arc<Routes>,
}

fn weights<'a, F: Elem>([_, _, w1, b1, w2, b2]: [&'a Arr<F>; 6]) -> Weights<'a, F> {
    Weights {
        w1: arr::data(w1),
        w2: arr::data(w2),
        biases: Some([arr::data(b1), arr::data(b2)]),
        activation: Activation::Relu,
        width: w1.shape()[1],
        hidden: w1.shape()[2],
    }
}

/// The gates and the first product of each assignment.
pub(super) type Saved<F> = (Buffer<F>, Buffer<F>);

/// The layer's output for tokens `x` (T, d) and `gates` (T, E).
pub(super) fn forward<F: Elem>(
    x: &Arr<F>,
    gates: &Arr<F>,
    weights: Weights<F>,
    routes: &Routes,
) -> (Arr<F>, Saved<F>) {
    let gates = routes.gather(arr::data(gates));
    let mut first = Buffer::new(routes.len() * weights.first());
    let mut output = Buffer::new(routes.len() * weights.width);
    let mut y = arr::uninit(x.shape());
    par::sized(2 * routes.len() * weights.hidden * weights.width, || {
        kernel::forward(arr::data(x), weights, routes, &mut first, &mut output);
        kernel::combine(arr::data_mut(&mut y), &output, &gates, routes, weights.width);
    });
    (y, (gates, first))
}

impl<F: Elem> Op<F, 6> for Experts {
    const NAME: &'static str = "experts";
    type Saved = Saved<F>;
    fn forward(&self, inputs: [&Arr<F>; 6]) -> Result<(Arr<F>, Self::Saved)> {
        let [x, gates, w1, b1, w2, b2] = inputs;
        let (experts, tokens) = (self.routes.experts(), self.routes.token_count());
        let fits = match (x.shape(), w1.shape()) {
            (&[t, d], &[e, d1, h]) => {
                t == tokens
                    && e == experts
                    && d1 == d
                    && gates.shape() == [t, e]
                    && b1.shape() == [e, h]
                    && w2.shape() == [e, h, d]
                    && b2.shape() == [e, d]
            }
            _ => false,
        };
        if !fits {
            let why = format!(
                "x (T, d), gates (T, E), W1 (E, d, h), b1 (E, h), W2 (E, h, d), b2 (E, d) must agree with \
                 routes of {tokens} tokens to {experts} experts"
            );
            return Err(shape_error("experts", why, &inputs.map(|a| a.shape())));
        }
        Ok(forward(x, gates, weights(inputs), &self.routes))
    }
    fn backward(&self, ctx: Ctx<F, Self::Saved, 6>, gy: &Arr<F>) -> [Option<Arr<F>>; 6] {
        let (gates, first) = ctx.saved;
        let mut g = ctx.x.map(|input| arr::uninit::<F>(input.shape()));
        let [gx, g_gates, w1, b1, w2, b2] = g.each_mut().map(arr::data_mut);
        kernel::backward(
            arr::data(gy),
            Forward { x: arr::data(ctx.x[0]), gates, first },
            weights(ctx.x),
            &self.routes,
            Gradients { x: ctx.needs[0].then_some(gx), gates: g_gates, w1, w2, biases: Some([b1, b2]) },
        );
        g.map(Some)
    }
}

/// Every expert runs on every token; the mask zeroes what was not chosen.
pub(super) fn reference<'t, F: Elem>(
    routes: &Routes,
    x: Var<'t, F>,
    gates: Var<'t, F>,
    expert: impl Fn(usize) -> Var<'t, F>,
) -> Var<'t, F> {
    let [t, e] = [routes.token_count(), routes.experts()];
    let mut mask = arr::zeros(&[t, e]);
    for expert in 0..e {
        for &token in &routes.tokens[routes.slots(expert)] {
            arr::data_mut(&mut mask)[token as usize * e + expert] = F::one();
        }
    }
    let gates = gates.mul(x.tape().constant(mask));
    (0..e).fold(x.scale(0.0), |y, i| y.add(expert(i).mul(gates.slice(1, i..i + 1))))
}

/// Matrix i of a stack.
pub(super) fn matrix<F: Elem>(stack: Var<F>, i: usize) -> Var<F> {
    stack.slice(0, i..i + 1).reshape(&stack.shape()[1..])
}

impl<F: Elem> Fused<F, 6> for Experts {
    fn reference<'t>(&self, [x, gates, w1, b1, w2, b2]: [Var<'t, F>; 6]) -> Result<Var<'t, F>> {
        Ok(reference(&self.routes, x, gates, |i| {
            let hidden = x.matmul(matrix(w1, i)).add(b1.slice(0, i..i + 1)).relu();
            hidden.matmul(matrix(w2, i)).add(b2.slice(0, i..i + 1))
        }))
    }
}

/// Five tokens and three experts: one token has two experts, one has none, and the last expert has no tokens.
const MASK: [bool; 15] =
    [true, false, false, true, true, false, false, false, false, false, true, false, true, false, false];

/// The example's routes, and random inputs of these shapes.
pub(super) fn example<const N: usize>(shapes: [&[usize]; N]) -> ([Arr<f64>; N], Arc<Routes>) {
    let mut seed = 0;
    let inputs = shapes.map(|shape| {
        seed += 1;
        random(shape, seed)
    });
    (inputs, Arc::new(Routes::new(&MASK, 3)))
}

/// The shapes of the inputs in the example.
const SHAPES: [&[usize]; 6] = [&[5, 4], &[5, 3], &[3, 4, 2], &[3, 2], &[3, 2, 4], &[3, 4]];

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "experts",
        run: || {
            let (inputs, routes) = example(SHAPES);
            gradcheck(inputs, move |x| x[0].tape().apply(Experts { routes: routes.clone() }, x))
        },
    }]
}

/// What holds for experts of any form: inputs are x, gates, W1 and others.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::engine::kernels::{
        par,
        random::{Purpose, Stream},
    };
    use crate::engine::ops::fused::testing::assert_equals_reference;
    use crate::engine::{Mode, Tape};

    pub fn assert_the_example_holds<O: Fused<f64, N>, const N: usize>(
        shapes: [&[usize]; N],
        op: impl Fn(Arc<Routes>) -> O,
    ) {
        let (inputs, routes) = example(shapes);
        assert_equals_reference(inputs.clone(), |x| x[0].tape().apply_fused(op(routes.clone()), x));
        // The last expert has no tokens.
        let tape = Tape::new(Mode::Train);
        let x = inputs.map(|a| tape.variable(a));
        let y = tape.apply(op(routes), x).unwrap();
        let gradients = tape.backward_from(y, random(&[5, 4], 9));
        let w1 = gradients.wrt(x[2]);
        let (others, last) = arr::data(&w1).split_at(w1.len() / 3 * 2);
        assert!(last.iter().all(|&g| g == 0.0) && others.iter().any(|&g| g != 0.0));
    }

    /// Tokens, experts and width of a batch large enough for many blocks, in odd sizes.
    pub const LARGE: (usize, usize, usize) = (333, 5, 37);

    /// Random inputs of these shapes, and routes.
    fn large<const N: usize>(shapes: [&[usize]; N]) -> ([Arr<f32>; N], Arc<Routes>) {
        let (t, e, _) = LARGE;
        let mut seed = 0;
        let inputs = shapes.map(|shape| {
            seed += 1;
            let mut data = vec![0.0; shape.iter().product()];
            Stream::new(seed, Purpose::Check, 0, 0).normal(&mut data, 1.0);
            arr::from_vec(shape, data)
        });
        let mut mask = vec![false; t * e];
        Stream::new(9, Purpose::Check, 1, 0).coin(&mut mask, 0.4);
        (inputs, Arc::new(Routes::new(&mask, e)))
    }

    pub fn assert_no_bit_depends_on_the_number_of_threads<O: Op<f32, N>, const N: usize>(
        shapes: [&[usize]; N],
        op: impl Fn(Arc<Routes>) -> O + Sync,
    ) {
        let (inputs, routes) = large(shapes);
        let run = |threads| {
            par::with_threads(threads, || {
                let tape = Tape::new(Mode::Train);
                let x = inputs.clone().map(|a| tape.variable(a));
                let y = tape.apply(op(routes.clone()), x).unwrap();
                let g = tape.backward_from(y, y.value());
                let all = x.iter().flat_map(|x| arr::data(&g.wrt(*x)).to_vec());
                arr::data(&y.value()).iter().copied().chain(all).map(f32::to_bits).collect::<Vec<_>>()
            })
        };
        let one = run(1);
        assert!([2, 3, 8].into_iter().all(|threads| run(threads) == one));
    }

    pub fn assert_a_token_has_the_same_bits_alone_and_in_a_batch<O: Op<f32, N>, const N: usize>(
        shapes: [&[usize]; N],
        op: impl Fn(Arc<Routes>) -> O,
    ) {
        let (inputs, routes) = large(shapes);
        let (tape, (_, experts, width)) = (Tape::new(Mode::Infer), LARGE);
        let forward = |inputs: &[Arr<f32>; N], routes: Routes| {
            tape.apply(op(Arc::new(routes)), inputs.clone().map(|a| tape.constant(a))).unwrap().value()
        };
        let all = forward(&inputs, (*routes).clone());
        for t in [0, 17, 332] {
            let mut one = inputs.clone();
            for (i, width) in [(0, width), (1, experts)] {
                one[i] = arr::from_vec(&[1, width], arr::data(&inputs[i])[t * width..][..width].to_vec());
            }
            let mask: Vec<bool> =
                (0..experts).map(|e| routes.tokens[routes.slots(e)].contains(&(t as u32))).collect();
            let alone = forward(&one, Routes::new(&mask, experts));
            assert_eq!(arr::data(&alone), &arr::data(&all)[t * width..][..width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    const T: usize = LARGE.0;
    const E: usize = LARGE.1;
    const D: usize = LARGE.2;
    const LARGE_SHAPES: [&[usize]; 6] = [&[T, D], &[T, E], &[E, D, 19], &[E, 19], &[E, 19, D], &[E, D]];

    fn op(routes: Arc<Routes>) -> Experts {
        Experts { routes }
    }

    #[test]
    fn a_wide_last_expert_without_tokens_gets_zero_gradients() {
        // So wide that its gradient is taken in several strips.
        let shapes: [&[usize]; 6] = [&[5, 4], &[5, 3], &[3, 4, 400], &[3, 400], &[3, 400, 4], &[3, 4]];
        testing::assert_the_example_holds(shapes, |routes| Experts { routes });
    }

    #[test]
    fn equals_its_reference_and_experts_without_tokens_get_zero_gradients() {
        assert_the_example_holds(SHAPES, op);
    }

    #[test]
    fn no_bit_depends_on_the_number_of_threads() {
        assert_no_bit_depends_on_the_number_of_threads(LARGE_SHAPES, op);
    }

    #[test]
    fn a_token_has_the_same_bits_alone_and_in_a_batch() {
        assert_a_token_has_the_same_bits_alone_and_in_a_batch(LARGE_SHAPES, op);
    }
}
