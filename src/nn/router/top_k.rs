//! Plain top-k routing: the k experts with the largest logits, weighed by a softmax over these.
//!
//! `S` = the k largest of `l = W x + b`; `y = sum over S of softmax_S(l)_i E_i(x)`. (Shazeer et al.,
//! Outrageously Large Neural Networks, section 2.1, without its noise.)

use super::losses::Weights;
use super::{Cost, Layer, Router, Routing, Rule, Settings};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, select};
use crate::engine::ops::softmax::probabilities;
use crate::engine::tape::Var;
use crate::nn::Phase;
use crate::nn::linear::Linear;
use crate::nn::param::{Init, Module, Visitor};

/// A top-k router.
#[derive(Clone, Debug)]
pub struct TopK<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    k: usize,
    weights: Weights,
}

/// Experts per token unless set.
const K: usize = 2;

impl<F: Elem> Router<F> for TopK<F> {
    fn rule(settings: &Settings) -> Rule {
        Rule::of_each_token(format!("top-k, k {} (the same for every token)", settings.k.or(K)))
    }

    fn cost(settings: &Settings, layer: Layer) -> Cost {
        Cost::linear(layer, settings.k.or(K).min(layer.experts) as f64)
    }

    fn new(settings: &Settings, layer: Layer, init: &mut Init) -> TopK<F> {
        let gate = Linear::new(layer.width, layer.experts, init);
        let weights = Weights::new(settings, Weights::default());
        TopK { gate, k: settings.k.or(K).min(layer.experts), weights }
    }

    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let value = logits.value();
        let mut mask = vec![false; value.len()];
        select::top_k(arr::data(&value), value.shape()[1], self.k, &mut mask);
        let gates = logits.masked_softmax(mask.as_slice().into());
        let losses = self.weights.losses(|| logits, &mask, phase);
        Ok(Routing { losses, ..Routing::new(gates, &mask, probabilities(&value)) })
    }
}

impl<F: Elem> Module<F> for TopK<F> {
    fn visit(&mut self, v: &mut Visitor<'_, F>) {
        let TopK { gate, k: _, weights: _ } = self;
        v.child("gate", gate);
    }
}
