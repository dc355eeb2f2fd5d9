//! Routers decide which experts a token goes to, and with what weights. One file each: to add one, write its
//! file and a line in the table below.
//!
//! The choice itself has no gradient; weights and losses do. Of equal scores the lower index wins, everywhere.
//! Every linear gate has a bias that starts at zero, also where the source has none, so that routers differ by
//! their rule alone.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Phase;
use super::moe::Usage;
use super::param::{Init, Module};
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, reduce, routes::Routes, rows};
use crate::engine::tape::Var;

mod capacity;
pub mod dense;
pub mod expert_choice;
pub mod gshard;
pub mod learned_k;
pub mod loss_free;
pub mod losses;
pub mod noisy_top_k;
pub mod percentile;
pub mod settings;
pub mod single;
pub mod switch;
#[cfg(test)]
mod tests;
pub mod top_any;
pub mod top_k;
pub mod top_p;

pub use losses::Losses;
pub use settings::{OrAuto, Settings};

/// What one layer's router does.
pub trait Router<F: Elem>: Module<F> + BoxedClone<F> + Debug + Send + Sync {
    /// The rule in words, and what it looks at.
    fn rule(settings: &Settings) -> Rule
    where
        Self: Sized;

    /// How many of the experts that a schedule gives a layer are to be there.
    fn experts(scheduled: usize) -> usize
    where
        Self: Sized,
    {
        scheduled
    }

    /// What the router of a layer costs.
    fn cost(settings: &Settings, layer: Layer) -> Cost
    where
        Self: Sized;

    /// A layer's router with fresh parameters.
    fn new(settings: &Settings, layer: Layer, init: &mut Init) -> Self
    where
        Self: Sized;

    /// Routes tokens (T, d).
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn route<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<Routing<'t, F>>;

    /// Takes the statistics of a training batch into the running numbers.
    fn absorb(&mut self, _: &Usage) {}

    /// From now on gives every token the `k` experts of the largest scores, with weights by the same rule; false if
    /// this router cannot. For comparing a varying number of experts with a fixed one.
    fn fix(&mut self, _k: usize) -> bool {
        false
    }
}

/// The routers by the names they have in settings.
macro_rules! routers {
    ($($name:literal => $module:ident::$router:ident,)*) => {
        /// Which router.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = concat!("See [`", stringify!($module), "`].")] #[serde(rename = $name)] $router,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$router),*];

            /// The name in settings.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$router => $name),* }
            }
        }

        impl Settings {
            /// The rule in words, and what it looks at.
            pub fn rule(&self) -> Rule {
                match self.kind { $(Kind::$router => <$module::$router<f32> as Router<f32>>::rule(self)),* }
            }

            /// How many of the experts that a schedule gives a layer are to be there.
            pub fn experts(&self, scheduled: usize) -> usize {
                match self.kind { $(Kind::$router => <$module::$router<f32> as Router<f32>>::experts(scheduled)),* }
            }

            /// What the router of a layer costs.
            pub fn cost(&self, layer: Layer) -> Cost {
                match self.kind { $(Kind::$router => <$module::$router<f32> as Router<f32>>::cost(self, layer)),* }
            }

            /// A layer's router with fresh parameters.
            pub fn router<F: Elem>(&self, layer: Layer, init: &mut Init) -> Box<dyn Router<F>> {
                match self.kind {
                    $(Kind::$router => Box::new(<$module::$router<F> as Router<F>>::new(self, layer, init))),*
                }
            }
        }
    };
}

routers! {
    "percentile" => percentile::Percentile,
    "top-k" => top_k::TopK,
    "noisy-top-k" => noisy_top_k::NoisyTopK,
    "switch" => switch::Switch,
    "gshard" => gshard::GShard,
    "expert-choice" => expert_choice::ExpertChoice,
    "top-p" => top_p::TopP,
    "learned-k" => learned_k::LearnedK,
    "loss-free" => loss_free::LossFree,
    "top-any" => top_any::TopAny,
    "dense" => dense::Dense,
    "single" => single::Single,
}

/// The layer that a router stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its number in the model, which addresses random numbers.
    pub number: usize,
    /// Width d of a token.
    pub width: usize,
    /// How many experts it has.
    pub experts: usize,
}

/// How a router chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// In one line, with its settings.
    pub line: String,
    /// Whether the number of experts varies from token to token.
    pub varies: bool,
    /// Which tokens of a batch a token's experts depend on in training.
    pub training: Sees,
    /// The same at inference.
    pub inference: Sees,
}

