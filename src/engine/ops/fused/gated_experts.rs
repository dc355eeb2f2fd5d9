//! The expert layer with gated experts (SwiGLU) in one operation: as `experts.rs`, without biases.

use std::sync::Arc;

use super::experts::{Saved, example, forward, matrix, reference};
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck};
use crate::engine::kernels::experts::{self as kernel, Activation, Forward, Gradients, Weights};
use crate::engine::kernels::{elem::Elem, routes::Routes};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// `y_t = sum over the token's experts i of gate_ti ((silu(x_t G_i) * (x_t U_i)) W2_i)`, where `*` multiplies element
/// by element.
///
/// Inputs: x (T, d), gates (T, E), W1 (E, d, 2h), W2 (E, h, d); the first h columns of a W1 are G, the others U. Only
/// the experts in `routes` run; the gate of any other counts as 0. (Huang et al., Harder Tasks Need More Experts: its
/// experts.)
pub struct GatedExperts {
    /// Which token goes to which expert.
    pub routes: Arc<Routes>,
}

fn weights<'a, F: Elem>([_, _, w1, w2]: [&'a Arr<F>; 4]) -> Weights<'a, F> {
    Weights {
        w1: arr::data(w1),
        w2: arr::data(w2),
        biases: None,
        activation: Activation::SwiGlu,
        width: w2.shape()[2],
        hidden: w2.shape()[1],
    }
}

impl<F: Elem> Op<F, 4> for GatedExperts {
    const NAME: &'static str = "gated_experts";
    type Saved = Saved<F>;
    fn forward(&self, inputs: [&Arr<F>; 4]) -> Result<(Arr<F>, Self::Saved)> {
        let [x, gates, w1, w2] = inputs;
        let (experts, tokens) = (self.routes.experts(), self.routes.token_count());
        let fits = match (x.shape(), w2.shape()) {
            (&[t, d], &[e, h, d2]) => {
                t == tokens
                    && e == experts
                    && d2 == d
                    && gates.shape() == [t, e]
                    && w1.shape() == [e, d, 2 * h]
            }
            _ => false,
        };
        if !fits {
            let why = format!(
                "x (T, d), gates (T, E), W1 (E, d, 2h), W2 (E, h, d) must agree with routes of {tokens} tokens to \
                 {experts} experts"
            );
            return Err(shape_error("gated_experts", why, &inputs.map(|a| a.shape())));
        }
        Ok(forward(x, gates, weights(inputs), &self.routes))
    }
    fn backward(&self, ctx: Ctx<F, Self::Saved, 4>, gy: &Arr<F>) -> [Option<Arr<F>>; 4] {
        let (gates, first) = ctx.saved;
        let mut g = ctx.x.map(|input| arr::uninit::<F>(input.shape()));
        let [gx, g_gates, w1, w2] = g.each_mut().map(arr::data_mut);
        kernel::backward(
            arr::data(gy),
            Forward { x: arr::data(ctx.x[0]), gates, first },
            weights(ctx.x),
            &self.routes,
            Gradients { x: ctx.needs[0].then_some(gx), gates: g_gates, w1, w2, biases: None },
        );
        g.map(Some)
    }
}

impl<F: Elem> Fused<F, 4> for GatedExperts {
    fn reference<'t>(&self, [x, gates, w1, w2]: [Var<'t, F>; 4]) -> Result<Var<'t, F>> {
        let h = w2.shape()[1];
        Ok(reference(&self.routes, x, gates, |i| {
            let first = x.matmul(matrix(w1, i));
            first.slice(1, 0..h).silu().mul(first.slice(1, h..2 * h)).matmul(matrix(w2, i))
        }))
    }
}

/// The shapes of the inputs in the example.
const SHAPES: [&[usize]; 4] = [&[5, 4], &[5, 3], &[3, 4, 4], &[3, 2, 4]];

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "gated_experts",
        run: || {
            let (inputs, routes) = example(SHAPES);
            gradcheck(inputs, move |x| x[0].tape().apply(GatedExperts { routes: routes.clone() }, x))
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::super::experts::testing::*;
    use super::*;
    use crate::engine::{Mode, Tape};

    const T: usize = LARGE.0;
    const E: usize = LARGE.1;
    const D: usize = LARGE.2;
    const LARGE_SHAPES: [&[usize]; 4] = [&[T, D], &[T, E], &[E, D, 2 * 19], &[E, 19, D]];

    fn op(routes: Arc<Routes>) -> GatedExperts {
        GatedExperts { routes }
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

    #[test]
    fn a_first_layer_that_is_not_twice_as_wide_is_refused() {
        let (inputs, routes) = example([&[5, 4], &[5, 3], &[3, 4, 2], &[3, 2, 4]]);
        let tape = Tape::new(Mode::Infer);
        let error = tape.apply(op(routes), inputs.map(|a| tape.constant(a))).err().unwrap().to_string();
        assert!(error.starts_with("gated_experts: ") && error.contains("W1 (E, d, 2h)"), "{error}");
    }
}
