//! Normalization of tokens, with its parameters.

use super::param::Param;
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::ops::fused::layer_norm;
use crate::engine::tape::Var;
use crate::module;

/// `(x - mean) / sqrt(var + 1e-5) * gain + bias` over the last axis.
#[derive(Clone, Debug)]
pub struct LayerNorm<F> {
    /// Gain, (d), initially 1.
    pub gain: Param<F>,
    /// Bias, (d), initially 0.
    pub bias: Param<F>,
}

impl<F: Elem> LayerNorm<F> {
    /// For tokens of width `width`.
    pub fn new(width: usize) -> LayerNorm<F> {
        LayerNorm { gain: Param::full(&[width], 1.0), bias: Param::full(&[width], 0.0) }
    }

    /// (T, d) to (T, d).
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>) -> Result<Var<'t, F>> {
        let tape = x.tape();
        let norm = layer_norm::LayerNorm { epsilon: 1e-5 };
        tape.apply_fused(norm, [x, self.gain.on(tape), self.bias.on(tape)])
    }
}

module!(LayerNorm { gain, bias });

/// `x / sqrt(mean(x^2) + epsilon) * gain` over the last axis.
#[derive(Clone, Debug)]
pub struct RmsNorm<F> {
    /// Gain, (d), initially 1.
    pub gain: Param<F>,
    /// Keeps the root above zero.
    pub epsilon: f64,
}

impl<F: Elem> RmsNorm<F> {
    /// For tokens of width `width`.
    pub fn new(width: usize, epsilon: f64) -> RmsNorm<F> {
        RmsNorm { gain: Param::full(&[width], 1.0), epsilon }
    }

    /// (T, d) to (T, d).
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>) -> Result<Var<'t, F>> {
        let tape = x.tape();
        tape.apply(crate::engine::ops::norm::RmsNorm { eps: self.epsilon }, [x, self.gain.on(tape)])
    }
}

module!(RmsNorm { gain; epsilon });

/// Either normalization.
#[derive(Clone, Debug)]
pub enum Norm<F> {
    /// Layer normalization: mean subtracted, bias added.
    Layer(LayerNorm<F>),
    /// Root-mean-square normalization: no mean, no bias.
    Rms(RmsNorm<F>),
}

impl<F: Elem> Norm<F> {
    /// (T, d) to (T, d).
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>) -> Result<Var<'t, F>> {
        match self {
            Norm::Layer(norm) => norm.forward(x),
            Norm::Rms(norm) => norm.forward(x),
        }
    }
}

module!(
    enum Norm {
        Layer,
        Rms,
    }
);
