//! What a forward pass is for: training or evaluation.

use crate::engine::kernels::random::{Purpose, Stream};

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Training: random numbers are addressed by seed and step.
    Train {
        /// The run's seed; `None` switches all randomness off.
        seed: Option<u64>,
        /// The optimizer step, counted from 0.
        step: u64,
    },
    /// Evaluation: no noise, running thresholds.
    Eval,
}

impl Phase {
    /// The random numbers for `purpose` in layer number `layer`; `None` if this pass is not random.
    pub fn stream(self, purpose: Purpose, layer: usize) -> Option<Stream> {
        match self {
            Phase::Train { seed, step } => Some(Stream::new(seed?, purpose, layer as u64, step)),
            Phase::Eval => None,
        }
    }
}
