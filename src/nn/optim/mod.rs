//! Optimizers, learning-rate schedules and gradient clipping.

pub mod rate;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::kernels::{elem::Elem, par, pool, reduce, simd::fast};
use crate::engine::tape::{Gradient, Gradients};
use crate::nn::param::{Module, for_each_param};

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

/// An optimizer's memory: for each parameter, in the model's order, its moments.
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

/// Takes the gradients of all parameters of `model` out of a backward pass, in order.
///
/// # Errors
/// [`Error::MissingGradient`] names a parameter that the loss does not depend on.
pub fn collect<F: Elem>(
    model: &mut impl Module<F>,
    gradients: &mut Gradients<F>,
) -> Result<Vec<Gradient<F>>> {
    let (mut all, mut missing) = (Vec::new(), None);
    for_each_param(model, |name, param| match gradients.take_parameter(param.slot()) {
        Some(gradient) => all.push(gradient),
        None => missing = missing.take().or(Some(name.to_string())),
    });
    match missing {
        Some(parameter) => Err(Error::MissingGradient { parameter }),
        None => Ok(all),
    }
}

/// The sum of two gradients of one parameter.
pub fn add<F: Elem>(a: Gradient<F>, b: Gradient<F>) -> Gradient<F> {
    let (Some(of_a), Some(of_b)) = (&a.rows, &b.rows) else {
        return Gradient { values: arr::sum(a.values, b.values), rows: None };
    };
    let mut rows = [&of_a[..], &of_b[..]].concat();
    rows.sort_unstable();
    rows.dedup();
    let width = a.values.len() / of_a.len().max(1);
    let mut values = arr::zeros(&[&[rows.len()], &a.values.shape()[1..]].concat());
    let sums = arr::data_mut(&mut values);
    for (rows_of, part) in [(of_a, &a.values), (of_b, &b.values)] {
        for (row, part) in rows_of.iter().zip(arr::data(part).chunks_exact(width)) {
            let at = rows.binary_search(row).expect("a row of one of the two") * width;
            sums[at..at + width].iter_mut().zip(part).for_each(|(sum, &v)| *sum += v);
        }
    }
    Gradient { values, rows: Some(rows.into()) }
}

/// The Euclidean norm of all gradients together.
pub fn global_norm<F: Elem>(gradients: &[Gradient<F>]) -> f64 {
    gradients.iter().map(|g| reduce::sum_squares(arr::data(&g.values))).sum::<f64>().sqrt()
}

/// The numbers of one step that all parameters share.
#[derive(Clone, Copy)]
struct Step<F> {
    rate: F,
    beta1: F,
    beta2: F,
    epsilon: F,
    /// Factor on the gradients, from clipping.
    clip: F,
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
    /// An optimizer for the parameters of `model`, with empty memory.
    pub fn new(settings: Settings, model: &mut impl Module<F>) -> Optimizer<F> {
        let mut first = Vec::new();
        for_each_param(model, |_, param| first.push(arr::zeros(param.value.shape())));
        let second = match settings.kind {
            Kind::AdamW => first.iter().map(|m| arr::zeros(m.shape())).collect(),
            Kind::Sgd => Vec::new(),
        };
        Optimizer { settings, steps: 0, first, second }
    }

    /// One step with learning rate `rate`; gradients are scaled by `clip` first (1 for none).
    ///
    /// A gradient of some rows counts as zero in all others: their moments fade and their weights decay like any, so
    /// that the result is the one of the whole gradient. (Optimizers that are called lazy or sparse leave such rows
    /// alone.)
    pub fn step(&mut self, model: &mut impl Module<F>, gradients: &[Gradient<F>], rate: f64, clip: f64) {
        /// Elements of one task.
        const CHUNK: usize = 4 * 1024;
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
            clip: F::of(clip),
            second_scale: F::of(second_scale),
        };
        let (mut first, mut second) = (self.first.iter_mut(), self.second.iter_mut());
        let mut gradients = gradients.iter();
        for_each_param(model, |_, param| {
            let keep = F::of(if param.decays { 1.0 - rate * weight_decay } else { 1.0 });
            let first = arr::data_mut(first.next().expect("one moment per parameter"));
            let gradient = gradients.next().expect("one gradient per parameter");
            let width = param.value.shape().iter().skip(1).product();
            let value = arr::data_mut(&mut param.value);
            match kind {
                Kind::AdamW => {
                    let second = arr::data_mut(second.next().expect("one moment per parameter"));
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
        });
    }
}

/// Shows `work` the elements in `span` of the whole gradient of a parameter with rows of `width`.
fn with_part<F: Elem>(gradient: &Gradient<F>, width: usize, span: Range<usize>, work: impl FnOnce(&[F])) {
    let values = arr::data(&gradient.values);
    let Some(rows) = &gradient.rows else { return work(&values[span]) };
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
                let g = g * s.clip;
                *m = s.beta1.mul_add(*m, (one - s.beta1) * g);
                *v = s.beta2.mul_add(*v, (one - s.beta2) * (g * g));
                let scale = (*v).sqrt().mul_add(s.second_scale, s.epsilon);
                *p = *p * keep - s.rate * (*m / scale);
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
                *m = s.beta1.mul_add(*m, g * s.clip);
                *p = *p * keep - s.rate * *m;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};
    use crate::nn::param::{Param, Visitor, number};

