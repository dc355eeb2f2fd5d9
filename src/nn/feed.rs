//! What goes into a network: images, or sequences of tokens.

use std::sync::Arc;

use crate::engine::arr::Arr;
use crate::engine::kernels::elem::Elem;

/// A batch of examples without their targets.
#[derive(Clone, Debug)]
pub enum Feed<F> {
    /// Standardized images, (T, inputs).
    Images(Arr<F>),
    /// Sequences of tokens.
    Tokens(Tokens),
}

/// Sequences of tokens, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Ids of the tokens.
    pub ids: Arc<[u32]>,
    /// Where each sequence begins, and the end of the last.
    pub starts: Arc<[usize]>,
}

impl<F: Elem> Feed<F> {
    /// How many rows the network has on its way: images, or tokens.
    pub fn rows(&self) -> usize {
        match self {
            Feed::Images(images) => images.shape()[0],
            Feed::Tokens(tokens) => tokens.ids.len(),
        }
    }
}

impl<F> Feed<F> {
    /// Where each sequence begins, and the end of the last; nothing for images.
    pub fn starts(&self) -> Arc<[usize]> {
        match self {
            Feed::Images(_) => Arc::new([]),
            Feed::Tokens(tokens) => tokens.starts.clone(),
        }
    }
}

impl<F> From<Arr<F>> for Feed<F> {
    fn from(images: Arr<F>) -> Feed<F> {
        Feed::Images(images)
    }
}
