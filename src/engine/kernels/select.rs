//! Selection of experts by their gates: the k largest, or those above a threshold.

use fearless_simd::{Simd, dispatch, f32x16, i32x16, prelude::*};

use super::reduce::{LANES, padded};
use super::{par, scalar::Scalar, simd};

/// The number of gates of a token strictly above their own `tau` percentile (linear interpolation, no ties), at least
/// one: `k = max(1, E - 1 - floor(tau (E - 1)))`. It is the same for every token.
pub fn token_scope_k(experts: usize, tau: f64) -> usize {
    // The small constant corrects products such as 0.58 * 50 = 28.999999999999996.
    let below = (tau * (experts - 1) as f64 + 1e-9).floor() as usize;
    (experts - 1).saturating_sub(below).max(1)
}

/// `mask` (T, E) marks the `k` largest of each row of `gates` (T, E); of equal gates, the first.
pub fn top_k<F: Select>(gates: &[F], experts: usize, k: usize, mask: &mut [bool]) {
    const GATES: usize = 4 * 1024;
    assert_eq!(gates.len(), mask.len());
    par::rows((mask, experts), (GATES / experts).max(1), |first, mask| {
        F::select(&gates[first * experts..][..mask.len()], experts, k, mask);
    });
}

/// A number whose largest can be selected.
pub trait Select: Scalar {
    /// [`top_k`] on the current thread.
    fn select(gates: &[Self], experts: usize, k: usize, mask: &mut [bool]);
}

impl Select for f64 {
    fn select(gates: &[f64], experts: usize, k: usize, mask: &mut [bool]) {
        for (gates, mask) in gates.chunks_exact(experts).zip(mask.chunks_exact_mut(experts)) {
            by_count(gates, k, mask);
        }
    }
}

impl Select for f32 {
    /// Without a sort: up to 16 gates are ranked; among more, the k-th largest is found bit by bit.
    fn select(gates: &[f32], experts: usize, k: usize, mask: &mut [bool]) {
        dispatch!(simd::level().vectors(), simd => in_vectors(simd, gates, experts, k, mask));
    }
}

/// The longest row that is selected with vectors.
const MOST: usize = 256;

#[inline(always)]
fn in_vectors<S: Simd>(simd: S, gates: &[f32], experts: usize, k: usize, mask: &mut [bool]) {
    for (r, mask) in mask.chunks_exact_mut(experts).enumerate() {
        let rest = &gates[r * experts..];
        if experts <= LANES {
            by_rank(simd, rest, k, mask);
        } else if experts <= MOST {
            by_bits(simd, &rest[..experts], k, mask);
        } else {
            by_count(&rest[..experts], k, mask);
        }
    }
}

/// The definition: a gate is marked if fewer than k gates are larger, or equal and before it.
fn by_count<F: Scalar>(gates: &[F], k: usize, mask: &mut [bool]) {
    for (i, (&g, chosen)) in gates.iter().zip(mask).enumerate() {
        let before = gates[..i].iter().filter(|&&other| other >= g).count();
        let after = gates[i + 1..].iter().filter(|&&other| other > g).count();
        *chosen = before + after < k;
    }
}

/// The same for at most 16 gates, comparing each with all at once. `gates` may continue after the row.
#[inline(always)]
fn by_rank<S: Simd>(simd: S, gates: &[f32], k: usize, mask: &mut [bool]) {
    let experts = mask.len();
    let all = match gates.first_chunk::<LANES>() {
        Some(lanes) => f32x16::from_slice(simd, lanes),
        None => f32x16::from_slice(simd, &padded(gates, 0.0)),
    };
    let row = (1u64 << experts) - 1;
    for (i, (&g, chosen)) in gates.iter().zip(mask).enumerate() {
        let g = f32x16::splat(simd, g);
        let (larger, equal) = (all.simd_gt(g).to_bitmask(), all.simd_eq(g).to_bitmask());
        let before = (1 << i) - 1;
        *chosen = (((larger | equal & before) & row).count_ones() as usize) < k;
    }
}

