//! How exact the engine's f32 functions and norms are, against the same in f64.
//!
//! The truth comes from `libm` in f64, in a form without cancellation; it is off by some 2^-50 of itself, which
//! is nothing beside an f32's 2^-24.

use std::f64::consts::{FRAC_2_SQRT_PI, PI, SQRT_2};

use crate::cli::bench::ulp::{self, Worst};
use crate::engine::arr::{self, Arr};
use crate::engine::kernels::elem::Elem;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::{map, math};
use crate::engine::ops::elementwise::Elementwise;
use crate::engine::ops::unary::{Exp, Gelu, Ln, Sigmoid, Silu, Sqrt, Tanh};
use crate::engine::tape::{Mode, Tape, Var};

/// A function of one number.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The least argument that is tried.
    pub low: f32,
    /// The largest.
    pub high: f32,
    /// No error is larger, in ulp.
    pub bound: f64,
    engine: fn(&[f32], &mut [f32]),
    truth: fn(f64) -> f64,
}

impl Function {
    /// Tries every `stride`-th f32 of the domain: how many that were, and the first of the worst.
    pub fn sweep(&self, stride: u32) -> (u64, Worst) {
        ulp::sweep(self.low, self.high, stride, self.engine, self.truth)
    }
}

/// The largest f32 below 1.
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;
/// The least positive f32.
const LEAST: f32 = f32::from_bits(1);

/// Each function with its whole domain. That of silu and gelu is cut where a power of e in them leaves f32's
/// normal range: below, where they hardly differ from 0, they have the power's few digits.
pub const FUNCTIONS: [Function; 10] = [
    function("exp", (f32::MIN, f32::MAX), 1.1, |x, y| each(Exp {}, x, y), libm::exp),
    function("ln", (LEAST, f32::MAX), 1.0, |x, y| each(Ln {}, x, y), libm::log),
    function("tanh", (f32::MIN, f32::MAX), 1.5, |x, y| each(Tanh {}, x, y), libm::tanh),
    function("sqrt", (0.0, f32::MAX), 0.5, |x, y| each(Sqrt {}, x, y), f64::sqrt),
    function("sigmoid", (f32::MIN, f32::MAX), 2.5, |x, y| each(Sigmoid {}, x, y), sigmoid),
    function("silu", (-87.0, f32::MAX), 3.5, |x, y| each(Silu {}, x, y), silu),
    function("silu", (f32::MIN, -87.0), 55.0, |x, y| each(Silu {}, x, y), silu),
    function("gelu", (-10.0, f32::MAX), 4.5, |x, y| each(Gelu {}, x, y), gelu),
    function("gelu", (f32::MIN, -10.0), 12.0, |x, y| each(Gelu {}, x, y), gelu),
    function(
        "normal quantile",
        (-BELOW_ONE, BELOW_ONE),
        5.0,
        |x, y| map::map(y, x, math::normal_quantile),
        normal_quantile,
    ),
];

const fn function(
    name: &'static str,
    (low, high): (f32, f32),
    bound: f64,
    engine: fn(&[f32], &mut [f32]),
    truth: fn(f64) -> f64,
) -> Function {
    Function { name, low, high, bound, engine, truth }
}

/// The operation `f` on each number.
fn each(f: impl Elementwise, x: &[f32], y: &mut [f32]) {
    map::map(
        y,
        x,
        #[inline(always)]
        |x| f.forward(x),
    );
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// `(1 + tanh u) / 2` is the sigmoid of 2u.
fn gelu(x: f64) -> f64 {
    x * sigmoid(2.0 * (2.0 / PI).sqrt() * (x + 0.044_715 * x * x * x))
}

/// `sqrt(2) erfinv(x)`: Newton's method on erf, and on erfc where erf is near 1, from the engine's own value.
fn normal_quantile(x: f64) -> f64 {
    let size = x.abs();
    let mut y = f64::from(math::normal_quantile(size as f32)) / SQRT_2;
    for _ in 0..2 {
        let excess = if size < 0.5 { libm::erf(y) - size } else { (1.0 - size) - libm::erfc(y) };
        y -= excess / (FRAC_2_SQRT_PI * libm::exp(-y * y));
    }
    (SQRT_2 * y).copysign(x)
}

/// A norm of rows of normal numbers, with gain 1 and bias 0.
pub struct Norm {
    /// Its name.
    pub name: &'static str,
    /// The numbers' mean.
    pub mean: f32,
    /// Their standard deviation.
    pub spread: f32,
    /// No error is larger, in ulp of its row's largest element.
    pub bound: f64,
    engine: fn(Arr<f32>) -> Arr<f32>,
    truth: fn(Arr<f64>) -> Arr<f64>,
}

/// Lengths of rows.
pub const WIDTHS: [usize; 5] = [8, 64, 100, 784, 1000];

/// The errors of a norm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NormError {
    /// How many elements were compared.
    pub elements: usize,
    /// The largest error, in ulp of the largest element of its row.
    pub of_largest: f64,
    /// The largest error in ulp of the element itself. Elements near 0 make it as large as they are small.
    pub of_element: f64,
}

