//! Selection of experts by the top percentile of their gates.

use super::elem::Elem;

/// How many of `experts` gates lie strictly above their own `tau` percentile (linear interpolation, no
/// ties), and at least one: `max(1, E - 1 - floor(tau (E - 1)))`. The same for every token.
pub fn token_scope_k(experts: usize, tau: f64) -> usize {
    // The tiny constant undoes products such as 0.58 * 50 = 28.999999999999996.
    let below = (tau * (experts - 1) as f64 + 1e-9).floor() as usize;
    (experts - 1).saturating_sub(below).max(1)
}

/// Marks the `k` largest gates of each row (`experts` gates a row); of equal gates the first wins.
///
/// A gate's rank is the number of gates that beat it, counted without a sort.
pub fn top_k<E: Elem>(gates: &[E], experts: usize, k: usize, mask: &mut [bool]) {
    for (gates, mask) in gates.chunks_exact(experts).zip(mask.chunks_exact_mut(experts)) {
        for (i, (&g, chosen)) in gates.iter().zip(mask).enumerate() {
            let before = gates[..i].iter().filter(|&&other| other >= g).count();
            let after = gates[i + 1..].iter().filter(|&&other| other > g).count();
            *chosen = before + after < k;
        }
    }
}

/// Marks the gates strictly above `threshold` in each row; where none is, the largest (the first of
/// equals).
pub fn above<E: Elem>(gates: &[E], experts: usize, threshold: E, mask: &mut [bool]) {
    for (gates, mask) in gates.chunks_exact(experts).zip(mask.chunks_exact_mut(experts)) {
        let mut any = false;
        for (&g, chosen) in gates.iter().zip(mask.iter_mut()) {
            *chosen = g > threshold;
            any |= *chosen;
        }
        if !any {
            mask[argmax(gates)] = true;
        }
    }
}

/// Position of the largest element, the first of equals.
pub fn argmax<E: Elem>(x: &[E]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if *v > x[best] {
            best = i;
        }
    }
    best
}

/// The `tau` percentile (0..=1) of all of `x` with linear interpolation between the neighbouring ranks.
pub fn percentile<E: Elem>(x: &[E], tau: f64) -> E {
    let mut sorted = x.to_vec();
    let position = tau * (x.len() - 1) as f64;
    let low = (position + 1e-9).floor() as usize;
    let order = |a: &E, b: &E| a.f64().total_cmp(&b.f64());
    let (_, &mut floor, above) = sorted.select_nth_unstable_by(low, order);
    let next = above.iter().copied().reduce(E::smaller).unwrap_or(floor);
    let share = E::of((position - low as f64).max(0.0));
    share.mul_add(next - floor, floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as the paper states it: sort, interpolate, compare.
    fn literal(gates: &[f64], tau: f64) -> Vec<bool> {
        let mut mask = vec![false; gates.len()];
        above(gates, gates.len(), percentile(gates, tau), &mut mask);
        mask
    }

    #[test]
    fn k_of_the_papers_layers() {
        assert_eq!([8, 6, 3, 1].map(|e| token_scope_k(e, 0.7)), [3, 2, 1, 1]);
        assert_eq!(
            [8, 6, 3, 1].map(|e| token_scope_k(e, 0.6)),
            [3, 2, 1, 1],
            "0.6 and 0.7 are the same model"
        );
        assert_eq!((token_scope_k(8, 0.0), token_scope_k(8, 1.0), token_scope_k(51, 0.58)), (7, 1, 21));
    }

    proptest! {
        #[test]
        fn rank_is_the_literal_rule_without_ties(values in proptest::collection::hash_set(0u32..100_000, 1..40), tau in 0.0f64..1.0) {
            let gates: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            let mut mask = vec![false; gates.len()];
            top_k(&gates, gates.len(), token_scope_k(gates.len(), tau), &mut mask);
            // On an exact rank the interpolated percentile may round to either side of the gate.
            let position = tau * (gates.len() - 1) as f64;
            prop_assume!((position - position.round()).abs() > 1e-6 || gates.len() == 1);
            prop_assert_eq!(mask, literal(&gates, tau));
        }

        #[test]
        fn exactly_k_are_chosen_and_ties_go_to_the_first(gates in proptest::collection::vec(0u8..4, 1..70), k in 1usize..9) {
            let gates: Vec<f32> = gates.iter().map(|&v| v as f32).collect();
            let mut mask = vec![false; gates.len()];
            top_k(&gates, gates.len(), k, &mut mask);
            let mut order: Vec<usize> = (0..gates.len()).collect();
            order.sort_by(|&a, &b| gates[b].total_cmp(&gates[a]).then(a.cmp(&b)));
            let mut expected = vec![false; gates.len()];
            order.iter().take(k).for_each(|&i| expected[i] = true);
            prop_assert_eq!(mask, expected);
        }
    }

    #[test]
    fn at_least_one_expert_even_when_all_gates_are_equal() {
        let mut mask = [false; 4];
        above(&[0.25f32; 4], 4, 0.25, &mut mask);
        assert_eq!(mask, [true, false, false, false]);
    }

    #[test]
    fn percentile_interpolates() {
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 1.0), 4.0);
        assert_eq!(percentile(&[7.0f32], 0.3), 7.0);
    }
}
