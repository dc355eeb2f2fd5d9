//! GShard routing: two experts per token, the second by chance, and a limited capacity of each expert.
//!
//! A token is routed to the two largest of `p = softmax(W x + b)`, with weights `g_1 = p_1 / (p_1 + p_2)` and
//! `g_2 = p_2 / (p_1 + p_2)`. In training the second is kept with probability `min(1, 2 g_2)`; at inference
//! always. An expert has room for `floor(cf T / E)` of a batch's T tokens (at least one), `cf` 2 unless set:
//! all first choices are placed first, in token order, then the second ones. A choice without room is dropped and
//! the other weights are not rescaled. Balance loss 0.01, over the first choices. (Lepikhin et al., GShard, section 2.2
//! and algorithm 1.)
//!
//! Since second choices come after all first ones, a token's result depends on later tokens too.

use super::capacity::{Room, capacity};
use super::gates::keep;
use super::prelude::*;
use crate::engine::ops::softmax::probabilities;

settings! {
    /// Room in each expert as a multiple of tokens over experts; 2 unless set.
    capacity_factor: OrAuto<f64> = OrAuto::AUTO, "\"auto\", or a number above 0" if is_above_0(capacity_factor.or(1.0));
}

/// Capacity factor unless set.
const FACTOR: f64 = 2.0;

impl RouterSettings for Settings {
    type Router<F: Elem> = GShard<F>;

    const ABOUT: About = About {
        chooses: "the two largest, the second by chance, while there is room",
        source: "Lepikhin et al., GShard",
    };
    const LOSSES: Option<Weights> = Some(Weights { balance: 0.01, ..Weights::NONE });

    fn rule(&self) -> Rule {
        let factor = self.capacity_factor.or(FACTOR);
        let line = format!("gshard: two experts, the second by chance in training, capacity factor {factor}");
        Rule { line, varies: true, training: Sees::All, inference: Sees::All }
    }

    fn cost(&self, layer: Layer) -> Cost {
        Cost::linear(layer, layer.experts.min(2) as f64)
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> GShard<F> {
        GShard {
            gate: Linear::new(layer.width, layer.experts, init),
            capacity_factor: self.capacity_factor.or(FACTOR),
            layer: layer.number,
            weights,
        }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { at_least_one: false, sum: Sum::AtMostOne, tied: [2, 0, 0], ..Expect::default() }
    }
}

/// A GShard router.
#[derive(Clone, Debug)]
pub struct GShard<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    capacity_factor: f64,
    layer: usize,
    weights: Weights,
}

impl<F: Elem> Router<F> for GShard<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let value = logits.value();
        let (tokens, experts) = (value.shape()[0], value.shape()[1]);
        let (mut first, mut both) = (vec![false; value.len()], vec![false; value.len()]);
        select::top_k(arr::data(&value), experts, 1, &mut first);
        select::top_k(arr::data(&value), experts, experts.min(2), &mut both);
        let losses = self.weights.losses(|| logits, &first, phase);
        let weights = logits.masked_softmax(both.as_slice().into());
        // A second expert is kept if twice its weight exceeds its token's coin.
        let mut coins = vec![0.0f64; tokens];
        if let Some(stream) = phase.stream(Purpose::Coin, self.layer) {
            stream.unit(&mut coins);
        }
        let mut room = Room::new(capacity(self.capacity_factor, tokens, experts), experts);
        let (mut mask, mut dropped) = (vec![false; both.len()], 0);
        let mut place = |i: usize| {
            mask[i] = room.take(i % experts);
            dropped += u64::from(!mask[i]);
        };
        (0..both.len()).filter(|&i| first[i]).for_each(&mut place);
        let weight = weights.value();
        let wanted = |i: &usize| 2.0 * arr::data(&weight)[*i].f64() > coins[i / experts];
        (0..both.len()).filter(|&i| both[i] && !first[i]).filter(wanted).for_each(&mut place);
        let gates = keep(weights, &mask);
        Ok(Routing { dropped, losses, ..Routing::new(gates, &mask, probabilities(&value)) })
    }
}

module!(GShard { gate; capacity_factor, layer, weights });
