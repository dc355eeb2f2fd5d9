//! Probes of the attention and the representation of each layer of a Transformer.
//!
//! On sequences of the test split, with A the attention weights of a head and queries q from 0:
//! - **entropy**: `-sum_j A_qj log2 A_qj / log2(q + 1)`, mean over heads and queries after the first: 1 for uniform
//!   attention;
//! - **distance**: `sum_j A_qj (q - j)`, mean over queries and heads, in tokens;
//! - **first token**: the weight on the first token, mean over heads and queries after the first: the attention sink of
//!   idle heads;
//! - **head specialization**: the Jensen-Shannon divergence of two heads' weights, in bits, mean over pairs of heads and
//!   queries after the first: 0 if all heads are equal;
//! - **superposition pressure**: F / C, with F the participation ratio `(tr S)^2 / tr S^2` of the covariance S of the
//!   tokens after attention, and C the mean number of active hidden units, `k d_ff`.

use serde::Serialize;

use crate::data::Examples;
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::tape::{Mode, Tape};
use crate::nn::{Model, Phase};
use crate::train::learned::diversity::{Diversity, standardized};
use crate::train::learned::spectrum::covariance;

/// The largest number of sequences to probe.
const SEQUENCES: u32 = 16;

/// The probes of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Probes {
    /// Entropy of the attention weights, relative to its maximum.
    pub entropy: f64,
    /// Mean attention distance in tokens.
    pub distance: f64,
    /// Attention weight on the first token.
    pub first_token: f64,
    /// Divergence between heads, in bits.
    pub specialization_bits: f64,
    /// Participation ratio of the tokens after attention: their effective dimension.
    pub features: f64,
    /// Active hidden units per token.
    pub capacity: f64,
    /// `features / capacity`.
    pub superposition: f64,
}

/// The probes of every layer; empty for a network without attention.
///
/// # Errors
/// Examples that do not fit the model.
pub fn probe(model: &Model<f32>, examples: &Examples) -> Result<Vec<Probes>> {
    let indices: Vec<u32> = (0..SEQUENCES.min(examples.len() as u32)).collect();
    let (feed, _) = examples.batch(&indices);
    let starts = feed.starts();
    let tape = Tape::new(Mode::Infer);
    let mut h = model.start(&tape, &feed)?;
    let mut all = Vec::new();
    for l in 0..model.spec().experts.len() {
        let weights = model.attention_weights(l, h, &starts)?;
        if weights.is_empty() {
            return Ok(Vec::new());
        }
        let after = model.attend(l, h, &starts)?.value();
        let (y, dispatch) = model.layer(l, h, &starts, Phase::Eval)?;
        let capacity = dispatch.routes.len() as f64 / feed.rows() as f64 * model.spec().hidden as f64;
        let features = participation(&after);
        let superposition = features / capacity;
        all.push(Probes { features, capacity, superposition, ..attention(&weights) });
        h = y;
    }
    Ok(all)
}

/// One score per layer: the mean of the diversity signals ([`Diversity`]) and of four probes, each standardized across
/// layers, all with equal weights.
pub fn joint_scores(diversity: &[Diversity], probes: &[Probes]) -> Vec<f64> {
    let signals: [fn(&Probes) -> f64; 4] =
        [|p| p.entropy, |p| p.distance, |p| p.specialization_bits, |p| p.superposition];
    // A diversity score is the mean of four signals.
    let mut scores: Vec<f64> = diversity.iter().map(|layer| 4.0 * layer.score).collect();
    for signal in signals {
        let signal = standardized(&probes.iter().map(signal).collect::<Vec<_>>());
        scores.iter_mut().zip(signal).for_each(|(score, z)| *score += z);
    }
    let count = if probes.is_empty() { 4.0 } else { 8.0 };
    scores.into_iter().map(|score| score / count).collect()
}

/// The attention probes of one layer, from its weights (H, n, n) for each sequence.
fn attention(weights: &[Arr<f32>]) -> Probes {
    let mut sums = Probes::default();
    // Counts: rows of all queries, rows of queries after the first, pairs of those rows.
    let (mut rows, mut later, mut pairs) = (0.0, 0.0, 0.0);
    for sequence in weights {
        let (heads, n) = (sequence.shape()[0], sequence.shape()[1]);
        let row = |head: usize, q: usize| &arr::data(sequence)[(head * n + q) * n..][..=q];
        for q in 0..n {
            for head in 0..heads {
                let a = row(head, q);
                rows += 1.0;
                sums.distance +=
                    a.iter().enumerate().map(|(j, &a)| f64::from(a) * (q - j) as f64).sum::<f64>();
                if q == 0 {
                    continue;
                }
                later += 1.0;
                sums.entropy += entropy_bits(a.iter().map(|&a| f64::from(a))) / libm::log2(q as f64 + 1.0);
                sums.first_token += f64::from(a[0]);
                for other in head + 1..heads {
                    pairs += 1.0;
                    sums.specialization_bits += divergence_bits(a, row(other, q));
                }
            }
        }
    }
    let mean = |sum: f64, count: f64| if count > 0.0 { sum / count } else { 0.0 };
    Probes {
        entropy: mean(sums.entropy, later),
        distance: mean(sums.distance, rows),
        first_token: mean(sums.first_token, later),
        specialization_bits: mean(sums.specialization_bits, pairs),
        ..sums
    }
}

