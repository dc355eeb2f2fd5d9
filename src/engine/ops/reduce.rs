//! Reductions over some or all axes; the reduced axes are removed from the shape.
//!
//! Each reduction moves the reduced axes to the end, so that what becomes one number is one contiguous
//! row, and works row by row. (A sum over leading axes adds whole rows instead and moves nothing.)

use ndarray::Axis;

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, reduce, rows, select};
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// The axes to reduce, ascending.
struct Axes(Vec<usize>);

impl Axes {
    fn new(axes: &[usize]) -> Axes {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        Axes(axes)
    }

    fn check(&self, op: &'static str, shape: &[usize]) -> Result<()> {
        if let Some(axis) = self.0.iter().find(|&&axis| axis >= shape.len()) {
            let why = format!("no axis {axis} in an array of {} axes, counted from 0", shape.len());
            return Err(shape_error(op, why, &[shape]));
        }
        if let Some(twice) = self.0.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(shape_error(op, format!("axis {} is listed twice", twice[0]), &[shape]));
        }
        Ok(())
    }

    /// As `check`, for reductions that are undefined without elements.
    fn check_not_empty(&self, op: &'static str, shape: &[usize]) -> Result<()> {
        self.check(op, shape)?;
        if self.width(shape) == 0 {
            return Err(shape_error(op, format!("axes {:?} hold no elements to reduce", self.0), &[shape]));
        }
        Ok(())
    }

    /// The axes that stay.
    fn kept(&self, rank: usize) -> impl Iterator<Item = usize> {
        (0..rank).filter(|axis| !self.0.contains(axis))
    }

    /// The shape without the reduced axes.
    fn kept_shape(&self, shape: &[usize]) -> Vec<usize> {
        self.kept(shape.len()).map(|axis| shape[axis]).collect()
    }

    /// How many elements become one.
    fn width(&self, shape: &[usize]) -> usize {
        self.0.iter().map(|&axis| shape[axis]).product()
    }

    /// The axes with the reduced ones at the end.
    fn order(&self, rank: usize) -> Vec<usize> {
        self.kept(rank).chain(self.0.iter().copied()).collect()
    }

    /// `x` with the reduced axes at the end.
    fn to_rows<F: Elem>(&self, x: &Arr<F>) -> Arr<F> {
        let order = self.order(x.ndim());
        if order.is_sorted() {
            return x.clone();
        }
        let view = x.view().permuted_axes(order);
        let mut out = arr::uninit(view.shape());
        out.assign(&view);
        out
    }

    /// The reverse of `to_rows`: an array of this shape, its reduced axes back in their place. `work`
    /// writes row number r.
    fn back_from_rows<F: Elem>(&self, shape: &[usize], work: impl Fn(usize, &mut [F]) + Sync) -> Arr<F> {
        let order = self.order(shape.len());
        let mut moved = arr::uninit(&order.iter().map(|&axis| shape[axis]).collect::<Vec<_>>());
        rows::each(arr::data_mut(&mut moved), self.width(shape), work);
        if order.is_sorted() {
            return moved;
        }
        let mut out = arr::uninit(shape);
        out.view_mut().permuted_axes(order).assign(&moved);
        arr::recycle(moved);
        out
    }

    /// `f` of each row of reduced elements.
    #[inline(always)]
    fn fold<F: Elem>(&self, x: &Arr<F>, f: impl Fn(&[F]) -> F + Sync) -> Arr<F> {
        let mut out = arr::uninit(&self.kept_shape(x.shape()));
        rows::fold(arr::data_mut(&mut out), arr::data(&self.to_rows(x)), f);
        out
    }

    /// Sums: adds whole rows if only leading axes are reduced, else sums each row.
    fn sum<F: Elem>(&self, x: &Arr<F>) -> Arr<F> {
        let leading = self.0.iter().copied().eq(0..self.0.len());
        if leading && !self.0.is_empty() && self.0.len() < x.ndim() {
            let mut out = arr::zeros(&self.kept_shape(x.shape()));
            reduce::add_rows(arr::data_mut(&mut out), arr::data(x));
            return out;
        }
        self.fold(
            x,
            #[inline(always)]
            |row| reduce::sum_lanes(row),
        )
    }

    /// The reverse of a sum: `y` repeated along the reduced axes to fill `shape`.
    fn spread<F: Elem>(&self, y: &Arr<F>, shape: &[usize]) -> Arr<F> {
        let mut view = y.view();
        for &axis in &self.0 {
            view = view.insert_axis(Axis(axis));
        }
        let mut out = arr::uninit(shape);
        out.assign(&view);
        out
    }
}

