//! Optimizers, learning-rate schedules and gradient clipping.

pub mod rate;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::kernels::{elem::Elem, par, pool, reduce, simd::fast};
use crate::engine::tape::{Gradient, Gradients};
use crate::nn::param::{Module, Param};

/// Which rule turns gradients into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW,
    /// Stochastic gradient descent with momentum and decoupled weight decay.
    Sgd,
}

/// An optimizer's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Which rule.
    pub kind: Kind,
    /// AdamW: decay of the first moment. SGD: momentum.
    pub beta1: f64,
    /// AdamW: decay of the second moment.
    pub beta2: f64,
    /// AdamW: added to the root of the second moment.
    pub epsilon: f64,
    /// Share of a weight lost per step, times the learning rate. Not on biases and norms.
    pub weight_decay: f64,
}

impl Settings {
    /// AdamW as in DynaMoE (Gülmez): 0.9, 0.999, 1e-8, weight decay 0.01.
    pub const ADAMW: Settings =
        Settings { kind: Kind::AdamW, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
}

/// Optimizer state: the moments of each parameter, in the model's order.
#[derive(Clone, Debug)]
pub struct Optimizer<F> {
    /// The constants.
    pub settings: Settings,
    /// Steps taken.
    pub steps: u64,
    /// First moments (SGD: velocities).
    pub first: Vec<Arr<F>>,
    /// Second moments; empty for SGD.
    pub second: Vec<Arr<F>>,
}

/// The Euclidean norm of the gradients of all parameters of `model` together, in the model's order.
///
/// # Errors
/// [`Error::MissingGradient`] names a parameter that the loss does not depend on.
pub fn global_norm<F: Elem>(model: &impl Module<F>, gradients: &Gradients<F>) -> Result<f64> {
    let mut sum = 0.0;
    for (name, param) in model.parameters() {
        sum += reduce::sum_squares(arr::data(gradient(&name, param, gradients)?.values));
    }
    Ok(sum.sqrt())
}

fn gradient<'g, F: Elem>(
    name: &str,
    param: &Param<F>,
    gradients: &'g Gradients<F>,
) -> Result<Gradient<'g, F>> {
    gradients.parameter(param.id()).ok_or_else(|| Error::MissingGradient { parameter: name.to_string() })
}

/// The numbers of one step that all parameters share.
#[derive(Clone, Copy)]
struct Step<F> {
    rate: F,
    beta1: F,
    beta2: F,
    epsilon: F,
    /// Factor on the gradients, from clipping.
    scale: F,
    /// `1 / sqrt(1 - beta2^t)`.
    second_scale: F,
}

/// A piece of one parameter with its gradient and moments.
struct Piece<'a, F> {
    value: &'a mut [F],
    first: &'a mut [F],
    second: &'a mut [F],
    gradient: &'a [F],
    /// What is left of a weight after decay.
    keep: F,
}

impl<F: Elem> Optimizer<F> {
    /// An optimizer for the parameters of `model`; its moments start at zero.
    pub fn new(settings: Settings, model: &impl Module<F>) -> Optimizer<F> {
        let zeros = || model.parameters().iter().map(|(_, param)| arr::zeros(param.value.shape())).collect();
        let second = if settings.kind == Kind::AdamW { zeros() } else { Vec::new() };
        Optimizer { settings, steps: 0, first: zeros(), second }
    }

    /// AdamW with its usual constants ([`Settings::ADAMW`]).
    pub fn adamw(model: &impl Module<F>) -> Optimizer<F> {
        Optimizer::new(Settings::ADAMW, model)
    }

    /// One step with learning rate `rate`.
    ///
    /// # Errors
    /// [`Error::MissingGradient`] names a parameter that the loss does not depend on; nothing has changed then.
    pub fn step(&mut self, model: &mut impl Module<F>, gradients: &Gradients<F>, rate: f64) -> Result<()> {
        self.step_scaled(model, gradients, rate, 1.0)
    }

