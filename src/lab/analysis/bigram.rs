//! The baseline of language modeling: a bigram model from counts.
//!
//! With Witten-Bell smoothing `p(b | a) = (c(a, b) + t(a) p(b)) / (c(a) + t(a))` and `p(b) = (c(b) + 1) / (N + V)`, where
//! c counts tokens and pairs and t(a) is the number of distinct tokens seen after a. There are no hyperparameters.

use std::collections::HashMap;

use crate::data::Sequences;

/// The perplexity on `test` of the bigram model of `train`.
pub fn perplexity(train: &Sequences, test: &Sequences, vocabulary: usize) -> f64 {
    let mut pairs: HashMap<(u32, u32), u64> = HashMap::new();
    let (mut single, mut first, mut different) =
        (vec![0u64; vocabulary], vec![0u64; vocabulary], vec![0u64; vocabulary]);
    let each = |text: &Sequences| -> Vec<(u32, u32)> {
        (0..text.len())
            .flat_map(|i| text.sequence(i).windows(2).map(|w| (w[0], w[1])).collect::<Vec<_>>())
            .collect()
    };
    for (a, b) in each(train) {
        let count = pairs.entry((a, b)).or_default();
        different[a as usize] += u64::from(*count == 0);
        *count += 1;
        first[a as usize] += 1;
        single[b as usize] += 1;
    }
    let all: u64 = single.iter().sum();
    let log = |(a, b): (u32, u32)| {
        let alone = (single[b as usize] + 1) as f64 / (all + vocabulary as u64) as f64;
        let (count, seen, kinds) =
            (pairs.get(&(a, b)).copied().unwrap_or(0), first[a as usize], different[a as usize]);
        let p = match seen {
            0 => alone,
            _ => (count as f64 + kinds as f64 * alone) / (seen + kinds) as f64,
        };
        -libm::log(p)
    };
    let evaluated = each(test);
    libm::exp(evaluated.iter().map(|&pair| log(pair)).sum::<f64>() / evaluated.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let text = |ids: &[u32]| Sequences { ids: ids.to_vec(), starts: vec![0, ids.len()] };
        // 0 is followed by 1 twice and by 2 once: c(0) = 3, t(0) = 2. Of the 6 targets two are 1, one is 2, three are 0.
        let train = text(&[0, 1, 0, 1, 0, 2, 0]);
        let p_1 = (2.0 + 2.0 * 3.0 / 10.0) / 5.0;
        // 3 was never seen: after it p(b | a) = p(b).
        let p_0 = 4.0 / 10.0;
        let found = perplexity(&train, &text(&[0, 1]), 4);
        approx::assert_relative_eq!(found, 1.0 / p_1, max_relative = 1e-12);
        let found = perplexity(&train, &text(&[3, 0]), 4);
        approx::assert_relative_eq!(found, 1.0 / p_0, max_relative = 1e-12);
        let found = perplexity(&train, &text(&[0, 3]), 4);
        approx::assert_relative_eq!(found, 5.0 / (2.0 * 1.0 / 10.0), max_relative = 1e-12);
    }
}
