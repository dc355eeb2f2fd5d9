//! The whole expert layer in one operation: dispatch, two products per expert, weighted combination.

use std::sync::Arc;

use crate::arr::{self, Arr};
use crate::error::Result;
use crate::gradcheck::{Check, gradcheck, random};
use crate::kernels::experts::{self as kernel, Forward, Gradients, Weights};
use crate::kernels::{elem::Elem, par, pool::Buffer, routes::Routes};
use crate::tape::{Ctx, Fused, Op, Var, shape_error};

/// `y_t = sum over the token's experts i of gate_ti (relu(x_t W1_i + b1_i) W2_i + b2_i)`.
///
/// Inputs: x (T, d), gates (T, E), W1 (E, d, h), b1 (E, h), W2 (E, h, d), b2 (E, d). Only the experts in
/// `routes` run; the gate of any other counts as 0. (Gülmez, DynaMoE: the layer's output.)
pub struct Experts {
    /// Which token goes to which expert.
    pub routes: Arc<Routes>,
}

fn weights<'a, E: Elem>([_, _, w1, b1, w2, b2]: [&'a Arr<E>; 6]) -> Weights<'a, E> {
    Weights {
        w1: arr::data(w1),
        b1: arr::data(b1),
        w2: arr::data(w2),
        b2: arr::data(b2),
        width: w1.shape()[1],
        hidden: w1.shape()[2],
    }
}

impl<E: Elem> Op<E, 6> for Experts {
    const NAME: &'static str = "experts";
    /// Gates and hidden activations of each assignment.
    type Saved = (Buffer<E>, Buffer<E>);
    fn forward(&self, inputs: [&Arr<E>; 6]) -> Result<(Arr<E>, Self::Saved)> {
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
        let weights = weights(inputs);
        let gates = self.routes.gather(arr::data(gates));
        let mut hidden = Buffer::new(self.routes.len() * weights.hidden);
        let mut output = Buffer::new(self.routes.len() * weights.width);
        let mut y = arr::fresh(x.shape());
        par::sized(2 * hidden.len() * weights.width, || {
            kernel::forward(arr::data(x), weights, &self.routes, &mut hidden, &mut output);
            kernel::combine(arr::data_mut(&mut y), &output, &gates, &self.routes, weights.width);
        });
        Ok((y, (gates, hidden)))
    }
    fn backward(&self, ctx: Ctx<E, Self::Saved, 6>, gy: &Arr<E>) -> [Option<Arr<E>>; 6] {
        let (gates, hidden) = ctx.saved;
        let mut g = ctx.x.map(|input| arr::fresh::<E>(input.shape()));
        let [gx, g_gates, w1, b1, w2, b2] = &mut g;
        kernel::backward(
            arr::data(gy),
            Forward { x: arr::data(ctx.x[0]), gates, hidden },
            weights(ctx.x),
            &self.routes,
            Gradients {
                x: ctx.needs[0].then(|| arr::data_mut(gx)),
                gates: arr::data_mut(g_gates),
                w1: arr::data_mut(w1),
                b1: arr::data_mut(b1),
                w2: arr::data_mut(w2),
                b2: arr::data_mut(b2),
            },
        );
        g.map(Some)
    }
}

impl<E: Elem> Fused<E, 6> for Experts {
    /// Every expert runs on every token; the mask zeroes what was not chosen.
    fn reference<'t>(&self, [x, gates, w1, b1, w2, b2]: [Var<'t, E>; 6]) -> Result<Var<'t, E>> {
        let [t, e] = [self.routes.token_count(), self.routes.experts()];
        let (d, h) = (w1.shape()[1], w1.shape()[2]);
        let mut mask = arr::zeros(&[t, e]);
        for expert in 0..e {
            for &token in &self.routes.tokens[self.routes.starts[expert]..self.routes.starts[expert + 1]] {
                arr::data_mut(&mut mask)[token as usize * e + expert] = E::one();
            }
        }
        let gates = gates.mul(x.tape().constant(mask));
        let mut y = x.scale(0.0);
        for i in 0..e {
            let hidden = x.matmul(w1.slice(0, i..i + 1).reshape(&[d, h])).add(b1.slice(0, i..i + 1)).relu();
            let output = hidden.matmul(w2.slice(0, i..i + 1).reshape(&[h, d])).add(b2.slice(0, i..i + 1));
            y = y.add(output.mul(gates.slice(1, i..i + 1)));
        }
        Ok(y)
    }
}