fn entropy_bits(p: impl Iterator<Item = f64>) -> f64 {
    p.map(|p| if p > 0.0 { -p * libm::log2(p) } else { 0.0 }).sum()
}

/// The Jensen-Shannon divergence: the entropy of the mean minus the mean of the entropies.
fn divergence_bits(a: &[f32], b: &[f32]) -> f64 {
    let [h_a, h_b] = [a, b].map(|p| entropy_bits(p.iter().map(|&p| f64::from(p))));
    let mean = a.iter().zip(b).map(|(&a, &b)| 0.5 * (f64::from(a) + f64::from(b)));
    (entropy_bits(mean) - 0.5 * (h_a + h_b)).max(0.0)
}

/// The participation ratio `(tr S)^2 / tr S^2` of the covariance S of the rows of `h` (T, d), from 1 to d.
fn participation(h: &Arr<f32>) -> f64 {
    let covariance = covariance(h);
    let trace: f64 = covariance.iter().enumerate().map(|(i, row)| row[i]).sum();
    let of_square: f64 = covariance.iter().flatten().map(|c| c * c).sum();
    if of_square > 0.0 { trace * trace / of_square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_weights_by_hand() {
        // Two heads, three queries: one head attends uniformly, one to the query itself.
        let even = [1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0];
        let own = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let both = arr::from_vec(&[2, 3, 3], [even, own].concat().iter().map(|&v| v as f32).collect());
        let found = attention(&[both]);
        approx::assert_relative_eq!(found.entropy, 0.5, epsilon = 1e-6);
        // Query 1: half a token, query 2: one token; the other head and query 0: zero.
        approx::assert_relative_eq!(found.distance, 1.5 / 6.0, epsilon = 1e-6);
        approx::assert_relative_eq!(found.first_token, (0.5 + 1.0 / 3.0) / 4.0, epsilon = 1e-6);
        let by_hand = |p: f64| {
            let mean = 0.5 * (p + 1.0);
            let others = (1.0 - mean) / (1.0 / p - 1.0);
            let h = -mean * libm::log2(mean) - (1.0 / p - 1.0) * others * libm::log2(others);
            h - 0.5 * libm::log2(1.0 / p)
        };
        let expected = 0.5 * (by_hand(0.5) + by_hand(1.0 / 3.0));
        approx::assert_relative_eq!(found.specialization_bits, expected, epsilon = 1e-6);
    }

    #[test]
    fn all_signals_have_equal_weight_in_the_joint_score() {
        let layer = |score, entropy, superposition| {
            let diversity = Diversity { score, ..Diversity::default() };
            (diversity, Probes { entropy, superposition, ..Probes::default() })
        };
        let (diversity, probes): (Vec<_>, Vec<_>) =
            [layer(1.0, 0.2, 3.0), layer(-1.0, 0.4, 3.0)].into_iter().unzip();
        assert_eq!(joint_scores(&diversity, &[]), [1.0, -1.0]);
        // Entropy is one signal of eight, with the opposite sign; signals equal in all layers contribute nothing.
        let joint = joint_scores(&diversity, &probes);
        approx::assert_relative_eq!(joint[0], (4.0 - 1.0) / 8.0, epsilon = 1e-9);
        approx::assert_relative_eq!(joint[1], -joint[0]);
    }

    #[test]
    fn participation_ratios_by_hand() {
        let square = [1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0];
        approx::assert_relative_eq!(participation(&arr::from_vec(&[4, 2], square.to_vec())), 2.0);
        let line = [1.0, 2.0, 2.0, 4.0, 3.0, 6.0];
        approx::assert_relative_eq!(
            participation(&arr::from_vec(&[3, 2], line.to_vec())),
            1.0,
            epsilon = 1e-9
        );
        assert_eq!(participation(&arr::full(&[3, 2], 1.0)), 0.0);
    }
}
