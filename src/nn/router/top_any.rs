//! Top-any routing: every expert whose similarity to the token exceeds the expert's own learned threshold.
//!
//! `s_i = sigmoid(lambda cos(x, w_i))`; expert i is active where `s_i > sigmoid(lambda G_i)`; `y` is the mean of
//! the active experts' outputs; where none is active the one with the largest `s_i` is. `lambda` is 2, thresholds
//! `G` start at 0: a right angle. Being active, 0 or 1, passes its gradient to `s_i - sigmoid(lambda G_i)`
//! as if it were that difference (straight-through); the number of active experts counts as a constant.
//!
//! Losses: diversity, the Frobenius norm of `W^T W - I`, keeps directions `w_i` apart; simplicity, the mean of the
//! norms of `w_i`, keeps them short. (Guo et al., Dynamic Mixture of Experts: An Auto-Tuning Approach for
//! Efficient Transformer Models, section 3. That lambda is 2 and both losses have weight 1 is ours.)

use super::gates::{log_sigmoid, normalized, ones, straight_through};
use super::losses::Losses;
use super::prelude::*;
use crate::engine::arr::Arr;
use crate::nn::param::Param;

settings! {
    /// Factor on the diversity loss and the simplicity loss; 0 switches them off.
    own_losses: f64 = 1.0, "0 or more" if is_0_or_more(own_losses);
}

/// lambda.
const SCALE: f64 = 2.0;
/// Added under roots, for tokens and directions of zeros.
const TINY: f64 = 1e-12;

impl RouterSettings for Settings {
    type Router<F: Elem> = TopAny<F>;

    const ABOUT: About = About {
        chooses: "experts whose similarity exceeds their own threshold",
        source: "Guo et al., Dynamic Mixture of Experts",
    };

    fn rule(&self) -> Rule {
        let line = "top-any: experts above their own learned thresholds, at least one".into();
        Rule { varies: true, ..Rule::of_each_token(line) }
    }

    /// Initially about half of the experts are on a token's side.
    fn cost(&self, layer: Layer) -> Cost {
        let Layer { width: d, experts: e, .. } = layer;
        let flops = 2.0 * (d * e + d) as f64;
        Cost { k: (e as f64 / 2.0).max(1.0), parameters: (d + 1) * e, flops }
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> TopAny<F> {
        TopAny {
            directions: Param::uniform(&[layer.width, layer.experts], layer.width, init),
            thresholds: Param::full(&[layer.experts], 0.0),
            weights,
            own_weight: self.own_losses,
        }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect {
            tied: [1; 3],
            losses: &["diversity", "simplicity"],
            straight_through: true,
            ..Expect::default()
        }
    }
}

/// A top-any router.
#[derive(Clone, Debug)]
pub struct TopAny<F> {
    /// The experts' directions w, (d, E).
    pub directions: Param<F>,
    /// The experts' thresholds G, (E).
    pub thresholds: Param<F>,
    weights: Weights,
    /// Of the diversity loss and of the simplicity loss.
    own_weight: f64,
}

/// Which experts are active.
struct Choice<F> {
    mask: Vec<bool>,
    /// 1 where active, (T, E).
    active: Arr<F>,
    /// Scores minus thresholds, (T, E).
    margins: Arr<F>,
}

/// The inputs of the choice.
struct Scores<'t, F: Elem> {
    /// `lambda cos(x, w_i)`, (T, E).
    logits: Var<'t, F>,
    /// Its sigmoid, s.
    scores: Var<'t, F>,
    /// `s_i - sigmoid(lambda G_i)`.
    margins: Var<'t, F>,
}

impl<F: Elem> Router<F> for TopAny<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let scores = self.scores(x);
        let choice = choose(&scores);
        let gates = weigh(&scores, &choice);
        let losses = self.losses(&scores, &choice, phase);
        let probabilities = normalized(&scores.scores.value());
        Ok(Routing { losses, ..Routing::new(gates, &choice.mask, probabilities) })
    }
}

impl<F: Elem> TopAny<F> {
    fn scores<'t>(&self, x: Var<'t, F>) -> Scores<'t, F> {
        let (tape, tokens) = (x.tape(), x.shape()[0]);
        let (w, thresholds) = (self.directions.on(tape), self.thresholds.on(tape));
        let cos = x.matmul(w).div(norms(x, 1).reshape(&[tokens, 1])).div(norms(w, 0));
        let logits = cos.scale(SCALE);
        let scores = logits.sigmoid();
        Scores { logits, scores, margins: scores.sub(thresholds.scale(SCALE).sigmoid()) }
    }

    fn losses<'t>(&self, scores: &Scores<'t, F>, choice: &Choice<F>, phase: Phase) -> Losses<'t, F> {
        let mut losses = self.weights.losses(|| log_sigmoid(scores.logits), &choice.mask, phase);
        if self.own_weight > 0.0 && phase != Phase::Eval {
            let w = self.directions.on(scores.logits.tape());
            let experts = w.shape()[1];
            let mut one = arr::zeros(&[experts, experts]);
            arr::data_mut(&mut one).iter_mut().step_by(experts + 1).for_each(|v| *v = F::one());
            let apart = w.transpose(0, 1).matmul(w).sub(w.tape().constant(one));
            let diversity = apart.powi(2).sum().shift(TINY).sqrt();
            losses.push(("diversity", diversity.scale(self.own_weight)));
            losses.push(("simplicity", norms(w, 0).mean().scale(self.own_weight)));
        }
        losses
    }
}

/// The norms of `x` along an axis.
fn norms<F: Elem>(x: Var<'_, F>, axis: usize) -> Var<'_, F> {
    x.powi(2).sum_axes(&[axis]).shift(TINY).sqrt()
}

fn choose<F: Elem>(scores: &Scores<F>) -> Choice<F> {
    let (margins, scores) = (scores.margins.value(), scores.scores.value());
    let experts = scores.shape()[1];
    let mut mask: Vec<bool> = arr::data(&margins).iter().map(|&margin| margin > F::zero()).collect();
    for (mask, scores) in mask.chunks_exact_mut(experts).zip(arr::data(&scores).chunks_exact(experts)) {
        if !mask.contains(&true) {
            mask[select::argmax(scores)] = true;
        }
    }
    Choice { active: ones(scores.shape(), &mask), mask, margins }
}

/// Each active expert's part of the mean.
fn weigh<'t, F: Elem>(scores: &Scores<'t, F>, choice: &Choice<F>) -> Var<'t, F> {
    let shape = choice.active.shape();
    let share = |row: &[bool]| F::of(1.0 / row.iter().filter(|&&active| active).count() as f64);
    let shares = arr::from_vec(&[shape[0], 1], choice.mask.chunks_exact(shape[1]).map(share).collect());
    straight_through(scores.margins, &choice.margins, &choice.active)
        .mul(scores.margins.tape().constant(shares))
}

module!(TopAny { directions, thresholds; weights, own_weight });

#[cfg(test)]
mod tests;
