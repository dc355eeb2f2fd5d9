//! Learned k: an auxiliary network says how many experts a token gets, and which.
//!
//! `z = GELU(W_1 LN(x) + b_1)`, 256 wide; `p = softmax(W_r z + b_r)` over the experts; `pi = softmax(W_k z + b_k)`
//! over the counts 2, 4, 6, 8. A layer with fewer experts than the count uses all of them.
//!
//! At inference k is the count with the largest pi, and the k experts with the largest p share the token,
//! weighted by p divided by its sum over them. In training the count is drawn: `u = softmax((ln pi + n) / theta)`
//! with Gumbel noise n; c is 1 at the largest of u and 0 elsewhere, and passes its gradient to u
//! (straight-through). `t_j = sum over m >= j of c_m` says whether the j-th pair of experts takes part: the expert of rank r
//! is weighted by `p t_ceil(r/2)`, divided by the sum of these. So the first eight all run, also those with
//! weight 0.
//!
//! Losses: balance 0.01 and z 0.001 (see [`super::losses`]); count, `0.1 (mean of E[pi] / k* - 1)^2`, holds the
//! mean k near the target k*; variety, `-lambda H(mean of pi)`, keeps all counts in use at first. Over the first
//! `anneal_steps` steps theta falls from 2 to 0.5 and lambda from 0.01 to 0, linearly. (Zhang, Sharma
//! and Sato, Sparse MoE Transformers with Dynamic Routing; how it is trained is ours.)

use super::gates::{keep, ranks, straight_through};
use super::losses::Losses;
use super::prelude::*;
use crate::engine::arr::Arr;
use crate::engine::ops::softmax::probabilities;
use crate::nn::norm::LayerNorm;

settings! {
    /// Mean number of experts per token to aim at.
    target_k: f64 = 2.58, "1 or more" if target_k.is_finite() && target_k >= 1.0;
    /// Steps over which it anneals from trying all counts to deciding.
    anneal_steps: u64 = 1000, "a whole number, 0 or more";
    /// Factor on the count loss and the variety loss; 0 switches them off.
    own_losses: f64 = 1.0, "0 or more" if is_0_or_more(own_losses);
}

/// Width of z.
const HIDDEN: usize = 256;
/// How many experts a token may get.
const COUNTS: [usize; 4] = [2, 4, 6, 8];
/// Experts that are added together.
const PAIR: usize = 2;
const TEMPERATURES: (f64, f64) = (2.0, 0.5);
const COUNT_WEIGHT: f64 = 0.1;
const VARIETY_WEIGHT: f64 = 0.01;

impl RouterSettings for Settings {
    type Router<F: Elem> = LearnedK<F>;

    const ABOUT: About = About {
        chooses: "a network of its own picks 2, 4, 6 or 8",
        source: "Zhang, Sharma and Sato, Sparse MoE Transformers",
    };
    const LOSSES: Option<Weights> = Some(Weights { balance: 0.01, z: 1e-3, ..Weights::NONE });

    fn rule(&self) -> Rule {
        let line = format!("learned k: a network of its own picks 2, 4, 6 or 8, aiming at {}", self.target_k);
        Rule { varies: true, ..Rule::of_each_token(line) }
    }

    fn cost(&self, layer: Layer) -> Cost {
        let Layer { width: d, experts: e, .. } = layer;
        let heads = e + COUNTS.len();
        Cost {
            k: self.target_k.max(counts(e)[0] as f64).min(e as f64),
            parameters: 2 * d + (d + 1) * HIDDEN + (HIDDEN + 1) * heads,
            flops: 2.0 * (d * HIDDEN + HIDDEN * heads) as f64,
        }
    }

    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> LearnedK<F> {
        LearnedK {
            norm: LayerNorm::new(layer.width),
            hidden: Linear::new(layer.width, HIDDEN, init),
            gate: Linear::new(HIDDEN, layer.experts, init),
            count: Linear::new(HIDDEN, COUNTS.len(), init),
            // The mean cannot exceed the number of experts.
            target: self.target_k.min(layer.experts as f64),
            anneal_steps: self.anneal_steps,
            layer: layer.number,
            weights,
            own: self.own_losses,
        }
    }

    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect {
            losses: &["count", "variety"],
            runs_unused: true,
            straight_through: true,
            ..Expect::default()
        }
    }
}

