//! Top-percentile routing (Gülmez, DynaMoE): the experts whose gate lies above a percentile of the gates.
//!
//! `g = softmax(W x + b)`; in training `g~ = g + noise`; the chosen experts are those with
//! `g~_i > percentile_tau(g~)`, at least one; their weights are `softmax(g~ / T)` over the chosen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::losses::Weights;
use super::{Cost, Layer, Router, Routing, Rule, Sees, Settings};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::random::Purpose;
use crate::engine::kernels::{elem::Elem, gate, routes::Routes, select};
use crate::engine::ops::fused::gate::Gate;
use crate::engine::tape::Var;
use crate::nn::Phase;
use crate::nn::linear::Linear;
use crate::nn::moe::Usage;
use crate::nn::param::{Init, Module, Visitor};

/// Over which gates the percentile is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Over the token's own E gates, as the paper states it. Without ties this always chooses the same
    /// number, `max(1, E - 1 - floor(tau (E - 1)))`, so it is done by rank: k does not vary.
    Token,
    /// Over all gates of the layer's batch: k varies from token to token. At inference a running average
    /// of the training thresholds takes its place, so that a token's result does not depend on its
    /// neighbors; before any training the choice is that of the token scope.
    Batch,
}

/// A percentile router.
#[derive(Clone, Debug)]
pub struct Percentile<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    /// Running average of the batch thresholds; NaN before the first batch.
    pub threshold: f64,
    /// A number of experts for every token in place of the rule.
    fixed: Option<usize>,
    settings: Settings,
    /// The layer's number, which addresses its noise.
    layer: usize,
    weights: Weights,
}

/// Weight of the past in the running threshold.
const MOMENTUM: f64 = 0.9;

impl<F: Elem> Router<F> for Percentile<F> {
    fn rule(settings: &Settings) -> Rule {
        let tau = settings.tau;
        match settings.scope {
            Scope::Token => {
                let line = format!("percentile, token scope, tau {tau} (the same k for every token)");
                Rule::of_each_token(line)
            }
            Scope::Batch => {
                let line = format!("percentile, batch scope, tau {tau}");
                Rule { line, varies: true, training: Sees::All, inference: Sees::Itself }
            }
        }
    }

    fn cost(settings: &Settings, layer: Layer) -> Cost {
        let k = match settings.scope {
            Scope::Token => select::token_scope_k(layer.experts, settings.tau) as f64,
            Scope::Batch => ((1.0 - settings.tau) * layer.experts as f64).max(1.0),
        };
        Cost::linear(layer, k)
    }

    fn new(settings: &Settings, layer: Layer, init: &mut Init) -> Percentile<F> {
        Percentile {
            gate: Linear::new(layer.width, layer.experts, init),
            threshold: f64::NAN,
            fixed: None,
            settings: *settings,
            layer: layer.number,
            weights: Weights::new(settings, Weights::default()),
        }
    }

    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let (value, tau) = (logits.value(), self.settings.tau);
        let (shape, experts) = (value.shape(), self.gate.b.value.len());
        let running = phase == Phase::Eval && !self.threshold.is_nan();
        // At inference before any training, and where there are no tokens, there is no threshold.
        let by_threshold = self.settings.scope == Scope::Batch
            && (running || phase != Phase::Eval)
            && !value.is_empty()
            && self.fixed.is_none();
        let by_rank = || self.fixed.unwrap_or_else(|| select::token_scope_k(experts, tau));
        let k = (!by_threshold).then(by_rank);
        let (mut probabilities, mut gates) = (arr::fresh(shape), arr::fresh(shape));
        let mut mask = vec![false; value.len()];
        let out = gate::Gates {
            probabilities: arr::data_mut(&mut probabilities),
            gates: arr::data_mut(&mut gates),
            mask: &mut mask,
        };
        gate::gate(arr::data(&value), experts, self.noise(phase), k, out);
        let threshold = by_threshold.then(|| {
            let gates = arr::data(&gates);
            let threshold = if running { F::of(self.threshold) } else { select::percentile(gates, tau) };
            select::above(gates, experts, threshold, &mut mask);
            threshold.f64()
        });
        let losses = self.weights.losses(|| logits, &mask, phase);
        let routes = Arc::new(Routes::new(&mask, experts));
        let gate = Gate {
            probabilities: probabilities.clone(),
            gates,
            mask: mask.into(),
            temperature: self.settings.temperature,
        };
        let gates = x.tape().apply_fused(gate, [logits])?;
        Ok(Routing { gates, routes, probabilities, threshold, dropped: 0, losses })
    }

    /// Takes a training batch's threshold into the running average.
    fn absorb(&mut self, usage: &Usage) {
        let Some(threshold) = usage.threshold else { return };
        self.threshold = if self.threshold.is_nan() {
            threshold
        } else {
            MOMENTUM * self.threshold + (1.0 - MOMENTUM) * threshold
        };
    }

    fn fix(&mut self, k: usize) -> bool {
        self.fixed = Some(k.clamp(1, self.gate.b.value.len()));
        true
    }
}

impl<F: Elem> Percentile<F> {
    /// The noise of this layer and step; none at inference or when switched off.
    fn noise(&self, phase: Phase) -> Option<gate::Noise> {
        let deviation = self.settings.noise as f32;
        let stream = (deviation > 0.0).then(|| phase.stream(Purpose::Gate, self.layer))?;
        stream.map(|stream| (stream, deviation))
    }
}

impl<F: Elem> Module<F> for Percentile<F> {
    fn visit(&mut self, v: &mut Visitor<'_, F>) {
        let Percentile { gate, threshold, fixed: _, settings, layer: _, weights: _ } = self;
        v.child("gate", gate);
        if settings.scope == Scope::Batch {
            v.state("threshold", threshold);
        }
    }
}
