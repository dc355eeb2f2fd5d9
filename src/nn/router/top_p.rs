//! Top-p routing: the fewest experts whose probabilities together reach a given mass.
//!
//! `P = softmax(W x + b)`; in falling order of P (of equal ones the lower index first), k is the least number
//! with `P_(1) + .. + P_(k) >= p`; `y = sum of P_i E_i(x)` over these k, not renormalized. A confident router takes one
//! expert, an uncertain one many. Balance loss 1e-2, entropy loss ("dynamic", so that it does not choose all of them)
//! 1e-4. (Huang et al., Harder Tasks Need More Experts: More Dynamic Routing in MoE Models, its dynamic routing.)

use super::gates::keep;
use super::prelude::*;

settings! {
    /// The probability that the chosen experts must reach together.
    mass: f64 = 0.4, "above 0, at most 1" if mass > 0.0 && mass <= 1.0;
}

impl RouterSettings for Settings {
    type Router<F: Elem> = TopP<F>;

    const ABOUT: About = About {
        chooses: "the fewest that reach a probability of `mass`",
        source: "Huang et al., Harder Tasks Need More Experts",
    };
    const LOSSES: Option<Weights> = Some(Weights { balance: 1e-2, entropy: 1e-4, ..Weights::NONE });
    const NEAR_TWO: &'static [&'static str] = &["mass=0.25"];

    fn rule(&self) -> Rule {
        Rule { varies: true, ..Rule::of_each_token(format!("top-p, mass {}", self.mass)) }
    }

    /// The largest possible mean k: that of equal probabilities.
    fn cost(&self, layer: Layer) -> Cost {
        Cost::linear(layer, (self.mass * layer.experts as f64 - 1e-9).ceil().max(1.0))
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> TopP<F> {
        let gate = Linear::new(layer.width, layer.experts, init);
        TopP { gate, mass: self.mass, fixed: None, weights }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { sum: Sum::AtMostOne, tied: [3; 3], ..Expect::default() }
    }
}

/// A top-p router.
#[derive(Clone, Debug)]
pub struct TopP<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    mass: f64,
    /// A number of experts for every token in place of the rule.
    fixed: Option<usize>,
    weights: Weights,
}

impl<F: Elem> Router<F> for TopP<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let logits = self.gate.forward(x)?;
        let p = logits.softmax();
        let value = p.value();
        let experts = value.shape()[1];
        let mut mask = vec![false; value.len()];
        match self.fixed {
            Some(k) => select::top_k(arr::data(&value), experts, k, &mut mask),
            None => {
                let rows = arr::data(&value).chunks_exact(experts).zip(mask.chunks_exact_mut(experts));
                rows.for_each(|(p, mask)| reach(p, F::of(self.mass), mask));
            }
        }
        let losses = self.weights.losses(|| logits, &mask, phase);
        Ok(Routing { losses, ..Routing::new(keep(p, &mask), &mask, value) })
    }

    fn fix(&mut self, k: usize) -> bool {
        self.fixed = Some(k.clamp(1, self.gate.b.value.len()));
        true
    }
}

/// Marks the largest of `p`, of equal ones the first, until their sum reaches `mass` (or all are marked).
fn reach<F: Elem>(p: &[F], mass: F, mask: &mut [bool]) {
    let mut sum = F::zero();
    for _ in 0..p.len() {
        let left = (0..p.len()).filter(|&i| !mask[i]);
        let Some(next) = left.reduce(|best, i| if p[i] > p[best] { i } else { best }) else { return };
        mask[next] = true;
        sum += p[next];
        if sum >= mass {
            return;
        }
    }
}

module!(TopP { gate; mass, fixed, weights });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_that_reach_the_mass_and_ties_go_to_the_first() {
        for (p, mass, expected) in [
            ([0.1, 0.4, 0.3, 0.2], 0.4, [false, true, false, false]),
            ([0.1, 0.4, 0.3, 0.2], 0.41, [false, true, true, false]),
            ([0.25; 4], 0.5, [true, true, false, false]),
            // Rounding may keep the sum below 1.
            ([0.25, 0.25, 0.25, 0.2499], 1.0, [true; 4]),
        ] {
            let mut mask = [false; 4];
            reach(&p, mass, &mut mask);
            assert_eq!(mask, expected);
        }
    }
}
