//! Softmax and its relatives over the last axis.

use std::sync::Arc;

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, rows, softmax};
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// The length of the last axis.
fn width<F: Elem>(op: &'static str, x: &Arr<F>) -> Result<usize> {
    x.shape().last().copied().ok_or_else(|| shape_error(op, "a single number has no last axis", &[x.shape()]))
}

/// Softmax.
pub struct Softmax;

impl<F: Elem> Op<F, 1> for Softmax {
    const NAME: &'static str = "softmax";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        width(<Self as Op<F, 1>>::NAME, x)?;
        Ok((probabilities(x), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(softmax_backward(ctx.y, gy))]
    }
}

/// `softmax(logits)` over the last axis, outside of any tape.
pub fn probabilities<F: Elem>(logits: &Arr<F>) -> Arr<F> {
    let (mut y, x) = (arr::uninit(logits.shape()), arr::data(logits));
    let width = logits.shape().last().copied().unwrap_or(1);
    rows::each(
        arr::data_mut(&mut y),
        width,
        #[inline(always)]
        |r, y| softmax::softmax_row(&x[r * width..][..width], y),
    );
    y
}

/// The gradient of a softmax, masked or not, with output `y`.
fn softmax_backward<F: Elem>(y: &Arr<F>, gy: &Arr<F>) -> Arr<F> {
    let mut gx = arr::uninit(y.shape());
    let (width, y, gy) = (y.shape().last().copied().unwrap_or(1), arr::data(y), arr::data(gy));
    rows::each(
        arr::data_mut(&mut gx),
        width,
        #[inline(always)]
        |r, gx| {
            let row = r * width..(r + 1) * width;
            softmax::softmax_row_backward(&y[row.clone()], &gy[row], gx);
        },
    );
    gx
}

impl<'t, F: Elem> Var<'t, F> {
    /// `e^x / sum(e^x)` over the last axis.
    #[track_caller]
    pub fn softmax(self) -> Self {
        Var::apply(Softmax, [self])
    }
}

/// Logarithm of softmax.
pub struct LogSoftmax;

impl<F: Elem> Op<F, 1> for LogSoftmax {
    const NAME: &'static str = "log_softmax";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let width = width(<Self as Op<F, 1>>::NAME, x)?;
        let (mut y, x) = (arr::uninit(x.shape()), arr::data(x));
        rows::each(
            arr::data_mut(&mut y),
            width,
            #[inline(always)]
            |r, y| softmax::log_softmax_row(&x[r * width..][..width], y),
        );
        Ok((y, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let mut gx = arr::uninit(gy.shape());
        let (width, y, gy) = (gy.shape().last().copied().unwrap_or(1), arr::data(ctx.y), arr::data(gy));
        rows::each(
            arr::data_mut(&mut gx),
            width,
            #[inline(always)]
            |r, gx| {
                let row = r * width..(r + 1) * width;
                softmax::log_softmax_row_backward(&y[row.clone()], &gy[row], gx);
            },
        );
        [Some(gx)]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `x - ln(sum(e^x))` over the last axis: the logarithm of [`Var::softmax`], exact also where that is 0.
    #[track_caller]
    pub fn log_softmax(self) -> Self {
        Var::apply(LogSoftmax, [self])
    }
}

/// Softmax over chosen elements.
pub struct MaskedSoftmax {
    mask: Arc<[bool]>,
}

impl<F: Elem> Op<F, 1> for MaskedSoftmax {
    const NAME: &'static str = "masked_softmax";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let width = width(<Self as Op<F, 1>>::NAME, x)?;
        if self.mask.len() != x.len() {
            let why = format!("{} elements need as many in the mask, not {}", x.len(), self.mask.len());
            return Err(shape_error(<Self as Op<F, 1>>::NAME, why, &[x.shape()]));
        }
        let (mut y, x) = (arr::uninit(x.shape()), arr::data(x));
        rows::each(
            arr::data_mut(&mut y),
            width,
            #[inline(always)]
            |r, y| {
                let row = r * width..(r + 1) * width;
                softmax::masked_softmax_row(&x[row.clone()], &self.mask[row], y);
            },
        );
        Ok((y, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        // A weight of 0 gives a gradient of 0: the mask is in y already.
        [Some(softmax_backward(ctx.y, gy))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// [`Var::softmax`] over the elements of the last axis that `mask`, with one bool per element in
    /// row-major order, chooses. The others get weight 0 and gradient 0; where none is chosen all are 0.
    #[track_caller]
    pub fn masked_softmax(self, mask: Arc<[bool]>) -> Self {
        Var::apply(MaskedSoftmax { mask }, [self])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check { op: "softmax", run: || gradcheck([random(&[2, 3, 5], 1)], |[x]| Ok(x.softmax())) },
        Check { op: "log_softmax", run: || gradcheck([random(&[3, 17], 1)], |[x]| Ok(x.log_softmax())) },
        Check {
            op: "masked_softmax",
            run: || {
                let mask: Arc<[bool]> = (0..20).map(|i| i / 5 != 2 && i % 3 != 0).collect();
                gradcheck([random(&[4, 5], 1)], move |[x]| Ok(x.masked_softmax(mask.clone())))
            },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn rows_sum_to_one_and_logarithms_agree() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(random(&[7, 33], 1));
        let y = x.softmax();
        assert!(arr::data(&y.sum_axes(&[1]).value()).iter().all(|sum| (sum - 1.0).abs() < 1e-14));
        let difference = y.ln() - x.log_softmax();
        assert!(arr::data(&difference.value()).iter().all(|d| d.abs() < 1e-14));
        assert_eq!(tape.constant(random(&[3, 0], 1)).softmax().shape(), [3, 0]);
    }

    #[test]
    fn a_mask_of_another_size_is_an_error() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(random(&[2, 3], 1));
        let error = tape.apply(MaskedSoftmax { mask: [true; 3].into() }, [x]).err().unwrap();
        assert!(error.to_string().contains("6 elements need as many in the mask, not 3"));
        assert!(tape.apply(Softmax, [x.sum()]).is_err());
    }
}