/// The sum of `x` over some of its axes, which are removed.
pub(super) fn sum_over<F: Elem>(x: &Arr<F>, axes: &[usize]) -> Arr<F> {
    Axes::new(axes).sum(x)
}

/// The mean of a row, for use inside `fast`.
#[inline(always)]
fn mean_of<F: Elem>(row: &[F]) -> F {
    reduce::sum_lanes(row) / F::of(row.len() as f64)
}

/// Sum over some axes.
pub struct SumAxes(Axes);

impl<F: Elem> Op<F, 1> for SumAxes {
    const NAME: &'static str = "sum_axes";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        self.0.check(<Self as Op<F, 1>>::NAME, x.shape())?;
        Ok((self.0.sum(x), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(self.0.spread(gy, ctx.x[0].shape()))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The sum over `axes`, which are removed from the shape.
    #[track_caller]
    pub fn sum_axes(self, axes: &[usize]) -> Self {
        Var::apply(SumAxes(Axes::new(axes)), [self])
    }

    /// The sum of all elements, of shape `[]`.
    #[track_caller]
    pub fn sum(self) -> Self {
        self.sum_axes(&self.all_axes())
    }

    fn all_axes(self) -> Vec<usize> {
        (0..self.shape().len()).collect()
    }
}

/// Mean over some axes.
pub struct MeanAxes(Axes);

impl<F: Elem> Op<F, 1> for MeanAxes {
    const NAME: &'static str = "mean_axes";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        self.0.check_not_empty(<Self as Op<F, 1>>::NAME, x.shape())?;
        Ok((over(&self.0.sum(x), self.0.width(x.shape())), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let shape = ctx.x[0].shape();
        [Some(self.0.spread(&over(gy, self.0.width(shape)), shape))]
    }
}

/// Each element divided by a count.
fn over<F: Elem>(x: &Arr<F>, count: usize) -> Arr<F> {
    let count = F::of(count as f64);
    arr::map(
        x,
        #[inline(always)]
        move |x| x / count,
    )
}

impl<'t, F: Elem> Var<'t, F> {
    /// The mean over `axes`, which are removed from the shape and hold at least one element.
    #[track_caller]
    pub fn mean_axes(self, axes: &[usize]) -> Self {
        Var::apply(MeanAxes(Axes::new(axes)), [self])
    }

    /// The mean of all elements (at least one), of shape `[]`.
    #[track_caller]
    pub fn mean(self) -> Self {
        self.mean_axes(&self.all_axes())
    }
}

/// The largest element over some axes.
pub struct MaxAxes(Axes);

impl<F: Elem> Op<F, 1> for MaxAxes {
    const NAME: &'static str = "max_axes";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        self.0.check_not_empty(<Self as Op<F, 1>>::NAME, x.shape())?;
        let y = self.0.fold(
            x,
            #[inline(always)]
            |row| reduce::max_lanes(row),
        );
        Ok((y, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let shape = ctx.x[0].shape();
        let (x, gy) = (self.0.to_rows(ctx.x[0]), arr::data(gy));
        let gx = self.0.back_from_rows(shape, |r, gx| {
            let row = &arr::data(&x)[r * gx.len()..][..gx.len()];
            gx.fill(F::zero());
            gx[select::argmax(row)] = gy[r];
        });
        [Some(gx)]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The largest element over `axes`, which are removed from the shape and hold at least one element.
    /// The gradient goes to the first of equals.
    #[track_caller]
    pub fn max_axes(self, axes: &[usize]) -> Self {
        Var::apply(MaxAxes(Axes::new(axes)), [self])
    }
}

/// The population variance over some axes.
pub struct VarAxes(Axes);

impl<F: Elem> Op<F, 1> for VarAxes {
    const NAME: &'static str = "var_axes";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        self.0.check_not_empty(<Self as Op<F, 1>>::NAME, x.shape())?;
        let y = self.0.fold(
            x,
            #[inline(always)]
            |row| {
                let mean = mean_of(row);
                let squares = reduce::lanes(
                    row,
                    F::zero(),
                    #[inline(always)]
                    |sum, x| (x - mean).mul_add(x - mean, sum),
                    #[inline(always)]
                    |a, b| a + b,
                );
                squares / F::of(row.len() as f64)
            },
        );
        Ok((y, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        // 2 (x - mean) g / n: how the mean itself moves cancels out.
        let shape = ctx.x[0].shape();
        let (x, gy) = (self.0.to_rows(ctx.x[0]), arr::data(gy));
        let two = F::of(2.0) / F::of(self.0.width(shape) as f64);
        let gx = self.0.back_from_rows(
            shape,
            #[inline(always)]
            |r, gx| {
                let row = &arr::data(&x)[r * gx.len()..][..gx.len()];
                let (mean, slope) = (mean_of(row), two * gy[r]);
                for (gx, &x) in gx.iter_mut().zip(row) {
                    *gx = slope * (x - mean);
                }
            },
        );
        [Some(gx)]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The population variance `mean((x - mean(x))^2)` over `axes`, which are removed from the shape and
    /// hold at least one element.
    #[track_caller]
    pub fn var_axes(self, axes: &[usize]) -> Self {
        Var::apply(VarAxes(Axes::new(axes)), [self])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check {
            op: "sum_axes",
            run: || gradcheck([random(&[2, 3, 5], 1)], |[x]| Ok(x.sum_axes(&[2, 0]).mul(x.sum()))),
        },
        Check {
            op: "mean_axes",
            run: || gradcheck([random(&[4, 3], 1)], |[x]| Ok(x.mean_axes(&[0]).mul(x.mean()))),
        },
        Check { op: "max_axes", run: || gradcheck([random(&[2, 5, 3], 1)], |[x]| Ok(x.max_axes(&[1]))) },
        Check { op: "var_axes", run: || gradcheck([random(&[3, 2, 5], 1)], |[x]| Ok(x.var_axes(&[0, 2]))) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn every_set_of_axes_agrees_with_ndarray() {
        let tape = Tape::new(Mode::Train);
        let x = random(&[3, 4, 5], 1);
        let v = tape.variable(x.clone());
        for set in 0..8 {
            let axes: Vec<usize> = (0..3).filter(|axis| set >> axis & 1 == 1).collect();
            let (mut sum, mut max) = (x.to_owned(), x.to_owned());
            for &axis in axes.iter().rev() {
                sum = sum.sum_axis(Axis(axis));
                max = max.fold_axis(Axis(axis), f64::NEG_INFINITY, |a, b| a.max(*b));
            }
            let count = axes.iter().map(|&axis| x.shape()[axis]).product::<usize>() as f64;
            let close = |a: Arr<f64>, b: &ndarray::ArrayD<f64>| {
                assert_eq!(a.shape(), b.shape());
                assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "axes {axes:?}");
            };
            close(v.sum_axes(&axes).value(), &sum);
            close(v.mean_axes(&axes).value(), &(&sum / count));
            close(v.max_axes(&axes).value(), &max);
            let squares = v.mul(v).mean_axes(&axes).value().to_owned() - (&sum / count).map(|m| m * m);
            close(v.var_axes(&axes).value(), &squares);
        }
    }

    #[test]
    fn the_first_of_equals_gets_the_gradient() {
        let tape = Tape::new(Mode::Train);
        let x = tape.variable(arr::from_vec(&[2, 3], vec![1.0, 7.0, 7.0, 2.0, 2.0, 2.0]));
        let gradients = tape.backward(x.max_axes(&[1]).sum()).unwrap();
        assert_eq!(arr::data(&gradients.wrt(x)), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn impossible_axes_are_explained() {
        let tape = Tape::new(Mode::Infer);
        let message = |shape: &[usize], axes: &[usize]| {
            let x = tape.constant(arr::zeros::<f64>(shape));
            tape.apply(MaxAxes(Axes::new(axes)), [x]).err().unwrap().to_string()
        };
        assert!(message(&[2, 3], &[2]).starts_with("max_axes: no axis 2 in an array of 2 axes"));
        assert!(message(&[2, 3], &[1, 1]).contains("axis 1 is listed twice"));
        assert!(message(&[2, 0], &[1]).contains("hold no elements"));
        assert_eq!(tape.constant(arr::zeros::<f64>(&[0, 3])).sum_axes(&[0]).value(), arr::zeros::<f64>(&[3]));
    }
}
