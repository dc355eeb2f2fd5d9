//! What each image of a split was like for the network: how hard it was, and which experts it got.

use std::collections::BTreeSet;

use crate::arr;
use crate::error::Result;
use crate::nn::{Model, Phase};
use crate::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use crate::tape::{Mode, Tape};
use crate::train::Examples;

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its class.
    pub class: usize,
    /// Cross-entropy of the network's answer.
    pub loss: f64,
    /// The logit of its class less the largest of the others: below zero where the answer is wrong.
    pub margin: f64,
    /// The experts it got in each layer, rising.
    pub experts: Vec<Vec<u16>>,
}

impl Token {
    /// How many experts it got, over all layers.
    pub fn k(&self) -> usize {
        self.experts.iter().map(Vec::len).sum()
    }
}

/// Looks at every image of a split.
///
/// # Errors
/// Examples of another kind or size than the model takes.
pub fn observe(model: &Model<f32>, examples: Examples) -> Result<Vec<Token>> {
    let mut tokens = Vec::with_capacity(examples.len());
    for (feed, targets) in examples.batches() {
        let tape = Tape::new(Mode::Infer);
        let (h, layers) = model.hidden(&tape, &feed, Phase::Eval)?;
        let (logits, classes) = (model.logits(h)?.value(), model.spec().classes);
        for (t, (row, &class)) in arr::data(&logits).chunks_exact(classes).zip(&targets).enumerate() {
            let class = class as usize;
            let others = row.iter().enumerate().filter(|(c, _)| *c != class).map(|(_, &v)| v);
            let margin = f64::from(row[class]) - f64::from(others.fold(f32::NEG_INFINITY, f32::max));
            let one = tape.constant(arr::from_vec(&[1, classes], row.to_vec()));
            let loss = tape.apply(SoftmaxCrossEntropy { targets: [class as u32].into() }, [one])?.item();
            let experts = layers.iter().map(|layer| layer.routes.experts_of(t)).collect();
            tokens.push(Token { class, loss: loss.into(), margin, experts });
        }
    }
    Ok(tokens)
}

/// The different sets of experts that tokens got in layer `layer`.
pub fn patterns(tokens: &[Token], layer: usize) -> BTreeSet<&[u16]> {
    tokens.iter().map(|token| &token.experts[layer][..]).collect()
}

/// How many tokens of each class each expert of layer `layer` served: a row for each class.
pub fn by_class(tokens: &[Token], layer: usize, classes: usize, experts: usize) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; experts]; classes];
    for token in tokens {
        token.experts[layer].iter().for_each(|&e| counts[token.class][usize::from(e)] += 1);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers};
    use crate::data::{self, Dataset};
    use crate::train::{Learner, evaluate::evaluate};

    #[test]
    fn tokens_agree_with_the_evaluation_of_the_whole_split() {
        let set =
            ["layers=2", "width=16", "experts_max=4", "percentile_scope=batch"].map(String::from).to_vec();
        let config = Config::resolve(&Layers { set, ..Layers::default() }).unwrap();
        let data = Dataset::from(data::load("digits", None).unwrap());
        let mut learner = Learner::new(&config, &data).unwrap();
        (0..60).for_each(|_| drop(learner.step(None).unwrap()));
        let tokens = observe(&learner.model, learner.test()).unwrap();
        let (scores, layers) = evaluate(&learner.model, learner.test()).unwrap();
        let count = tokens.len() as f64;
        let loss = tokens.iter().map(|t| t.loss).sum::<f64>() / count;
        approx::assert_relative_eq!(loss, scores.test_loss, max_relative = 1e-5);
        let right = tokens.iter().filter(|t| t.margin > 0.0).count() as f64 / count;
        assert_eq!(right, scores.test_accuracy);
        for (l, layer) in layers.iter().enumerate() {
            let k = tokens.iter().map(|t| t.experts[l].len()).sum::<usize>() as f64 / count;
            assert_eq!(k, layer.mean_active);
            let served = by_class(&tokens, l, 10, layer.experts);
            let all: u64 = served.iter().flatten().sum();
            for e in 0..layer.experts {
                let share = served.iter().map(|row| row[e]).sum::<u64>() as f64 / all as f64;
                assert_eq!(share, layer.usage[e]);
            }
        }
        let seen = patterns(&tokens, 0);
        assert!(
            seen.len() > 1 && seen.len() <= 15 && seen.iter().all(|set| set.is_sorted() && !set.is_empty())
        );
    }
}
