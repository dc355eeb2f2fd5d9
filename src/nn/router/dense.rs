//! All experts for every token, weighed by a softmax: what routing saves is measured against this.
//!
//! `y = sum_i softmax(W x + b)_i E_i(x)`. (Jacobs et al., Adaptive Mixtures of Local Experts, 1991.)

use super::losses::Weights;
use super::{Cost, Layer, Router, Routing, Rule, Settings};
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::Var;
use crate::nn::Phase;
use crate::nn::linear::Linear;
use crate::nn::param::{Init, Module, Visitor};

/// A router that leaves no expert out.
#[derive(Clone, Debug)]
pub struct Dense<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    weights: Weights,
}

impl<F: Elem> Router<F> for Dense<F> {
    fn rule(_: &Settings) -> Rule {
        Rule::of_each_token("dense: all experts, weighed by a softmax".into())
    }

    fn cost(_: &Settings, layer: Layer) -> Cost {
        Cost::linear(layer, layer.experts as f64)
    }

    fn new(settings: &Settings, layer: Layer, init: &mut Init) -> Dense<F> {
        let gate = Linear::new(layer.width, layer.experts, init);
        Dense { gate, weights: Weights::new(settings, Weights::default()) }
    }

    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let gates = logits.softmax();
        let probabilities = gates.value();
        let mask = vec![true; probabilities.len()];
        let losses = self.weights.losses(|| logits, &mask, phase);
        Ok(Routing { losses, ..Routing::new(gates, &mask, probabilities) })
    }
}

impl<F: Elem> Module<F> for Dense<F> {
    fn visit(&mut self, v: &mut Visitor<'_, F>) {
        let Dense { gate, weights: _ } = self;
        v.child("gate", gate);
    }
}
