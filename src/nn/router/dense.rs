//! All experts for every token, weighted by a softmax: the reference for what routing saves.
//!
//! `y = sum_i softmax(W x + b)_i E_i(x)`. (Jacobs et al., Adaptive Mixtures of Local Experts, 1991.)

use super::prelude::*;

settings! {}

impl RouterSettings for Settings {
    type Router<F: Elem> = Dense<F>;

    const ABOUT: About =
        About { chooses: "all", source: "Jacobs et al. 1991, Adaptive Mixtures of Local Experts" };

    fn rule(&self) -> Rule {
        Rule::of_each_token("dense: all experts, weighted by a softmax".into())
    }

    fn cost(&self, layer: Layer) -> Cost {
        Cost::linear(layer, layer.experts as f64)
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> Dense<F> {
        Dense { gate: Linear::new(layer.width, layer.experts, init), weights }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { tied: [6; 3], ..Expect::default() }
    }
}

/// A router that leaves no expert out.
#[derive(Clone, Debug)]
pub struct Dense<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    weights: Weights,
}

impl<F: Elem> Router<F> for Dense<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let gates = logits.softmax();
        let probabilities = gates.value();
        let mask = vec![true; probabilities.len()];
        let losses = self.weights.losses(|| logits, &mask, phase);
        Ok(Routing { losses, ..Routing::new(gates, &mask, probabilities) })
    }
}

module!(Dense { gate; weights });
