//! Switch routing: one expert per token, and a limited capacity of each expert.
//!
//! `p = softmax(W x' + b)` with `x' = x` times uniform numbers from 0.99 to 1.01 in training; i = argmax p;
//! `y = p_i E_i(x)`. An expert has room for `floor(cf T / E)` of a batch's T tokens (at least one), `cf` 1.25
//! in training and 2 at inference; later tokens get no expert, `y = 0`, and pass
//! through the residual alone. Balance loss 0.01. (Fedus et al., Switch Transformers, section 2.)
//!
//! A token's result depends on the tokens before it and on how many there are, at inference too.

use super::capacity::{Room, capacity};
use super::gates::keep;
use super::prelude::*;

settings! {
    /// Room in each expert as a multiple of tokens over experts; 1.25 in training and 2 at inference unless set.
    capacity_factor: OrAuto<f64> = OrAuto::AUTO, "\"auto\", or a number above 0" if is_above_0(capacity_factor.or(1.0));
}

/// Capacity factors in training and at inference unless set.
const FACTORS: (f64, f64) = (1.25, 2.0);
/// Tokens are multiplied elementwise by factors from 1 - JITTER to 1 + JITTER.
const JITTER: f64 = 0.01;

impl RouterSettings for Settings {
    type Router<F: Elem> = Switch<F>;

    const ABOUT: About = About {
        chooses: "the largest probability, while there is room",
        source: "Fedus et al., Switch Transformers",
    };
    const LOSSES: Option<Weights> = Some(Weights { balance: 0.01, ..Weights::NONE });

    fn rule(&self) -> Rule {
        let (train, eval) = (self.capacity_factor.or(FACTORS.0), self.capacity_factor.or(FACTORS.1));
        let line = format!("switch: one expert, capacity factor {train} in training, {eval} at inference");
        Rule { line, varies: true, training: Sees::Earlier, inference: Sees::Earlier }
    }

    fn cost(&self, layer: Layer) -> Cost {
        Cost::linear(layer, 1.0)
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> Switch<F> {
        Switch {
            gate: Linear::new(layer.width, layer.experts, init),
            capacity_factor: self.capacity_factor,
            layer: layer.number,
            weights,
        }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { at_least_one: false, sum: Sum::AtMostOne, tied: [1, 0, 0], ..Expect::default() }
    }
}

/// A switch router.
#[derive(Clone, Debug)]
pub struct Switch<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    capacity_factor: OrAuto<f64>,
    layer: usize,
    weights: Weights,
}

impl<F: Elem> Router<F> for Switch<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let factor = self.capacity_factor.or(if phase == Phase::Eval { FACTORS.1 } else { FACTORS.0 });
        let seen = phase.stream(Purpose::Jitter, self.layer).map_or(x, |stream| {
            let mut jitter = arr::uninit(&x.shape());
            stream.unit(arr::data_mut(&mut jitter));
            let jitter = arr::map(&jitter, |u| F::of(1.0 - JITTER) + F::of(2.0 * JITTER) * u);
            x.mul(x.tape().constant(jitter))
        });
        let logits = self.gate.forward(seen)?;
        let experts = logits.shape()[1];
        let p = logits.softmax();
        let mut mask = vec![false; p.value().len()];
        select::top_k(arr::data(&logits.value()), experts, 1, &mut mask);
        let losses = self.weights.losses(|| logits, &mask, phase);
        let mut room = Room::new(capacity(factor, mask.len() / experts, experts), experts);
        let mut dropped = 0;
        for (i, chosen) in mask.iter_mut().enumerate().filter(|(_, chosen)| **chosen) {
            *chosen = room.take(i % experts);
            dropped += u64::from(!*chosen);
        }
        Ok(Routing { dropped, losses, ..Routing::new(keep(p, &mask), &mask, p.value()) })
    }
}

module!(Switch { gate; capacity_factor, layer, weights });
