//! Routers decide which experts serve a token, and with what weights.
//!
//! A router is one file: its rule with its source, its settings, its losses, its row of documentation and what the
//! tests expect of it. `registry.rs` lists them all, one line each. Read `top_k.rs` first.
//!
//! The choice itself has no gradient; weights and losses have one. Of equal scores the lower index wins, everywhere.
//! Every linear gate has a bias that starts at zero, also where the source has none, so that routers differ by
//! their rule alone.

mod capacity;
mod gates;

pub mod losses;
#[cfg(test)]
mod page;
mod prelude;
mod registry;
mod routing;
mod rule;
pub mod settings;
#[cfg(test)]
mod tests;

pub mod dense;
pub mod expert_choice;
pub mod gshard;
pub mod learned_k;
pub mod loss_free;
pub mod noisy_top_k;
pub mod null_experts;
pub mod percentile;
pub mod single;
pub mod switch;
pub mod top_any;
pub mod top_k;
pub mod top_p;

pub use losses::Losses;
pub use registry::{Choice, NAMES, Settings};
pub use routing::{Router, Routing};
pub use rule::{About, Cost, Layer, RouterSettings, Rule, Sees};
pub use settings::OrAuto;
