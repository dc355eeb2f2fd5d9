//! Expert choice: experts choose tokens, so that all have equally much to do.
//!
//! `p = softmax(W x + b)` for each token; each expert takes the `floor(c T / E)` tokens (at least one, at most
//! all) with its largest `p`, of equal ones the first; `y = sum of p_i E_i(x)` over the experts that took the
//! token, which may be none. `c` is `capacity_factor`, 2 unless set: the mean number of experts per token.
//! (Zhou et al., Mixture-of-Experts with Expert Choice Routing, section 3.)
//!
//! It looks across the batch, in training and at inference: a token's result depends on all others, later ones
//! too. It is not causal and not meant for generating text, and for a single token it means little.

use super::capacity::capacity;
use super::losses::Weights;
use super::{Cost, Layer, Router, Routing, Rule, Sees, Settings, keep};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::Var;
use crate::nn::Phase;
use crate::nn::linear::Linear;
use crate::nn::param::{Init, Module, Visitor};

/// An expert-choice router.
#[derive(Clone, Debug)]
pub struct ExpertChoice<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    capacity_factor: f64,
    weights: Weights,
}

/// Mean number of experts per token unless set.
const FACTOR: f64 = 2.0;

impl<F: Elem> Router<F> for ExpertChoice<F> {
    fn rule(settings: &Settings) -> Rule {
        let factor = settings.capacity_factor.or(FACTOR);
        let line = format!("expert choice: each expert takes its {factor} T/E best tokens of a batch of T");
        Rule { line, varies: true, training: Sees::All, inference: Sees::All }
    }

    fn cost(settings: &Settings, layer: Layer) -> Cost {
        Cost::linear(layer, settings.capacity_factor.or(FACTOR).min(layer.experts as f64))
    }

    fn new(settings: &Settings, layer: Layer, init: &mut Init) -> ExpertChoice<F> {
        ExpertChoice {
            gate: Linear::new(layer.width, layer.experts, init),
            capacity_factor: settings.capacity_factor.or(FACTOR),
            weights: Weights::new(settings, Weights::default()),
        }
    }

    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let p = logits.softmax();
        let value = p.value();
        let (tokens, experts) = (value.shape()[0], value.shape()[1]);
        let take = capacity(self.capacity_factor, tokens, experts).min(tokens);
        let (mut mask, mut order) = (vec![false; value.len()], Vec::new());
        for e in 0..experts {
            let score = |token: usize| arr::data(&value)[token * experts + e].f64();
            order.clear();
            order.extend(0..tokens);
            if take < tokens {
                order.select_nth_unstable_by(take, |&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
            }
            order[..take].iter().for_each(|token| mask[token * experts + e] = true);
        }
        let losses = self.weights.losses(|| logits, &mask, phase);
        Ok(Routing { losses, ..Routing::new(keep(p, &mask), &mask, value) })
    }
}

impl<F: Elem> Module<F> for ExpertChoice<F> {
    fn visit(&mut self, v: &mut Visitor<'_, F>) {
        let ExpertChoice { gate, capacity_factor: _, weights: _ } = self;
        v.child("gate", gate);
    }
}
