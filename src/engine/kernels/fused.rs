//! A branch-free fused multiply-add of f32 for processors without the instruction, so that loops over it vectorize.

/// `a * b + c`, rounded once; the same bits as `f32::mul_add` (any NaN counts as the same).
///
/// In f64 the product is exact. The sum is rounded there to odd: of the two neighbors of an exact sum that lies
/// between them, the one whose last bit is 1. With at least two bits more than the result has, rounding that to f32
/// is the same as rounding the exact sum (Boldo and Melquiond, 2008), also where the result is subnormal.
#[inline(always)]
pub fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // The rounding error, exactly (Knuth's TwoSum); NaN if the sum is not finite.
    let back = sum - product;
    let lost = (product - (sum - back)) + (c - back);
    let inexact = if lost.abs() > 0.0 { u64::MAX } else { 0 };
    // If the sum was rounded away from zero, its other neighbor is one less.
    let away = (sum.to_bits() ^ lost.to_bits()) >> 63;
    let odd = sum.to_bits().wrapping_sub(away & inexact) | (1 & inexact);
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::random::{Purpose, Stream};

    /// Random words: the bits of any f32.
    fn words(len: usize, seed: u64) -> Vec<u32> {
        let mut generator = Stream::new(seed, Purpose::Check, 0, 0).generator();
        let mut words = vec![0; len];
        generator.fill_u32(&mut words);
        words
    }

    fn check(a: f32, b: f32, c: f32) {
        let (got, expected) = (mul_add(a, b, c), a.mul_add(b, c));
        let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
        assert!(same, "{a:e} * {b:e} + {c:e} is {expected:e}, not {got:e}");
    }

    /// Cases per test; few under Miri, which is slow.
    const COUNT: usize = if cfg!(miri) { 300 } else { 300_000 };

    #[test]
    fn random_bits() {
        for w in words(3 * COUNT, 1).chunks_exact(3) {
            check(f32::from_bits(w[0]), f32::from_bits(w[1]), f32::from_bits(w[2]));
        }
    }

    /// Close exponents and mantissas with few bits: sums that cancel, are ties, or are close to one.
    #[test]
    fn sums_near_a_tie() {
        let short = |word: u32, exponent: u32| {
            // 1 to 23 leading bits of the mantissa, and perhaps its last bit.
            let mantissa = (word & 0x007f_ffff) >> (word >> 27).min(22) << (word >> 27).min(22);
            f32::from_bits(word & 0x8000_0000 | exponent << 23 | mantissa | (word >> 24) & 1)
        };
        for w in words(4 * COUNT, 2).chunks_exact(4) {
            let [x, y] = [w[3] & 0x7f, w[3] >> 8 & 0x7f];
            // The product's biased exponent is about 127, the addend's from far below to far above.
            let (a, b) = (short(w[0], 127 - 63 + x), short(w[1], 127 + 63 - x));
            check(a, b, short(w[2], 127 - 63 + y));
            check(a, b, short(w[2], 126 + (y & 3)));
            check(a, b, -(a * b));
        }
    }

    /// Results below the normal range and at both its ends.
    #[test]
    fn results_that_are_subnormal_or_overflow() {
        for w in words(4 * COUNT, 3).chunks_exact(4) {
            let with = |word: u32, exponent: u32| f32::from_bits(word & 0x807f_ffff | exponent << 23);
            let (x, low, high) = (w[3] & 63, w[3] >> 8 & 31, w[3] >> 16 & 3);
            let (a, b) = (with(w[0], 40 + x), with(w[1], 95 - x - low));
            check(a, b, with(w[2], 0));
            check(a, b, with(w[2], low));
            check(with(w[0], 127 + x), with(w[1], 253 - x + high / 2), with(w[2], 251 + high));
        }
    }

    /// Every combination of the ends of the ranges.
    #[test]
    fn special_values() {
        let sizes = [
            0.0,
            f32::from_bits(1),
            f32::from_bits(2),
            f32::from_bits(0x0040_0000),
            f32::MIN_POSITIVE.next_down(),
            f32::MIN_POSITIVE,
            f32::MIN_POSITIVE.next_up(),
            f32::EPSILON,
            0.5,
            1.0_f32.next_down(),
            1.0,
            1.0_f32.next_up(),
            1.5,
            16_777_215.0,
            16_777_216.0,
            f32::MAX.next_down(),
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ];
        let all: Vec<f32> = sizes.iter().flat_map(|&x| [x, -x]).collect();
        for &a in &all {
            for &b in &all {
                all.iter().for_each(|&c| check(a, b, c));
            }
        }
    }

    /// Here rounding twice is wrong: the f64 sum rounds to a tie that the exact sum misses. In the last case, which is
    /// subnormal, the standard library of Rust 1.95 is also wrong on a processor without the instruction, so this test
    /// does not compare with it.
    #[test]
    fn one_rounding_and_not_two() {
        let twice = |a: f32, b: f32, c: f32| (f64::from(a) * f64::from(b) + f64::from(c)) as f32;
        let (tiny, scale, c) =
            (f32::from_bits(1), f32::from_bits((127 - 75) << 23), f32::from_bits(0x0040_0001));
        for (a, b, c, rounded) in [
            (4097.0, 4097.0, tiny, 16_785_410.0),
            (-4097.0, 4097.0, -tiny, -16_785_410.0),
            (4097.0, 4099.0, -tiny, 16_793_602.0),
            ((1.0 + f32::EPSILON) * scale, (1.0 - f32::EPSILON) * scale, c, c),
        ] {
            assert_eq!(mul_add(a, b, c), rounded);
            assert_ne!(twice(a, b, c), rounded);
        }
    }
}
