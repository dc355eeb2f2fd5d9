//! Operations that move elements and compute nothing.

use std::ops::Range;

use ndarray::{Axis, IxDyn, Slice as Part};

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// The same elements under another shape of as many; shares the data.
pub(crate) fn reshaped<F: Elem>(x: &Arr<F>, shape: &[usize]) -> Arr<F> {
    x.clone().into_shape_with_order(IxDyn(shape)).expect("as many elements, contiguous")
}

/// Swaps two axes.
pub struct Transpose {
    a: usize,
    b: usize,
}

impl Transpose {
    fn swapped<F: Elem>(&self, x: &Arr<F>) -> Arr<F> {
        let mut view = x.view();
        view.swap_axes(self.a, self.b);
        let mut out = arr::uninit(view.shape());
        out.assign(&view);
        out
    }
}

impl<F: Elem> Op<F, 1> for Transpose {
    const NAME: &'static str = "transpose";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let Transpose { a, b } = *self;
        if a.max(b) >= x.ndim() {
            let why = format!("no axes {a} and {b} in an array of {} axes, counted from 0", x.ndim());
            return Err(shape_error(<Self as Op<F, 1>>::NAME, why, &[x.shape()]));
        }
        Ok((self.swapped(x), ()))
    }
    fn backward(&self, _: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(self.swapped(gy))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Swaps axes `a` and `b`, counted from 0.
    #[track_caller]
    pub fn transpose(self, a: usize, b: usize) -> Self {
        Var::apply(Transpose { a, b }, [self])
    }
}

/// The same elements in row-major order under another shape.
pub struct Reshape(Vec<usize>);

