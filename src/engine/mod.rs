//! The tensor engine: arrays, the tape, the operations and the loops below them. It knows nothing of layers, data sets
//! or training.
//!
//! What the layers above need to know:
//!
//! - [`arr::Arr`] is an array, contiguous and row-major; cloning it is free.
//! - A [`Tape`] records what is done with its variables ([`Var`]); [`Tape::backward`] returns the gradients. Read
//!   [`tape`] first.
//! - [`Op`] is an operation with its gradient; those there are stand in [`ops`] and are methods of [`Var`].
//! - [`kernels`] are loops over slices. Their results depend neither on the number of threads ([`kernels::par`]) nor
//!   on the processor ([`kernels::simd`]). Random numbers are addressed by purpose and position
//!   ([`kernels::random`]), so they do not depend on the order of execution either.
//! - [`files`] writes files atomically, [`tensors`] reads and writes named arrays, [`watch`] shows every array of a
//!   step to a watcher.
//!
//! The same letters mean the same lengths everywhere:
//!
//! | letter | length |
//! |---|---|
//! | T | tokens (rows) of a batch |
//! | d | width of a token |
//! | h | hidden width of an expert |
//! | E | experts of a layer |
//! | k | active experts of a token |
//! | B, S | sequences of a batch, tokens of a sequence |
//! | V | vocabulary |
//!
//! `F` is the type of an element: f32 to train, f64 to check gradients.

pub mod arr;
pub mod error;
pub mod files;
pub mod gradcheck;
#[expect(unsafe_code, reason = "what threads share, and two inner loops")]
pub mod kernels;
pub mod op;
pub mod ops;
pub mod tape;
pub mod tensors;
pub mod watch;

pub use error::{Error, Result};
pub use tape::{Mode, Op, Tape, Var};
