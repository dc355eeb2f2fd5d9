//! Top-percentile routing (Gülmez, DynaMoE): the experts whose gate lies above a percentile of the gates.
//!
//! `g = softmax(W x + b)`; in training `g~ = g + noise`; the chosen experts are those with
//! `g~_i > percentile_tau(g~)`, at least one; their weights are `softmax(g~ / T)` over the chosen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::prelude::*;
use crate::engine::kernels::{gate, routes::Routes};
use crate::engine::ops::fused::gate::Gate;

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

settings! {
    /// Over which gates the percentile is taken: the token's own, or all of the batch.
    percentile_scope: Scope = Scope::Token, "\"token\" or \"batch\"";
    /// The percentile above which experts are active.
    tau: f64 = 0.7, "from 0 to 1" if (0.0..=1.0).contains(&tau);
    /// Temperature of the weights over the active experts.
    temperature: f64 = 0.5, "above 0" if is_above_0(temperature);
    /// Standard deviation of the noise on the gates in training.
    noise: f64 = 0.1, "0 or more" if is_0_or_more(noise);
}

/// Weight of the past in the running threshold.
const MOMENTUM: f64 = 0.9;

impl RouterSettings for Settings {
    type Router<F: Elem> = Percentile<F>;

    const ABOUT: About = About {
        chooses: "experts above the `tau` percentile of the gates, of the token or of the batch",
        source: "Gülmez, DynaMoE",
    };
    const NEAR_TWO: &'static [&'static str] = &["tau=0.75"];

    fn rule(&self) -> Rule {
        let tau = self.tau;
        match self.percentile_scope {
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

    fn cost(&self, layer: Layer) -> Cost {
        let k = match self.percentile_scope {
            Scope::Token => select::token_scope_k(layer.experts, self.tau) as f64,
            Scope::Batch => ((1.0 - self.tau) * layer.experts as f64).max(1.0),
        };
        Cost::linear(layer, k)
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> Percentile<F> {
        Percentile {
            gate: Linear::new(layer.width, layer.experts, init),
            threshold: (self.percentile_scope == Scope::Batch).then_some(f64::NAN),
            fixed: None,
            settings: *self,
            layer: layer.number,
            weights,
        }
    }
}

/// A percentile router.
#[derive(Clone, Debug)]
pub struct Percentile<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    /// Batch scope: running average of the batch thresholds, NaN before the first batch.
    pub threshold: Option<f64>,
    /// A number of experts for every token in place of the rule.
    fixed: Option<usize>,
    settings: Settings,
    /// The layer's number, which addresses its noise.
    layer: usize,
    weights: Weights,
}

impl<F: Elem> Router<F> for Percentile<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let (value, tau) = (logits.value(), self.settings.tau);
        let (shape, experts) = (value.shape(), self.gate.b.value.len());
        let running = self.threshold.filter(|running| phase == Phase::Eval && !running.is_nan());
        // At inference before any training, and where there are no tokens, there is no threshold.
        let by_threshold = self.settings.percentile_scope == Scope::Batch
            && (running.is_some() || phase != Phase::Eval)
            && !value.is_empty()
            && self.fixed.is_none();
        let by_rank = || self.fixed.unwrap_or_else(|| select::token_scope_k(experts, tau));
        let k = (!by_threshold).then(by_rank);
        let (mut probabilities, mut gates) = (arr::uninit(shape), arr::uninit(shape));
        let mut mask = vec![false; value.len()];
        let out = gate::Gates {
            probabilities: arr::data_mut(&mut probabilities),
            gates: arr::data_mut(&mut gates),
            mask: &mut mask,
        };
        gate::gate(arr::data(&value), experts, self.noise(phase), k, out);
        let threshold = by_threshold.then(|| {
            let gates = arr::data(&gates);
            let threshold = running.map_or_else(|| select::percentile(gates, tau), F::of);
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

    /// Updates the running average with a training batch's threshold.
    fn absorb(&mut self, usage: &Usage) {
        let (Some(running), Some(threshold)) = (&mut self.threshold, usage.threshold) else { return };
        *running =
            if running.is_nan() { threshold } else { MOMENTUM * *running + (1.0 - MOMENTUM) * threshold };
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

module!(Percentile { gate, threshold; fixed, settings, layer, weights });
