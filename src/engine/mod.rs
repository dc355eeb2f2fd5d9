//! The tensor engine: arrays, the tape, the operations and the loops below them.
//!
//! It knows nothing of layers, data sets or training. Read [`tape`] first.

pub mod arr;
pub mod error;
pub mod files;
pub mod gradcheck;
#[expect(unsafe_code, reason = "what threads share, and two inner loops")]
pub mod kernels;
pub mod ops;
pub mod tape;
pub mod tensors;
pub mod watch;

pub use error::{Error, Result};
pub use tape::{Mode, Op, Tape, Var};