/// Five tokens to three experts: one token has two, one has none, and the last expert gets nothing.
const MASK: [bool; 15] =
    [true, false, false, true, true, false, false, false, false, false, true, false, true, false, false];

fn example() -> [Arr<f64>; 6] {
    let shapes: [&[usize]; 6] = [&[5, 4], &[5, 3], &[3, 4, 2], &[3, 2], &[3, 2, 4], &[3, 4]];
    let mut seed = 0;
    shapes.map(|shape| {
        seed += 1;
        random(shape, seed)
    })
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "experts",
        run: || {
            let routes = Arc::new(Routes::new(&MASK, 3));
            gradcheck(example(), move |x| x[0].tape().apply(Experts { routes: routes.clone() }, x))
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        par,
        random::{Purpose, Stream},
    };
    use crate::ops::fused::testing::assert_equals_reference;
    use crate::{Mode, Tape};

    #[test]
    fn equals_its_reference() {
        let routes = Arc::new(Routes::new(&MASK, 3));
        assert_equals_reference(example(), move |x| {
            x[0].tape().apply_fused(Experts { routes: routes.clone() }, x)
        });
    }

    #[test]
    fn experts_without_tokens_get_zero_gradients() {
        let tape = Tape::new(Mode::Train);
        let x = example().map(|a| tape.variable(a));
        let y = tape.apply(Experts { routes: Arc::new(Routes::new(&MASK, 3)) }, x).unwrap();
        let gradients = tape.backward_from(y, random(&[5, 4], 9));
        let w1 = gradients.of(x[2]).unwrap();
        assert!(
            arr::data(w1)[16..].iter().all(|&g| g == 0.0) && arr::data(w1)[..16].iter().any(|&g| g != 0.0)
        );
    }

    /// A batch large enough for many blocks, and odd sizes, in f32.
    fn large() -> ([Arr<f32>; 6], Arc<Routes>) {
        let (t, e, d, h) = (333, 5, 37, 19);
        let shapes: [&[usize]; 6] = [&[t, d], &[t, e], &[e, d, h], &[e, h], &[e, h, d], &[e, d]];
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

    fn run(inputs: &[Arr<f32>; 6], routes: &Arc<Routes>, threads: usize) -> Vec<u32> {
        par::with_threads(threads, || {
            let tape = Tape::new(Mode::Train);
            let x = inputs.clone().map(|a| tape.variable(a));
            let y = tape.apply(Experts { routes: routes.clone() }, x).unwrap();
            let g = tape.backward_from(y, y.value());
            let all = x.iter().flat_map(|x| arr::data(g.of(*x).unwrap()).to_vec());
            arr::data(&y.value()).iter().copied().chain(all).map(f32::to_bits).collect()
        })
    }

    #[test]
    fn no_bit_depends_on_the_number_of_threads() {
        let (inputs, routes) = large();
        let one = run(&inputs, &routes, 1);
        assert!([2, 3, 8].into_iter().all(|threads| run(&inputs, &routes, threads) == one));
    }

    #[test]
    fn a_token_has_the_same_bits_alone_and_in_a_batch() {
        let (inputs, routes) = large();
        let tape = Tape::new(Mode::Infer);
        let forward = |inputs: &[Arr<f32>; 6], routes: Routes| {
            let y =
                tape.apply(Experts { routes: Arc::new(routes) }, inputs.clone().map(|a| tape.constant(a)));
            y.unwrap().value()
        };
        let all = forward(&inputs, (*routes).clone());
        for t in [0, 17, 332] {
            let mut one = inputs.clone();
            for (i, width) in [(0, 37), (1, 5)] {
                one[i] = arr::from_vec(&[1, width], arr::data(&inputs[i])[t * width..][..width].to_vec());
            }
            let mask: Vec<bool> = (0..5)
                .map(|e| routes.tokens[routes.starts[e]..routes.starts[e + 1]].contains(&(t as u32)))
                .collect();
            assert_eq!(arr::data(&forward(&one, Routes::new(&mask, 5))), &arr::data(&all)[t * 37..][..37]);
        }
    }
}
