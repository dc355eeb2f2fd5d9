//! All logits over a vocabulary, for generation and analysis.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, gemm, gemm::Mat, reduce};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// `h W^T + b` for h (T, d), W (V, d), with a vector for each token of the vocabulary, b (V) or none. In training
/// [`super::linear_cross_entropy`] computes the loss without storing all logits.
pub struct Logits;

fn forward<F: Elem>(h: &Arr<F>, w: &Arr<F>, b: Option<&Arr<F>>) -> Result<Arr<F>> {
    let fits = match (h.shape(), w.shape()) {
        (&[_, d], &[v, d_w]) => d == d_w && b.is_none_or(|b| b.shape() == [v]),
        _ => false,
    };
    if !fits {
        let shapes: Vec<&[usize]> = [h.shape(), w.shape()].into_iter().chain(b.map(|b| b.shape())).collect();
        return Err(shape_error("logits", "h (T, d), W (V, d) and b (V) must agree", &shapes));
    }
    let (rows, width, count) = (h.shape()[0], h.shape()[1], w.shape()[0]);
    let mut y = arr::uninit(&[rows, count]);
    let (out, h) = (arr::data_mut(&mut y), Mat::new(arr::data(h), rows, width));
    let w = Mat::new(arr::data(w), count, width).t();
    match b {
        Some(b) => gemm::affine(out, h, w, arr::data(b), false),
        None => gemm::product(out, h, w),
    }
    Ok(y)
}

/// Gradients of h and W.
fn backward<F: Elem>(h: &Arr<F>, w: &Arr<F>, gy: &Arr<F>, needs: &[bool]) -> [Option<Arr<F>>; 2] {
    let (rows, width, count) = (h.shape()[0], h.shape()[1], w.shape()[0]);
    let g = Mat::new(arr::data(gy), rows, count);
    let gh = needs[0].then(|| {
        let mut gh = arr::uninit(h.shape());
        gemm::product(arr::data_mut(&mut gh), g, Mat::new(arr::data(w), count, width));
        gh
    });
    let gw = needs[1].then(|| {
        let mut gw = arr::uninit(w.shape());
        gemm::product(arr::data_mut(&mut gw), g.t(), Mat::new(arr::data(h), rows, width));
        gw
    });
    [gh, gw]
}

impl<F: Elem> Op<F, 2> for Logits {
    const NAME: &'static str = "logits";
    type Saved = ();
    fn forward(&self, [h, w]: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        Ok((forward(h, w, None)?, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        let [h, w] = ctx.x;
        backward(h, w, gy, &ctx.needs)
    }
}

impl<F: Elem> Op<F, 3> for Logits {
    const NAME: &'static str = "logits";
    type Saved = ();
    fn forward(&self, [h, w, b]: [&Arr<F>; 3]) -> Result<(Arr<F>, ())> {
        Ok((forward(h, w, Some(b))?, ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 3>, gy: &Arr<F>) -> [Option<Arr<F>>; 3] {
        let [h, w, b] = ctx.x;
        let [gh, gw] = backward(h, w, gy, &ctx.needs);
        let gb = ctx.needs[2].then(|| {
            let mut gb = arr::zeros(b.shape());
            reduce::add_rows(arr::data_mut(&mut gb), arr::data(gy));
            gb
        });
        [gh, gw, gb]
    }
}

impl<F: Elem> Fused<F, 2> for Logits {
    fn reference<'t>(&self, [h, w]: [Var<'t, F>; 2]) -> Result<Var<'t, F>> {
        Ok(h.matmul(w.transpose(0, 1)))
    }
}

impl<F: Elem> Fused<F, 3> for Logits {
    fn reference<'t>(&self, [h, w, b]: [Var<'t, F>; 3]) -> Result<Var<'t, F>> {
        Ok(h.matmul(w.transpose(0, 1)).add(b))
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "logits",
        run: || {
            gradcheck([random(&[3, 4], 1), random(&[5, 4], 2), random(&[5], 3)], |x| {
                x[0].tape().apply(Logits, x)
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
        let inputs = || [random(&[7, 5], 1), random(&[9, 5], 2), random(&[9], 3)];
        assert_equals_reference(inputs(), |x| x[0].tape().apply_fused(Logits, x));
        let [h, w, _] = inputs();
        assert_equals_reference([h, w], |x| x[0].tape().apply_fused(Logits, x));
    }

    #[test]
    fn shapes_that_do_not_agree_are_named() {
        let tape = crate::Tape::<f32>::new(crate::Mode::Infer);
        let x = [tape.constant(arr::zeros(&[2, 3])), tape.constant(arr::zeros(&[4, 2]))];
        let error = tape.apply(Logits, x).err().unwrap().to_string();
        assert!(error.starts_with("logits: h (T, d), W (V, d) and b (V) must agree"), "{error}");
    }
}
