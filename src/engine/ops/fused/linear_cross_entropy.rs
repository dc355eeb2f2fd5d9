//! The head over a vocabulary and its loss in one operation, which never stores the matrix of tokens by vocabulary.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::head::{self as kernel, Gradients, Head};
use crate::engine::kernels::{elem::Elem, pool::Buffer, reduce, select};
use crate::engine::tape::{Ctx, Fused, Op, Var, shape_error};

const NAME: &str = "linear_cross_entropy";

/// Mean over tokens of `-log softmax(h W^T + b)[target]`, 0 where there is no token.
///
/// Inputs: h (T, d), W (V, d), whose rows are the vocabulary's vectors as in a table of embeddings, and b (V) or no
/// third input. The gradients are computed with the loss, chunk by chunk, and saved for the backward pass.
#[derive(Clone)]
pub struct LinearCrossEntropy {
    /// The target of each token, below V.
    pub targets: Arc<[u32]>,
    /// Whether the gradients will be needed. Without this a backward pass computes everything again.
    pub gradients: bool,
    /// The number of targets with the largest logit (the first of equal ones) is added to this.
    pub right: Arc<AtomicUsize>,
}

/// h, W, and b if there is one.
fn parts<X: Copy, const N: usize>(x: [X; N]) -> (X, X, Option<X>) {
    const { assert!(N == 2 || N == 3, "inputs are h and W, or h, W and b") };
    (x[0], x[1], x.get(2).copied())
}

impl LinearCrossEntropy {
    /// Shapes and targets that fit.
    fn check(&self, shapes: &[&[usize]]) -> Result<()> {
        let fits = match *shapes {
            [&[t, d], &[v, d2], ref bias @ ..] => {
                t == self.targets.len() && d == d2 && d > 0 && bias.iter().all(|bias| *bias == [v])
            }
            _ => false,
        };
        if !fits {
            let why = format!("h (T, d), W (V, d) and b (V) must agree with {} targets", self.targets.len());
            return Err(shape_error(NAME, why, shapes));
        }
        let words = shapes[1][0];
        if let Some(row) = self.targets.iter().position(|&t| t as usize >= words) {
            let why = format!("target {} of row {row} is not one of {words} words", self.targets[row]);
            return Err(shape_error(NAME, why, shapes));
        }
        Ok(())
    }

    /// The mean loss, the number of targets with the largest logit, and on request the gradients of h, W and b.
    fn run<F: Elem, const N: usize>(
        &self,
        x: [&Arr<F>; N],
        gradients: bool,
    ) -> (F, usize, Option<[Arr<F>; 3]>) {
        let (h, w, bias) = parts(x);
        let (words, width) = (w.shape()[0], w.shape()[1]);
        let head = Head { weights: arr::data(w), bias: bias.map(arr::data), width };
        let (mut losses, mut right) = (Buffer::new(self.targets.len()), vec![false; self.targets.len()]);
        let gradients = if gradients {
            let mut g = [h.shape(), w.shape(), &[words]].map(|shape| arr::uninit(shape));
            let [h_data, weights, bias] = g.each_mut().map(arr::data_mut);
            let out = Gradients { h: h_data, weights, bias };
            kernel::losses_and_gradients(arr::data(h), head, &self.targets, &mut losses, &mut right, out);
            Some(g)
        } else {
            kernel::losses(arr::data(h), head, &self.targets, &mut losses, &mut right);
            None
        };
        let mean = reduce::sum(&losses) / F::of(self.targets.len().max(1) as f64);
        (mean, right.into_iter().filter(|&right| right).count(), gradients)
    }
}

impl<F: Elem, const N: usize> Op<F, N> for LinearCrossEntropy {
    const NAME: &'static str = "linear_cross_entropy";
    /// The gradients of h, W and b.
    type Saved = Option<[Arr<F>; 3]>;
    fn forward(&self, x: [&Arr<F>; N]) -> Result<(Arr<F>, Self::Saved)> {
        self.check(&x.map(|x| x.shape()))?;
        let (mean, right, gradients) = self.run(x, self.gradients);
        self.right.fetch_add(right, Ordering::Relaxed);
        Ok((arr::full(&[], mean), gradients))
    }
    fn backward(&self, ctx: Ctx<F, Self::Saved, N>, gy: &Arr<F>) -> [Option<Arr<F>>; N] {
        let gy = arr::data(gy)[0];
        let gradients = ctx.saved.clone().or_else(|| self.run(ctx.x, true).2).expect("computed on request");
        let times = |g: &Arr<F>| {
            arr::map(
                g,
                #[inline(always)]
                |g| g * gy,
            )
        };
        std::array::from_fn(|i| {
            ctx.needs[i].then(|| if gy == F::one() { gradients[i].clone() } else { times(&gradients[i]) })
        })
    }
}

