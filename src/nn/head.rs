//! The last layer: logits for a few classes, or for a vocabulary.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::linear::Linear;
use super::param::{Init, Param};
use crate::engine::arr;
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, select};
use crate::engine::ops::fused::linear_cross_entropy::LinearCrossEntropy;
use crate::engine::ops::fused::logits::Logits;
use crate::engine::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use crate::engine::tape::{Mode, Var};
use crate::module;

/// What a batch of answers cost.
pub struct Loss<'t, F: Elem> {
    /// Mean cross-entropy.
    pub mean: Var<'t, F>,
    /// How many targets had the largest logit.
    pub right: usize,
}

/// From tokens to logits.
#[derive(Clone, Debug)]
pub enum Head<F> {
    /// Of a few classes.
    Classes(Linear<F>),
    /// Of a vocabulary, whose logits are never all there at once in training.
    Vocabulary(Vocabulary<F>),
}

/// `h W^T + b`, W (V, d).
#[derive(Clone, Debug)]
pub struct Vocabulary<F> {
    /// A vector for each token, (V, d); none if the embedding's table stands in.
    pub w: Option<Param<F>>,
    /// Biases, (V).
    pub b: Option<Param<F>>,
}

impl<F: Elem> Vocabulary<F> {
    /// Weights uniform within `1/sqrt(width)`, unless they are `tied` to the embedding's; biases zero.
    pub fn new(vocabulary: usize, width: usize, tied: bool, biased: bool, init: &mut Init) -> Vocabulary<F> {
        let w = (!tied).then(|| Param::uniform(&[vocabulary, width], width, init));
        Vocabulary { w, b: biased.then(|| Param::full(&[vocabulary], 0.0)) }
    }

    /// The weights and the biases on the tape of `h`.
    fn parameters<'t>(&self, h: Var<'t, F>, table: Option<&Param<F>>) -> (Var<'t, F>, Option<Var<'t, F>>) {
        let w = self.w.as_ref().or(table).expect("a tied head is given its table");
        (w.on(h.tape()), self.b.as_ref().map(|b| b.on(h.tape())))
    }
}

impl<F: Elem> Head<F> {
    /// Tokens (T, d) to logits (T, C); `table` is the embedding's, for a head that is tied to it.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn logits<'t>(&self, h: Var<'t, F>, table: Option<&Param<F>>) -> Result<Var<'t, F>> {
        match self {
            Head::Classes(linear) => linear.forward(h),
            Head::Vocabulary(head) => match head.parameters(h, table) {
                (w, None) => h.tape().apply_fused(Logits, [h, w]),
                (w, Some(b)) => h.tape().apply_fused(Logits, [h, w, b]),
            },
        }
    }

    /// The mean cross-entropy of tokens (T, d), with a target each.
    ///
    /// # Errors
    /// Shapes that do not fit, targets that are no classes.
    pub fn loss<'t>(&self, h: Var<'t, F>, targets: &[u32], table: Option<&Param<F>>) -> Result<Loss<'t, F>> {
        let tape = h.tape();
        let Head::Vocabulary(head) = self else {
            let logits = self.logits(h, table)?;
            tape.enter("loss", None);
            let mean = tape.apply(SoftmaxCrossEntropy { targets: targets.into() }, [logits])?;
            let (logits, classes) = (logits.value(), logits.shape()[1]);
            return Ok(Loss { mean, right: select::right(arr::data(&logits), classes, targets) });
        };
        tape.enter("loss", None);
        let right = Arc::new(AtomicUsize::new(0));
        let gradients = tape.mode() != Mode::Infer;
        let op = LinearCrossEntropy { targets: targets.into(), gradients, right: right.clone() };
        let mean = match head.parameters(h, table) {
            (w, None) => tape.apply_fused(op, [h, w])?,
            (w, Some(b)) => tape.apply_fused(op, [h, w, b])?,
        };
        Ok(Loss { mean, right: right.load(Ordering::Relaxed) })
    }
}

module!(Vocabulary { w, b });

module!(
    enum Head {
        Classes,
        Vocabulary,
    }
);
