//! Functions of two numbers, applied to arrays of one shape, or of shapes that broadcast to one.

use super::broadcast::{broadcast, common_shape, sum_to};
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random, random_positive};
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::{Ctx, Op, Var};

/// `f(a, b)` for each pair of elements, for the operation of this name.
#[inline(always)]
fn each_pair<F: Elem>(
    name: &'static str,
    [a, b]: [&Arr<F>; 2],
    f: impl Fn(F, F) -> F + Sync + Send,
) -> Result<(Arr<F>, ())> {
    Ok((broadcast(a, b, &common_shape(name, a.shape(), b.shape())?, f), ()))
}

/// `a + b`.
pub struct Add;

impl<F: Elem> Op<F, 2> for Add {
    const NAME: &'static str = "add";
    type Saved = ();
    fn forward(&self, x: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        each_pair(
            <Self as Op<F, 2>>::NAME,
            x,
            #[inline(always)]
            |a, b| a + b,
        )
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        let [a, b] = ctx.x;
        [ctx.needs[0].then(|| sum_to(gy, a.shape())), ctx.needs[1].then(|| sum_to(gy, b.shape()))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `a + b`, broadcasting; the same as the operator.
    #[expect(clippy::should_implement_trait, reason = "so that chains need no import of the trait")]
    #[track_caller]
    pub fn add(self, other: Var<'t, F>) -> Self {
        Var::apply(Add, [self, other])
    }
}

impl<'t, F: Elem> std::ops::Add for Var<'t, F> {
    type Output = Self;
    #[track_caller]
    fn add(self, other: Self) -> Self {
        Var::add(self, other)
    }
}

/// `a - b`.
pub struct Sub;

impl<F: Elem> Op<F, 2> for Sub {
    const NAME: &'static str = "sub";
    type Saved = ();
    fn forward(&self, x: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        each_pair(
            <Self as Op<F, 2>>::NAME,
            x,
            #[inline(always)]
            |a, b| a - b,
        )
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        let [a, b] = ctx.x;
        let gb = || {
            arr::map(
                &sum_to(gy, b.shape()),
                #[inline(always)]
                |g| -g,
            )
        };
        [ctx.needs[0].then(|| sum_to(gy, a.shape())), ctx.needs[1].then(gb)]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `a - b`, broadcasting; the same as the operator.
    #[expect(clippy::should_implement_trait, reason = "so that chains need no import of the trait")]
    #[track_caller]
    pub fn sub(self, other: Var<'t, F>) -> Self {
        Var::apply(Sub, [self, other])
    }
}

impl<'t, F: Elem> std::ops::Sub for Var<'t, F> {
    type Output = Self;
    #[track_caller]
    fn sub(self, other: Self) -> Self {
        Var::sub(self, other)
    }
}

/// `a b`, element by element.
pub struct Mul;

impl<F: Elem> Op<F, 2> for Mul {
    const NAME: &'static str = "mul";
    type Saved = ();
    fn forward(&self, x: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        each_pair(
            <Self as Op<F, 2>>::NAME,
            x,
            #[inline(always)]
            |a, b| a * b,
        )
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        let [a, b] = ctx.x;
        let times = |other: &Arr<F>| {
            broadcast(
                gy,
                other,
                gy.shape(),
                #[inline(always)]
                |g, other| g * other,
            )
        };
        [
            ctx.needs[0].then(|| sum_to(&times(b), a.shape())),
            ctx.needs[1].then(|| sum_to(&times(a), b.shape())),
        ]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `a b` element by element, broadcasting; the same as the operator. For matrices see
    /// [`Var::matmul`].
    #[expect(clippy::should_implement_trait, reason = "so that chains need no import of the trait")]
    #[track_caller]
    pub fn mul(self, other: Var<'t, F>) -> Self {
        Var::apply(Mul, [self, other])
    }
}

impl<'t, F: Elem> std::ops::Mul for Var<'t, F> {
    type Output = Self;
    #[track_caller]
    fn mul(self, other: Self) -> Self {
        Var::mul(self, other)
    }
}

/// `a / b`.
pub struct Div;

impl<F: Elem> Op<F, 2> for Div {
    const NAME: &'static str = "div";
    type Saved = ();
    fn forward(&self, x: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        each_pair(
            <Self as Op<F, 2>>::NAME,
            x,
            #[inline(always)]
            |a, b| a / b,
        )
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        let [a, b] = ctx.x;
        // The gradient of a is g / b, that of b is -y g / b.
        let ga = broadcast(
            gy,
            b,
            gy.shape(),
            #[inline(always)]
            |g, b| g / b,
        );
        let gb = || {
            arr::zip(
                ctx.y,
                &ga,
                #[inline(always)]
                |y, ga| -(y * ga),
            )
        };
        let gb = ctx.needs[1].then(|| sum_to(&gb(), b.shape()));
        [ctx.needs[0].then(|| sum_to(&ga, a.shape())), gb]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `a / b`, broadcasting; the same as the operator.
    #[expect(clippy::should_implement_trait, reason = "so that chains need no import of the trait")]
    #[track_caller]
    pub fn div(self, other: Var<'t, F>) -> Self {
        Var::apply(Div, [self, other])
    }
}

impl<'t, F: Elem> std::ops::Div for Var<'t, F> {
    type Output = Self;
    #[track_caller]
    fn div(self, other: Self) -> Self {
        Var::div(self, other)
    }
}

/// The larger of a and b; NaN if either is.
pub struct Maximum;

impl<F: Elem> Op<F, 2> for Maximum {
    const NAME: &'static str = "maximum";
    type Saved = ();
    fn forward(&self, x: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        each_pair(
            <Self as Op<F, 2>>::NAME,
            x,
            // Unordered numbers have a NaN among them, and so has their sum.
            #[inline(always)]
            |a, b| {
                if a >= b {
                    a
                } else if b > a {
                    b
                } else {
                    a + b
                }
            },
        )
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        to_the_winner(ctx, gy)
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The larger of a and b, broadcasting; NaN if either is. Where they are equal the gradient goes to
    /// `self`.
    #[track_caller]
    pub fn maximum(self, other: Var<'t, F>) -> Self {
        Var::apply(Maximum, [self, other])
    }
}

/// The smaller of a and b; NaN if either is.
pub struct Minimum;

impl<F: Elem> Op<F, 2> for Minimum {
    const NAME: &'static str = "minimum";
    type Saved = ();
    fn forward(&self, x: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        each_pair(
            <Self as Op<F, 2>>::NAME,
            x,
            #[inline(always)]
            |a, b| {
                if a <= b {
                    a
                } else if b < a {
                    b
                } else {
                    a + b
                }
            },
        )
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        to_the_winner(ctx, gy)
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The smaller of a and b, broadcasting; NaN if either is. Where they are equal the gradient goes to
    /// `self`.
    #[track_caller]
    pub fn minimum(self, other: Var<'t, F>) -> Self {
        Var::apply(Minimum, [self, other])
    }
}

/// The gradient of a choice between a and b: a's where the choice equals a, else b's.
fn to_the_winner<F: Elem>(ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
    let [a, b] = ctx.x;
    let first_won = broadcast(
        ctx.y,
        a,
        gy.shape(),
        #[inline(always)]
        |y, a| if y == a { F::one() } else { F::zero() },
    );
    let given_where = |winner: F| {
        arr::zip(
            &first_won,
            gy,
            #[inline(always)]
            move |won, g| if won == winner { g } else { F::zero() },
        )
    };
    [
        ctx.needs[0].then(|| sum_to(&given_where(F::one()), a.shape())),
        ctx.needs[1].then(|| sum_to(&given_where(F::zero()), b.shape())),
    ]
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check {
            op: "add",
            run: || gradcheck([random(&[2, 3, 5], 1), random(&[3, 1], 2)], |[a, b]| Ok(a + b)),
        },
        Check { op: "sub", run: || gradcheck([random(&[5], 1), random(&[3, 5], 2)], |[a, b]| Ok(a - b)) },
        Check {
            op: "mul",
            run: || gradcheck([random(&[4, 1, 3], 1), random(&[2, 1], 2)], |[a, b]| Ok(a * b)),
        },
        Check {
            op: "div",
            run: || gradcheck([random(&[3, 5], 1), random_positive(&[5], 2)], |[a, b]| Ok(a / b)),
        },
        Check {
            op: "maximum",
            run: || gradcheck([random(&[3, 5], 1), random(&[3, 1], 2)], |[a, b]| Ok(a.maximum(b))),
        },
        Check {
            op: "minimum",
            run: || gradcheck([random(&[1, 5], 1), random(&[3, 5], 2)], |[a, b]| Ok(a.minimum(b))),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn gradients_agree_however_the_shapes_meet() {
        let shapes: [(&[usize], &[usize]); 9] = [
            (&[3, 4], &[3, 4]),
            (&[3, 4], &[4]),
            (&[4], &[3, 4]),
            (&[3, 4], &[]),
            (&[], &[3, 4]),
            (&[1, 1], &[4]),
            (&[2, 1, 4], &[3, 1]),
            (&[2, 3, 1], &[2, 3, 4]),
            (&[1, 4], &[3, 1]),
        ];
        for (a, b) in shapes {
            let inputs = [random_positive(a, 1), random_positive(b, 2)];
            let report = gradcheck(inputs, |[a, b]| Ok((a * b - a / b).maximum(a + b).minimum(b))).unwrap();
            assert!(report.passed(), "{a:?} and {b:?}: {report:?}");
        }
    }

    #[test]
    fn broadcasting_is_that_of_ndarray() {
        let tape = Tape::new(Mode::Infer);
        for (a, b) in [(vec![2, 1, 4], vec![3, 1]), (vec![3, 4], vec![4]), (vec![4], vec![2, 3, 4])] {
            let (a, b) = (random(&a, 1), random(&b, 2));
            let y = tape.constant(a.clone()) - tape.constant(b.clone());
            assert_eq!(y.value(), (&a - &b).into_shared());
        }
        let y = tape.constant(random(&[0, 3], 1)) + tape.constant(random(&[3], 1));
        assert_eq!(y.shape(), [0, 3]);
    }

    #[test]
    fn ties_give_the_gradient_to_the_first() {
        let tape = Tape::new(Mode::Train);
        let (a, b) =
            (tape.variable(arr::from_vec(&[2], vec![1.0, 2.0])), tape.variable(arr::full(&[2], 1.0)));
        for (y, ga, gb) in [(a.maximum(b), [1.0, 1.0], [0.0, 0.0]), (a.minimum(b), [1.0, 0.0], [0.0, 1.0])] {
            let gradients = tape.backward_from(y, arr::full(&[2], 1.0));
            assert_eq!(arr::data(&gradients.wrt(a)), ga);
            assert_eq!(arr::data(&gradients.wrt(b)), gb);
        }
    }

    #[test]
    fn a_nan_on_either_side_stays_nan() {
        let tape = Tape::new(Mode::Infer);
        let (nan, one) = (tape.constant(arr::full(&[], f32::NAN)), tape.constant(arr::full(&[], 1.0)));
        for y in [nan.maximum(one), one.maximum(nan), nan.minimum(one), one.minimum(nan)] {
            assert!(y.item().is_nan());
        }
    }

    #[test]
    #[should_panic(
        expected = "add: lengths 3 and 4 of axis 2 from the end are neither equal nor 1; shapes are [2, 3, 5] and [4, 5] (at src/engine/ops/binary.rs"
    )]
    fn shapes_that_do_not_fit_are_named_with_the_callers_place() {
        let tape = Tape::new(Mode::Infer);
        let _ = tape.constant(random(&[2, 3, 5], 1)) + tape.constant(random(&[4, 5], 1));
    }
}
