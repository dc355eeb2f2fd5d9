//! dynamoe: a CPU tensor engine that trains mixture-of-experts networks, reproducible to the bit.

pub mod arr;
pub mod cli;
pub mod config;
pub mod data;
pub mod error;
pub mod files;
pub mod gradcheck;
pub mod kernels;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod plot;
pub mod tape;
pub mod train;

pub use error::{Error, Result};
pub use tape::{Mode, Op, Tape, Var};
