//! Functions of one number: a table of formulas and derivatives.

use super::elementwise::elementwise;
use crate::engine::gradcheck::{Check, gradcheck, random, random_positive};
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::Var;

elementwise! {
    /// `max(x, 0)` of every element; the gradient at 0 is 0.
    Relu relu() {
        y: |x| x.relu(),
        gx: |_, y, g| if y > F::zero() { g } else { F::zero() },
        check: |x| x.relu(), random(&[3, 5], 1),
    }

    /// The Gaussian error linear unit in its tanh form: `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    /// [`Var::gelu_exact`] is the exact form.
    Gelu gelu() {
        y: |x| x * gelu_shares(x).0,
        gx: |x, _, g| {
            let (share, rest) = gelu_shares(x);
            let inner = F::of(GELU_SCALE) * (F::one() + F::of(3.0 * GELU_CUBE) * x * x);
            g * (share + F::of(2.0) * x * share * rest * inner)
        },
        check: |x| x.gelu(), random(&[3, 5], 2),
    }

    /// `x sigmoid(x)` of every element, also called swish.
    Silu silu() {
        y: |x| x * x.sigmoid(),
        gx: |x, y, g| {
            let s = x.sigmoid();
            g * (s + y * (F::one() - s))
        },
        check: |x| x.silu(), random(&[3, 5], 3),
    }

    /// Hyperbolic tangent of every element.
    Tanh tanh() {
        y: |x| x.tanh(),
        gx: |_, y, g| g * (F::one() - y * y),
        check: |x| x.tanh(), random(&[17], 4),
    }

    /// `1 / (1 + e^-x)` of every element.
    Sigmoid sigmoid() {
        y: |x| x.sigmoid(),
        gx: |_, y, g| g * y * (F::one() - y),
        check: |x| x.sigmoid(), random(&[17], 5),
    }

    /// `ln(1 + e^x)` of every element: a smooth [`Var::relu`].
    Softplus softplus() {
        y: |x| x.softplus(),
        gx: |x, _, g| g * x.sigmoid(),
        check: |x| x.softplus(), random(&[17], 13),
    }

    /// The standard normal distribution function of every element.
    NormalCdf normal_cdf() {
        y: |x| x.normal_cdf(),
        // The density; its constant is 1 / sqrt(2 pi).
        gx: |x, _, g| g * F::of(0.398_942_280_401_432_7) * (F::of(-0.5) * x * x).exp(),
        check: |x| x.normal_cdf(), random(&[17], 14),
    }

    /// e to the power of every element.
    Exp exp() {
        y: |x| x.exp(),
        gx: |_, y, g| g * y,
        check: |x| x.exp(), random(&[2, 3, 3], 6),
    }

    /// Natural logarithm of every element: -infinity at 0, NaN below.
    Ln ln() {
        y: |x| x.ln(),
        gx: |x, _, g| g / x,
        check: |x| x.ln(), random_positive(&[3, 5], 7),
    }

    /// Square root of every element; the slope at 0 is infinite.
    Sqrt sqrt() {
        y: |x| x.sqrt(),
        gx: |_, y, g| g / (y + y),
        check: |x| x.sqrt(), random_positive(&[3, 5], 8),
    }

    /// Every element to an integer power, which may be negative; `x^0` is 1 everywhere.
    Powi powi(exponent: i32) {
        y: |x| x.power(exponent),
        // x^0 is flat, also at 0, where 0 * 0^-1 would be NaN.
        gx: |x, _, g| if exponent == 0 {
            F::zero()
        } else {
            g * F::of(exponent.into()) * x.power(exponent.saturating_sub(1))
        },
        check: |x| x.powi(3) + x.powi(-2) + x.powi(0) + x.powi(1), random_positive(&[7], 9),
    }

    /// `-x` of every element; the same as the operator.
    #[expect(clippy::should_implement_trait, reason = "so that chains need no import of the trait")]
    Neg neg() {
        y: |x| -x,
        gx: |_, _, g| -g,
        check: |x| -x, random(&[7], 10),
    }

    /// Every element times the constant `factor`.
    Scale scale(factor: f64) {
        y: |x| x * F::of(factor),
        gx: |_, _, g| g * F::of(factor),
        check: |x| x.scale(-1.7), random(&[7], 11),
    }

    /// Every element plus the constant `by`.
    Shift shift(by: f64) {
        y: |x| x + F::of(by),
        gx: |_, _, g| g,
        check: |x| x.shift(0.3).powi(2), random(&[7], 12),
    }
}

impl<'t, F: Elem> std::ops::Neg for Var<'t, F> {
    type Output = Self;
    #[track_caller]
    fn neg(self) -> Self {
        Var::neg(self)
    }
}

/// `sqrt(2 / pi)`.
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBE: f64 = 0.044_715;

/// `(1 + tanh u) / 2` and `(1 - tanh u) / 2` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`, without cancellation.
#[inline(always)]
fn gelu_shares<F: Elem>(x: F) -> (F, F) {
    // The exponent in f64, corrected for what F cannot hold: its rounding error is the relative error of the power.
    let wide = x.f64().abs();
    let exponent = (-2.0 * GELU_SCALE * (wide + GELU_CUBE * wide * wide * wide)).max(-1000.0);
    let near = F::of(exponent);
    let power = near.exp();
    let power = power.mul_add(F::of(exponent - near.f64()), power);
    let (large, small) = (F::one() / (F::one() + power), power / (F::one() + power));
    if x < F::zero() { (small, large) } else { (large, small) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::arr;
    use crate::engine::tape::{Mode, Tape};

    /// Value and slope of `f` at `x`.
    fn at(x: f32, f: impl for<'t> Fn(Var<'t, f32>) -> Var<'t, f32>) -> (f32, f32) {
        let tape = Tape::new(Mode::Train);
        let x = tape.variable(arr::full(&[], x));
        let y = f(x);
        (y.item(), arr::data(&tape.backward(y).unwrap().wrt(x))[0])
    }

    #[test]
    fn values_at_special_points() {
        assert_eq!(at(0.0, |x| x.relu()), (0.0, 0.0));
        assert_eq!(at(0.0, |x| x.powi(0)), (1.0, 0.0));
        assert_eq!(at(0.0, |x| x.powi(1)), (0.0, 1.0));
        assert_eq!(at(-2.0, |x| x.powi(3)), (-8.0, 12.0));
        assert_eq!(at(0.0, |x| x.gelu()), (0.0, 0.5));
        assert_eq!(at(-200.0, |x| x.sigmoid()), (0.0, 0.0));
        assert_eq!(at(-200.0, |x| x.silu()).0, 0.0);
        assert_eq!(at(100.0, |x| x.gelu()), (100.0, 1.0));
        assert_eq!(at(-100.0, |x| x.gelu()), (0.0, 0.0));
        assert!(at(f32::NAN, |x| x.gelu()).0.is_nan() && at(f32::NAN, |x| x.sigmoid()).0.is_nan());
        assert_eq!((at(100.0, |x| x.softplus()), at(-200.0, |x| x.softplus())), ((100.0, 1.0), (0.0, 0.0)));
        assert_eq!(at(20.0, |x| x.normal_cdf()), (1.0, 0.0));
    }
}
