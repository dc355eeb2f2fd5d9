//! What every router's file needs: `use super::prelude::*`.

pub use super::losses::Weights;
pub use super::routing::{Router, Routing};
pub use super::rule::{About, Cost, Layer, RouterSettings, Rule, Sees};
#[cfg(test)]
pub use super::rule::{Expect, Sum};
pub(super) use super::settings::settings;
pub use super::settings::{OrAuto, is_0_or_more, is_above_0};
pub use crate::engine::arr;
pub use crate::engine::error::Result;
pub use crate::engine::kernels::elem::Elem;
pub use crate::engine::kernels::random::Purpose;
pub use crate::engine::kernels::select;
pub use crate::engine::tape::Var;
pub use crate::module;
pub use crate::nn::linear::Linear;
pub use crate::nn::param::Init;
pub use crate::nn::phase::Phase;
pub use crate::nn::usage::Usage;
