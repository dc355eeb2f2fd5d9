//! Matrix products.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::gemm::{self, Mat};
use crate::engine::kernels::{elem::Elem, par};
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// The product of matrices, or of two stacks of matrices.
pub struct Matmul;

/// A product as `batch` products of m by k with k by n.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    m: usize,
    k: usize,
    n: usize,
}

impl Sizes {
    fn of(a: &[usize], b: &[usize]) -> Result<Sizes> {
        let error = |why: String| Err(shape_error(<Matmul as Op<f32, 2>>::NAME, why, &[a, b]));
        let ([a_batch @ .., m, k], [b_batch @ .., k2, n]) = (a, b) else {
            return error("both sides need two axes or more; reshape a vector to one row or column".into());
        };
        if k != k2 {
            return error(format!("the left side has {k} columns, but the right side {k2} rows"));
        }
        let batch = a_batch.iter().product();
        match b_batch {
            // One matrix on the right: the stacked rows on the left are the rows of one tall matrix.
            [] => Ok(Sizes { batch: 1, m: batch * m, k: *k, n: *n }),
            _ if a_batch == b_batch => Ok(Sizes { batch, m: *m, k: *k, n: *n }),
            _ => error("the axes before the last two must be equal, or the right side has none".into()),
        }
    }
}

/// `a(i) b(i)` for each i of the batch, one after another in an array of this shape.
fn products<'a, F: Elem>(
    shape: &[usize],
    batch: usize,
    a: impl Fn(usize) -> Mat<'a, F> + Sync + Send,
    b: impl Fn(usize) -> Mat<'a, F> + Sync + Send,
) -> Arr<F> {
    let mut out = arr::uninit(shape);
    let size = out.len() / batch.max(1);
    par::chunks(arr::data_mut(&mut out), size, |i, out| gemm::product(out, a(i), b(i)));
    out
}

impl<F: Elem> Op<F, 2> for Matmul {
    const NAME: &'static str = "matmul";
    type Saved = ();
    fn forward(&self, [a, b]: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        let Sizes { batch, m, k, n } = Sizes::of(a.shape(), b.shape())?;
        let mut shape = a.shape()[..a.ndim() - 1].to_vec();
        shape.push(n);
        let (a, b) = (arr::data(a), arr::data(b));
        let a = |i: usize| Mat::new(&a[i * m * k..], m, k);
        let b = |i: usize| Mat::new(&b[i * k * n..], k, n);
        Ok((products(&shape, batch, a, b), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        let [a_shape, b_shape] = ctx.x.map(|x| x.shape());
        let Ok(Sizes { batch, m, k, n }) = Sizes::of(a_shape, b_shape) else { return [None, None] };
        let ([a, b], g) = (ctx.x.map(arr::data), arr::data(gy));
        let a = |i: usize| Mat::new(&a[i * m * k..], m, k);
        let b = |i: usize| Mat::new(&b[i * k * n..], k, n);
        let g = |i: usize| Mat::new(&g[i * m * n..], m, n);
        // Y = A B, so the gradient of A is G B^T and that of B is A^T G.
        [
            ctx.needs[0].then(|| products(a_shape, batch, g, |i| b(i).t())),
            ctx.needs[1].then(|| products(b_shape, batch, |i| a(i).t(), g)),
        ]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The matrix product: `[m, k] x [k, n]` gives `[m, n]`. A stack `[b.., m, k]` is multiplied by an
    /// equal stack `[b.., k, n]`, matrix by matrix, or by one matrix `[k, n]`, and gives `[b.., m, n]`.
    #[track_caller]
    pub fn matmul(self, other: Var<'t, F>) -> Self {
        Var::apply(Matmul, [self, other])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "matmul",
        run: || {
            let inputs = [random(&[2, 3, 4], 1), random(&[4, 5], 2), random(&[2, 5, 1], 3)];
            gradcheck(inputs, |[a, b, c]| Ok(a.matmul(b).matmul(c)))
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn a_stack_is_its_matrices_one_by_one() {
        let tape = Tape::new(Mode::Infer);
        let (a, b) = (tape.constant(random(&[3, 2, 4], 1)), tape.constant(random(&[3, 4, 5], 2)));
        let (stack, shared) = (a.matmul(b), a.matmul(b.slice(0, 0..1).reshape(&[4, 5])));
        for i in 0..3 {
            let one =
                |x: Var<'_, f64>, shape: &[usize]| tape.constant(x.slice(0, i..i + 1).reshape(shape).value());
            let expected = one(a, &[2, 4]).matmul(one(b, &[4, 5])).value();
            assert_eq!(one(stack, &[2, 5]).value(), expected);
            let first = b.slice(0, 0..1).reshape(&[4, 5]);
            assert_eq!(one(shared, &[2, 5]).value(), one(a, &[2, 4]).matmul(first).value());
        }
    }

    #[test]
    fn gradients_of_matrices_and_of_nothing() {
        let report = gradcheck([random(&[3, 1], 1), random(&[1, 2], 2)], |[a, b]| Ok(a.matmul(b))).unwrap();
        assert!(report.passed(), "{report:?}");
        let tape = Tape::new(Mode::Train);
        let (a, b) = (tape.variable(arr::zeros::<f64>(&[0, 3])), tape.variable(arr::zeros(&[3, 2])));
        let gradients = tape.backward(a.matmul(b).sum()).unwrap();
        assert_eq!(gradients.wrt(b), arr::zeros::<f64>(&[3, 2]));
    }

    #[test]
    fn shapes_that_do_not_fit_are_explained() {
        let tape = Tape::new(Mode::Infer);
        let message = |a: &[usize], b: &[usize]| {
            let inputs = [tape.constant(arr::zeros::<f64>(a)), tape.constant(arr::zeros(b))];
            tape.apply(Matmul, inputs).err().unwrap().to_string()
        };
        assert!(message(&[2, 3], &[4, 5]).starts_with(
            "matmul: the left side has 3 columns, but the right side 4 rows; shapes are [2, 3] and [4, 5]"
        ));
        assert!(message(&[3], &[3, 5]).contains("reshape a vector"));
        assert!(message(&[2, 2, 3], &[4, 3, 5]).contains("the axes before the last two"));
    }
}
