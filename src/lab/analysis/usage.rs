//! How a trained network uses its experts on the test split: how many, which, and for which examples.

use serde::Serialize;

use super::stats::{Correlation, spearman};
use super::theory::{binomial, dynamic_patterns};
use super::tokens::{Token, by_class, patterns};
use crate::train::metrics::LayerRecord;

/// The use of experts in all layers.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Number of observed images or tokens.
    pub images: usize,
    /// Class names.
    pub class_names: Vec<String>,
    /// Share of correct predictions.
    pub accuracy: f64,
    /// The layers.
    pub layers: Vec<Layer>,
    /// How the number of active experts depends on difficulty; `None` if it is constant.
    pub difficulty: Option<Difficulty>,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Usage, entropy, utilization, distribution of k.
    pub record: LayerRecord,
    /// Number of distinct activation patterns (sets of experts).
    pub patterns: usize,
    /// Number of possible patterns with up to the largest observed number of experts (Gülmez, theorem 1).
    pub dynamic_patterns: f64,
    /// Number of possible patterns with a fixed number of experts, the rounded mean.
    pub fixed_patterns: f64,
    /// For each class, each expert's share of its assignments.
    pub by_class: Vec<Vec<f64>>,
    /// Mutual information of class and expert in bits: 0 if all experts serve all classes equally.
    pub class_information_bits: f64,
}

/// The number of active experts, summed over layers, by difficulty.
#[derive(Clone, Debug, Serialize)]
pub struct Difficulty {
    /// Rank correlation of k and loss.
    pub with_loss: Option<Correlation>,
    /// Rank correlation of k and margin: negative if uncertain examples get more experts.
    pub with_margin: Option<Correlation>,
    /// Deciles by ascending loss.
    pub tenths: Vec<Group>,
    /// By class.
    pub classes: Vec<Group>,
}

/// A group of images or tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Number of them.
    pub images: usize,
    /// Mean loss.
    pub loss: f64,
    /// Mean number of active experts, summed over layers.
    pub k: f64,
}

impl Group {
    fn of<'a>(tokens: impl Iterator<Item = &'a Token>) -> Group {
        let (mut images, mut loss, mut k) = (0, 0.0, 0.0);
        for token in tokens {
            images += 1;
            loss += token.loss;
            k += token.k() as f64;
        }
        let count = f64::from(images.max(1));
        Group { images: images as usize, loss: loss / count, k: k / count }
    }
}

impl Usage {
    /// Summarizes the observations; `records` are the layers' statistics on the same examples.
    pub fn new(tokens: &[Token], records: &[LayerRecord], class_names: Vec<String>) -> Usage {
        let classes = class_names.len();
        let layer = |(l, record): (usize, &LayerRecord)| {
            let most = tokens.iter().map(|token| token.experts[l].len()).max().unwrap_or(0);
            let counts = by_class(tokens, l, classes, record.experts);
            Layer {
                record: record.clone(),
                patterns: patterns(tokens, l).len(),
                dynamic_patterns: dynamic_patterns(record.experts, most),
                fixed_patterns: binomial(record.experts, record.mean_active.round() as usize),
                class_information_bits: information_bits(&counts),
                by_class: counts.iter().map(|row| shares(row)).collect(),
            }
        };
        Usage {
            images: tokens.len(),
            accuracy: tokens.iter().filter(|t| t.margin > 0.0).count() as f64 / tokens.len().max(1) as f64,
            layers: records.iter().enumerate().map(layer).collect(),
            difficulty: difficulty(tokens, classes),
            class_names,
        }
    }
}

fn shares(counts: &[u64]) -> Vec<f64> {
    let all = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|&count| count as f64 / all).collect()
}

