//! Null experts: top-k over the experts and m that do nothing, so that the number of experts varies by token.
//!
//! `l = W x + b` over E experts and m null experts, `p = softmax(l)`; `S` = the k largest of `l`; `y = sum over the
//! real experts in S of p_i / P E_i(x)`, where `P` is the sum of `p` over these. A null expert costs nothing and
//! gives zero; a token whose k choices are all null has no expert, `y = 0`.
//!
//! Balance loss: `(E + m) sum_i f_i Q_i` over experts and null experts (see [`super::losses`]), where each null
//! expert counts with the mean `f` of all null experts: it evens out their total, not which of them is taken. At
//! an even load a token has `k E / (E + m)` experts on average, so k and m set the cost.
//!
//! (Zeng et al., AdaMoE: Token-Adaptive Routing with Null Experts, arXiv 2406.13233: rule, weights and loss. Ours:
//! m = E and k = 4 unless set, which aims at two experts on average; and 0.01, the weight of the loss.)

use super::prelude::*;
use crate::engine::ops::softmax::probabilities;

settings! {
    /// Choices per token among experts and null experts, 4 unless set. A layer with fewer of both uses all.
    k: OrAuto<usize> = OrAuto::AUTO, "\"auto\", or 1 to 4096" if (1..=4096).contains(&k.or(1));
    /// Null experts of a layer, as many as it has experts unless set.
    nulls: OrAuto<usize> = OrAuto::AUTO, "\"auto\", or 0 to 4096" if nulls.or(0) <= 4096;
}

/// Choices per token unless set.
const K: usize = 4;

impl RouterSettings for Settings {
    type Router<F: Elem> = NullExperts<F>;

    const ABOUT: About = About {
        chooses: "the real ones among the `k` largest logits of experts and `nulls` null experts; may be none",
        source: "Zeng et al., AdaMoE",
    };
    const LOSSES: Option<Weights> = Some(Weights { balance: 0.01, ..Weights::NONE });

    fn rule(&self) -> Rule {
        let nulls = match self.nulls {
            OrAuto::Auto(_) => "as many null experts as experts".into(),
            OrAuto::Set(m) => format!("{m} null experts"),
        };
        Rule { varies: true, ..Rule::of_each_token(format!("null experts: top-{}, {nulls}", self.k.or(K))) }
    }

    /// At an even load of experts and null experts.
    fn cost(&self, layer: Layer) -> Cost {
        let slots = layer.experts + self.nulls.or(layer.experts);
        let k = (self.k.or(K).min(slots) * layer.experts) as f64 / slots as f64;
        Cost::linear(Layer { experts: slots, ..layer }, k)
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> NullExperts<F> {
        let slots = layer.experts + self.nulls.or(layer.experts);
        let gate = Linear::new(layer.width, slots, init);
        NullExperts { gate, experts: layer.experts, k: self.k.or(K).min(slots), weights }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { at_least_one: false, tied: [self.k.or(K); 3], ..Expect::default() }
    }

    #[cfg(test)]
    fn variants() -> Vec<Settings> {
        let set = |k, nulls| Settings { k: OrAuto::Set(k), nulls: OrAuto::Set(nulls) };
        vec![Settings::default(), set(2, 5), set(3, 0)]
    }
}

/// A router with null experts.
#[derive(Clone, Debug)]
pub struct NullExperts<F> {
    /// From tokens to logits, one per expert and then one per null expert.
    pub gate: Linear<F>,
    experts: usize,
    k: usize,
    weights: Weights,
}

impl<F: Elem> Router<F> for NullExperts<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let value = logits.value();
        let (slots, experts) = (value.shape()[1], self.experts);
        let mut chosen = vec![false; value.len()];
        select::top_k(arr::data(&value), slots, self.k, &mut chosen);
        let losses = self.weights.losses_with(
            || logits,
            &chosen,
            phase,
            |shares| {
                let nulls = &mut shares[experts..];
                let mean = nulls.iter().sum::<f64>() / nulls.len() as f64;
                nulls.fill(mean);
            },
        );
        let mask: Vec<bool> = chosen.chunks_exact(slots).flat_map(|row| &row[..experts]).copied().collect();
        let real = logits.slice(1, 0..experts);
        let gates = real.masked_softmax(mask.as_slice().into());
        Ok(Routing { losses, ..Routing::new(gates, &mask, probabilities(&real.value())) })
    }
}

module!(NullExperts { gate; experts, k, weights });

#[cfg(test)]
mod tests;
