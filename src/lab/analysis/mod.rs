//! What a trained network does. Start with [`tokens`] (loss and experts of every example) and [`usage`] (its summary).
//!
//! [`probes`] looks at attention, [`kinds`] at kinds of text, [`gradient_variance`] and [`theory`] test theorems of the first
//! paper, [`bigram`] is a baseline, [`stats`] has intervals and tests, and [`plots`] the pictures.

pub mod bigram;
pub mod gradient_variance;
pub mod kinds;
pub mod plots;
pub mod probes;
pub mod stats;
pub mod theory;
pub mod tokens;
pub mod usage;