    /// As [`Optimizer::step`], with gradients multiplied by `scale` first: how they are clipped.
    ///
    /// A gradient of some rows counts as zero in all others: their moments decay and their weights too, so the
    /// result is that of the whole gradient. (Optimizers called lazy or sparse leave such rows alone.)
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step_scaled(
        &mut self,
        model: &mut impl Module<F>,
        gradients: &Gradients<F>,
        rate: f64,
        scale: f64,
    ) -> Result<()> {
        /// Elements of one task.
        const CHUNK: usize = 4 * 1024;
        let parameters = model.parameters_mut();
        let found: Result<Vec<_>> = parameters.iter().map(|(name, p)| gradient(name, p, gradients)).collect();
        let found = found?;
        self.steps += 1;
        let Settings { kind, beta1, beta2, epsilon, weight_decay } = self.settings;
        let correction = |beta: f64| 1.0 - libm::pow(beta, self.steps as f64);
        let (rate_scale, second_scale) = match kind {
            Kind::AdamW => (1.0 / correction(beta1), 1.0 / correction(beta2).sqrt()),
            Kind::Sgd => (1.0, 1.0),
        };
        let step = Step {
            rate: F::of(rate * rate_scale),
            beta1: F::of(beta1),
            beta2: F::of(beta2),
            epsilon: F::of(epsilon),
            scale: F::of(scale),
            second_scale: F::of(second_scale),
        };
        assert_eq!(self.first.len(), parameters.len(), "the optimizer was made for another model");
        let mut second = self.second.iter_mut();
        for (((_, param), gradient), first) in parameters.into_iter().zip(found).zip(&mut self.first) {
            let keep = F::of(if param.decays { 1.0 - rate * weight_decay } else { 1.0 });
            let width = param.value.shape().iter().skip(1).product();
            let (value, first) = (arr::data_mut(&mut param.value), arr::data_mut(first));
            match kind {
                Kind::AdamW => {
                    let second = arr::data_mut(second.next().expect("one second moment per parameter"));
                    par::rows(
                        ((value, 1), (first, 1), (second, 1)),
                        CHUNK,
                        |start, (value, first, second)| {
                            with_part(gradient, width, start..start + value.len(), |gradient| {
                                adamw(Piece { value, first, second, gradient, keep }, step);
                            });
                        },
                    );
                }
                Kind::Sgd => par::rows(((value, 1), (first, 1)), CHUNK, |start, (value, first)| {
                    with_part(gradient, width, start..start + value.len(), |gradient| {
                        sgd(Piece { value, first, second: &mut [], gradient, keep }, step);
                    });
                }),
            }
        }
        Ok(())
    }
}

/// Shows `work` the elements in `span` of the whole gradient of a parameter with rows of `width`.
fn with_part<F: Elem>(gradient: Gradient<F>, width: usize, span: Range<usize>, work: impl FnOnce(&[F])) {
    let values = arr::data(gradient.values);
    let Some(rows) = gradient.rows else { return work(&values[span]) };
    pool::scratch(span.len(), |part| {
        part.fill(F::zero());
        let first = rows.partition_point(|&row| (row as usize + 1) * width <= span.start);
        let inside = rows[first..].iter().take_while(|row| **row as usize * width < span.end);
        for (row, values) in inside.zip(values[first * width..].chunks_exact(width.max(1))) {
            let begin = *row as usize * width;
            let (from, to) = (begin.max(span.start), (begin + width).min(span.end));
            part[from - span.start..to - span.start].copy_from_slice(&values[from - begin..to - begin]);
        }
        work(part);
    });
}

/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `p = keep p - rate m / (sqrt(v) scale + eps)`.
fn adamw<F: Elem>(piece: Piece<F>, s: Step<F>) {
    let (one, Piece { value, first, second, gradient, keep }) = (F::one(), piece);
    fast::<F, _>(
        #[inline(always)]
        || {
            for (((p, m), v), &g) in value.iter_mut().zip(first).zip(second).zip(gradient) {
                let g = g * s.scale;
                *m = s.beta1.mul_add(*m, (one - s.beta1) * g);
                *v = s.beta2.mul_add(*v, (one - s.beta2) * (g * g));
                let root = (*v).sqrt().mul_add(s.second_scale, s.epsilon);
                *p = *p * keep - s.rate * (*m / root);
            }
        },
    );
}