/// Which tokens of its batch a token's experts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sees {
    /// On itself alone.
    Itself,
    /// On itself and those before it, and on how many there are in all.
    Earlier,
    /// On all of them: not causal.
    All,
}

impl Rule {
    /// A rule that gives every token as many experts, and looks at nothing but the token.
    pub fn of_each_token(line: String) -> Rule {
        Rule { line, varies: false, training: Sees::Itself, inference: Sees::Itself }
    }

    /// Whether a token's result depends on its neighbors, in words.
    pub fn looks_across(&self) -> &'static str {
        match (self.training, self.inference) {
            (Sees::Itself, Sees::Itself) => "no: a token's experts depend on that token alone",
            (_, Sees::Itself) => "in training, over all its tokens; not at inference",
            (_, Sees::Earlier) => {
                "yes: at the tokens before, and at how many there are (first come, first served)"
            }
            (_, Sees::All) => "yes: at all its tokens, later ones too (not causal)",
        }
    }
}

/// What the router of one layer costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Experts that a token gets on average, as far as the rule alone tells.
    pub k: f64,
    /// Number of parameters.
    pub parameters: usize,
    /// Multiplications and additions per token.
    pub flops: f64,
}

impl Cost {
    /// Of a linear gate that gives a token `k` experts.
    pub fn linear(layer: Layer, k: f64) -> Cost {
        let Layer { width: d, experts: e, .. } = layer;
        Cost { k, parameters: (d + 1) * e, flops: 2.0 * d as f64 * e as f64 }
    }
}

/// A router's decision for a batch of tokens.
pub struct Routing<'t, F: Elem> {
    /// Weight of each expert for each token, (T, E); 0 where not chosen.
    pub gates: Var<'t, F>,
    /// The chosen experts.
    pub routes: Arc<Routes>,
    /// The router's probabilities before noise and choice, (T, E), for statistics.
    pub probabilities: Arr<F>,
    /// The threshold that was applied to this batch, where the router has one.
    pub threshold: Option<f64>,
    /// Assignments that were wanted and found no room.
    pub dropped: u64,
    /// Losses beside the task's, by name, already weighted; only in training.
    pub losses: Losses<'t, F>,
}

impl<'t, F: Elem> Routing<'t, F> {
    /// Weights (T, E) for the experts that `mask` chooses; nothing dropped, no losses.
    fn new(gates: Var<'t, F>, mask: &[bool], probabilities: Arr<F>) -> Routing<'t, F> {
        let routes = Arc::new(Routes::new(mask, probabilities.shape()[1]));
        Routing { gates, routes, probabilities, threshold: None, dropped: 0, losses: Vec::new() }
    }
}

/// `x` where `mask` says so, else 0.
fn keep<'t, F: Elem>(x: Var<'t, F>, mask: &[bool]) -> Var<'t, F> {
    x.mul(x.tape().constant(ones(&x.shape(), mask)))
}

/// 1 where `mask` says so, else 0.
fn ones<F: Elem>(shape: &[usize], mask: &[bool]) -> Arr<F> {
    let mut numbers = arr::zeros(shape);
    let chosen = arr::data_mut(&mut numbers).iter_mut().zip(mask).filter(|(_, chosen)| **chosen);
    chosen.for_each(|(number, _)| *number = F::one());
    numbers
}

/// `hard` as a value, with the gradient of `soft`, whose value is `now`. (Bengio et al., Estimating or Propagating
/// Gradients Through Stochastic Neurons, 2013.)
fn straight_through<'t, F: Elem>(soft: Var<'t, F>, now: &Arr<F>, hard: &Arr<F>) -> Var<'t, F> {
    let tape = soft.tape();
    soft.sub(tape.constant(now.clone())).add(tape.constant(hard.clone()))
}

/// `ln(sigmoid(x))`.
fn log_sigmoid<F: Elem>(x: Var<'_, F>) -> Var<'_, F> {
    x.neg().softplus().neg()
}

/// Scores (T, E), each divided by its row's sum.
fn normalized<F: Elem>(scores: &Arr<F>) -> Arr<F> {
    let (mut out, scores) = (scores.clone(), arr::data(scores));
    let experts = out.shape()[1];
    rows::each(
        arr::data_mut(&mut out),
        experts,
        #[inline(always)]
        |r, row| {
            let sum = reduce::sum_lanes(&scores[r * experts..][..experts]);
            for v in row {
                *v = *v / sum;
            }
        },
    );
    out
}

/// Cloning behind a box; every router that is `Clone` has it.
pub trait BoxedClone<F: Elem> {
    /// A copy of its own.
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
