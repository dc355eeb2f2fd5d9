//! Functions of one number, applied to every element.

use crate::arr::{self, Arr};
use crate::error::Result;
use crate::gradcheck::{Check, gradcheck, random, random_positive};
use crate::kernels::elem::Elem;
use crate::tape::{Ctx, Op, Var};

/// `max(x, 0)`; the gradient at 0 is 0.
pub struct Relu;

impl<E: Elem> Op<E, 1> for Relu {
    const NAME: &'static str = "relu";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<E>; 1]) -> Result<(Arr<E>, ())> {
        Ok((
            arr::map(
                x,
                #[inline(always)]
                |x| x.larger(E::zero()),
            ),
            (),
        ))
    }
    fn backward(&self, ctx: Ctx<E, (), 1>, gy: &Arr<E>) -> [Option<Arr<E>>; 1] {
        [Some(arr::zip(
            ctx.y,
            gy,
            #[inline(always)]
            |y, g| if y > E::zero() { g } else { E::zero() },
        ))]
    }
}

impl<'t, E: Elem> Var<'t, E> {
    /// `max(x, 0)` of every element.
    #[track_caller]
    pub fn relu(self) -> Self {
        Var::apply(Relu, [self])
    }
}

/// e to the power of x.
pub struct Exp;

impl<E: Elem> Op<E, 1> for Exp {
    const NAME: &'static str = "exp";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<E>; 1]) -> Result<(Arr<E>, ())> {
        Ok((
            arr::map(
                x,
                #[inline(always)]
                |x| x.exp(),
            ),
            (),
        ))
    }
    fn backward(&self, ctx: Ctx<E, (), 1>, gy: &Arr<E>) -> [Option<Arr<E>>; 1] {
        [Some(arr::zip(
            ctx.y,
            gy,
            #[inline(always)]
            |y, g| y * g,
        ))]
    }
}

impl<'t, E: Elem> Var<'t, E> {
    /// e to the power of every element.
    #[track_caller]
    pub fn exp(self) -> Self {
        Var::apply(Exp, [self])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check { op: "relu", run: || gradcheck([random(&[3, 4], 1)], |[x]| Ok(x.relu())) },
        Check { op: "exp", run: || gradcheck([random(&[3, 4], 1)], |[x]| Ok(x.exp())) },
    ]
}