/// The same from the bits of the numbers. The threshold is the largest number that at least k gates reach: its bits are
/// tried from the highest that differs between gates downward, until exactly k gates reach it.
#[inline(always)]
fn by_bits<S: Simd>(simd: S, gates: &[f32], k: usize, mask: &mut [bool]) {
    // Padding below any gate.
    let mut keys = [[i32::MIN; LANES]; MOST / LANES];
    let mut differing = [0; LANES];
    let first = ordered(gates[0]);
    let (blocks, rest) = gates.as_chunks::<LANES>();
    let keys = &mut keys[..gates.len().div_ceil(LANES)];
    for (keys, block) in keys.iter_mut().zip(blocks) {
        for i in 0..LANES {
            keys[i] = ordered(block[i]);
            differing[i] |= keys[i] ^ first;
        }
    }
    for (i, &gate) in rest.iter().enumerate() {
        keys[blocks.len()][i] = ordered(gate);
        differing[i] |= ordered(gate) ^ first;
    }
    let bits = i32::BITS - differing.iter().fold(0, |a, b| a | b).leading_zeros();
    // The leading bits that all keys share, then zeros.
    let mut threshold = if bits == i32::BITS { i32::MIN } else { first >> bits << bits };
    let mut reached = gates.len();
    for bit in (0..bits).rev() {
        if reached == k {
            break;
        }
        let higher = threshold ^ (1 << bit);
        let mut count = 0;
        for keys in keys.iter() {
            let reaching = i32x16::from_slice(simd, keys).simd_ge(i32x16::splat(simd, higher));
            count += reaching.to_bitmask().count_ones() as usize;
        }
        if count >= k {
            (threshold, reached) = (higher, count);
        }
    }
    let keys = keys.as_flattened();
    for (chosen, &key) in mask.iter_mut().zip(keys) {
        *chosen = key >= threshold;
    }
    if reached > k {
        // More than k reach it: unmark the last of those equal to it.
        let equal = keys.iter().enumerate().take(gates.len()).rev().filter(|&(_, &key)| key == threshold);
        equal.take(reached - k).for_each(|(i, _)| mask[i] = false);
    }
}

/// An integer with the order of the floating-point numbers; both zeros map to the same.
#[inline(always)]
fn ordered(x: f32) -> i32 {
    let bits = (x + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

/// `mask` (T, E) marks the gates strictly above `threshold` in each row of `gates` (T, E); if there is none, the largest
/// (the first of equals).
pub fn above<F: Scalar>(gates: &[F], experts: usize, threshold: F, mask: &mut [bool]) {
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

/// The number of rows of `logits` (T, classes) whose largest element is at the row's target.
pub fn right<F: Scalar>(logits: &[F], classes: usize, targets: &[u32]) -> usize {
    let rows = logits.chunks_exact(classes).zip(targets);
    rows.filter(|(row, target)| argmax(row) == **target as usize).count()
}

/// Index of the largest element, the first of equals.
pub fn argmax<F: Scalar>(x: &[F]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if *v > x[best] {
            best = i;
        }
    }
    best
}

/// The `tau` percentile (0..=1) of all of `x` with linear interpolation between the neighboring ranks.
pub fn percentile<F: Scalar>(x: &[F], tau: f64) -> F {
    let mut sorted = x.to_vec();
    let position = tau * (x.len() - 1) as f64;
    let low = (position + 1e-9).floor() as usize;
    let order = |a: &F, b: &F| a.f64().total_cmp(&b.f64());
    let (_, &mut floor, above) = sorted.select_nth_unstable_by(low, order);
    let next = above.iter().copied().reduce(F::smaller).unwrap_or(floor);
    let share = F::of((position - low as f64).max(0.0));
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
    fn an_answer_is_right_where_the_target_is_the_first_of_the_largest() {
        let logits = [1.0f32, 3.0, 3.0, 0.0, -1.0, -2.0];
        assert_eq!([[1, 0], [2, 0], [1, 1]].map(|targets| right(&logits, 3, &targets)), [2, 1, 1]);
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
            // With ties, also between zeros of both signs.
            let number = |(&v, &t): (&i8, &u8)| match (ties, v) {
                (true, 0) if t % 2 == 0 => -0.0,
                (true, _) => f32::from(v),
                (false, _) => f32::from(v) + f32::from(t) * 1e-7,
            };
            let gates: Vec<f32> = gates.iter().zip(&tiny).map(number).collect();
            let mut mask = vec![false; gates.len()];
            let mut order: Vec<usize> = (0..gates.len()).collect();
            order.sort_by(|&a, &b| gates[b].partial_cmp(&gates[a]).unwrap().then(a.cmp(&b)));
            let mut expected = vec![false; gates.len()];
            order.iter().take(k).for_each(|&i| expected[i] = true);
            by_count(&gates, k, &mut mask);
            prop_assert_eq!(&mask, &expected);
            simd::on_every_level(|level| {
                mask.fill(false);
                top_k(&gates, gates.len(), k, &mut mask);
                assert_eq!(&mask, &expected, "{level}");
            });
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
