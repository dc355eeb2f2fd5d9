//! The loss, margin and experts of every image or token of a split.

use std::collections::BTreeSet;

use crate::data::{Encoding, Examples, TextEncoding};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::{simd::fast, softmax::log_sum_exp_row};
use crate::engine::tape::{Mode, Tape};
use crate::nn::{Feed, Model, Phase};

/// One image, or one token of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The class of the image, or the kind of the token.
    pub class: usize,
    /// Cross-entropy in nats.
    pub loss: f64,
    /// The target's logit minus the largest other logit: negative if the prediction is wrong.
    pub margin: f64,
    /// The active experts in each layer, in ascending order.
    pub experts: Vec<Vec<u16>>,
}

impl Token {
    /// The number of active experts, summed over layers.
    pub fn k(&self) -> usize {
        self.experts.iter().map(Vec::len).sum()
    }
}

/// The classes of images, or the kinds of tokens.
#[derive(Clone, Debug)]
pub struct Classes {
    /// Their names.
    pub names: Vec<String>,
    /// The kind of each token of a vocabulary; none for images, whose class is their target.
    of_token: Option<Vec<usize>>,
}

/// The kinds of tokens.
const KINDS: [&str; 6] = ["word start", "word continuation", "number", "punctuation", "white space", "other"];

impl Classes {
    /// Of what a network takes.
    pub fn of(input: &Encoding) -> Classes {
        match input {
            Encoding::Images(images) => Classes {
                names: (0..images.classes).map(|class| class.to_string()).collect(),
                of_token: None,
            },
            Encoding::Text(TextEncoding { tokenizer }) => {
                let kind = |id| kind(&String::from_utf8_lossy(&tokenizer.piece(id)));
                let of_token = Some((0..tokenizer.vocabulary() as u32).map(kind).collect());
                Classes { names: KINDS.map(String::from).into(), of_token }
            }
        }
    }
}

/// Which of [`KINDS`] a token is.
fn kind(piece: &str) -> usize {
    let rest = piece.trim_start();
    match rest.chars().next() {
        None => 4,
        Some(c) if c.is_numeric() => 2,
        Some(c) if c.is_alphabetic() => usize::from(rest.len() == piece.len()),
        Some(c) if c.is_ascii_punctuation() => 3,
        Some(_) => 5,
    }
}

/// The largest number of rows to observe.
const MOST: usize = 20_000;

/// Logits are computed for this many rows at a time.
const ROWS: usize = 256;

/// Observes the images of a split, or the tokens of its first sequences, until there are 20,000.
///
/// # Errors
/// Examples that do not fit the model.
pub fn observe(model: &Model<f32>, examples: &Examples, classes: &Classes) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    for (feed, targets) in examples.batches() {
        if tokens.len() >= MOST {
            break;
        }
        let tape = Tape::new(Mode::Infer);
        let (h, layers) = model.hidden(&tape, &feed, Phase::Eval)?;
        let width = model.spec().classes;
        for (part, some) in targets.chunks(ROWS).enumerate() {
            let first = part * ROWS;
            let logits = model.logits(h.slice(0, first..first + some.len()))?.value();
            for (t, (row, &target)) in arr::data(&logits).chunks_exact(width).zip(some).enumerate() {
                let others = row.iter().enumerate().filter(|(c, _)| *c != target as usize).map(|(_, &v)| v);
                let margin =
                    f64::from(row[target as usize]) - f64::from(others.fold(f32::NEG_INFINITY, f32::max));
                let loss = fast::<f32, _>(
                    #[inline(always)]
                    || log_sum_exp_row(row) - row[target as usize],
                );
                let experts = layers.iter().map(|layer| layer.routes.experts_of(first + t)).collect();
                let class = match (&classes.of_token, &feed) {
                    (Some(of_token), Feed::Tokens(read)) => of_token[read.ids[first + t] as usize],
                    _ => target as usize,
                };
                tokens.push(Token { class, loss: loss.into(), margin, experts });
            }
        }
    }
    Ok(tokens)
}

/// The distinct activation patterns (sets of experts) of layer `layer`.
pub fn patterns(tokens: &[Token], layer: usize) -> BTreeSet<&[u16]> {
    tokens.iter().map(|token| &token.experts[layer][..]).collect()
}

/// The number of tokens of each class (rows) that each expert (columns) of layer `layer` served.
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
    use crate::data::{self, Dataset};
    use crate::train::config::{Resolved, Sources};
    use crate::train::{Learner, evaluate::evaluate};

    #[test]
    fn tokens_are_classified_by_their_text() {
        let kinds = [" the", "ing", " 12", "3", ",", " (", "\n", " ", "\u{fffd}"].map(kind);
        assert_eq!(kinds, [0, 1, 2, 2, 3, 3, 4, 4, 5]);
    }

    #[test]
    fn tokens_agree_with_the_evaluation_of_the_whole_split() {
        let set =
            ["layers=2", "width=16", "experts_max=4", "percentile_scope=batch"].map(String::from).to_vec();
        let config = Resolved::resolve(&Sources { set, ..Sources::default() }).unwrap();
        let data = Dataset::from(data::load("digits", None).unwrap());
        let mut learner = Learner::new(&config, &data).unwrap();
        (0..60).for_each(|_| drop(learner.step(None).unwrap()));
        let tokens = observe(&learner.model, learner.test(), &Classes::of(&data.encoding)).unwrap();
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
