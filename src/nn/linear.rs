//! A linear layer.

use super::param::{Init, Param};
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::ops::fused::linear::{self, Activation};
use crate::engine::tape::Var;
use crate::module;

/// `x w + b`, w (in, out), b (out).
#[derive(Clone, Debug)]
pub struct Linear<F> {
    /// Weight, (in, out).
    pub w: Param<F>,
    /// Bias, (out).
    pub b: Param<F>,
}

impl<F: Elem> Linear<F> {
    /// Weights uniform in `[-1/sqrt(inputs), 1/sqrt(inputs))`, biases zero.
    pub fn new(inputs: usize, outputs: usize, init: &mut Init) -> Linear<F> {
        Linear { w: Param::uniform(&[inputs, outputs], inputs, init), b: Param::full(&[outputs], 0.0) }
    }

    /// Weights and biases zero.
    pub fn zeros(inputs: usize, outputs: usize) -> Linear<F> {
        Linear { w: Param::zeros(&[inputs, outputs]), b: Param::full(&[outputs], 0.0) }
    }

    /// (T, in) to (T, out).
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>) -> Result<Var<'t, F>> {
        let tape = x.tape();
        tape.apply_fused(linear::Linear(Activation::None), [x, self.w.on(tape), self.b.on(tape)])
    }
}

module!(Linear { w, b });
