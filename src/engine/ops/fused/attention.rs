//! Causal attention of several heads in one operation, which never stores the matrix of queries by keys.

use std::sync::Arc;

use super::check_starts;
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::attention::{self as kernel, Forward, Gradients, Heads, Starts};
use crate::engine::kernels::{elem::Elem, pool::Buffer};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

/// `y_i = sum over j <= i of softmax_j(q_i . k_j / sqrt(dh)) v_j` for each head, within each sequence.
///
/// Inputs: q (T, H dh), k and v (T, G dh), where query head h reads key head `h / (H / G)` (grouped queries; all heads
/// have their own where G = H). Output (T, H dh).
#[derive(Clone, Debug)]
pub struct Attention {
    /// The first row of each sequence, and the end of the last.
    pub starts: Arc<[usize]>,
    /// H, G and dh.
    pub heads: Heads,
}

/// The key heads must be shared evenly by the query heads.
pub(crate) fn check_heads(heads: Heads, shapes: &[&[usize]]) -> Result<()> {
    let Heads { count, groups, width } = heads;
    if count > 0 && groups > 0 && width > 0 && count % groups == 0 {
        return Ok(());
    }
    let why = format!("{count} heads of {width} numbers cannot share {groups} key heads evenly");
    Err(shape_error("attention", why, shapes))
}

impl<F: Elem> Op<F, 3> for Attention {
    const NAME: &'static str = "attention";
    /// The logarithm of the sum of `e^score`, for each row and head.
    type Saved = Buffer<F>;
    fn forward(&self, x: [&Arr<F>; 3]) -> Result<(Arr<F>, Buffer<F>)> {
        let (name, shapes) = (<Self as Op<F, 3>>::NAME, x.map(|x| x.shape()));
        check_heads(self.heads, &shapes)?;
        let Heads { count, groups, width } = self.heads;
        let rows = shapes[0].first().copied().unwrap_or(0);
        if shapes != [&[rows, count * width][..], &[rows, groups * width], &[rows, groups * width]] {
            let why = format!("q must be (T, {}), k and v (T, {})", count * width, groups * width);
            return Err(shape_error(name, why, &shapes));
        }
        check_starts(name, &self.starts, rows, &shapes)?;
        let (mut y, mut log_sums) = (arr::uninit(shapes[0]), Buffer::new(rows * count));
        let starts = Starts { queries: &self.starts, keys: &self.starts };
        kernel::forward(x.map(arr::data), self.heads, starts, arr::data_mut(&mut y), &mut log_sums);
        Ok((y, log_sums))
    }
    fn backward(&self, ctx: Ctx<F, Buffer<F>, 3>, gy: &Arr<F>) -> [Option<Arr<F>>; 3] {
        let mut g = ctx.x.map(|x| arr::uninit::<F>(x.shape()));
        let ([q, k, v], [gq, gk, gv]) = (ctx.x.map(arr::data), g.each_mut().map(arr::data_mut));
        kernel::backward(
            arr::data(gy),
            Forward { q, k, v, y: arr::data(ctx.y), log_sums: ctx.saved },
            self.heads,
            &self.starts,
            Gradients { q: gq, k: gk, v: gv },
        );
        g.map(Some)
    }
}

impl<F: Elem> Fused<F, 3> for Attention {
    /// Sequence by sequence and head by head, with all scores in one matrix.
    fn reference<'t>(&self, [q, k, v]: [Var<'t, F>; 3]) -> Result<Var<'t, F>> {
        let Heads { count, width, .. } = self.heads;
        // No rows yet.
        let mut y = q.slice(0, 0..0);
        for sequence in self.starts.windows(2).map(|s| s[0]..s[1]) {
            let n = sequence.len();
            let seen: Arc<[bool]> = (0..n * n).map(|i| i % n <= i / n).collect();
            let mut rows = q.slice(0, sequence.clone()).slice(1, 0..0);
            for head in 0..count {
                let part =
                    |x: Var<'t, F>, i| x.slice(0, sequence.clone()).slice(1, i * width..(i + 1) * width);
                let shared = head / self.heads.per_group();
                let scores = part(q, head).matmul(part(k, shared).transpose(0, 1));
                let weights = scores.scale(1.0 / (width as f64).sqrt()).masked_softmax(seen.clone());
                rows = Var::concat([rows, weights.matmul(part(v, shared))], 1);
            }
            y = Var::concat([y, rows], 0);
        }
        Ok(y)
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "attention",
        run: || {
            let attention =
                Attention { starts: [0, 1, 4, 9].into(), heads: Heads { count: 4, groups: 2, width: 3 } };
            let inputs = [random(&[9, 12], 1), random(&[9, 6], 2), random(&[9, 6], 3)];
            gradcheck(inputs, move |x| x[0].tape().apply(attention.clone(), x))
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ops::fused::testing::assert_equals_reference;
    use crate::engine::{Mode, Tape};

    #[test]
    fn equals_its_reference_over_several_blocks_and_chunks_with_every_sharing_of_heads() {
        for (count, groups) in [(2, 2), (4, 2), (3, 1)] {
            let starts: Arc<[usize]> = [0, 0, 1, 1, 50, 118, 390, 390].into();
            let heads = Heads { count, groups, width: 5 };
            let input = |heads, seed| random(&[390, 5 * heads], seed);
            assert_equals_reference([input(count, 1), input(groups, 2), input(groups, 3)], move |x| {
                x[0].tape().apply_fused(Attention { starts: starts.clone(), heads }, x)
            });
        }
    }

    #[test]
    fn no_sequence_and_no_row() {
        let tape = Tape::new(Mode::Train);
        let x = [4, 2, 2].map(|width| tape.variable(arr::zeros::<f64>(&[0, width])));
        let heads = Heads { count: 2, groups: 1, width: 2 };
        for starts in [&[0][..], &[0, 0]] {
            let y = tape.apply(Attention { starts: starts.into(), heads }, x).unwrap();
            assert_eq!(tape.backward(y.sum()).unwrap().wrt(x[1]).shape(), [0, 2]);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_explained() {
        let tape = Tape::new(Mode::Infer);
        let message = |count, groups, widths: [usize; 3], starts: &[usize]| {
            let x = widths.map(|width| tape.constant(arr::zeros::<f32>(&[5, width])));
            let heads = Heads { count, groups, width: 2 };
            tape.apply(Attention { starts: starts.into(), heads }, x).err().unwrap().to_string()
        };
        assert!(message(4, 3, [8, 6, 6], &[0, 5]).starts_with(
            "attention: 4 heads of 2 numbers cannot share 3 key heads evenly; shapes are [5, 8]"
        ));
        assert!(message(4, 2, [8, 4, 8], &[0, 5]).contains("q must be (T, 8), k and v (T, 4)"));
        for starts in [&[0, 4][..], &[1, 5], &[0, 4, 3, 5], &[]] {
            let message = message(4, 2, [8, 4, 4], starts);
            assert!(message.contains("sequences must fill the 5 rows, from 0 on") && !message.contains('\n'));
        }
    }
}
