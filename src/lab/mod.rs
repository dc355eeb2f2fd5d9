//! The laboratory: what trained networks do, the papers' experiments, and their pictures.

pub mod analysis;
pub mod plot;
pub mod reproduce;
