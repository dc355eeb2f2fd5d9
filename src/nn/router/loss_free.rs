//! Loss-free balancing: a bias on each expert's score, moved against its use, replaces the loss.
//!
//! `s = sigmoid(W x + b)`; chosen are the k largest of `s_i + c_i`; `y = sum of s_i E_i(x)` over these: the
//! biases `c` affect the choice only: not the weights, and they have no gradient. After each training batch
//! `c_i += 0.001 sign(mean count - count_i)`. (Wang et al., Auxiliary-Loss-Free Load Balancing Strategy for
//! Mixture-of-Experts, section 3.)

use super::gates::{keep, log_sigmoid, normalized};
use super::prelude::*;

settings! {
    /// Experts per token, 2 unless set. A layer with fewer uses all it has.
    k: OrAuto<usize> = OrAuto::AUTO, "\"auto\", or 1 to 4096" if (1..=4096).contains(&k.or(1));
}

/// Experts per token unless set.
const K: usize = 2;
/// Change of a bias after a batch.
const RATE: f64 = 0.001;

impl RouterSettings for Settings {
    type Router<F: Elem> = LossFree<F>;

    const ABOUT: About = About {
        chooses: "the `k` largest scores plus biases",
        source: "Wang et al., Auxiliary-Loss-Free Load Balancing",
    };
    const NEAR_TWO: &'static [&'static str] = &["k=2"];

    fn rule(&self) -> Rule {
        let k = self.k.or(K);
        Rule::of_each_token(format!("loss-free balancing, k {k} (the same for every token)"))
    }

    fn cost(&self, layer: Layer) -> Cost {
        Cost::linear(layer, self.k.or(K).min(layer.experts) as f64)
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> LossFree<F> {
        LossFree {
            gate: Linear::new(layer.width, layer.experts, init),
            biases: vec![0.0; layer.experts],
            k: self.k.or(K).min(layer.experts),
            weights,
        }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect { sum: Sum::AtMostK, ..Expect::default() }
    }
}

/// A loss-free router.
#[derive(Clone, Debug)]
pub struct LossFree<F> {
    /// From tokens to logits, one per expert.
    pub gate: Linear<F>,
    /// Added to each expert's scores for the choice.
    pub biases: Vec<f64>,
    k: usize,
    weights: Weights,
}

impl<F: Elem> Router<F> for LossFree<F> {
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

module!(LossFree { gate, biases as "bias"; k, weights });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_move_against_the_use_by_one_step() {
        let layer = Layer { number: 0, width: 4, experts: 3 };
        let mut router = Settings::default().build::<f64>(layer, Weights::NONE, &mut Init::new(1));
        router.absorb(&Usage { counts: vec![9, 0, 3], ..Usage::default() });
        router.absorb(&Usage { counts: vec![4, 4, 4], ..Usage::default() });
        assert_eq!(router.biases, [-RATE, RATE, RATE]);
    }
}