/// A router that learns how many.
#[derive(Clone, Debug)]
pub struct LearnedK<F> {
    /// LN.
    pub norm: LayerNorm<F>,
    /// W_1, b_1.
    pub hidden: Linear<F>,
    /// W_r, b_r: one logit per expert.
    pub gate: Linear<F>,
    /// W_k, b_k: one logit per count.
    pub count: Linear<F>,
    target: f64,
    anneal_steps: u64,
    layer: usize,
    weights: Weights,
    /// Times this: the weights of the count loss and of the variety loss.
    own: f64,
}

/// The inputs of the choice.
struct Heads<'t, F: Elem> {
    /// (T, E).
    logits: Var<'t, F>,
    /// (T, 4).
    counts: Var<'t, F>,
}

/// Which experts run, and what is constant in their weights.
struct Choice<F> {
    /// Experts that run, (T, E).
    runs: Vec<bool>,
    /// Experts with a weight that is not 0, (T, E); the same at inference.
    chosen: Vec<bool>,
    /// In training: how the counts were drawn.
    drawn: Option<Drawn<F>>,
}

struct Drawn<F> {
    /// Gumbel noise, (T, 4).
    noise: Arr<F>,
    /// theta.
    temperature: f64,
    /// u and c, (T, 4).
    soft: Arr<F>,
    hard: Arr<F>,
    /// For each token and expert the index of its pair's t in (T, 4).
    pairs: Vec<u32>,
}

/// The counts in a layer of `experts`.
fn counts(experts: usize) -> [usize; COUNTS.len()] {
    COUNTS.map(|count| count.min(experts))
}

impl<F: Elem> Router<F> for LearnedK<F> {
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>> {
        let heads = self.heads(x)?;
        let choice = self.choose(&heads, phase);
        let gates = weigh(&heads, &choice);
        let losses = self.losses(&heads, &choice, phase);
        Ok(Routing { losses, ..Routing::new(gates, &choice.runs, probabilities(&heads.logits.value())) })
    }
}

