//! A linear layer with its bias and activation in one operation.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, gemm, gemm::Mat, reduce};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// What follows the affine map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
}

/// `activation(x w + b)` for x (T, in), w (in, out), b (out).
pub struct Linear(pub Activation);

impl<F: Elem> Op<F, 3> for Linear {
    const NAME: &'static str = "linear";
    type Saved = ();
    fn forward(&self, [x, w, b]: [&Arr<F>; 3]) -> Result<(Arr<F>, ())> {
        let (&[rows, inner], &[w_in, out]) = (x.shape(), w.shape()) else {
            return Err(shape_error("linear", "input and weight must be matrices", &[x.shape(), w.shape()]));
        };
        if inner != w_in || b.shape() != [out] {
            let why = "input (T, in), weight (in, out) and bias (out) must agree";
            return Err(shape_error("linear", why, &[x.shape(), w.shape(), b.shape()]));
        }
        let mut y = arr::uninit(&[rows, out]);
        gemm::affine(
            arr::data_mut(&mut y),
            Mat::new(arr::data(x), rows, inner),
            Mat::new(arr::data(w), inner, out),
            arr::data(b),
            self.0 == Activation::Relu,
        );
        Ok((y, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 3>, gy: &Arr<F>) -> [Option<Arr<F>>; 3] {
        let [x, w, _] = ctx.x;
        let (rows, inner, out) = (x.shape()[0], x.shape()[1], w.shape()[1]);
        // The gradient of the affine map's output; without an activation it is `gy` itself, shared.
        let g = match self.0 {
            Activation::None => gy.clone(),
            Activation::Relu => arr::zip(
                ctx.y,
                gy,
                #[inline(always)]
                |y, g| if y > F::zero() { g } else { F::zero() },
            ),
        };
        let g_mat = Mat::new(arr::data(&g), rows, out);
        let gx = ctx.needs[0].then(|| {
            let mut gx = arr::uninit(x.shape());
            gemm::product(arr::data_mut(&mut gx), g_mat, Mat::new(arr::data(w), inner, out).t());
            gx
        });
        let gw = ctx.needs[1].then(|| {
            let mut gw = arr::uninit(w.shape());
            gemm::product(arr::data_mut(&mut gw), Mat::new(arr::data(x), rows, inner).t(), g_mat);
            gw
        });
        let gb = ctx.needs[2].then(|| {
            let mut gb = arr::zeros(&[out]);
            reduce::add_rows(arr::data_mut(&mut gb), arr::data(&g));
            gb
        });
        [gx, gw, gb]
    }
}

impl<F: Elem> Fused<F, 3> for Linear {
    fn reference<'t>(&self, [x, w, b]: [Var<'t, F>; 3]) -> Result<Var<'t, F>> {
        let y = x.matmul(w).add(b);
        Ok(if self.0 == Activation::Relu { y.relu() } else { y })
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "linear",
        run: || {
            gradcheck([random(&[3, 4], 1), random(&[4, 5], 2), random(&[5], 3)], |[x, w, b]| {
                x.tape().apply(Linear(Activation::Relu), [x, w, b])
            })
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ops::fused::testing::assert_equals_reference;

    #[test]
    fn equals_its_reference() {
        for activation in [Activation::None, Activation::Relu] {
            assert_equals_reference(
                [random(&[7, 5], 1), random(&[5, 3], 2), random(&[3], 3)],
                move |[x, w, b]| x.tape().apply_fused(Linear(activation), [x, w, b]),
            );
        }
    }

    #[test]
    fn a_bad_shape_names_the_operation_and_the_place() {
        let tape = crate::Tape::<f32>::new(crate::Mode::Train);
        let x = tape.variable(arr::zeros(&[2, 3]));
        let error = tape.apply(Linear(Activation::None), [x, x, x]).err().unwrap().to_string();
        assert!(
            error.starts_with("linear: ") && error.contains("[2, 3]") && error.contains("linear.rs:"),
            "{error}"
        );
    }
}
