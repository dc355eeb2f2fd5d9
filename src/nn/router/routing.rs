//! What a router does in a layer: the trait [`Router`] and its decision, [`Routing`].

use std::fmt::Debug;
use std::sync::Arc;

use super::losses::Losses;
use crate::engine::arr::Arr;
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, routes::Routes};
use crate::engine::tape::Var;
use crate::nn::param::Module;
use crate::nn::phase::Phase;
use crate::nn::usage::Usage;

/// The router of one layer.
pub trait Router<F: Elem>: Module<F> + BoxedClone<F> + Debug + Send + Sync {
    /// Routes tokens (T, d).
    ///
    /// # Errors
    /// Shapes that do not match.
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>>;

    /// Updates running statistics after a training batch.
    fn absorb(&mut self, _: &Usage) {}

    /// From now on gives every token the `k` experts of the largest scores, with weights by the same rule; false if
    /// this router cannot. For comparing a varying number of experts with a fixed one.
    fn fix(&mut self, _k: usize) -> bool {
        false
    }
}

/// A router's decision for a batch of tokens.
pub struct Routing<'t, F: Elem> {
    /// Weight of each expert for each token, (T, E); 0 where not chosen.
    pub gates: Var<'t, F>,
    /// The chosen experts. A token may have none: its output is then zero.
    pub routes: Arc<Routes>,
    /// The router's probabilities before noise and choice, (T, E), for statistics.
    pub probabilities: Arr<F>,
    /// The threshold applied to this batch, if the router has one.
    pub threshold: Option<f64>,
    /// Assignments dropped because the expert was full.
    pub dropped: u64,
    /// Auxiliary losses by name, already weighted; only in training.
    pub losses: Losses<'t, F>,
}

impl<'t, F: Elem> Routing<'t, F> {
    /// Weights (T, E) for the experts that `mask` chooses; nothing dropped, no losses.
    pub(super) fn new(gates: Var<'t, F>, mask: &[bool], probabilities: Arr<F>) -> Routing<'t, F> {
        let routes = Arc::new(Routes::new(mask, probabilities.shape()[1]));
        Routing { gates, routes, probabilities, threshold: None, dropped: 0, losses: Vec::new() }
    }
}

/// Cloning behind a box; every router that is `Clone` has it.
pub trait BoxedClone<F: Elem> {
    /// A boxed copy.
    fn boxed_clone(&self) -> Box<dyn Router<F>>;
}

impl<F: Elem, R: Router<F> + Clone + 'static> BoxedClone<F> for R {
    fn boxed_clone(&self) -> Box<dyn Router<F>> {
        Box::new(self.clone())
    }
}

impl<F: Elem> Clone for Box<dyn Router<F>> {
    fn clone(&self) -> Self {
        (**self).boxed_clone()
    }
}
