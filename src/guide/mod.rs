//! Pages to read: what this crate promises, how it keeps it, how to check.

#[doc = include_str!("reproducibility.md")]
pub mod reproducibility {}
