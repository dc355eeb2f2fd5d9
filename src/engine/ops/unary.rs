//! Functions of one number, applied to every element.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random, random_positive};
use crate::engine::kernels::{elem::Elem, map};
use crate::engine::tape::{Ctx, Op, Var};

/// A function of one number; the operation that applies it to every element comes with it.
/// Mark both methods `#[inline(always)]`: they become the body of a vectorized loop.
pub trait Elementwise: Sync + 'static {
    /// The operation's name, see [`Op::NAME`].
    const NAME: &'static str;
    /// `y = f(x)`.
    fn forward<F: Elem>(&self, x: F) -> F;
    /// `f'(x) g`, where `y = f(x)` and `g` is the gradient of y.
    fn backward<F: Elem>(&self, x: F, y: F, g: F) -> F;
}

impl<F: Elem, O: Elementwise> Op<F, 1> for O {
    const NAME: &'static str = <O as Elementwise>::NAME;
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let y = arr::map(
            x,
            #[inline(always)]
            |x| Elementwise::forward(self, x),
        );
        Ok((y, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let mut gx = arr::fresh(gy.shape());
        map::zip3(
            arr::data_mut(&mut gx),
            arr::data(ctx.x[0]),
            arr::data(ctx.y),
            arr::data(gy),
            #[inline(always)]
            |x, y, g| Elementwise::backward(self, x, y, g),
        );
        [Some(gx)]
    }
}

/// `max(x, 0)`; the gradient at 0 is 0.
pub struct Relu;

impl Elementwise for Relu {
    const NAME: &'static str = "relu";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.relu()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, y: F, g: F) -> F {
        if y > F::zero() { g } else { F::zero() }
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `max(x, 0)` of every element; the gradient at 0 is 0.
    #[track_caller]
    pub fn relu(self) -> Self {
        Var::apply(Relu, [self])
    }
}

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`: the tanh form of the Gaussian error linear unit.
pub struct Gelu;

/// `sqrt(2 / pi)`.
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBE: f64 = 0.044_715;

/// `(1 + tanh u) / 2` and `(1 - tanh u) / 2` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`, without cancellation.
#[inline(always)]
fn gelu_shares<F: Elem>(x: F) -> (F, F) {
    // In f64, and with the rest that E cannot hold: a power is off by as much of itself as its exponent is in all.
    let wide = x.f64().abs();
    let exponent = (-2.0 * GELU_SCALE * (wide + GELU_CUBE * wide * wide * wide)).max(-1000.0);
    let near = F::of(exponent);
    let power = near.exp();
    let power = power.mul_add(F::of(exponent - near.f64()), power);
    let (large, small) = (F::one() / (F::one() + power), power / (F::one() + power));
    if x < F::zero() { (small, large) } else { (large, small) }
}

impl Elementwise for Gelu {
    const NAME: &'static str = "gelu";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x * gelu_shares(x).0
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, x: F, _: F, g: F) -> F {
        let (share, rest) = gelu_shares(x);
        let inner = F::of(GELU_SCALE) * (F::one() + F::of(3.0 * GELU_CUBE) * x * x);
        g * (share + F::of(2.0) * x * share * rest * inner)
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The Gaussian error linear unit in its tanh form: `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    #[track_caller]
    pub fn gelu(self) -> Self {
        Var::apply(Gelu, [self])
    }
}

/// `x sigmoid(x)`, also called swish.
pub struct Silu;

impl Elementwise for Silu {
    const NAME: &'static str = "silu";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x * x.sigmoid()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, x: F, y: F, g: F) -> F {
        let s = x.sigmoid();
        g * (s + y * (F::one() - s))
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `x sigmoid(x)` of every element.
    #[track_caller]
    pub fn silu(self) -> Self {
        Var::apply(Silu, [self])
    }
}

/// Hyperbolic tangent.
pub struct Tanh;

impl Elementwise for Tanh {
    const NAME: &'static str = "tanh";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.tanh()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, y: F, g: F) -> F {
        g * (F::one() - y * y)
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Hyperbolic tangent of every element.
    #[track_caller]
    pub fn tanh(self) -> Self {
        Var::apply(Tanh, [self])
    }
}

/// `1 / (1 + e^-x)`.
pub struct Sigmoid;

impl Elementwise for Sigmoid {
    const NAME: &'static str = "sigmoid";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.sigmoid()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, y: F, g: F) -> F {
        g * y * (F::one() - y)
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `1 / (1 + e^-x)` of every element.
    #[track_caller]
    pub fn sigmoid(self) -> Self {
        Var::apply(Sigmoid, [self])
    }
}

/// `ln(1 + e^x)`.
pub struct Softplus;

impl Elementwise for Softplus {
    const NAME: &'static str = "softplus";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.softplus()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, x: F, _: F, g: F) -> F {
        g * x.sigmoid()
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `ln(1 + e^x)` of every element: a smooth [`Var::relu`].
    #[track_caller]
    pub fn softplus(self) -> Self {
        Var::apply(Softplus, [self])
    }
}

/// The standard normal distribution function.
pub struct NormalCdf;

impl Elementwise for NormalCdf {
    const NAME: &'static str = "normal_cdf";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.normal_cdf()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, x: F, _: F, g: F) -> F {
        // The density, whose constant is 1 / sqrt(2 pi).
        g * F::of(0.398_942_280_401_432_7) * (F::of(-0.5) * x * x).exp()
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The probability that a standard normal number is at most x, for every element.
    #[track_caller]
    pub fn normal_cdf(self) -> Self {
        Var::apply(NormalCdf, [self])
    }
}

/// e to the power of x.
pub struct Exp;

impl Elementwise for Exp {
    const NAME: &'static str = "exp";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.exp()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, y: F, g: F) -> F {
        g * y
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// e to the power of every element.
    #[track_caller]
    pub fn exp(self) -> Self {
        Var::apply(Exp, [self])
    }
}

/// Natural logarithm: -infinity at 0, NaN below.
pub struct Ln;

impl Elementwise for Ln {
    const NAME: &'static str = "ln";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.ln()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, x: F, _: F, g: F) -> F {
        g / x
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Natural logarithm of every element: -infinity at 0, NaN below.
    #[track_caller]
    pub fn ln(self) -> Self {
        Var::apply(Ln, [self])
    }
}

/// Square root; its slope at 0 is infinite.
pub struct Sqrt;

impl Elementwise for Sqrt {
    const NAME: &'static str = "sqrt";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.sqrt()
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, y: F, g: F) -> F {
        g / (y + y)
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Square root of every element; the slope at 0 is infinite.
    #[track_caller]
    pub fn sqrt(self) -> Self {
        Var::apply(Sqrt, [self])
    }
}

/// x to a whole power; `x^0` is 1 everywhere.
pub struct Powi(i32);

impl Elementwise for Powi {
    const NAME: &'static str = "powi";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x.power(self.0)
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, x: F, _: F, g: F) -> F {
        // x^0 is flat, also at 0, where 0 * 0^-1 would be NaN.
        if self.0 == 0 { F::zero() } else { g * F::of(self.0.into()) * x.power(self.0.saturating_sub(1)) }
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Every element to a whole power, which may be negative; `x^0` is 1 everywhere.
    #[track_caller]
    pub fn powi(self, exponent: i32) -> Self {
        Var::apply(Powi(exponent), [self])
    }
}

/// `-x`.
pub struct Neg;

impl Elementwise for Neg {
    const NAME: &'static str = "neg";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        -x
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, _: F, g: F) -> F {
        -g
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `-x` of every element; the same as the operator.
    #[expect(clippy::should_implement_trait, reason = "so that chains need no import of the trait")]
    #[track_caller]
    pub fn neg(self) -> Self {
        Var::apply(Neg, [self])
    }
}

impl<'t, F: Elem> std::ops::Neg for Var<'t, F> {
    type Output = Self;
    #[track_caller]
    fn neg(self) -> Self {
        Var::neg(self)
    }
}

/// x times a constant.
pub struct Scale(f64);

impl Elementwise for Scale {
    const NAME: &'static str = "scale";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x * F::of(self.0)
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, _: F, g: F) -> F {
        g * F::of(self.0)
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Every element times the constant `factor`.
    #[track_caller]
    pub fn scale(self, factor: f64) -> Self {
        Var::apply(Scale(factor), [self])
    }
}

/// x plus a constant.
pub struct Shift(f64);

impl Elementwise for Shift {
    const NAME: &'static str = "shift";
    #[inline(always)]
    fn forward<F: Elem>(&self, x: F) -> F {
        x + F::of(self.0)
    }
    #[inline(always)]
    fn backward<F: Elem>(&self, _: F, _: F, g: F) -> F {
        g
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Every element plus the constant `by`.
    #[track_caller]
    pub fn shift(self, by: f64) -> Self {
        Var::apply(Shift(by), [self])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check { op: "relu", run: || gradcheck([random(&[3, 5], 1)], |[x]| Ok(x.relu())) },
        Check { op: "gelu", run: || gradcheck([random(&[3, 5], 2)], |[x]| Ok(x.gelu())) },
        Check { op: "silu", run: || gradcheck([random(&[3, 5], 3)], |[x]| Ok(x.silu())) },
        Check { op: "tanh", run: || gradcheck([random(&[17], 4)], |[x]| Ok(x.tanh())) },
        Check { op: "sigmoid", run: || gradcheck([random(&[17], 5)], |[x]| Ok(x.sigmoid())) },
        Check { op: "softplus", run: || gradcheck([random(&[17], 13)], |[x]| Ok(x.softplus())) },
        Check { op: "normal_cdf", run: || gradcheck([random(&[17], 14)], |[x]| Ok(x.normal_cdf())) },
        Check { op: "exp", run: || gradcheck([random(&[2, 3, 3], 6)], |[x]| Ok(x.exp())) },
        Check { op: "ln", run: || gradcheck([random_positive(&[3, 5], 7)], |[x]| Ok(x.ln())) },
        Check { op: "sqrt", run: || gradcheck([random_positive(&[3, 5], 8)], |[x]| Ok(x.sqrt())) },
        Check {
            op: "powi",
            run: || {
                let x = random_positive(&[7], 9);
                gradcheck([x], |[x]| Ok(x.powi(3).add(x.powi(-2)).add(x.powi(0)).add(x.powi(1))))
            },
        },
        Check { op: "neg", run: || gradcheck([random(&[7], 10)], |[x]| Ok(-x)) },
        Check { op: "scale", run: || gradcheck([random(&[7], 11)], |[x]| Ok(x.scale(-1.7))) },
        Check { op: "shift", run: || gradcheck([random(&[7], 12)], |[x]| Ok(x.shift(0.3).powi(2))) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    /// Value and slope of `f` at `x`.
    fn at(x: f32, f: impl for<'t> Fn(Var<'t, f32>) -> Var<'t, f32>) -> (f32, f32) {
        let tape = Tape::new(Mode::Train);
        let x = tape.variable(arr::full(&[], x));
        let y = f(x);
        (y.item(), arr::data(tape.backward(y).unwrap().of(x).unwrap())[0])
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
