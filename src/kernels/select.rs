//! Selection of experts by the top percentile of their gates.

use super::reduce::LANES;
use super::softmax::whole;
use super::{elem::Elem, rows};

/// How many of `experts` gates lie strictly above their own `tau` percentile (linear interpolation, no
/// ties), and at least one: `max(1, E - 1 - floor(tau (E - 1)))`. The same for every token.
pub fn token_scope_k(experts: usize, tau: f64) -> usize {
    // The tiny constant undoes products such as 0.58 * 50 = 28.999999999999996.
    let below = (tau * (experts - 1) as f64 + 1e-9).floor() as usize;
    (experts - 1).saturating_sub(below).max(1)
}

/// Marks the `k` largest gates of each row (`experts` gates a row); of equal gates the first wins.
///
/// There is no sort. Up to 16 gates are ranked all at once, each by the number of gates that beat it; of more,
/// the k-th largest is found bit by bit.
pub fn top_k<E: Elem>(gates: &[E], experts: usize, k: usize, mask: &mut [bool]) {
    assert_eq!(gates.len(), mask.len());
    rows::each_of::<E, bool>(
        mask,
        experts,
        #[inline(always)]
        |r, mask| top_k_row(&gates[r * experts..][..experts], k, mask),
    );
}

/// [`top_k`] of one row, for use inside `fast`.
#[inline(always)]
pub fn top_k_row<E: Elem>(gates: &[E], k: usize, mask: &mut [bool]) {
    if gates.len() <= LANES {
        by_rank(gates, k, mask);
    } else if const { E::TRAINS } && gates.len() <= MOST {
        by_bits(gates, k, mask);
    } else {
        by_count(gates, k, mask);
    }
}

/// Most gates of a row that are selected by their bits.
const MOST: usize = 256;

/// A gate's rank is the number of larger ones, and of equal ones before it: the definition.
fn by_count<E: Elem>(gates: &[E], k: usize, mask: &mut [bool]) {
    for (i, (&g, chosen)) in gates.iter().zip(mask).enumerate() {
        let before = gates[..i].iter().filter(|&&other| other >= g).count();
        let after = gates[i + 1..].iter().filter(|&&other| other > g).count();
        *chosen = before + after < k;
    }
}

/// The same for at most 16 gates: one after the other is compared with all.
#[inline(always)]
fn by_rank<E: Elem>(gates: &[E], k: usize, mask: &mut [bool]) {
    let all = whole(gates, E::zero());
    let mut rank = [0i32; LANES];
    for (j, &g) in gates.iter().enumerate() {
        for i in 0..LANES {
            rank[i] += i32::from((g > all[i]) | ((g == all[i]) & (j < i)));
        }
    }
    for (chosen, rank) in mask.iter_mut().zip(rank) {
        *chosen = rank < k as i32;
    }
}

/// The same from the bits of the numbers: the threshold is the largest number that at least k gates reach. Its
/// bits are tried from the highest to the lowest that differs between gates, until exactly k gates reach it.
#[inline(always)]
fn by_bits<E: Elem>(gates: &[E], k: usize, mask: &mut [bool]) {
    let mut keys = [i32::MIN; MOST];
    let keys = &mut keys[..gates.len().next_multiple_of(LANES)];
    let mut differing = 0;
    for (key, &g) in keys.iter_mut().zip(gates) {
        *key = ordered(g.f64() as f32);
    }
    let first = keys[0];
    for &key in &keys[..gates.len()] {
        differing |= key ^ first;
    }
    let bits = i32::BITS - differing.leading_zeros();
    // What all keys have in common, and zeros.
    let mut threshold = if bits == i32::BITS { i32::MIN } else { first >> bits << bits };
    let mut reached = gates.len();
    for bit in (0..bits).rev() {
        if reached == k {
            break;
        }
        let higher = threshold ^ (1 << bit);
        let count = count(
            keys,
            #[inline(always)]
            |key| key >= higher,
        );
        if count >= k {
            (threshold, reached) = (higher, count);
        }
    }
    for (chosen, &key) in mask.iter_mut().zip(keys.iter()) {
        *chosen = key >= threshold;
    }
    if reached > k {
        // More than k reach it: the last of those that are equal to it must go.
        let equal = keys.iter().enumerate().take(gates.len()).rev().filter(|&(_, &key)| key == threshold);
        equal.take(reached - k).for_each(|(i, _)| mask[i] = false);
    }
}

/// A whole number in the order of the floating-point numbers; both zeros are one.
#[inline(always)]
fn ordered(x: f32) -> i32 {
    let bits = (x + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

#[inline(always)]
fn count(keys: &[i32], reaches: impl Fn(i32) -> bool) -> usize {
    let mut lanes = [0i32; LANES];
    for block in keys.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            lanes[i] += i32::from(reaches(block[i]));
        }
    }
    lanes.iter().sum::<i32>() as usize
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
        fn exactly_k_are_chosen_and_ties_go_to_the_first(
            gates in proptest::collection::vec(-2i8..3, 1..300), tiny in proptest::collection::vec(0u8..9, 300), ties: bool, k in 1usize..300,
        ) {
            let k = k.min(gates.len());
            let number = |(&v, &t): (&i8, &u8)| f32::from(v) * 0.0 + if ties { f32::from(v) } else { f32::from(v) + f32::from(t) * 1e-7 };
            let gates: Vec<f32> = gates.iter().zip(&tiny).map(number).collect();
            let mut mask = vec![false; gates.len()];
            top_k(&gates, gates.len(), k, &mut mask);
            let mut order: Vec<usize> = (0..gates.len()).collect();
            order.sort_by(|&a, &b| gates[b].partial_cmp(&gates[a]).unwrap().then(a.cmp(&b)));
            let mut expected = vec![false; gates.len()];
            order.iter().take(k).for_each(|&i| expected[i] = true);
            prop_assert_eq!(&mask, &expected);
            by_count(&gates, k, &mut mask);
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
