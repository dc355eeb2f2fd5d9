//! Softmax and cross-entropy in one operation: stable, and its gradient is a subtraction.

use std::sync::Arc;

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::softmax::log_sum_exp_row;
use crate::engine::kernels::{elem::Elem, pool::Buffer, reduce, rows};
use crate::engine::ops::softmax::probabilities;
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

const NAME: &str = "softmax_cross_entropy";

/// Mean over tokens of `-log softmax(logits)[target]`, for logits (T, C).
pub struct SoftmaxCrossEntropy {
    /// The target class of each token.
    pub targets: Arc<[u32]>,
}

impl<F: Elem> Op<F, 1> for SoftmaxCrossEntropy {
    const NAME: &'static str = "softmax_cross_entropy";
    /// The probabilities.
    type Saved = Arr<F>;
    fn forward(&self, [logits]: [&Arr<F>; 1]) -> Result<(Arr<F>, Arr<F>)> {
        let &[tokens, classes] = logits.shape() else {
            return Err(shape_error(NAME, "logits must be (T, C)", &[logits.shape()]));
        };
        if self.targets.len() != tokens || tokens == 0 {
            let why = format!("{} targets do not fit", self.targets.len());
            return Err(shape_error(NAME, why, &[logits.shape()]));
        }
        if let Some(row) = self.targets.iter().position(|&t| t as usize >= classes) {
            let why = format!("target {} of row {row} is not one of {classes} classes", self.targets[row]);
            return Err(shape_error(NAME, why, &[logits.shape()]));
        }
        let x = arr::data(logits);
        let probabilities = probabilities(logits);
        // From the logits, since the logarithm of a tiny probability is inexact.
        let mut losses = Buffer::new(tokens);
        rows::fold(
            &mut losses,
            x,
            #[inline(always)]
            |x| log_sum_exp_row(x),
        );
        for ((loss, x), &target) in losses.iter_mut().zip(x.chunks_exact(classes)).zip(self.targets.iter()) {
            *loss = *loss - x[target as usize];
        }
        let mean = reduce::sum(&losses) / F::of(tokens as f64);
        Ok((arr::full(&[], mean), probabilities))
    }
    /// `(softmax(logits) - onehot(target)) / T`.
    fn backward(&self, ctx: Ctx<F, Arr<F>, 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let scale = arr::data(gy)[0] / F::of(self.targets.len() as f64);
        let mut g = arr::map(
            ctx.saved,
            #[inline(always)]
            |p| p * scale,
        );
        let classes = ctx.x[0].shape()[1];
        for ((row, p), &target) in arr::data_mut(&mut g)
            .chunks_exact_mut(classes)
            .zip(arr::data(ctx.saved).chunks_exact(classes))
            .zip(self.targets.iter())
        {
            row[target as usize] = (p[target as usize] - F::one()) * scale;
        }
        [Some(g)]
    }
}

impl<F: Elem> Fused<F, 1> for SoftmaxCrossEntropy {
    fn reference<'t>(&self, [logits]: [Var<'t, F>; 1]) -> Result<Var<'t, F>> {
        Ok(logits.cross_entropy(&self.targets))
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![Check {
        op: "softmax_cross_entropy",
        run: || {
            gradcheck([random(&[3, 5], 1)], |[x]| {
                x.tape().apply(SoftmaxCrossEntropy { targets: [4, 0, 2].into() }, [x])
            })
        },
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ops::fused::testing::assert_equals_reference;
    use crate::engine::{Mode, Tape};

    #[test]
    fn equals_its_reference() {
        assert_equals_reference([random(&[4, 10], 1)], |[x]| {
            x.tape().apply_fused(SoftmaxCrossEntropy { targets: [9, 0, 3, 3].into() }, [x])
        });
    }

    #[test]
    fn large_logits_do_not_overflow_and_bad_labels_are_named() {
        let tape = Tape::<f32>::new(Mode::Train);
        let x = tape.variable(arr::from_vec(&[1, 2], vec![1000.0, 0.0]));
        let loss = |target| tape.apply(SoftmaxCrossEntropy { targets: [target].into() }, [x]);
        assert_eq!(loss(0).unwrap().item(), 0.0);
        assert_eq!(loss(1).unwrap().item(), 1000.0);
        assert!(loss(2).err().unwrap().to_string().contains("target 2 of row 0 is not one of 2 classes"));
    }
}