fn difficulty(tokens: &[Token], classes: usize) -> Option<Difficulty> {
    let k: Vec<f64> = tokens.iter().map(|token| token.k() as f64).collect();
    if k.iter().all(|&one| one == k[0]) {
        return None;
    }
    let of = |f: fn(&Token) -> f64| tokens.iter().map(f).collect::<Vec<f64>>();
    let mut by_loss: Vec<&Token> = tokens.iter().collect();
    by_loss.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    let tenth = by_loss.len().div_ceil(10).max(1);
    let class = |class| Group::of(tokens.iter().filter(move |token| token.class == class));
    Some(Difficulty {
        with_loss: spearman(&k, &of(|token| token.loss)),
        with_margin: spearman(&k, &of(|token| token.margin)),
        tenths: by_loss.chunks(tenth).map(|part| Group::of(part.iter().copied())).collect(),
        classes: (0..classes).map(class).collect(),
    })
}

/// Mutual information of the row and the column of a table of counts, in bits.
fn information_bits(counts: &[Vec<u64>]) -> f64 {
    let all = counts.iter().flatten().sum::<u64>().max(1) as f64;
    let columns = counts.first().map_or(0, Vec::len);
    let column: Vec<u64> = (0..columns).map(|c| counts.iter().map(|row| row[c]).sum()).collect();
    let term = |count: u64, row: u64, column: u64| match count {
        0 => 0.0,
        _ => count as f64 / all * libm::log2(count as f64 * all / (row as f64 * column as f64)),
    };
    let of_row = |row: &Vec<u64>| {
        let total = row.iter().sum();
        row.iter().zip(&column).map(|(&count, &column)| term(count, total, column)).sum::<f64>()
    };
    counts.iter().map(of_row).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::usage as nn_usage;

    fn token(class: usize, loss: f64, experts: &[u16]) -> Token {
        Token { class, loss, margin: -loss, experts: vec![experts.to_vec()] }
    }

    fn usage(tokens: &[Token]) -> Usage {
        let mut counts = nn_usage::Usage { tokens: tokens.len() as u64, ..nn_usage::Usage::default() };
        (counts.counts, counts.k_counts) = (vec![0; 3], vec![0; 4]);
        for token in tokens {
            token.experts[0].iter().for_each(|&e| counts.counts[usize::from(e)] += 1);
            counts.k_counts[token.experts[0].len()] += 1;
        }
        Usage::new(tokens, &[LayerRecord::new(&counts)], ["a", "b"].map(String::from).into())
    }

    #[test]
    fn more_experts_for_harder_images_are_found() {
        let tokens: Vec<Token> =
            (0..40).map(|i| token(i % 2, i as f64 - 9.5, if i < 20 { &[0] } else { &[0, 1, 2] })).collect();
        let usage = usage(&tokens);
        let difficulty = usage.difficulty.unwrap();
        assert!(difficulty.with_loss.unwrap().low > 0.5 && difficulty.with_margin.unwrap().high < -0.5);
        assert_eq!((difficulty.tenths.len(), difficulty.tenths[0].k, difficulty.tenths[9].k), (10, 1.0, 3.0));
        assert_eq!((difficulty.classes[1].images, difficulty.classes[1].k), (20, 2.0));
        let layer = &usage.layers[0];
        assert_eq!((layer.patterns, layer.dynamic_patterns, layer.fixed_patterns), (2, 7.0, 3.0));
        assert_eq!(usage.accuracy, 0.25);
    }

    #[test]
    fn separate_experts_for_two_classes_give_one_bit() {
        let own: Vec<Token> =
            (0..40).map(|i| token(i % 2, 1.0, if i % 2 == 0 { &[0] } else { &[2] })).collect();
        let own = usage(&own);
        assert_eq!((own.layers[0].class_information_bits, own.difficulty.is_none()), (1.0, true));
        assert_eq!(own.layers[0].by_class, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        let alike: Vec<Token> = (0..40).map(|i| token(i % 2, 1.0, &[1])).collect();
        assert_eq!(usage(&alike).layers[0].class_information_bits, 0.0);
    }
}
