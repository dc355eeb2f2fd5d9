//! How a trained network uses its experts on the test split: how many, which, and for which images.

use serde::Serialize;

use super::stats::{Correlation, spearman};
use super::theory::{choose, dynamic_patterns};
use super::tokens::{Token, by_class, patterns};
use crate::train::metrics::LayerRecord;

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Images, or tokens, looked at.
    pub images: usize,
    /// Names of their classes.
    pub class_names: Vec<String>,
    /// Share of right answers.
    pub accuracy: f64,
    /// Each layer.
    pub layers: Vec<Layer>,
    /// Whether harder images get more experts; none where all get as many.
    pub difficulty: Option<Difficulty>,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Usage, entropy, utilization, distribution of k.
    pub record: LayerRecord,
    /// Different sets of experts that images got.
    pub patterns: usize,
    /// Sets that a router could choose that takes up to as many experts as any image got (Gülmez, theorem 1).
    pub dynamic_patterns: f64,
    /// Sets of a fixed number of experts, the mean rounded.
    pub fixed_patterns: f64,
    /// For each class, the share of its assignments that each expert served.
    pub by_class: Vec<Vec<f64>>,
    /// Mutual information of class and serving expert, in bits: 0 where experts serve all classes alike.
    pub class_information_bits: f64,
}

/// How the number of experts, over all layers, goes with how hard an image is.
#[derive(Clone, Debug, Serialize)]
pub struct Difficulty {
    /// Rank correlation of k with the image's loss.
    pub with_loss: Option<Correlation>,
    /// Rank correlation of k with the margin of the right class: negative if close calls get more experts.
    pub with_margin: Option<Correlation>,
    /// Tenths of the images by rising loss.
    pub tenths: Vec<Group>,
    /// The classes.
    pub classes: Vec<Group>,
}

/// A group of images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Group {
    /// How many.
    pub images: usize,
    /// Their mean loss.
    pub loss: f64,
    /// Their mean number of experts, over all layers.
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
    /// From what every image got; `records` has the layers' statistics on the same images.
    pub fn new(tokens: &[Token], records: &[LayerRecord], class_names: Vec<String>) -> Usage {
        let classes = class_names.len();
        let layer = |(l, record): (usize, &LayerRecord)| {
            let most = tokens.iter().map(|token| token.experts[l].len()).max().unwrap_or(0);
            let counts = by_class(tokens, l, classes, record.experts);
            Layer {
                record: record.clone(),
                patterns: patterns(tokens, l).len(),
                dynamic_patterns: dynamic_patterns(record.experts, most),
                fixed_patterns: choose(record.experts, record.mean_active.round() as usize),
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

/// Mutual information of row and column of a table of counts, in bits.
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
    fn harder_images_with_more_experts_are_seen() {
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
    fn classes_with_experts_of_their_own_share_one_bit() {
        let own: Vec<Token> =
            (0..40).map(|i| token(i % 2, 1.0, if i % 2 == 0 { &[0] } else { &[2] })).collect();
        let own = usage(&own);
        assert_eq!((own.layers[0].class_information_bits, own.difficulty.is_none()), (1.0, true));
        assert_eq!(own.layers[0].by_class, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        let alike: Vec<Token> = (0..40).map(|i| token(i % 2, 1.0, &[1])).collect();
        assert_eq!(usage(&alike).layers[0].class_information_bits, 0.0);
    }
}
