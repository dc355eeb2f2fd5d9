//! Networks: parameters, layers, routers, experts, models and optimizers.
//!
//! What a reader of `train` must know:
//! - [`spec::Spec`] says what a network is made of, counts its parameters and FLOPs, and [`Model::new`] builds it.
//!   Every constructor takes its random numbers explicitly, as [`Init`].
//! - [`Model::forward`] takes a batch and a [`Phase`] (training, with seed and step, or evaluation) and returns the
//!   output and one [`moe::Dispatch`] per layer: which experts served which tokens, and auxiliary losses.
//! - A layer is a [`moe::Moe`]: a [`router`] chooses experts for each token, [`experts`] compute. A token may have no
//!   expert; its output is then zero and only the residual remains.
//! - [`Usage`] counts how experts were used; running statistics are updated from it after a training batch.
//! - [`param`] reaches every parameter by its name, such as `layers.0.experts.w1`; names and order are part of
//!   checkpoints and digests. [`optim`] updates them.
//!
//! Read in this order: `linear`, `experts`, `router/top_k`, `moe`, `model`.

pub mod attention;
pub mod embedding;
pub mod experts;
pub mod head;
pub mod linear;
pub mod model;
pub mod moe;
pub mod norm;
pub mod optim;
pub mod param;
pub mod phase;
pub mod router;
pub mod schedule;
pub mod spec;
pub mod usage;

pub use crate::data::{Feed, Tokens};
pub use embedding::Embedding;
pub use linear::Linear;
pub use model::Model;
pub use norm::{LayerNorm, RmsNorm};
pub use param::{Init, Item, ItemMut, Module, Param, Visitor};
pub use phase::Phase;
pub use usage::Usage;
