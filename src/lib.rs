//! dynamoe: a CPU tensor engine that trains mixture-of-experts networks, reproducible to the bit.
pub mod cli;
pub mod data;
pub mod error;
pub use error::{Error, Result};
