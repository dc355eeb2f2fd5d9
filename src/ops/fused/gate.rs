//! From router logits to expert weights: softmax, noise, temperature, softmax over the chosen experts.

use std::sync::Arc;

use crate::arr::{self, Arr};
use crate::error::Result;
use crate::gradcheck::{Check, gradcheck, random};
use crate::kernels::softmax::{masked_softmax_in_place, softmax_row_backward};
use crate::kernels::{elem::Elem, reduce, rows};
use crate::ops::softmax::probabilities;
use crate::tape::{Ctx, Fused, Op, Var, shape_error};

/// `softmax_S((softmax(logits) + noise) / temperature)` for logits (T, E), where S are the chosen experts
/// of each token; 0 for the others. (Gülmez, DynaMoE: the mixture weights.)
///
/// The choice is made outside, on the noisy gates: it has no gradient.
pub struct Gate<E: Elem> {
    /// `softmax(logits) + noise`, (T, E), as the choice saw it.
    pub gates: Arr<E>,
    /// The noise alone; `None` at inference.
    pub noise: Option<Arr<E>>,
    /// Chosen or not, (T, E).
    pub mask: Arc<[bool]>,
    /// Temperature of the weights.
    pub temperature: f64,
}

impl<E: Elem> Op<E, 1> for Gate<E> {
    const NAME: &'static str = "gate";
    type Saved = ();
    fn forward(&self, [logits]: [&Arr<E>; 1]) -> Result<(Arr<E>, ())> {
        if logits.ndim() != 2 || logits.len() != self.mask.len() || logits.shape() != self.gates.shape() {
            let why = format!("logits must be (T, E) with one choice each, not {} choices", self.mask.len());
            return Err(shape_error("gate", why, &[logits.shape(), self.gates.shape()]));
        }
        let width = logits.shape()[1];
        let (gates, scale) = (arr::data(&self.gates), E::of(1.0 / self.temperature));
        let mut weights = arr::fresh(logits.shape());
        rows::each(
            arr::data_mut(&mut weights),
            width,
            #[inline(always)]
            |r, w| {
                let here = r * width..(r + 1) * width;
                for (w, &g) in w.iter_mut().zip(&gates[here.clone()]) {
                    *w = g * scale;
                }
                masked_softmax_in_place(&self.mask[here], w);
            },
        );
        Ok((weights, ()))
    }
    /// Twice the gradient of a softmax: through the weights `w`, then through the probabilities `p`.
    fn backward(&self, ctx: Ctx<E, (), 1>, gy: &Arr<E>) -> [Option<Arr<E>>; 1] {
        let width = gy.shape()[1];
        let scale = E::of(1.0 / self.temperature);
        let p = match &self.noise {
            Some(noise) => arr::zip(
                &self.gates,
                noise,
                #[inline(always)]
                |g, n| g - n,
            ),
            None => self.gates.clone(),
        };
        let (p, w, gy) = (arr::data(&p), arr::data(ctx.y), arr::data(gy));
        let mut gx = arr::fresh(ctx.y.shape());
        rows::each(
            arr::data_mut(&mut gx),
            width,
            #[inline(always)]
            |r, gx| {
                let here = r * width..(r + 1) * width;
                let (p, w, gy) = (&p[here.clone()], &w[here.clone()], &gy[here]);
                // Of the noisy gates, and then of the logits: `gx = p (g - sum(g p))`.
                softmax_row_backward(w, gy, gx);
                let common = scale * reduce::dot_lanes(p, gx);
                for (g, &p) in gx.iter_mut().zip(p) {
                    *g = p * (*g * scale - common);
                }
            },
        );
        [Some(gx)]
    }
}

impl<E: Elem> Fused<E, 1> for Gate<E> {
    fn reference<'t>(&self, [logits]: [Var<'t, E>; 1]) -> Result<Var<'t, E>> {
        let mut gates = logits.softmax();
        if let Some(noise) = &self.noise {
            gates = gates.add(logits.tape().constant(noise.clone()));
        }
        Ok(gates.scale(1.0 / self.temperature).masked_softmax(self.mask.clone()))
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "gate",
        run: || {
            let mask: Arc<[bool]> = [true, false, true, true, false, true, false, false, true, true].into();
            gradcheck([random(&[2, 5], 1)], move |[x]| {
                let gates = probabilities(&x.value());
                x.tape().apply(Gate { gates, noise: None, mask: mask.clone(), temperature: 0.5 }, [x])
            })
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::random;

    #[test]
    fn equals_its_reference_with_noise() {
        let mask: Arc<[bool]> = (0..42).map(|i| i % 2 == 0).collect();
        let noise = arr::map(&random(&[6, 7], 4), |n| 0.1 * n);
        crate::ops::fused::testing::assert_equals_reference([random(&[6, 7], 3)], move |[x]| {
            let gates = arr::zip(&probabilities(&x.value()), &noise, |p, n| p + n);
            let gate = Gate { gates, noise: Some(noise.clone()), mask: mask.clone(), temperature: 0.5 };
            x.tape().apply_fused(gate, [x])
        });
    }

    #[test]
    fn weights_sum_to_one_over_the_chosen_and_one_expert_has_weight_one() {
        let tape = crate::Tape::<f32>::new(crate::Mode::Train);
        let x = tape.variable(arr::from_vec(&[2, 3], vec![0.3, -1.0, 2.0, 0.0, 0.0, 0.0]));
        let gates = probabilities(&x.value());
        let mask = [true, true, false, false, true, false].into();
        let w = tape.apply(Gate { gates, noise: None, mask, temperature: 0.1 }, [x]).unwrap().value();
        let w = arr::data(&w);
        assert_eq!((w[2], &w[3..]), (0.0, &[0.0, 1.0, 0.0][..]));
        assert!((w[0] + w[1] - 1.0).abs() < 1e-6 && w[0] > w[1]);
    }
}
