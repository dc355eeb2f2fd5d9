//! From router logits to expert weights: softmax, noise, temperature, softmax over the chosen experts.

use std::sync::Arc;

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::reduce::{self, LANES, padded};
use crate::engine::kernels::softmax::{masked_softmax_in_place, softmax_row_backward};
use crate::engine::kernels::{elem::Elem, rows};
use crate::engine::ops::softmax::probabilities;
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// `softmax_S((softmax(logits) + noise) / temperature)` for logits (T, E), where S are the chosen experts
/// of each token; 0 for the others. (Gülmez, DynaMoE: the mixture weights.)
///
/// The choice is made outside, on the noisy gates: it has no gradient.
pub struct Gate<F: Elem> {
    /// `softmax(logits)`, (T, E).
    pub probabilities: Arr<F>,
    /// `softmax(logits) + noise`, (T, E), as the choice saw it; the same as the probabilities at inference.
    pub gates: Arr<F>,
    /// Chosen or not, (T, E).
    pub mask: Arc<[bool]>,
    /// Temperature of the weights.
    pub temperature: f64,
}

impl<F: Elem> Op<F, 1> for Gate<F> {
    const NAME: &'static str = "gate";
    type Saved = ();
    fn forward(&self, [logits]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        if logits.ndim() != 2 || logits.len() != self.mask.len() || logits.shape() != self.gates.shape() {
            let why = format!("logits must be (T, E) with one choice each, not {} choices", self.mask.len());
            return Err(shape_error("gate", why, &[logits.shape(), self.gates.shape()]));
        }
        let width = logits.shape()[1];
        let (gates, scale) = (arr::data(&self.gates), F::of(1.0 / self.temperature));
        let mut weights = arr::uninit(logits.shape());
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
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let width = gy.shape()[1];
        let scale = F::of(1.0 / self.temperature);
        let (p, w, gy) = (arr::data(&self.probabilities), arr::data(ctx.y), arr::data(gy));
        let mut gx = arr::uninit(ctx.y.shape());
        rows::each(
            arr::data_mut(&mut gx),
            width,
            #[inline(always)]
            |r, gx| {
                let here = r * width..(r + 1) * width;
                let (p, w, gy) = (&p[here.clone()], &w[here.clone()], &gy[here]);
                if width < LANES {
                    let mut lanes = [F::zero(); LANES];
                    let [p, w, gy] = [p, w, gy].map(
                        #[inline(always)]
                        |x| padded(x, F::zero()),
                    );
                    backward_row(&p, &w, &gy, &mut lanes, scale);
                    gx.copy_from_slice(&lanes[..width]);
                } else {
                    backward_row(p, w, gy, gx, scale);
                }
            },
        );
        [Some(gx)]
    }
}

/// The gradient for one token.
#[inline(always)]
fn backward_row<F: Elem>(p: &[F], w: &[F], gy: &[F], gx: &mut [F], scale: F) {
    // Of the noisy gates, and then of the logits: `gx = p (g - sum(g p))`.
    softmax_row_backward(w, gy, gx);
    let common = scale * reduce::dot_lanes(p, gx);
    for (g, &p) in gx.iter_mut().zip(p) {
        *g = p * (*g * scale - common);
    }
}

impl<F: Elem> Fused<F, 1> for Gate<F> {
    fn reference<'t>(&self, [logits]: [Var<'t, F>; 1]) -> Result<Var<'t, F>> {
        let noise = arr::zip(&self.gates, &self.probabilities, |g, p| g - p);
        let gates = logits.softmax().add(logits.tape().constant(noise));
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
                let p = probabilities(&x.value());
                let gate = Gate { probabilities: p.clone(), gates: p, mask: mask.clone(), temperature: 0.5 };
                x.tape().apply(gate, [x])
            })
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gradcheck::random;

    #[test]
    fn equals_its_reference_with_noise() {
        let mask: Arc<[bool]> = (0..42).map(|i| i % 2 == 0).collect();
        let noise = arr::map(&random(&[6, 7], 4), |n| 0.1 * n);
        crate::engine::ops::fused::testing::assert_equals_reference([random(&[6, 7], 3)], move |[x]| {
            let p = probabilities(&x.value());
            let gates = arr::zip(&p, &noise, |p, n| p + n);
            let gate = Gate { probabilities: p, gates, mask: mask.clone(), temperature: 0.5 };
            x.tape().apply_fused(gate, [x])
        });
    }

    #[test]
    fn weights_sum_to_one_over_the_chosen_and_one_expert_has_weight_one() {
        let tape = crate::Tape::<f32>::new(crate::Mode::Train);
        let x = tape.variable(arr::from_vec(&[2, 3], vec![0.3, -1.0, 2.0, 0.0, 0.0, 0.0]));
        let p = probabilities(&x.value());
        let mask = [true, true, false, false, true, false].into();
        let gate = Gate { probabilities: p.clone(), gates: p, mask, temperature: 0.1 };
        let w = tape.apply(gate, [x]).unwrap().value();
        let w = arr::data(&w);
        assert_eq!((w[2], &w[3..]), (0.0, &[0.0, 1.0, 0.0][..]));
        assert!((w[0] + w[1] - 1.0).abs() < 1e-6 && w[0] > w[1]);
    }
}
