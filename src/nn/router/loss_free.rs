//! Loss-free balancing: a bias on each expert's score, moved against its use, takes the place of a loss.
//!
//! `s = sigmoid(W x + b)`; chosen are the k largest of `s_i + c_i`; `y = sum of s_i E_i(x)` over these: the
//! biases `c` decide who is chosen but have no part in the weights, and no gradient. After each training batch
//! `c_i += 0.001 sign(mean count - count_i)`. (Wang et al., Auxiliary-Loss-Free Load Balancing Strategy for
//! Mixture-of-Experts, section 3.)

use super::losses::Weights;
use super::{Cost, Layer, Router, Routing, Rule, Settings, keep, log_sigmoid, normalized};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, select};
use crate::engine::tape::Var;
use crate::nn::Phase;
use crate::nn::linear::Linear;
use crate::nn::moe::Usage;
use crate::nn::param::{Init, Module, Visitor};

/// A loss-free router.
#[derive(Clone, Debug)]
pub struct LossFree<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    /// What is added to each expert's scores for the choice.
    pub biases: Vec<f64>,
    k: usize,
    weights: Weights,
}

/// Experts per token unless set.
const K: usize = 2;
/// How far a bias moves after a batch.
const RATE: f64 = 0.001;

impl<F: Elem> Router<F> for LossFree<F> {
    fn rule(settings: &Settings) -> Rule {
        let k = settings.k.or(K);
        Rule::of_each_token(format!("loss-free balancing, k {k} (the same for every token)"))
    }

    fn cost(settings: &Settings, layer: Layer) -> Cost {
        Cost::linear(layer, settings.k.or(K).min(layer.experts) as f64)
    }

    fn new(settings: &Settings, layer: Layer, init: &mut Init) -> LossFree<F> {
        LossFree {
            gate: Linear::new(layer.width, layer.experts, init),
            biases: vec![0.0; layer.experts],
            k: settings.k.or(K).min(layer.experts),
            weights: Weights::new(settings, Weights::default()),
        }
    }

    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let scores = logits.sigmoid();
        let value = scores.value();
        let experts = self.biases.len();
        let biases = self.biases.iter().map(|&b| F::of(b)).cycle();
        let biased: Vec<F> = arr::data(&value).iter().zip(biases).map(|(&s, b)| s + b).collect();
        let mut mask = vec![false; biased.len()];
        select::top_k(&biased, experts, self.k, &mut mask);
        let losses = self.weights.losses(|| log_sigmoid(logits), &mask, phase);
        Ok(Routing { losses, ..Routing::new(keep(scores, &mask), &mask, normalized(&value)) })
    }

    fn absorb(&mut self, usage: &Usage) {
        let mean = usage.counts.iter().sum::<u64>() as f64 / self.biases.len() as f64;
        for (bias, &count) in self.biases.iter_mut().zip(&usage.counts) {
            let under = mean - count as f64;
            *bias += if under == 0.0 { 0.0 } else { RATE.copysign(under) };
        }
    }
}

impl<F: Elem> Module<F> for LossFree<F> {
    fn visit(&mut self, v: &mut Visitor<'_, F>) {
        let LossFree { gate, biases, k: _, weights: _ } = self;
        v.child("gate", gate);
        v.states("bias", biases);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_move_against_the_use_by_one_step() {
        let layer = Layer { number: 0, width: 4, experts: 3 };
        let mut router = LossFree::<f64>::new(&Settings::DEFAULT, layer, &mut Init::new(1));
        router.absorb(&Usage { counts: vec![9, 0, 3], ..Usage::default() });
        router.absorb(&Usage { counts: vec![4, 4, 4], ..Usage::default() });
        assert_eq!(router.biases, [-RATE, RATE, RATE]);
    }
}
