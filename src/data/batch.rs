//! What goes into a network: rows of numbers, or sequences of tokens.

use std::sync::Arc;

use crate::engine::arr::Arr;
use crate::engine::kernels::elem::Elem;

/// What a network is given, and what it should answer: one target for each row of the feed.
pub type Batch = (Feed<f32>, Vec<u32>);

/// A batch of examples without their targets.
#[derive(Clone, Debug)]
pub enum Feed<F> {
    /// Rows of numbers, (T, inputs).
    Rows(Arr<F>),
    /// Sequences of tokens.
    Tokens(Tokens),
}

/// Sequences of tokens, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Ids of the tokens.
    pub ids: Arc<[u32]>,
    /// The index of each sequence's first token, and the end of the last.
    pub starts: Arc<[usize]>,
}

impl<F: Elem> Feed<F> {
    /// The number of rows T: rows of numbers, or tokens.
    pub fn rows(&self) -> usize {
        match self {
            Feed::Rows(rows) => rows.shape()[0],
            Feed::Tokens(tokens) => tokens.ids.len(),
        }
    }
}

impl<F> Feed<F> {
    /// The index of each sequence's first token, and the end of the last; empty for rows of numbers.
    pub fn starts(&self) -> Arc<[usize]> {
        match self {
            Feed::Rows(_) => Arc::new([]),
            Feed::Tokens(tokens) => tokens.starts.clone(),
        }
    }
}

impl<F> From<Arr<F>> for Feed<F> {
    fn from(rows: Arr<F>) -> Feed<F> {
        Feed::Rows(rows)
    }
}
