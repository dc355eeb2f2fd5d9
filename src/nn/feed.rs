//! What goes into a network: images, or sequences of tokens.

use std::sync::Arc;

use crate::engine::arr::Arr;
use crate::engine::kernels::elem::Elem;

/// A batch of examples without their targets.
#[derive(Clone, Debug)]
pub enum Feed<E> {
    /// Standardised images, (T, inputs).
    Images(Arr<E>),
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

impl<E: Elem> Feed<E> {
    /// How many rows the network has on its way: images, or tokens.
    pub fn rows(&self) -> usize {
        match self {
            Feed::Images(images) => images.shape()[0],
            Feed::Tokens(tokens) => tokens.ids.len(),
        }
    }
}

impl<E> Feed<E> {
    /// Where each sequence begins, and the end of the last; nothing for images.
    pub fn starts(&self) -> Arc<[usize]> {
        match self {
            Feed::Images(_) => Arc::new([]),
            Feed::Tokens(tokens) => tokens.starts.clone(),
        }
    }
}

impl<E> From<Arr<E>> for Feed<E> {
    fn from(images: Arr<E>) -> Feed<E> {
        Feed::Images(images)
    }
}
