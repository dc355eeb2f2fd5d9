//! Functions of one number, applied to every element: what [`super::unary`] is a table of.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, map};
use crate::engine::tape::{Ctx, Op};

/// A function of one number; the operation that applies it to every element comes with it.
/// Both methods become the body of a vectorized loop: mark them `#[inline(always)]`.
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
        let mut gx = arr::uninit(gy.shape());
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

/// A table of functions: for each an operation, its method on [`Var`](crate::Var) and its gradient check. `y` is the
/// function of `x`, `gx` the gradient of `x` from that of `y`; the check applies a method to an input.
macro_rules! elementwise {
    ($($(#[$about:meta])* $op:ident $method:ident($($parameter:ident: $type:ty)?) {
        y: |$x:tt| $y:expr,
        gx: |$bx:tt, $by:tt, $bg:tt| $gx:expr,
        check: |$cx:ident| $check:expr, $input:expr $(,)?
    })*) => {
        $(
            #[doc = concat!("The operation of [`Var::", stringify!($method), "`].")]
            pub struct $op { $($parameter: $type)? }

            impl $crate::engine::ops::elementwise::Elementwise for $op {
                const NAME: &'static str = stringify!($method);
                #[inline(always)]
                fn forward<F: Elem>(&self, $x: F) -> F {
                    let Self { $($parameter)? } = *self;
                    $y
                }
                #[inline(always)]
                #[allow(unused_variables, reason = "a derivative need not depend on the parameter")]
                fn backward<F: Elem>(&self, $bx: F, $by: F, $bg: F) -> F {
                    let Self { $($parameter)? } = *self;
                    $gx
                }
            }

            impl<'t, F: Elem> Var<'t, F> {
                $(#[$about])*
                #[track_caller]
                pub fn $method(self $(, $parameter: $type)?) -> Self {
                    Var::apply($op { $($parameter)? }, [self])
                }
            }
        )*

        /// The gradient checks of this file.
        pub fn checks() -> Vec<Check> {
            vec![$(Check { op: stringify!($method), run: || gradcheck([$input], |[$cx]| Ok($check)) }),*]
        }
    };
}
pub(super) use elementwise;
