//! Losses: one number to minimize.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, pool, reduce};
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// Mean negative log-likelihood of the targets.
pub struct Nll {
    targets: Vec<u32>,
}

impl<F: Elem> Op<F, 1> for Nll {
    const NAME: &'static str = "nll";
    type Saved = ();
    fn forward(&self, [logp]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let error = |why: String| Err(shape_error(<Self as Op<F, 1>>::NAME, why, &[logp.shape()]));
        let &[count, classes] = logp.shape() else {
            return error("log-probabilities need two axes, [examples, classes]".into());
        };
        if count != self.targets.len() || count == 0 {
            return error(format!("{count} rows do not fit {} labels (at least one)", self.targets.len()));
        }
        if let Some(row) = self.targets.iter().position(|&target| target as usize >= classes) {
            return error(format!("label {} of row {row} is not below {classes}", self.targets[row]));
        }
        let sum = pool::scratch(count, |chosen| {
            for ((c, row), &target) in
                chosen.iter_mut().zip(arr::data(logp).chunks_exact(classes)).zip(&self.targets)
            {
                *c = row[target as usize];
            }
            reduce::sum(chosen)
        });
        Ok((arr::full(&[], -sum / F::of(count as f64)), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        let shape = ctx.x[0].shape();
        let mut gx = arr::zeros(shape);
        let each = -arr::data(gy)[0] / F::of(shape[0] as f64);
        for (row, &target) in arr::data_mut(&mut gx).chunks_exact_mut(shape[1]).zip(&self.targets) {
            row[target as usize] = each;
        }
        [Some(gx)]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The mean of `-x[t, targets[t]]` over the rows t of log-probabilities `[T, C]`, of shape `[]`.
    #[track_caller]
    pub fn nll(self, targets: &[u32]) -> Self {
        Var::apply(Nll { targets: targets.to_vec() }, [self])
    }

    /// The mean negative log-likelihood of `targets` under logits `[T, C]`, of shape `[]`:
    /// [`Var::log_softmax`], then [`Var::nll`].
    #[track_caller]
    pub fn cross_entropy(self, targets: &[u32]) -> Self {
        self.log_softmax().nll(targets)
    }
}

/// Mean squared difference.
pub struct Mse;

impl<F: Elem> Op<F, 2> for Mse {
    const NAME: &'static str = "mse";
    type Saved = ();
    fn forward(&self, [x, target]: [&Arr<F>; 2]) -> Result<(Arr<F>, ())> {
        if x.shape() != target.shape() || x.is_empty() {
            let why = "prediction and target need the same shape and at least one element";
            return Err(shape_error(<Self as Op<F, 2>>::NAME, why, &[x.shape(), target.shape()]));
        }
        let difference = arr::zip(
            x,
            target,
            #[inline(always)]
            |x, target| x - target,
        );
        let sum = reduce::dot(arr::data(&difference), arr::data(&difference));
        arr::recycle(difference);
        Ok((arr::full(&[], sum / F::of(x.len() as f64)), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 2>, gy: &Arr<F>) -> [Option<Arr<F>>; 2] {
        let [x, target] = ctx.x;
        let slope = arr::data(gy)[0] * (F::of(2.0) / F::of(x.len() as f64));
        let toward = |a: &Arr<F>, b: &Arr<F>| {
            arr::zip(
                a,
                b,
                #[inline(always)]
                move |a, b| slope * (a - b),
            )
        };
        [ctx.needs[0].then(|| toward(x, target)), ctx.needs[1].then(|| toward(target, x))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The mean of `(x - target)^2` over all elements of two arrays of one shape, of shape `[]`.
    #[track_caller]
    pub fn mse(self, target: Var<'t, F>) -> Self {
        Var::apply(Mse, [self, target])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check { op: "nll", run: || gradcheck([random(&[4, 3], 1)], |[x]| Ok(x.nll(&[2, 0, 1, 2]))) },
        Check {
            op: "mse",
            run: || gradcheck([random(&[4, 3], 1), random(&[4, 3], 2)], |[x, t]| Ok(x.mse(t))),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn cross_entropy_of_known_logits() {
        let tape = Tape::new(Mode::Infer);
        let flat = tape.constant(arr::zeros::<f64>(&[2, 4]));
        assert!((flat.cross_entropy(&[3, 0]).item() - 4.0f64.sqrt() * std::f64::consts::LN_2).abs() < 1e-15);
        let sure = tape.constant(arr::from_vec(&[1, 2], vec![1000.0, 0.0]));
        assert_eq!(sure.cross_entropy(&[0]).item(), 0.0);
        assert_eq!(sure.cross_entropy(&[1]).item(), 1000.0);
        let report = gradcheck([random(&[3, 5], 1)], |[x]| Ok(x.cross_entropy(&[4, 0, 4]))).unwrap();
        assert!(report.passed(), "{report:?}");
    }

    #[test]
    fn wrong_labels_and_shapes_are_named() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(random(&[2, 3], 1));
        let message =
            |targets: &[u32]| tape.apply(Nll { targets: targets.to_vec() }, [x]).err().unwrap().to_string();
        assert!(message(&[0, 3]).starts_with("nll: label 3 of row 1 is not below 3"));
        assert!(message(&[0]).contains("2 rows do not fit 1 labels"));
        assert!(tape.apply(Mse, [x, x.sum()]).is_err());
    }
}