    struct Two {
        a: Param<f64>,
        b: Param<f64>,
    }

    impl Module<f64> for Two {
        fn visit(&mut self, v: &mut Visitor<'_, f64>) {
            let Two { a, b } = self;
            v.param("a", a);
            v.param("b", b);
        }
    }

    fn whole(values: &[f64]) -> Gradient<f64> {
        Gradient { values: arr::from_vec(&[values.len()], values.to_vec()), rows: None }
    }

    #[test]
    fn a_gradient_of_some_rows_steps_like_the_whole_one() {
        // Rows that end within a task's elements and rows that go over their ends.
        let (count, width, rows) = (1000, 11, [0, 3, 371, 372, 744, 745, 999]);
        let part: Vec<f64> = (0..rows.len() * width).map(|i| (i % 7) as f64 - 2.5).collect();
        let mut all = vec![0.0; count * width];
        for (row, part) in rows.iter().zip(part.chunks_exact(width)) {
            all[*row as usize * width..][..width].copy_from_slice(part);
        }
        let whole = Gradient { values: arr::from_vec(&[count, width], all), rows: None };
        let values = arr::from_vec(&[rows.len(), width], part);
        let some = Gradient { values, rows: Some(rows.into()) };
        for kind in [Kind::AdamW, Kind::Sgd] {
            let step = |gradient: &Gradient<f64>| {
                let mut model = two();
                model.a = Param::full(&[count, width], 1.0);
                model.a.decays = true;
                number(&mut model);
                let mut optimizer = Optimizer::new(Settings { kind, ..Settings::ADAMW }, &mut model);
                let gradients = [gradient.clone(), super::tests::whole(&[0.0])];
                (0..3).for_each(|_| optimizer.step(&mut model, &gradients, 0.1, 1.0));
                (model.a.value, optimizer.first)
            };
            assert_eq!(step(&some), step(&whole), "{kind:?}");
        }
    }

    fn two() -> Two {
        let mut two = Two { a: Param::full(&[2], 1.0), b: Param::full(&[1], -2.0) };
        two.a.decays = true;
        number(&mut two);
        two
    }

    #[test]
    fn adamw_steps_by_hand() {
        let mut model = two();
        let mut optimizer = Optimizer::new(Settings::ADAMW, &mut model);
        let gradients = [whole(&[0.5, -3.0]), whole(&[0.0])];
        optimizer.step(&mut model, &gradients, 0.1, 1.0);
        // In the first step m / sqrt(v) is the gradient's sign.
        let a = arr::data(&model.a.value).to_vec();
        approx::assert_relative_eq!(a[0], 1.0 - 0.1 * 0.01 - 0.1, max_relative = 1e-6);
        approx::assert_relative_eq!(a[1], 1.0 - 0.1 * 0.01 + 0.1, max_relative = 1e-6);
        assert_eq!(arr::data(&model.b.value), [-2.0]);
        optimizer.step(&mut model, &gradients, 0.1, 0.0);
        let m = (0.9 * 0.05) / (1.0 - 0.81);
        let v: f64 = (0.999 * 0.001 * 0.25) / (1.0 - 0.999 * 0.999);
        approx::assert_relative_eq!(
            arr::data(&model.a.value)[0],
            a[0] * 0.999 - 0.1 * m / v.sqrt(),
            max_relative = 1e-6
        );
    }

    #[test]
    fn sgd_gathers_momentum() {
        let mut model = two();
        let settings = Settings { kind: Kind::Sgd, weight_decay: 0.0, ..Settings::ADAMW };
        let mut optimizer = Optimizer::new(settings, &mut model);
        let gradients = [whole(&[1.0, 0.0]), whole(&[0.0])];
        optimizer.step(&mut model, &gradients, 0.1, 1.0);
        optimizer.step(&mut model, &gradients, 0.1, 1.0);
        approx::assert_relative_eq!(arr::data(&model.a.value)[0], 1.0 - 0.1 - 0.19, max_relative = 1e-12);
    }

    #[test]
    fn a_parameter_without_a_gradient_is_named() {
        let mut model = two();
        let tape = Tape::new(Mode::Train);
        let loss = model.a.on(&tape).exp().mul(model.a.on(&tape)).sum();
        let mut gradients = tape.backward(loss).unwrap();
        let error = collect(&mut model, &mut gradients).err().unwrap().to_string();
        assert!(error.contains("no gradient reached b"), "{error}");
    }

    #[test]
    fn gradients_of_some_rows_add_up() {
        let some = |rows: &[u32], values: &[f64]| {
            let values = arr::from_vec(&[rows.len(), 2], values.to_vec());
            Gradient { values, rows: Some(rows.into()) }
        };
        let sum = add(some(&[1, 4], &[1.0, 2.0, 3.0, 4.0]), some(&[0, 4], &[5.0, 6.0, 7.0, 8.0]));
        assert_eq!(sum.rows.as_deref(), Some(&[0, 1, 4][..]));
        assert_eq!(arr::data(&sum.values), [5.0, 6.0, 1.0, 2.0, 10.0, 12.0]);
        assert_eq!(arr::data(&add(whole(&[1.0]), whole(&[2.0])).values), [3.0]);
    }

    #[test]
    fn the_norm_is_over_all_gradients() {
        let gradients = [whole(&[3.0]), whole(&[4.0])];
        assert_eq!(global_norm(&gradients), 5.0);
    }
}
