//! What a trained network does: how it uses its experts, for which inputs, and what the papers' theory says of it.

pub mod bigram;
pub mod gradient_variance;
pub mod kinds;
pub mod plots;
pub mod probes;
pub mod stats;
pub mod theory;
pub mod tokens;
pub mod usage;
