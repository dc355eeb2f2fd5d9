//! GShard routing: two experts per token, the second by chance, and room for only so many tokens in each.
//!
//! The two largest of `p = softmax(W x + b)` are the token's, with weights `g_1 = p_1 / (p_1 + p_2)` and
//! `g_2 = p_2 / (p_1 + p_2)`. In training the second is kept with probability `min(1, 2 g_2)`; at inference
//! always. An expert has room for `floor(cf T / E)` of a batch's T tokens (at least one), `cf` 2 unless set:
//! first all first choices in token order, then the second ones. A weight that found no room is lost: the
//! others are not scaled up. Balance loss 0.01, over the first choices. (Lepikhin et al., GShard, section 2.2
//! and algorithm 1.)
//!
//! Since second choices come after all first ones, a token's result depends on later tokens too.

use super::capacity::{Room, capacity};
use super::losses::Weights;
use super::{Cost, Layer, Router, Routing, Rule, Sees, Settings, keep};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::kernels::random::Purpose;
use crate::engine::kernels::select;
use crate::engine::ops::softmax::probabilities;
use crate::engine::tape::Var;
use crate::nn::Phase;
use crate::nn::linear::Linear;
use crate::nn::param::{Init, Module, Visitor};

/// A GShard router.
#[derive(Clone, Debug)]
pub struct GShard<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    capacity_factor: f64,
    layer: usize,
    weights: Weights,
}

/// Capacity factor unless set.
const FACTOR: f64 = 2.0;

impl<F: Elem> Router<F> for GShard<F> {
    fn rule(settings: &Settings) -> Rule {
        let factor = settings.capacity_factor.or(FACTOR);
        let line = format!("gshard: two experts, the second by chance in training, capacity factor {factor}");
        Rule { line, varies: true, training: Sees::All, inference: Sees::All }
    }

    fn cost(_: &Settings, layer: Layer) -> Cost {
        Cost::linear(layer, layer.experts.min(2) as f64)
    }

    fn new(settings: &Settings, layer: Layer, init: &mut Init) -> GShard<F> {
        let own = Weights { balance: 0.01, ..Weights::default() };
        GShard {
            gate: Linear::new(layer.width, layer.experts, init),
            capacity_factor: settings.capacity_factor.or(FACTOR),
            layer: layer.number,
            weights: Weights::new(settings, own),
        }
    }

    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let value = logits.value();
        let (tokens, experts) = (value.shape()[0], value.shape()[1]);
        let (mut first, mut both) = (vec![false; value.len()], vec![false; value.len()]);
        select::top_k(arr::data(&value), experts, 1, &mut first);
        select::top_k(arr::data(&value), experts, experts.min(2), &mut both);
        let losses = self.weights.losses(|| logits, &first, phase);
        let weights = logits.masked_softmax(both.as_slice().into());
        // The number that a second weight must exceed half of.
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

impl<F: Elem> Module<F> for GShard<F> {
    fn visit(&mut self, v: &mut Visitor<'_, F>) {
        let GShard { gate, capacity_factor: _, layer: _, weights: _ } = self;
        v.child("gate", gate);
    }
}
