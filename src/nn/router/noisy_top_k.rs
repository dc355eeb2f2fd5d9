//! Noisy top-k routing: learned noise on the logits, and two losses for an even use of experts.
//!
//! In training `h = x W_g + n softplus(x W_n)` with standard normal n, at inference `h = x W_g`; `G =
//! softmax_S(h)` over the k largest; `y = sum over S of G_i E_i(x)`. Both maps start at zero: at first the choice
//! is random.
//!
//! Losses, each 0.1 times the squared coefficient of variation (variance over squared mean) over the experts:
//! - importance: of `sum over tokens of G_i`;
//! - load: of `sum over tokens of Phi((x W_g)_i - t_i) / softplus(x W_n)_i)`, the expected number of tokens,
//!   where `t_i` is the k-th largest of the other experts' `h`: what expert i must exceed to be chosen. Omitted
//!   if k is the number of experts.
//!
//! (Shazeer et al., Outrageously Large Neural Networks, sections 2.1 and 4, appendix A.)

use super::gates::for_each_order;
use super::losses::Losses;
use super::prelude::*;
use crate::engine::ops::softmax::probabilities;

settings! {
    /// Experts per token, 4 unless set. A layer with fewer uses all it has.
    k: OrAuto<usize> = OrAuto::AUTO, "\"auto\", or 1 to 4096" if (1..=4096).contains(&k.or(1));
    /// Factor on the importance loss and the load loss; 0 switches them off.
    own_losses: f64 = 1.0, "0 or more" if is_0_or_more(own_losses);
}

/// Experts per token unless set.
const K: usize = 4;
/// Weight of each of the two losses.
const WEIGHT: f64 = 0.1;

impl RouterSettings for Settings {
    type Router<F: Elem> = NoisyTopK<F>;

    const ABOUT: About =
        About { chooses: "the `k` largest logits with learned noise", source: "Shazeer et al. 2017" };
    const NEAR_TWO: &'static [&'static str] = &["k=2"];

    fn rule(&self) -> Rule {
        Rule::of_each_token(format!("noisy top-k, k {} (the same for every token)", self.k.or(K)))
    }

    /// With the noise of training.
    fn cost(&self, layer: Layer) -> Cost {
        let Cost { k, parameters, flops } = Cost::linear(layer, self.k.or(K).min(layer.experts) as f64);
        Cost { k, parameters: 2 * parameters, flops: 2.0 * flops }
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, _: &mut Init) -> NoisyTopK<F> {
        NoisyTopK {
            gate: Linear::zeros(layer.width, layer.experts),
            noise: Linear::zeros(layer.width, layer.experts),
            k: self.k.or(K).min(layer.experts),
            layer: layer.number,
            weights,
            own_weight: WEIGHT * self.own_losses,
        }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { tied: [4; 3], losses: &["importance", "load"], ..Expect::default() }
    }
}

/// A noisy top-k router.
#[derive(Clone, Debug)]
pub struct NoisyTopK<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    /// From tokens to the noise's standard deviation before softplus.
    pub noise: Linear<F>,
    k: usize,
    layer: usize,
    weights: Weights,
    /// Of the importance loss and of the load loss.
    own_weight: f64,
}

impl<F: Elem> Router<F> for NoisyTopK<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let clean = self.gate.forward(x)?;
        let mut spread = None;
        let mut h = clean;
        if phase != Phase::Eval {
            let mut noise = arr::zeros(&clean.shape());
            if let Some(stream) = phase.stream(Purpose::Spread, self.layer) {
                stream.normal(arr::data_mut(&mut noise), 1.0);
            }
            let deviation = self.noise.forward(x)?.softplus();
            h = clean.add(deviation.mul(x.tape().constant(noise)));
            spread = Some(deviation);
        }
        let mut mask = vec![false; h.value().len()];
        select::top_k(arr::data(&h.value()), h.shape()[1], self.k, &mut mask);
        let gates = h.masked_softmax(mask.as_slice().into());
        let mut losses = self.weights.losses(|| clean, &mask, phase);
        if let Some(spread) = spread {
            losses.extend(self.own_losses(clean, spread, h, gates));
        }
        Ok(Routing { losses, ..Routing::new(gates, &mask, probabilities(&clean.value())) })
    }
}

impl<F: Elem> NoisyTopK<F> {
    /// The importance and the load loss.
    fn own_losses<'t>(
        &self,
        clean: Var<'t, F>,
        spread: Var<'t, F>,
        h: Var<'t, F>,
        gates: Var<'t, F>,
    ) -> Losses<'t, F> {
        let mut losses = Vec::new();
        if self.own_weight == 0.0 || h.value().is_empty() {
            return losses;
        }
        losses.push(("importance", variation(gates.sum_axes(&[0])).scale(self.own_weight)));
        let (value, shape) = (h.value(), h.shape());
        let experts = shape[1];
        if self.k < experts {
            let all = value.len();
            let limits = limits(arr::data(&value), experts, self.k);
            let limits = h.reshape(&[all, 1]).gather_rows(&limits).reshape(&shape);
            // The small constant guards against a deviation of zero.
            let chance = clean.sub(limits).div(spread.shift(1e-6)).normal_cdf();
            losses.push(("load", variation(chance.sum_axes(&[0])).scale(self.own_weight)));
        }
        losses
    }
}

/// The squared coefficient of variation.
fn variation<F: Elem>(x: Var<'_, F>) -> Var<'_, F> {
    x.var_axes(&[0]).div(x.mean_axes(&[0]).powi(2))
}

/// For each element of `h` (T, `experts`) the index of the k-th largest of the others in its row.
fn limits<F: Elem>(h: &[F], experts: usize, k: usize) -> Vec<u32> {
    let mut limits = vec![0; h.len()];
    for_each_order(h, experts, |r, order| {
        for (rank, &i) in order.iter().enumerate() {
            let limit = if rank < k { order[k] } else { order[k - 1] };
            limits[r * experts + i] = (r * experts + limit) as u32;
        }
    });
    limits
}

module!(NoisyTopK { gate, noise; k, layer, weights, own_weight });

#[cfg(test)]
mod tests;
