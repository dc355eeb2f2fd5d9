//! Parameters, layers and models. Every constructor takes its random numbers explicitly.

pub mod attention;
pub mod embedding;
pub mod experts;
pub mod feed;
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

pub use feed::{Feed, Tokens};
pub use model::Model;
pub use param::{Init, Item, Module, Param, Visitor};
pub use phase::Phase;
pub use usage::Usage;
