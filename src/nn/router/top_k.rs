//! Plain top-k routing: the k experts with the largest logits, weighted by a softmax over these.
//!
//! `S` = the k largest of `l = W x + b`; `y = sum over S of softmax_S(l)_i E_i(x)`. (Shazeer et al.,
//! Outrageously Large Neural Networks, section 2.1, without its noise.)

use super::prelude::*;
use crate::engine::ops::softmax::probabilities;

settings! {
    /// Experts per token, 2 unless set. A layer with fewer uses all it has.
    k: OrAuto<usize> = OrAuto::AUTO, "\"auto\", or 1 to 4096" if (1..=4096).contains(&k.or(1));
}

/// Experts per token unless set.
const K: usize = 2;

impl RouterSettings for Settings {
    type Router<F: Elem> = TopK<F>;

    const ABOUT: About =
        About { chooses: "the `k` largest logits", source: "Shazeer et al. 2017, without noise" };
    const NEAR_TWO: &'static [&'static str] = &["k=2"];

    fn rule(&self) -> Rule {
        Rule::of_each_token(format!("top-k, k {} (the same for every token)", self.k.or(K)))
    }

    fn cost(&self, layer: Layer) -> Cost {
        Cost::linear(layer, self.k.or(K).min(layer.experts) as f64)
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> TopK<F> {
        let gate = Linear::new(layer.width, layer.experts, init);
        TopK { gate, k: self.k.or(K).min(layer.experts), weights }
    }
}

/// A top-k router.
#[derive(Clone, Debug)]
pub struct TopK<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    k: usize,
    weights: Weights,
}

impl<F: Elem> Router<F> for TopK<F> {
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

module!(TopK { gate; k, weights });
