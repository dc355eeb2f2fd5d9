//! Parameters, layers and models. Every constructor takes its random numbers explicitly.

pub mod attention;
pub mod embedding;
pub mod experts;
pub mod feed;
pub mod head;
pub mod linear;
pub mod model;
pub mod moe;
pub mod norm;
pub mod optim;
pub mod param;
pub mod router;
pub mod schedule;
pub mod spec;

use crate::engine::kernels::random::{Purpose, Stream};

pub use feed::{Feed, Tokens};
pub use model::Model;
pub use param::{Init, Item, Module, Param, Visitor};

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Training: whatever is random is addressed by seed and step.
    Train {
        /// The run's seed; without one nothing is random.
        seed: Option<u64>,
        /// The optimizer step, counted from 0.
        step: u64,
    },
    /// Evaluation: no noise, running thresholds.
    Eval,
}

impl Phase {
    /// The random numbers for a purpose in layer number `layer`, if there are any.
    pub fn stream(self, purpose: Purpose, layer: usize) -> Option<Stream> {
        match self {
            Phase::Train { seed, step } => Some(Stream::new(seed?, purpose, layer as u64, step)),
            Phase::Eval => None,
        }
    }
}