impl<F: Elem> Op<F, 1> for Reshape {
    const NAME: &'static str = "reshape";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let len: usize = self.0.iter().product();
        if len != x.len() {
            let why = format!("{} elements do not fill a shape of {len}", x.len());
            return Err(shape_error(<Self as Op<F, 1>>::NAME, why, &[x.shape(), &self.0]));
        }
        Ok((reshaped(x, &self.0), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(reshaped(gy, ctx.x[0].shape()))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The same elements in row-major order under another shape; shares the data, copies nothing.
    #[track_caller]
    pub fn reshape(self, shape: &[usize]) -> Self {
        Var::apply(Reshape(shape.to_vec()), [self])
    }
}

/// The part of an axis that lies in a range.
pub struct Slice {
    axis: usize,
    range: Range<usize>,
}

impl<F: Elem> Op<F, 1> for Slice {
    const NAME: &'static str = "slice";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let Slice { axis, range } = self;
        let Some(&length) = x.shape().get(*axis) else {
            let why = format!("no axis {axis} in an array of {} axes, counted from 0", x.ndim());
            return Err(shape_error(<Self as Op<F, 1>>::NAME, why, &[x.shape()]));
        };
        if range.start > range.end || range.end > length {
            let why = format!("range {range:?} does not lie in axis {axis} of length {length}");
            return Err(shape_error(<Self as Op<F, 1>>::NAME, why, &[x.shape()]));
        }
        Ok((part(x, *axis, range.clone()), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let mut gx = arr::zeros(ctx.x[0].shape());
        gx.slice_axis_mut(Axis(self.axis), Part::from(self.range.clone())).assign(gy);
        [Some(gx)]
    }
}

/// A copy of the part of `x` whose index along `axis` lies in `range`.
fn part<F: Elem>(x: &Arr<F>, axis: usize, range: Range<usize>) -> Arr<F> {
    let view = x.slice_axis(Axis(axis), Part::from(range));
    let mut out = arr::uninit(view.shape());
    out.assign(&view);
    out
}

impl<'t, F: Elem> Var<'t, F> {
    /// The part with index in `range` along `axis`; the other axes stay whole.
    #[track_caller]
    pub fn slice(self, axis: usize, range: Range<usize>) -> Self {
        Var::apply(Slice { axis, range }, [self])
    }
}

/// Arrays one after another along an axis.
pub struct Concat {
    axis: usize,
}

impl<F: Elem, const N: usize> Op<F, N> for Concat {
    const NAME: &'static str = "concat";
    type Saved = ();
    fn forward(&self, x: [&Arr<F>; N]) -> Result<(Arr<F>, ())> {
        let error = |why: String| shape_error(<Self as Op<F, N>>::NAME, why, &x.map(|x| x.shape()));
        let Some(first) = x.first() else { return Err(error("there is nothing to put together".into())) };
        let mut shape = first.shape().to_vec();
        if self.axis >= shape.len() {
            return Err(error(format!(
                "no axis {} in an array of {} axes, counted from 0",
                self.axis,
                shape.len()
            )));
        }
        shape[self.axis] = 0;
        for x in x {
            let differs = |(i, (a, b)): (usize, (&usize, &usize))| i != self.axis && a != b;
            if x.ndim() != shape.len() || x.shape().iter().zip(&shape).enumerate().any(differs) {
                return Err(error(format!("all axes except axis {} must be of equal length", self.axis)));
            }
        }
        shape[self.axis] = x.iter().map(|x| x.shape()[self.axis]).sum();
        let mut out = arr::uninit(&shape);
        let mut start = 0;
        for x in x {
            let end = start + x.shape()[self.axis];
            out.slice_axis_mut(Axis(self.axis), Part::from(start..end)).assign(x);
            start = end;
        }
        Ok((out, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), N>, gy: &Arr<F>) -> [Option<Arr<F>>; N] {
        let mut end = 0;
        std::array::from_fn(|i| {
            let start = end;
            end += ctx.x[i].shape()[self.axis];
            ctx.needs[i].then(|| part(gy, self.axis, start..end))
        })
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// At least one part, put one after another along `axis`; the other axes are equally long in all.
    #[track_caller]
    pub fn concat<const N: usize>(parts: [Var<'t, F>; N], axis: usize) -> Self {
        const { assert!(N > 0, "concat needs at least one part") };
        Var::apply(Concat { axis }, parts)
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check { op: "transpose", run: || gradcheck([random(&[2, 3, 5], 1)], |[x]| Ok(x.transpose(0, 2))) },
        Check {
            op: "reshape",
            run: || gradcheck([random(&[3, 4], 1)], |[x]| Ok(x.reshape(&[2, 6]).mul(x.reshape(&[2, 6])))),
        },
        Check {
            op: "slice",
            run: || gradcheck([random(&[2, 5, 3], 1)], |[x]| Ok(x.slice(1, 1..4).mul(x.slice(1, 0..3)))),
        },
        Check {
            op: "concat",
            run: || {
                let inputs = [random(&[2, 1, 3], 1), random(&[2, 4, 3], 2), random(&[2, 2, 3], 3)];
                gradcheck(inputs, |parts| Ok(Var::concat(parts, 1)))
            },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn elements_move_as_in_ndarray() {
        let tape = Tape::new(Mode::Infer);
        let x = random(&[2, 3, 4], 1);
        let v = tape.constant(x.clone());
        let mut swapped = x.view();
        swapped.swap_axes(0, 1);
        assert_eq!(v.transpose(0, 1).value(), swapped);
        assert_eq!(v.slice(2, 1..3).value(), x.slice_axis(Axis(2), Part::from(1..3)));
        assert_eq!(v.slice(1, 1..1).shape(), [2, 0, 4]);
        assert_eq!(Var::concat([v.slice(2, 0..1), v.slice(2, 1..4)], 2).value(), x);
        assert!(v.transpose(0, 1).value().is_standard_layout());
    }

    #[test]
    fn reshape_shares_the_data() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(random(&[3, 4], 1));
        assert_eq!(x.reshape(&[12]).value().as_ptr(), x.value().as_ptr());
    }

    #[test]
    fn shapes_that_do_not_fit_are_explained() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(random(&[3, 4], 1));
        let message = |result: Result<Var<f64>>| result.err().unwrap().to_string();
        assert!(
            message(tape.apply(Reshape(vec![5, 2]), [x]))
                .starts_with("reshape: 12 elements do not fill a shape of 10")
        );
        assert!(message(tape.apply(Transpose { a: 0, b: 2 }, [x])).contains("no axes 0 and 2"));
        let backwards = Range { start: 3, end: 1 };
        for range in [2..5, backwards] {
            assert!(message(tape.apply(Slice { axis: 1, range }, [x])).contains("does not lie in axis 1"));
        }
        let y = tape.constant(random(&[4, 3], 1));
        assert!(message(tape.apply(Concat { axis: 0 }, [x, y])).contains("all axes except axis 0"));
    }
}
