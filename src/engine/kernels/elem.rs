//! The number types the engine computes with: f32 to train, f64 to check gradients.

use std::fmt::{Debug, Display};
use std::ops::{AddAssign, Neg};

use super::{gemm, math, pool, select};

/// f32 or f64 with the functions that results may depend on.
///
/// The transcendental functions are this crate's own (f32) or `libm`'s (f64), never the
/// platform's: those differ in the last bit from one system to the next.
pub trait Elem:
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
    + gemm::Gemm
    + pool::Pooled
    + select::Select
{
    /// `f32` or `f64`.
    const NAME: &'static str;
    /// Whether networks are trained in this type, so that its loops are worth compiling for every processor.
    const TRAINS: bool;
    /// The value nearest to `x`.
    fn of(x: f64) -> Self;
    /// The same number in this type.
    fn of_f32(x: f32) -> Self;
    /// The value as f64 (exact).
    fn f64(self) -> f64;
    /// `self * a + b`, rounded once. (Where the processor has no instruction for it the standard library computes it,
    /// rightly but for rare results below f32's normal range (rust-lang/compiler-builtins, issue 1262); products use
    /// [`super::fused`].)
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
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;

    /// Writes the little-endian bytes of `x`; every NaN as the same one.
    fn canonical_bytes(x: &[Self], out: &mut [u8]);

    /// The larger of two; the second if they are unordered.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    /// The smaller of two; the second if they are unordered.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        if self < other { self } else { other }
    }

    /// `max(self, 0)`; NaN stays NaN, so that it cannot hide behind a layer.
    #[inline(always)]
    fn relu(self) -> Self {
        if self <= Self::zero() { Self::zero() } else { self }
    }

    /// `1 / (1 + e^-x)`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // Of e^-|x|, which does not overflow.
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

    /// `self` to a whole power, by squaring in a fixed order.
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

macro_rules! elem {
    ($t:ident, $trains:literal, $exp:path, $ln:path, $tanh:path, $normal_cdf:path) => {
        impl Elem for $t {
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

elem!(f32, true, math::exp, math::ln, math::tanh, math::normal_cdf);
elem!(f64, false, libm::exp, libm::log, libm::tanh, normal_cdf);

fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}