impl Norm {
    /// Compares `rows` rows of each of the [`WIDTHS`].
    pub fn measure(&self, rows: usize) -> NormError {
        let mut worst = NormError::default();
        for width in WIDTHS {
            let mut x = arr::zeros::<f32>(&[rows, width]);
            Stream::new(1, Purpose::Check, width as u64, 0).normal(arr::data_mut(&mut x), self.spread);
            arr::data_mut(&mut x).iter_mut().for_each(|x| *x += self.mean);
            let truth = (self.truth)(x.mapv(f64::from).into());
            let got = (self.engine)(x);
            for (got, truth) in arr::data(&got).chunks(width).zip(arr::data(&truth).chunks(width)) {
                let largest = ulp::ulp(truth.iter().fold(0.0, |a: f64, t| a.max(t.abs())));
                for (&got, &truth) in got.iter().zip(truth) {
                    worst.elements += 1;
                    worst.of_largest = worst.of_largest.max((f64::from(got) - truth).abs() / largest);
                    worst.of_element = worst.of_element.max(ulp::ulps(got, truth));
                }
            }
        }
        worst
    }
}

const fn layer_norm(mean: f32, spread: f32, bound: f64) -> Norm {
    Norm { name: "layer norm", mean, spread, bound, engine: layer_norm_of, truth: layer_norm_of }
}

const fn rms_norm(mean: f32, spread: f32, bound: f64) -> Norm {
    Norm { name: "rms norm", mean, spread, bound, engine: rms_norm_of, truth: rms_norm_of }
}

/// Each norm on rows of several kinds. A layer norm knows the mean to f32's precision only: it is off by as much
/// in the difference from it, which counts if the spread is far smaller than the mean.
pub const NORMS: [Norm; 8] = [
    layer_norm(0.0, 1.0, 3.0),
    layer_norm(0.0, 1e-3, 3.0),
    layer_norm(0.0, 1e3, 3.0),
    layer_norm(100.0, 1.0, 150.0),
    layer_norm(1e4, 1.0, 2e4),
    rms_norm(0.0, 1.0, 3.0),
    rms_norm(0.0, 1e-3, 3.0),
    rms_norm(1e4, 1.0, 3.0),
];

fn layer_norm_of<F: Elem>(x: Arr<F>) -> Arr<F> {
    normed(x, |x, ones, zeros| x.layer_norm(ones, zeros))
}

fn rms_norm_of<F: Elem>(x: Arr<F>) -> Arr<F> {
    normed(x, |x, ones, _| x.rms_norm(ones, 1e-5))
}

/// `norm` of the rows of x, ones and zeros.
fn normed<F: Elem>(
    x: Arr<F>,
    norm: impl for<'t> Fn(Var<'t, F>, Var<'t, F>, Var<'t, F>) -> Var<'t, F>,
) -> Arr<F> {
    let tape = Tape::new(Mode::Infer);
    let width = x.shape()[1];
    let [ones, zeros] = [F::one(), F::zero()].map(|v| tape.constant(arr::full(&[width], v)));
    norm(tape.constant(x), ones, zeros).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_stays_within_its_bound() {
        for f in FUNCTIONS {
            let (count, worst) = f.sweep(997);
            assert!(count > 1_000_000 && worst.ulps <= f.bound, "{}: {worst:?}", f.name);
        }
    }

    #[test]
    fn every_norm_stays_within_its_bound() {
        for norm in NORMS {
            let error = norm.measure(50);
            assert!(error.of_largest <= norm.bound, "{} {} {}: {error:?}", norm.name, norm.mean, norm.spread);
        }
    }
}
