//! Expert choice: experts choose tokens, so that all have the same load.
//!
//! `p = softmax(W x + b)` for each token; each expert takes the `floor(c T / E)` tokens (at least one, at most
//! all) with its largest `p`, the first of equal ones; `y = sum of p_i E_i(x)` over the experts that took the
//! token, which may be none. `c` is `capacity_factor`, 2 unless set: the mean number of experts per token.
//! (Zhou et al., Mixture-of-Experts with Expert Choice Routing, section 3.)
//!
//! It looks across the batch, in training and at inference: a token's result depends on all others, later ones
//! too. It is not causal, so it cannot be used for language modelling, and it means little for a single token.

use super::capacity::capacity;
use super::gates::keep;
use super::prelude::*;

settings! {
    /// Mean number of experts per token, 2 unless set.
    capacity_factor: OrAuto<f64> = OrAuto::AUTO, "\"auto\", or a number above 0" if is_above_0(capacity_factor.or(1.0));
}

/// Mean number of experts per token unless set.
const FACTOR: f64 = 2.0;

impl RouterSettings for Settings {
    type Router<F: Elem> = ExpertChoice<F>;

    const ABOUT: About =
        About { chooses: "each expert takes its best tokens", source: "Zhou et al., Expert Choice Routing" };

    fn rule(&self) -> Rule {
        let factor = self.capacity_factor.or(FACTOR);
        let line = format!("expert choice: each expert takes its {factor} T/E best tokens of a batch of T");
        Rule { line, varies: true, training: Sees::All, inference: Sees::All }
    }

    fn cost(&self, layer: Layer) -> Cost {
        Cost::linear(layer, self.capacity_factor.or(FACTOR).min(layer.experts as f64))
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> ExpertChoice<F> {
        ExpertChoice {
            gate: Linear::new(layer.width, layer.experts, init),
            capacity_factor: self.capacity_factor.or(FACTOR),
            weights,
        }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { at_least_one: false, sum: Sum::AtMostOne, tied: [6, 0, 0], ..Expect::default() }
    }
}

/// An expert-choice router.
#[derive(Clone, Debug)]
pub struct ExpertChoice<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    capacity_factor: f64,
    weights: Weights,
}

impl<F: Elem> Router<F> for ExpertChoice<F> {
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

module!(ExpertChoice { gate; capacity_factor, weights });
