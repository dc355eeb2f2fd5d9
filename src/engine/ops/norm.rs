//! Normalization of rows.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, reduce, rows};
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// Division of each row by its root mean square.
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// `sqrt(mean(x^2) + eps)` of a row, for use inside `fast`.
    #[inline(always)]
    fn root<F: Elem>(&self, row: &[F]) -> F {
        (reduce::dot_lanes(row, row) / F::of(row.len() as f64) + F::of(self.eps)).sqrt()
    }
}

impl<F: Elem> Op<F, 2> for RmsNorm {
    const NAME: &'static str = "rms_norm";
    type Saved = ();
    fn forward(&self, [x, gain]: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        if gain.ndim() != 1 || x.shape().last() != Some(&gain.len()) {
            let why = "the gain needs one axis, as long as the last axis of x";
            return Err(shape_error(<Self as Op<F, 2>>::NAME, why, &[x.shape(), gain.shape()]));
        }
        let mut y = arr::uninit(x.shape());
        let (x, gain, width) = (arr::data(x), arr::data(gain), gain.len());
        rows::each(
            arr::data_mut(&mut y),
            width,
            #[inline(always)]
            |r, y| {
                let x = &x[r * width..][..width];
                let root = self.root(x);
                for ((y, &x), &gain) in y.iter_mut().zip(x).zip(gain) {
                    *y = x / root * gain;
                }
            },
        );
        Ok((y, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        // With n = x / root, which depends on all of its row, and h = g gain:
        // the gradient of x is (h - n mean(h n)) / root, that of gain is the sum of g n over the rows.
        let (shape, width) = (gy.shape(), ctx.x[1].len());
        let ([x, gain], gy) = (ctx.x.map(arr::data), arr::data(gy));
        let gx = || {
            let mut gx = arr::uninit(shape);
            rows::each(
                arr::data_mut(&mut gx),
                width,
                #[inline(always)]
                |r, gx| {
                    let (x, g) = (&x[r * width..][..width], &gy[r * width..][..width]);
                    for ((gx, &g), &gain) in gx.iter_mut().zip(g).zip(gain) {
                        *gx = g * gain;
                    }
                    let root = self.root(x);
                    let mean = reduce::dot_lanes(gx, x) / root / F::of(width as f64);
                    for (gx, &x) in gx.iter_mut().zip(x) {
                        *gx = (*gx - x / root * mean) / root;
                    }
                },
            );
            gx
        };
        let ggain = || {
            let mut products = arr::uninit(shape);
            rows::each(
                arr::data_mut(&mut products),
                width,
                #[inline(always)]
                |r, products| {
                    let (x, g) = (&x[r * width..][..width], &gy[r * width..][..width]);
                    let root = self.root(x);
                    for ((product, &x), &g) in products.iter_mut().zip(x).zip(g) {
                        *product = g * (x / root);
                    }
                },
            );
            let mut sum = arr::zeros(&[width]);
            reduce::add_rows(arr::data_mut(&mut sum), arr::data(&products));
            arr::recycle(products);
            sum
        };
        [ctx.needs[0].then(gx), ctx.needs[1].then(ggain)]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// `x / sqrt(mean(x^2) + eps) * gain` over the last axis, with one `gain` for each of its elements.
    #[track_caller]
    pub fn rms_norm(self, gain: Var<'t, F>, eps: f64) -> Self {
        Var::apply(RmsNorm { eps }, [self, gain])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "rms_norm",
        run: || gradcheck([random(&[2, 3, 5], 1), random(&[5], 2)], |[x, gain]| Ok(x.rms_norm(gain, 1e-5))),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn it_is_the_formula_spelled_out() {
        let tape = Tape::new(Mode::Infer);
        let (x, gain) = (tape.constant(random(&[4, 37], 1)), tape.constant(random(&[37], 2)));
        let root = x.powi(2).mean_axes(&[1]).shift(1e-3).sqrt().reshape(&[4, 1]);
        let difference = x.rms_norm(gain, 1e-3) - x / root * gain;
        assert!(arr::data(&difference.value()).iter().all(|d| d.abs() < 1e-14));
    }

    #[test]
    fn a_gain_of_another_length_is_an_error() {
        let tape = Tape::new(Mode::Infer);
        let (x, gain) = (tape.constant(random(&[4, 3], 1)), tape.constant(random(&[4], 2)));
        let error = tape.apply(RmsNorm { eps: 0.0 }, [x, gain]).err().unwrap();
        assert!(error.to_string().contains("as long as the last axis"));
    }
}
