//! The simplest language model worth beating: counts of pairs of tokens.
//!
//! With c(a, b) how often b follows a, `p(b | a) = (c(a, b) + t(a) p(b)) / (c(a) + t(a))`, where t(a) is the number of
//! different tokens seen after a (Witten and Bell's smoothing), and `p(b) = (c(b) + 1) / (N + V)`. Nothing is set by
//! hand.

use std::collections::HashMap;

use crate::data::Text;

/// Perplexity on `test` of a model counted on `train`.
pub fn perplexity(train: &Text, test: &Text, vocabulary: usize) -> f64 {
    let mut pairs: HashMap<(u32, u32), u64> = HashMap::new();
    let (mut single, mut first, mut different) =
        (vec![0u64; vocabulary], vec![0u64; vocabulary], vec![0u64; vocabulary]);
    let each = |text: &Text| -> Vec<(u32, u32)> {
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
    let judged = each(test);
    libm::exp(judged.iter().map(|&pair| log(pair)).sum::<f64>() / judged.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let text = |ids: &[u32]| Text { ids: ids.to_vec(), starts: vec![0, ids.len()] };
        // After 0 comes 1 twice and 2 once: c(0) = 3, t(0) = 2. Of 6 targets 1 is there twice, 2 once, 0 three times.
        let train = text(&[0, 1, 0, 1, 0, 2, 0]);
        let p_1 = (2.0 + 2.0 * 3.0 / 10.0) / 5.0;
        // 3 was never seen: after it every token has its own probability.
        let p_0 = 4.0 / 10.0;
        let found = perplexity(&train, &text(&[0, 1]), 4);
        approx::assert_relative_eq!(found, 1.0 / p_1, max_relative = 1e-12);
        let found = perplexity(&train, &text(&[3, 0]), 4);
        approx::assert_relative_eq!(found, 1.0 / p_0, max_relative = 1e-12);
        let found = perplexity(&train, &text(&[0, 3]), 4);
        approx::assert_relative_eq!(found, 5.0 / (2.0 * 1.0 / 10.0), max_relative = 1e-12);
    }
}
