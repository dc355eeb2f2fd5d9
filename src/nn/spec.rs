//! What a network is made of, what that counts to, and what a token costs.

use serde::{Deserialize, Serialize};

use super::router::{Cost, Layer, Rule, Settings};
use crate::engine::kernels::attention::Heads;

/// Where layer normalization stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Once, before the head: the literal order of the paper's list.
    Final,
    /// After every residual.
    Post,
    /// On the input of every layer, and once before the head.
    Pre,
}

/// What a network is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Numbers in a row of input; unused for text.
    pub inputs: usize,
    /// Classes to tell apart, or tokens of the vocabulary.
    pub classes: usize,
    /// Width d of the tokens inside.
    pub width: usize,
    /// Hidden width of an expert.
    pub hidden: usize,
    /// Experts of each layer.
    pub experts: Vec<usize>,
    /// How experts are chosen; `None` for the dense baseline, whose layers have one expert and no router.
    pub router: Option<Settings>,
    /// Where layer normalization stands.
    pub norm: Norm,
    /// What makes it a network for text.
    pub text: Option<Text>,
}

/// What a network for text has beside its layers of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Text {
    /// Whether the embedding's table is the head's weight, too.
    pub tied: bool,
    /// Attention before every layer's experts: then it is a Transformer, whose norms are of root mean squares, whose
    /// experts are gated, and which has no biases but those of routers. Without, every token stands alone.
    pub attention: Option<Attention>,
}

/// The attention of a Transformer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// How many heads, and how wide.
    pub heads: Heads,
    /// The base of the rotary angles.
    pub theta: f64,
    /// What keeps the norms' roots from being zero.
    pub epsilon: f64,
    /// Tokens of a whole sequence, for counting FLOPs.
    pub sequence: usize,
}

impl Attention {
    /// Widths of a row of queries and of one of keys.
    fn widths(&self) -> (usize, usize) {
        (self.heads.count * self.heads.width, self.heads.groups * self.heads.width)
    }
}

impl Spec {
    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        let (d, h) = (self.width, self.hidden);
        let (expert, attention) = match self.attention() {
            None => (d * h + h + h * d + d, 0),
            Some(attention) => {
                let (queries, keys) = attention.widths();
                (3 * d * h, 2 * d * (queries + keys))
            }
        };
        let layer = |&e: &usize| e * expert + self.cost(e).parameters + attention;
        let layers: usize = self.experts.iter().map(layer).sum();
        let ends = match self.text {
            None => (self.inputs + 1) * d + (d + 1) * self.classes,
            Some(text) => {
                let tables = if text.tied { 1 } else { 2 };
                (tables * d + usize::from(text.attention.is_none())) * self.classes
            }
        };
        ends + layers + self.norm_parameters()
    }

    /// Number of parameters in the norms.
    pub fn norm_parameters(&self) -> usize {
        match self.attention() {
            None => self.norms() * 2 * self.width,
            Some(_) => (self.norms() + self.experts.len()) * self.width,
        }
    }

    /// How many norms there are but those before attention.
    pub(super) fn norms(&self) -> usize {
        match self.norm {
            Norm::Final => 1,
            Norm::Post => self.experts.len(),
            Norm::Pre => self.experts.len() + 1,
        }
    }

    /// The attention, if there is any.
    pub(super) fn attention(&self) -> Option<Attention> {
        self.text?.attention
    }

    /// What the router of a layer of `experts` costs. No cost depends on the layer's number.
    fn cost(&self, experts: usize) -> Cost {
        let layer = Layer { number: 0, width: self.width, experts };
        self.router.map_or(Cost { k: 1.0, ..Cost::default() }, |router| router.cost(layer))
    }

    /// Experts that a token gets on average in a layer of `experts`, as far as the rule alone tells.
    pub fn nominal_k(&self, experts: usize) -> f64 {
        self.cost(experts).k
    }

    /// How experts are chosen.
    pub fn rule(&self) -> Rule {
        let none = || Rule::of_each_token("none (one dense expert per layer)".into());
        self.router.map_or_else(none, |router| router.rule())
    }

    /// How experts are chosen, in words.
    pub fn router_name(&self) -> String {
        self.rule().line
    }

    /// Multiplications and additions per token with `k[l]` experts active in layer l: `k 4 d h` (`k 6 d h` where
    /// experts are gated) and the router's work, `2 d E` for a linear gate, a layer (Gülmez, proposition 1); the
    /// input and the head; and for a Transformer the products of the attention, with the keys of half a sequence.
    pub fn active_flops(&self, k: &[f64]) -> f64 {
        let (d, h) = (self.width as f64, self.hidden as f64);
        let (expert, attention) = match self.attention() {
            None => (4.0 * d * h, 0.0),
            Some(attention) => {
                let (queries, keys) = attention.widths();
                let seen = (attention.sequence + 1) as f64 / 2.0;
                (6.0 * d * h, 4.0 * d * (queries + keys) as f64 + 4.0 * queries as f64 * seen)
            }
        };
        let layer = |(&e, &k): (&usize, &f64)| k * expert + self.cost(e).flops + attention;
        let layers: f64 = self.experts.iter().zip(k).map(layer).sum();
        let inputs = if self.text.is_some() { 0 } else { self.inputs };
        layers + 2.0 * d * (inputs + self.classes) as f64
    }

    /// [`Spec::active_flops`] with the nominal number of experts.
    pub fn nominal_flops(&self) -> f64 {
        let k: Vec<f64> = self.experts.iter().map(|&e| self.nominal_k(e)).collect();
        self.active_flops(&k)
    }

    /// The dense network of the same depth and width whose `measure` comes closest to this one's.
    pub fn dense_match(&self, measure: fn(&Spec) -> f64) -> Spec {
        let dense =
            |hidden| Spec { hidden, experts: vec![1; self.experts.len()], router: None, ..self.clone() };
        let target = measure(self);
        // Both measures grow linearly with the hidden width.
        let (one, two) = (measure(&dense(1)), measure(&dense(2)));
        dense((1.0 + (target - one) / (two - one)).round().max(1.0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_small_network() {
        let router = Some(Settings::default());
        let small = Spec {
            inputs: 784,
            classes: 10,
            width: 128,
            hidden: 64,
            experts: vec![8, 6, 3, 1],
            router,
            norm: Norm::Post,
            text: None,
        };
        assert_eq!(small.parameters(), 403_484);
        assert_eq!(small.nominal_flops(), (7 * 4 * 128 * 64 + 18 * 2 * 128 + 2 * 128 * 794) as f64);
        let dense = small.dense_match(|s| s.parameters() as f64);
        assert!(dense.parameters().abs_diff(small.parameters()) < 1024, "{}", dense.parameters());
        let dense = small.dense_match(Spec::nominal_flops);
        assert!((dense.nominal_flops() - small.nominal_flops()).abs() < 2048.0);
    }
}
