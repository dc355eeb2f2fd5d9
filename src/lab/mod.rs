//! The laboratory: analysis of trained networks, the papers' experiments, and charts.
//!
//! - [`analysis`]: expert usage, attention probes and statistics of a trained network (`dynamoe analyze`).
//! - [`reproduce`]: the papers' experiments with their claims and a report (`dynamoe reproduce`). Start with
//!   [`reproduce::experiment`].
//! - [`plot`]: charts as SVG. Start with [`plot::lines`].
//!
//! It builds on `train`, `nn`, `data` and `engine`; only the command line uses it.

pub mod analysis;
pub mod plot;
pub mod reproduce;
