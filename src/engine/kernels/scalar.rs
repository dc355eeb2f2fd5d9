//! The numbers that kernels compute with: f32 to train, f64 to check gradients.

use std::fmt::{Debug, Display};
use std::ops::{AddAssign, Neg};

use super::{math, pool::Pooled};

/// f32 or f64, with the functions that results may depend on.
///
/// The transcendental functions are this crate's own (f32) or those of `libm` (f64). The platform's own functions
/// differ in the last bit between systems.
pub trait Scalar:
    ndarray::LinalgScalar
    + ndarray::ScalarOperand
    + Send
    + Sync
    + PartialOrd
    + Debug
    + Display
    + Default
    + Neg<Output = Self>
    + AddAssign
    + Pooled
{
    /// `f32` or `f64`.
    const NAME: &'static str;
    /// Whether networks are trained in this type, so that its loops are compiled for every SIMD level.
    const TRAINS: bool;
    /// `x` rounded to this type.
    fn of(x: f64) -> Self;
    /// `x` in this type (exact).
    fn of_f32(x: f32) -> Self;
    /// The value as f64 (exact).
    fn f64(self) -> f64;
    /// `self * a + b`, rounded once. On a processor without this instruction the standard library emulates it, and
    /// rare f32 results below the normal range are wrong (rust-lang/compiler-builtins, issue 1262); matrix products
    /// use [`super::fused`] there.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// e to the power of self.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The standard normal distribution function.
    fn normal_cdf(self) -> Self;
    /// Whether the value is neither NaN nor infinite.
    fn is_finite(self) -> bool;

    /// Writes the little-endian bytes of `x`, with one representation for every NaN.
    fn canonical_bytes(x: &[Self], out: &mut [u8]);

    /// The larger of the two; `other` if one is NaN.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    /// The smaller of the two; `other` if one is NaN.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other { self } else { other }
    }

    /// `max(self, 0)`; NaN stays NaN, so that a layer cannot hide it.
    #[inline(always)]
    fn relu(self) -> Self {
        if self <= Self::zero() { Self::zero() } else { self }
    }

    /// `1 / (1 + e^-x)`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // From e^-|x|, which does not overflow.
        let negative = self < Self::zero();
        let power = (if negative { self } else { -self }).exp();
        (if negative { power } else { Self::one() }) / (Self::one() + power)
    }

    /// `ln(1 + e^self)`.
    #[inline(always)]
    fn softplus(self) -> Self {
        // The exponential is at most 1.
        self.larger(Self::zero()) + (Self::one() + (-self.larger(-self)).exp()).ln()
    }

    /// `self` to an integer power, by squaring in a fixed order.
    #[inline(always)]
    fn power(self, exponent: i32) -> Self {
        let (mut base, mut left, mut result) = (self, exponent.unsigned_abs(), Self::one());
        while left > 0 {
            if left & 1 == 1 {
                result = result * base;
            }
            base = base * base;
            left >>= 1;
        }
        if exponent < 0 { Self::one() / result } else { result }
    }
}

macro_rules! scalar {
    ($t:ident, $trains:literal, $exp:path, $ln:path, $tanh:path, $normal_cdf:path) => {
        impl Scalar for $t {
            const NAME: &'static str = stringify!($t);
            const TRAINS: bool = $trains;
            #[inline(always)]
            fn of_f32(x: f32) -> Self {
                Self::from(x)
            }
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $t::mul_add(self, a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn normal_cdf(self) -> Self {
                $normal_cdf(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            #[inline(always)]
            fn canonical_bytes(x: &[Self], out: &mut [u8]) {
                let (out, _) = out.as_chunks_mut();
                for (out, &v) in out.iter_mut().zip(x) {
                    *out = if v.is_nan() { $t::NAN } else { v }.to_le_bytes();
                }
            }
        }
    };
}

scalar!(f32, true, math::exp, math::ln, math::tanh, math::normal_cdf);
scalar!(f64, false, libm::exp, libm::log, libm::tanh, normal_cdf);

fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}