impl<F: Elem> LearnedK<F> {
    fn heads<'t>(&self, x: Var<'t, F>) -> Result<Heads<'t, F>> {
        let z = self.hidden.forward(self.norm.forward(x)?)?.gelu();
        Ok(Heads { logits: self.gate.forward(z)?, counts: self.count.forward(z)? })
    }

    /// Progress of annealing, 0 to 1.
    fn annealed(&self, step: u64) -> f64 {
        (step as f64 / self.anneal_steps.max(1) as f64).min(1.0)
    }

    fn choose(&self, heads: &Heads<F>, phase: Phase) -> Choice<F> {
        let (logits, value) = (heads.logits.value(), heads.counts.value());
        let (tokens, experts) = (logits.shape()[0], logits.shape()[1]);
        let ranks = ranks(arr::data(&logits), experts);
        // Which of the counts each token gets, from numbers (T, 4).
        let pick = |x: &Arr<F>| -> Vec<usize> {
            arr::data(x).chunks_exact(COUNTS.len()).map(|row| select::argmax(row)).collect()
        };
        let among = |least: &dyn Fn(usize) -> usize| -> Vec<bool> {
            ranks.iter().enumerate().map(|(i, &rank)| rank < least(i / experts)).collect()
        };
        let Phase::Train { step, .. } = phase else {
            let picked = pick(&value);
            let chosen = among(&|token| COUNTS[picked[token]]);
            return Choice { runs: chosen.clone(), chosen, drawn: None };
        };
        let (first, last) = TEMPERATURES;
        let temperature = first + (last - first) * self.annealed(step);
        let noise = phase.stream(Purpose::Gumbel, self.layer).map_or_else(
            || arr::zeros(value.shape()),
            |stream| {
                let mut uniform = arr::uninit(value.shape());
                stream.unit(arr::data_mut(&mut uniform));
                arr::map(&uniform, |u: F| -(-u.ln()).ln())
            },
        );
        let tape = crate::Tape::new(crate::Mode::Infer);
        let soft = draw(tape.constant(value), &noise, temperature).value();
        let picked = pick(&soft);
        let mut hard = arr::zeros(&[tokens, COUNTS.len()]);
        for (row, &pick) in arr::data_mut(&mut hard).chunks_exact_mut(COUNTS.len()).zip(&picked) {
            row[pick] = F::one();
        }
        let most = COUNTS[COUNTS.len() - 1];
        let runs = among(&|_| most);
        let pair = |(i, &rank): (usize, &usize)| i / experts * COUNTS.len() + rank.min(most - 1) / PAIR;
        let pairs = ranks.iter().enumerate().map(|at| pair(at) as u32).collect();
        let drawn = Drawn { noise, temperature, soft, hard, pairs };
        Choice { runs, chosen: among(&|token| COUNTS[picked[token]]), drawn: Some(drawn) }
    }

    fn losses<'t>(&self, heads: &Heads<'t, F>, choice: &Choice<F>, phase: Phase) -> Losses<'t, F> {
        let mut losses = self.weights.losses(|| heads.logits, &choice.chosen, phase);
        let Phase::Train { step, .. } = phase else { return losses };
        if self.own == 0.0 || choice.runs.is_empty() {
            return losses;
        }
        let tape = heads.counts.tape();
        let mean = heads.counts.softmax().mean_axes(&[0]);
        let numbers = counts(heads.logits.shape()[1]).map(|count| F::of(count as f64 / self.target));
        let expected = mean.mul(tape.constant(arr::from_vec(&[COUNTS.len()], numbers.to_vec()))).sum();
        losses.push(("count", expected.shift(-1.0).powi(2).scale(COUNT_WEIGHT * self.own)));
        let variety = VARIETY_WEIGHT * self.own * (1.0 - self.annealed(step));
        if variety > 0.0 {
            // The small constant guards against a count without tokens.
            losses.push(("variety", mean.mul(mean.shift(1e-30).ln()).sum().scale(variety)));
        }
        losses
    }
}

/// u.
fn draw<'t, F: Elem>(counts: Var<'t, F>, noise: &Arr<F>, temperature: f64) -> Var<'t, F> {
    counts.log_softmax().add(counts.tape().constant(noise.clone())).scale(1.0 / temperature).softmax()
}

/// The weights of the experts that run.
fn weigh<'t, F: Elem>(heads: &Heads<'t, F>, choice: &Choice<F>) -> Var<'t, F> {
    let Some(Drawn { noise, temperature, soft, hard, pairs }) = &choice.drawn else {
        return heads.logits.masked_softmax(choice.chosen.as_slice().into());
    };
    let (tape, shape) = (heads.logits.tape(), heads.logits.shape());
    let counts = COUNTS.len();
    let c = straight_through(draw(heads.counts, noise, *temperature), soft, hard);
    // A pair takes part if its count or a higher one was drawn.
    let lower = (0..counts * counts).map(|i| if i / counts >= i % counts { F::one() } else { F::zero() });
    let t = c.matmul(tape.constant(arr::from_vec(&[counts, counts], lower.collect())));
    let t = t.reshape(&[shape[0] * counts, 1]).gather_rows(pairs).reshape(&shape);
    let weights = keep(heads.logits.softmax().mul(t), &choice.runs);
    weights.div(weights.sum_axes(&[1]).reshape(&[shape[0], 1]))
}

module!(LearnedK { norm, hidden, gate, count; target, anneal_steps, layer, weights, own });

#[cfg(test)]
mod tests;
