//! Routers decide which experts a token goes to, and with what weights. One file each.

use std::sync::Arc;

use crate::kernels::routes::Routes;
use crate::tape::Var;
use crate::{arr::Arr, kernels::elem::Elem};

pub mod percentile;

/// A router's decision for a batch of tokens.
pub struct Routing<'t, E: Elem> {
    /// Weight of each expert for each token, (T, E); 0 where not chosen.
    pub gates: Var<'t, E>,
    /// The chosen experts.
    pub routes: Arc<Routes>,
    /// The router's probabilities before noise and choice, (T, E), for statistics.
    pub probabilities: Arr<E>,
    /// The threshold that was applied to this batch, where the router has one.
    pub threshold: Option<f64>,
}
