//! What a router's settings say about it: its row of documentation, its rule, its cost, and what tests expect.

use serde::Serialize;

use super::losses::Weights;
use super::routing::Router;
use super::settings::Keys;
use crate::engine::kernels::elem::Elem;
use crate::nn::param::Init;

/// The settings of one router: what they mean, and how the router of a layer is built from them.
pub trait RouterSettings: Keys {
    /// The router itself.
    type Router<F: Elem>: Router<F> + 'static;

    /// The row in the table of routers.
    const ABOUT: About;

    /// The weights that its source gives to the losses every router can have ([`super::losses`]); `None` if it
    /// has no use for them.
    const LOSSES: Option<Weights> = Some(Weights::NONE);

    /// Settings that bring it as near as possible to two experts per token, for comparisons of speed.
    const NEAR_TWO: &'static [&'static str] = &[];

    /// The rule in words, and what it looks at.
    fn rule(&self) -> Rule;

    /// The number of experts to create in a layer for which the schedule says `scheduled`.
    fn experts(&self, scheduled: usize) -> usize {
        scheduled
    }

    /// What the router of a layer costs.
    fn cost(&self, layer: Layer) -> Cost;

    /// The router of a layer, with initial parameters and the weights of its losses.
    fn build<F: Elem>(&self, layer: Layer, weights: Weights, init: &mut Init) -> Self::Router<F>;

    /// What the tests of all routers expect of it.
    #[cfg(test)]
    fn expect(&self) -> Expect {
        Expect::default()
    }

    /// The settings to test it with.
    #[cfg(test)]
    fn variants() -> Vec<Self> {
        vec![Self::default()]
    }
}

/// A router's row in the table of routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Which experts serve a token.
    pub chooses: &'static str,
    /// Where the rule was published; empty for baselines.
    pub source: &'static str,
}

/// The layer that a router belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its number in the model, which addresses random numbers.
    pub number: usize,
    /// Width d of a token.
    pub width: usize,
    /// Number of experts E.
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
    /// On itself, on the tokens before it, and on the number of tokens.
    Earlier,
    /// On all of them: not causal.
    All,
}

impl Rule {
    /// A rule that gives every token the same number of experts and looks at nothing but the token.
    pub fn of_each_token(line: String) -> Rule {
        Rule { line, varies: false, training: Sees::Itself, inference: Sees::Itself }
    }

    /// Whether a token's result depends on its neighbors, in words.
    pub fn looks_across(&self) -> &'static str {
        match (self.training, self.inference) {
            (Sees::Itself, Sees::Itself) => "no: a token's experts depend on that token alone",
            (_, Sees::Itself) => "in training, at all its tokens; not at inference",
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
    /// Experts per token on average, as far as the rule alone tells.
    pub k: f64,
    /// Number of parameters.
    pub parameters: usize,
    /// Multiplications and additions per token.
    pub flops: f64,
}

impl Cost {
    /// A linear gate, for a router that gives a token `k` experts.
    pub fn linear(layer: Layer, k: f64) -> Cost {
        let Layer { width: d, experts: e, .. } = layer;
        Cost { k, parameters: (d + 1) * e, flops: 2.0 * d as f64 * e as f64 }
    }
}

/// What the tests of all routers expect of one.
#[cfg(test)]
#[derive(Clone, Debug)]
pub struct Expect {
    /// Every token has at least one expert.
    pub at_least_one: bool,
    /// The sum of a token's weights.
    pub sum: Sum,
    /// The number of experts of three tokens of zeros in a layer of six experts whose scores are all equal.
    pub tied: [usize; 3],
    /// The names of the losses that only this router has.
    pub losses: &'static [&'static str],
    /// Experts with weight 0 may run in training.
    pub runs_unused: bool,
    /// The choice has a straight-through gradient, which finite differences cannot show: it is checked in the
    /// router's own tests.
    pub straight_through: bool,
}

/// The sum of the weights of a token's experts.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// 1, for tokens that have an expert.
    One,
    /// At most 1.
    AtMostOne,
    /// At most the number of experts: each weight is at most 1.
    AtMostK,
}

#[cfg(test)]
impl Default for Expect {
    fn default() -> Expect {
        Expect {
            at_least_one: true,
            sum: Sum::One,
            tied: [2; 3],
            losses: &[],
            runs_unused: false,
            straight_through: false,
        }
    }
}