/// `m = b1 m + g`, `p = keep p - rate m`.
fn sgd<F: Elem>(piece: Piece<F>, s: Step<F>) {
    let Piece { value, first, gradient, keep, .. } = piece;
    fast::<F, _>(
        #[inline(always)]
        || {
            for ((p, m), &g) in value.iter_mut().zip(first).zip(gradient) {
                *m = s.beta1.mul_add(*m, g * s.scale);
                *p = *p * keep - s.rate * *m;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    struct Two {
        a: Param<f64>,
        b: Param<f64>,
    }
    crate::module!(Two: f64 { a, b });

    fn two() -> Two {
        let mut two = Two { a: Param::full(&[2], 1.0), b: Param::full(&[1], -2.0) };
        two.a.decays = true;
        two
    }

    /// These gradients for `a` and `b`; with `rows`, those of `a` are of its rows.
    fn gradients(model: &Two, rows: Option<&[u32]>, a: &Arr<f64>, b: f64) -> Gradients<f64> {
        let tape = Tape::new(Mode::Train);
        let var = rows.map_or_else(|| model.a.on(&tape), |rows| model.a.rows_on(&tape, rows.into()));
        let loss = (var * tape.constant(a.clone())).sum() + model.b.on(&tape).scale(b).sum();
        tape.backward(loss).unwrap()
    }

    fn whole(model: &Two, a: [f64; 2], b: f64) -> Gradients<f64> {
        gradients(model, None, &arr::from_vec(&[2], a.to_vec()), b)
    }

    #[test]
    fn a_gradient_of_some_rows_steps_like_the_whole_one() {
        // Rows inside one task's elements and rows across the border of two.
        let (count, width, rows) = (1000, 11, [0, 3, 371, 372, 744, 745, 999]);
        let part: Vec<f64> = (0..rows.len() * width).map(|i| (i % 7) as f64 - 2.5).collect();
        let mut all = vec![0.0; count * width];
        for (row, part) in rows.iter().zip(part.chunks_exact(width)) {
            all[*row as usize * width..][..width].copy_from_slice(part);
        }
        let (all, part) = (arr::from_vec(&[count, width], all), arr::from_vec(&[rows.len(), width], part));
        for kind in [Kind::AdamW, Kind::Sgd] {
            let step = |rows: Option<&[u32]>, values: &Arr<f64>| {
                let mut model = two();
                model.a = Param::full(&[count, width], 1.0);
                model.a.decays = true;
                let mut optimizer = Optimizer::new(Settings { kind, ..Settings::ADAMW }, &model);
                let gradients = gradients(&model, rows, values, 0.0);
                (0..3).for_each(|_| optimizer.step(&mut model, &gradients, 0.1).unwrap());
                (model.a.value, optimizer.first)
            };
            assert_eq!(step(Some(&rows), &part), step(None, &all), "{kind:?}");
        }
    }

    #[test]
    fn adamw_steps_by_hand() {
        let mut model = two();
        let mut optimizer = Optimizer::new(Settings::ADAMW, &model);
        let gradients = whole(&model, [0.5, -3.0], 0.0);
        optimizer.step(&mut model, &gradients, 0.1).unwrap();
        // In the first step m / sqrt(v) is the gradient's sign.
        let a = arr::data(&model.a.value).to_vec();
        approx::assert_relative_eq!(a[0], 1.0 - 0.1 * 0.01 - 0.1, max_relative = 1e-6);
        approx::assert_relative_eq!(a[1], 1.0 - 0.1 * 0.01 + 0.1, max_relative = 1e-6);
        assert_eq!(arr::data(&model.b.value), [-2.0]);
        optimizer.step_scaled(&mut model, &gradients, 0.1, 0.0).unwrap();
        let m = (0.9 * 0.05) / (1.0 - 0.81);
        let v: f64 = (0.999 * 0.001 * 0.25) / (1.0 - 0.999 * 0.999);
        approx::assert_relative_eq!(
            arr::data(&model.a.value)[0],
            a[0] * 0.999 - 0.1 * m / v.sqrt(),
            max_relative = 1e-6
        );
    }

    #[test]
    fn sgd_accumulates_momentum() {
        let mut model = two();
        let settings = Settings { kind: Kind::Sgd, weight_decay: 0.0, ..Settings::ADAMW };
        let mut optimizer = Optimizer::new(settings, &model);
        let gradients = whole(&model, [1.0, 0.0], 0.0);
        (0..2).for_each(|_| optimizer.step(&mut model, &gradients, 0.1).unwrap());
        approx::assert_relative_eq!(arr::data(&model.a.value)[0], 1.0 - 0.1 - 0.19, max_relative = 1e-12);
    }

    #[test]
    fn a_parameter_without_a_gradient_is_named_and_nothing_changes() {
        let mut model = two();
        let mut optimizer = Optimizer::new(Settings::ADAMW, &model);
        let tape = Tape::new(Mode::Train);
        let gradients = tape.backward(model.a.on(&tape).exp().sum()).unwrap();
        let error = optimizer.step(&mut model, &gradients, 0.1).unwrap_err().to_string();
        assert!(error.contains("no gradient reached b"), "{error}");
        assert_eq!((optimizer.steps, arr::data(&model.a.value)), (0, &[1.0, 1.0][..]));
        assert!(global_norm(&model, &gradients).is_err());
    }

    #[test]
    fn the_norm_is_over_all_gradients() {
        let model = two();
        assert_eq!(global_norm(&model, &whole(&model, [3.0, 0.0], 4.0)).unwrap(), 5.0);
    }
}
