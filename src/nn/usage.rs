//! How a layer used its experts: counts that add up over batches.

use serde::Serialize;

use crate::engine::kernels::routes::Routes;

/// How a layer used its experts, summed over tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens seen.
    pub tokens: u64,
    /// Tokens that each expert served.
    pub counts: Vec<u64>,
    /// Number of tokens with k experts, at index k; index 0 counts tokens without any expert.
    pub k_counts: Vec<u64>,
    /// Assignments dropped because the expert was full.
    pub dropped: u64,
    /// Sum over tokens of the entropy of the router's probabilities, in bits; only in evaluation.
    pub entropy_bits: f64,
    /// The threshold of the last training batch, if one threshold decided for all tokens.
    #[serde(skip)]
    pub threshold: Option<f64>,
}

impl Usage {
    /// The counts of one batch.
    pub fn new(routes: &Routes) -> Usage {
        let mut k_counts = vec![0; routes.experts() + 1];
        (0..routes.token_count()).for_each(|t| k_counts[routes.k(t)] += 1);
        Usage {
            tokens: routes.token_count() as u64,
            counts: routes.counts().map(|c| c as u64).collect(),
            k_counts,
            dropped: 0,
            entropy_bits: 0.0,
            threshold: None,
        }
    }

    /// Adds another batch.
    pub fn add(&mut self, other: &Usage) {
        let sum = |a: &mut Vec<u64>, b: &[u64]| {
            a.resize(b.len(), 0);
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        };
        self.tokens += other.tokens;
        sum(&mut self.counts, &other.counts);
        sum(&mut self.k_counts, &other.k_counts);
        self.dropped += other.dropped;
        self.entropy_bits += other.entropy_bits;
        self.threshold = other.threshold.or(self.threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up_and_tokens_without_an_expert_are_counted() {
        let mut usage = Usage::new(&Routes::new(&[true, false, true, true, false, false], 2));
        usage.add(&Usage { threshold: Some(0.5), dropped: 3, ..Usage::new(&Routes::new(&[false, true], 2)) });
        assert_eq!((usage.tokens, &usage.counts[..], &usage.k_counts[..]), (4, &[2, 2][..], &[1, 2, 1][..]));
        assert_eq!((usage.dropped, usage.threshold), (3, Some(0.5)));
    }
}
