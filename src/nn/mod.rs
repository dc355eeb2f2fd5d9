//! Parameters, layers and models. Every constructor takes its random numbers explicitly.

pub mod experts;
pub mod linear;
pub mod model;
pub mod moe;
pub mod norm;
pub mod param;
pub mod router;
pub mod schedule;

pub use model::Model;
pub use param::{Init, Item, Module, Param, Visitor};

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Training: noise on the gates, addressed by seed and step.
    Train {
        /// The run's seed.
        seed: u64,
        /// The optimiser step, counted from 0.
        step: u64,
    },
    /// Evaluation: no noise, running thresholds.
    Eval,
}