impl<F: Elem, const N: usize> Fused<F, N> for LinearCrossEntropy {
    fn reference<'t>(&self, x: [Var<'t, F>; N]) -> Result<Var<'t, F>> {
        let shapes = x.map(|x| x.shape());
        self.check(&shapes.each_ref().map(Vec::as_slice))?;
        let (h, w, bias) = parts(x);
        if self.targets.is_empty() {
            return Ok(h.sum());
        }
        let logits = h.matmul(w.transpose(0, 1));
        let logits = bias.map_or(logits, |bias| logits.add(bias));
        let value = logits.value();
        let right = select::right(arr::data(&value), shapes[1][0], &self.targets);
        self.right.fetch_add(right, Ordering::Relaxed);
        Ok(logits.cross_entropy(&self.targets))
    }
}

/// An operation for these targets that counts into a number of its own.
fn example(targets: &[u32]) -> LinearCrossEntropy {
    LinearCrossEntropy { targets: targets.into(), gradients: true, right: Arc::default() }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check {
            op: NAME,
            run: || {
                gradcheck([random(&[3, 4], 1), random(&[5, 4], 2)], |x| {
                    x[0].tape().apply(example(&[4, 0, 2]), x)
                })
            },
        },
        Check {
            op: NAME,
            run: || {
                gradcheck([random(&[3, 4], 1), random(&[5, 4], 2), random(&[5], 3)], |x| {
                    x[0].tape().apply(example(&[4, 0, 2]), x)
                })
            },
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ops::fused::testing::assert_equals_reference;
    use crate::engine::{Mode, Tape};

    /// Tokens, vectors and biases over several chunks of tokens and blocks of words, and targets.
    fn several() -> ([Arr<f64>; 3], Vec<u32>) {
        let (t, v, d) = (530, 131, 7);
        let targets = (0..t as u32).map(|i| i * 37 % v as u32).collect();
        ([random(&[t, d], 1), random(&[v, d], 2), random(&[v], 3)], targets)
    }

    #[test]
    fn equals_its_reference_with_and_without_biases() {
        let ([h, w, b], targets) = several();
        assert_equals_reference([h.clone(), w.clone()], |x| x[0].tape().apply_fused(example(&targets), x));
        assert_equals_reference([h, w, b], |x| x[0].tape().apply_fused(example(&targets), x));
    }

    #[test]
    fn counts_the_targets_with_the_largest_logit_as_its_reference_does() {
        let (inputs, targets) = several();
        let count = |mode| {
            let (tape, op) = (Tape::new(mode), example(&targets));
            let x = inputs.clone().map(|x| tape.variable(x));
            // Twice, since counts are added up.
            for _ in 0..2 {
                tape.apply_fused(op.clone(), x).unwrap();
            }
            op.right.load(Ordering::Relaxed)
        };
        let counted = count(Mode::Train);
        assert_eq!((counted, counted % 2), (count(Mode::Teach), 0));
        assert!((2..200).contains(&counted), "{counted}");
    }

    #[test]
    fn gradients_that_were_not_kept_are_the_same() {
        let (inputs, targets) = several();
        let run = |gradients| {
            let tape = Tape::new(Mode::Train);
            let x = inputs.clone().map(|x| tape.variable(x));
            let op = LinearCrossEntropy { gradients, ..example(&targets) };
            let loss = tape.apply(op.clone(), x).unwrap();
            let g = tape.backward(loss).unwrap();
            (loss.item(), x.map(|x| g.wrt(x)), op.right.load(Ordering::Relaxed))
        };
        assert_eq!(run(true), run(false));
    }

    #[test]
    fn no_tokens_have_no_loss_and_zero_gradients() {
        for mode in [Mode::Train, Mode::Teach] {
            let tape = Tape::new(mode);
            let (h, w) = (tape.variable(arr::zeros::<f32>(&[0, 3])), tape.variable(arr::full(&[4, 3], 1.0)));
            let loss = tape.apply_fused(example(&[]), [h, w]).unwrap();
            let g = tape.backward(loss).unwrap();
            assert_eq!((loss.item(), loss.shape()), (0.0, vec![]));
            assert_eq!((g.wrt(h), g.wrt(w)), (arr::zeros(&[0, 3]), arr::zeros(&[4, 3])));
        }
    }

    #[test]
    fn bad_targets_and_shapes_are_named() {
        for mode in [Mode::Train, Mode::Teach] {
            let tape = Tape::<f32>::new(mode);
            let var = |shape: &[usize]| tape.variable(arr::zeros(shape));
            let (h, w, b) = (var(&[2, 3]), var(&[5, 3]), var(&[5]));
            let error = |targets: &[u32], x| {
                tape.apply_fused(example(targets), x).err().map_or(String::new(), |e| e.to_string())
            };
            assert!(error(&[4, 5], [h, w, b]).contains("target 5 of row 1 is not one of 5 words"));
            assert!(error(&[4], [h, w, b]).contains("must agree with 1 targets"));
            assert!(error(&[4, 0], [h, w, var(&[4])]).contains("[2, 3] and [5, 3] and [4]"));
            assert!(error(&[4, 0], [h, var(&[5, 4]), b]).contains("[2, 3] and [5, 4] and [5]"));
            assert_eq!(error(&[4, 0], [h, w, b]), "");
            assert!(tape.apply_fused(example(&[0, 0]), [h, h]).is_ok());
            assert!(tape.apply_fused(example(&[0, 0]), [h, b]).is_err());
        }
    }
}
