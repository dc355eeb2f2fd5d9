//! exp, ln, tanh and the normal distribution in f32: polynomials in a fixed order, without branches.
//!
//! Each function computes one number; in a loop under [`super::simd::fast`] the compiler vectorizes it. Every operation
//! is correctly rounded on every processor, so the bits are the same for one number, in a vector, and on any machine.
//! The polynomials of exp, ln and tanh are those of the Cephes library (S. Moshier); the quantile is from M. Giles,
//! "Approximating the erfinv function" (2010); the distribution function is formula 26.2.17 of Abramowitz and Stegun's
//! handbook. `dynamoe bench accuracy` measures the errors against f64.

#![expect(clippy::excessive_precision, reason = "coefficients as published")]

/// Horner's rule with fused multiply-adds, highest power first.
#[inline(always)]
fn poly<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for c in &coefficients[1..] {
        sum = sum.mul_add(x, *c);
    }
    sum
}

/// 2^n for n in -126..=127.
#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// e^x; underflows to 0 and overflows to infinity.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -110.0 { -110.0 } else { x };
    let x = if x > 90.0 { 90.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_375, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = poly(r, [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5]);
    let y = p.mul_add(r * r, r) + 1.0;
    // Two factors: results below the normal range then round once, and large ones overflow to infinity.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    y * pow2(half) * pow2(n.wrapping_sub(half))
}

/// Natural logarithm; -infinity at 0, NaN below.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // With the exponent relative to sqrt(1/2), the mantissa lies in [sqrt(1/2), sqrt(2)).
    let offset = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (offset as i32) >> 23;
    let m = f32::from_bits((offset & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let e = exponent as f32 - if tiny { 23.0 } else { 0.0 };
    let z = m * m;
    let p = poly(
        m,
        [
            7.037_683_6e-2,
            -0.115_146_1,
            0.116_769_98,
            -0.124_201_41,
            0.142_493_22,
            -0.166_680_58,
            0.200_007_15,
            -0.249_999_94,
            0.333_333_31,
        ],
    );
    let y = (e * -2.121_944_4e-4) + p * (m * z);
    let y = z.mul_add(-0.5, y) + m;
    let y = e.mul_add(0.693_359_375, y);
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let far = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
    let z = x * x;
    let p = poly(z, [-5.704_989e-3, 2.063_908_9e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_82]);
    let near = (p * z).mul_add(size, size);
    let y = if size < 0.625 { near } else { far };
    let y = y.copysign(x);
    if x.is_nan() { x } else { y }
}

/// The standard normal distribution function, to within 3e-7.
#[inline(always)]
pub fn normal_cdf(x: f32) -> f32 {
    // 1 / sqrt(2 pi)
    const DENSITY: f32 = 0.398_942_28;
    let size = x.abs();
    let t = 1.0 / size.mul_add(0.231_641_9, 1.0);
    let p = poly(t, [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530]);
    let tail = DENSITY * exp(-0.5 * size * size) * p * t;
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The standard normal quantile of a uniform number in (-1, 1) given as `2u - 1`.
#[inline(always)]
pub fn normal_quantile(x: f32) -> f32 {
    let w = -ln((1.0 - x) * (1.0 + x));
    let a = w - 2.5;
    let center = poly(
        a,
        [
            2.810_226_4e-8,
            3.432_739_4e-7,
            -3.523_387_7e-6,
            -4.391_506_5e-6,
            2.185_808_7e-4,
            -1.253_725e-3,
            -4.177_681_6e-3,
            0.246_640_73,
            1.501_409_4,
        ],
    );
    let b = w.sqrt() - 3.0;
    let tail = poly(
        b,
        [
            -2.002_142_6e-4,
            1.009_505_6e-4,
            1.349_343_2e-3,
            -3.673_428_4e-3,
            5.739_507_7e-3,
            -7.622_461e-3,
            9.438_870_5e-3,
            1.001_674_1,
            2.832_976_8,
        ],
    );
    let p = if w < 5.0 { center } else { tail };
    p * x * std::f32::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_values() {
        assert_eq!((exp(0.0), exp(-200.0), exp(200.0)), (1.0, 0.0, f32::INFINITY));
        assert_eq!((exp(f32::NEG_INFINITY), exp(f32::INFINITY)), (0.0, f32::INFINITY));
        assert_eq!((ln(1.0), ln(0.0), ln(f32::INFINITY)), (0.0, f32::NEG_INFINITY, f32::INFINITY));
        assert_eq!((tanh(50.0), tanh(-50.0), tanh(0.0)), (1.0, -1.0, 0.0));
        assert!(
            ln(-1.0).is_nan() && exp(f32::NAN).is_nan() && ln(f32::NAN).is_nan() && tanh(f32::NAN).is_nan()
        );
    }

    #[test]
    fn the_normal_distribution_function_is_close_to_the_exact_one() {
        let exact = |x: f32| 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
        for x in (-40_000..=40_000).map(|i| i as f32 * 5e-4) {
            assert!((f64::from(normal_cdf(x)) - exact(x)).abs() < 3e-7, "{x}: {}", normal_cdf(x));
        }
        assert_eq!((normal_cdf(f32::NEG_INFINITY), normal_cdf(f32::INFINITY)), (0.0, 1.0));
        assert!(normal_cdf(f32::NAN).is_nan());
    }

    #[test]
    fn the_normal_quantile_inverts_the_error_function() {
        for i in 1..20_000 {
            let u = i as f32 / 10_000.0 - 1.0;
            let back = libm::erf(normal_quantile(u) as f64 / std::f64::consts::SQRT_2);
            assert!((back - u as f64).abs() < 1e-6, "{u} came back as {back}");
        }
    }
}
