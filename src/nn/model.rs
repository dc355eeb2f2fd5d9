//! Whole networks: DynaMoE for images and for text, its dense baseline, and the Transformer with experts.

use std::sync::Arc;

use super::attention::{Cache, SelfAttention};
use super::embedding::Embedding;
use super::experts::Form;
use super::head::{Head, Loss, Vocabulary};
use super::linear::Linear;
use super::moe::{Dispatch, Moe};
use super::norm::{self, LayerNorm, RmsNorm};
use super::param::{Init, Param};
use super::phase::Phase;
use super::router::Layer;
use super::spec::{Attention, Norm, Spec, Text};
use super::usage::Usage;
use crate::data::batch::{Feed, Tokens};
use crate::engine::arr::Arr;
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::{Tape, Var, shape_error};
use crate::module;

/// Input layer, layers of experts with residuals, normalization, head.
#[derive(Clone, Debug)]
pub struct Model<F: Elem> {
    spec: Spec,
    stem: Stem<F>,
    /// One before the experts of each layer, in a Transformer.
    attention: Vec<AttentionBlock<F>>,
    layers: Vec<Moe<F>>,
    norms: Vec<norm::Norm<F>>,
    head: Head<F>,
}

/// What a network has seen of a sequence: keys and values of each layer, if it has attention.
#[derive(Clone, Debug)]
pub struct Memory<F> {
    layers: Vec<Cache<F>>,
}

/// What turns a feed into tokens.
#[derive(Clone, Debug)]
enum Stem<F> {
    Images(Linear<F>),
    Text(Embedding<F>),
}

/// A Transformer's `h + attention(norm(h))`.
#[derive(Clone, Debug)]
struct AttentionBlock<F> {
    norm: RmsNorm<F>,
    attention: SelfAttention<F>,
}

impl<F: Elem> Model<F> {
    /// A network with fresh parameters.
    pub fn new(spec: &Spec, init: &mut Init) -> Model<F> {
        let (d, h) = (spec.width, spec.hidden);
        let stem = match spec.text {
            None => Stem::Images(Linear::new(spec.inputs, d, init)),
            Some(_) => Stem::Text(Embedding::new(spec.classes, d, init)),
        };
        let form = if spec.attention().is_some() { Form::Gated } else { Form::Relu };
        let (mut attention, mut layers) = (Vec::new(), Vec::new());
        for (l, &experts) in spec.experts.iter().enumerate() {
            attention.extend(spec.attention().map(|Attention { heads, theta, epsilon, .. }| {
                AttentionBlock {
                    norm: RmsNorm::new(d, epsilon),
                    attention: SelfAttention { theta, ..SelfAttention::new(d, heads, init) },
                }
            }));
            layers.push(match &spec.router {
                Some(settings) => {
                    Moe::routed(Layer { number: l, width: d, experts }, h, form, settings, init)
                }
                None => Moe::dense(d, h, form, init),
            });
        }
        let norm = |_| match spec.attention() {
            None => norm::Norm::Layer(LayerNorm::new(d)),
            Some(attention) => norm::Norm::Rms(RmsNorm::new(d, attention.epsilon)),
        };
        let norms = (0..spec.norms()).map(norm).collect();
        let head = match spec.text {
            None => Head::Classes(Linear::new(d, spec.classes, init)),
            Some(Text { tied, attention }) => {
                Head::Vocabulary(Vocabulary::new(spec.classes, d, tied, attention.is_none(), init))
            }
        };
        Model { spec: spec.clone(), stem, attention, layers, norms, head }
    }

    /// What the network is made of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Images (T, inputs) to logits (T, classes), and how each layer dispatched them to its experts.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward<'t>(&self, x: Var<'t, F>, phase: Phase) -> Result<(Var<'t, F>, Vec<Dispatch<'t, F>>)> {
        let Stem::Images(input) = &self.stem else { return Err(self.other_feed(&Feed::Rows(x.value()))) };
        let starts: Arc<[usize]> = Arc::new([]);
        let (h, dispatch) = self.through(input.forward(x)?, &starts, phase)?;
        Ok((self.logits(h)?, dispatch))
    }

    /// A feed to tokens (T, d).
    ///
    /// # Errors
    /// A feed of another kind or size than the network takes.
    ///
    /// # Panics
    /// Two texts of different tokens on one tape that records.
    pub fn start<'t>(&self, tape: &'t Tape<F>, feed: &Feed<F>) -> Result<Var<'t, F>> {
        match (&self.stem, feed) {
            (Stem::Images(input), Feed::Rows(images)) => input.forward(tape.constant(images.clone())),
            (Stem::Text(table), Feed::Tokens(tokens)) => {
                table.forward(tape, &tokens.ids, self.tied_table().is_none())
            }
            _ => Err(self.other_feed(feed)),
        }
    }

    /// The error for a feed of the other kind.
    fn other_feed(&self, feed: &Feed<F>) -> crate::engine::Error {
        let why = match feed {
            Feed::Rows(_) => "this network takes tokens, not rows of numbers",
            Feed::Tokens(_) => "this network takes rows of numbers, not tokens",
        };
        shape_error("model", why, &[&[feed.rows()]])
    }

    /// The embedding's table where it is the head's weight, too.
    fn tied_table(&self) -> Option<&Param<F>> {
        match (&self.stem, self.spec.text) {
            (Stem::Text(embedding), Some(Text { tied: true, .. })) => Some(&embedding.table),
            _ => None,
        }
    }

    /// Tokens (T, d) as they come out of the last layer, and how each layer dispatched them to its experts.
    ///
    /// # Errors
    /// A feed of another kind or size than the network takes.
    ///
    /// # Panics
    /// Two texts of different tokens on one tape that records.
    pub fn hidden<'t>(
        &self,
        tape: &'t Tape<F>,
        feed: &Feed<F>,
        phase: Phase,
    ) -> Result<(Var<'t, F>, Vec<Dispatch<'t, F>>)> {
        self.through(self.start(tape, feed)?, &feed.starts(), phase)
    }

    /// Tokens (T, d) through all layers.
    fn through<'t>(
        &self,
        mut h: Var<'t, F>,
        starts: &Arc<[usize]>,
        phase: Phase,
    ) -> Result<(Var<'t, F>, Vec<Dispatch<'t, F>>)> {
        let mut dispatch = Vec::with_capacity(self.layers.len());
        for l in 0..self.layers.len() {
            let (y, dispatched) = self.layer(l, h, starts, phase)?;
            dispatch.push(dispatched);
            h = y;
        }
        Ok((h, dispatch))
    }

    /// Tokens (T, d) through layer number `l`, with its residuals and its norms; `starts` are those of the feed
    /// ([`Feed::starts`]).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn layer<'t>(
        &self,
        l: usize,
        h: Var<'t, F>,
        starts: &Arc<[usize]>,
        phase: Phase,
    ) -> Result<(Var<'t, F>, Dispatch<'t, F>)> {
        h.tape().enter("layers", Some(l));
        self.experts(l, self.attend(l, h, starts)?, phase)
    }

    /// Tokens (T, d) through the attention of layer number `l`, with its residual, if there is one.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn attend<'t>(&self, l: usize, h: Var<'t, F>, starts: &Arc<[usize]>) -> Result<Var<'t, F>> {
        match self.attention.get(l) {
            Some(block) => Ok(h.add(block.attention.forward(block.norm.forward(h)?, starts.clone())?)),
            None => Ok(h),
        }
    }

    /// The weights of the attention of layer number `l` for tokens (T, d) that come to it: [`SelfAttention::weights`];
    /// none without attention.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn attention_weights(&self, l: usize, h: Var<'_, F>, starts: &Arc<[usize]>) -> Result<Vec<Arr<F>>> {
        let block = self.attention.get(l);
        block.map_or(Ok(Vec::new()), |block| block.attention.weights(block.norm.forward(h)?, starts))
    }

    /// The next tokens of one sequence, whose earlier ones `memory` has seen, to (n, d) from the last layer: to the bit
    /// what [`Model::hidden`] gives for them in the whole sequence, if experts depend on nothing but the token
    /// ([`super::router::Rule::inference`]). On an inference tape.
    ///
    /// # Errors
    /// Tokens that are not in the vocabulary, a network for images.
    pub fn extend<'t>(
        &self,
        tape: &'t Tape<F>,
        ids: &[u32],
        memory: &mut Memory<F>,
    ) -> Result<(Var<'t, F>, Vec<Dispatch<'t, F>>)> {
        let tokens = Tokens { ids: ids.into(), starts: Arc::new([0, ids.len()]) };
        let mut h = self.start(tape, &Feed::Tokens(tokens))?;
        let mut all = Vec::with_capacity(self.layers.len());
        for l in 0..self.layers.len() {
            if let Some(block) = self.attention.get(l) {
                let cache = &mut memory.layers[l];
                h = h.add(block.attention.forward_cached(block.norm.forward(h)?, cache)?);
            }
            let (y, dispatch) = self.experts(l, h, Phase::Eval)?;
            all.push(dispatch);
            h = y;
        }
        Ok((h, all))
    }

    /// An empty memory for [`Model::extend`].
    pub fn memory(&self) -> Memory<F> {
        Memory { layers: self.attention.iter().map(|_| Cache::default()).collect() }
    }

    /// Tokens (T, d) through the experts of layer number `l`.
    fn experts<'t>(&self, l: usize, h: Var<'t, F>, phase: Phase) -> Result<(Var<'t, F>, Dispatch<'t, F>)> {
        let input = if self.spec.norm == Norm::Pre { self.norms[l].forward(h)? } else { h };
        let (y, dispatch) = self.layers[l].forward(input, phase)?;
        let h = h.add(y);
        Ok((if self.spec.norm == Norm::Post { self.norms[l].forward(h)? } else { h }, dispatch))
    }

    /// Tokens (T, d) from the last layer, normalized for the head.
    fn for_head<'t>(&self, h: Var<'t, F>) -> Result<Var<'t, F>> {
        h.tape().enter("head", None);
        match self.spec.norm {
            Norm::Post => Ok(h),
            Norm::Final | Norm::Pre => self.norms[self.norms.len() - 1].forward(h),
        }
    }

    /// Tokens (T, d) from the last layer to logits (T, classes).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn logits<'t>(&self, h: Var<'t, F>) -> Result<Var<'t, F>> {
        self.head.logits(self.for_head(h)?, self.tied_table())
    }

    /// The mean cross-entropy of the answers for tokens (T, d) from the last layer, with a target each.
    ///
    /// # Errors
    /// Shapes that do not fit, targets that are no classes.
    pub fn loss<'t>(&self, h: Var<'t, F>, targets: &[u32]) -> Result<Loss<'t, F>> {
        self.head.loss(self.for_head(h)?, targets, self.tied_table())
    }

    /// Fixes the number of experts of each layer from now on ([`super::router::Router::fix`]); false if some router
    /// cannot.
    pub fn fix(&mut self, k: &[usize]) -> bool {
        self.layers.iter_mut().zip(k).all(|(layer, &k)| layer.router.as_mut().is_some_and(|r| r.fix(k)))
    }

    /// Takes the statistics of a training batch into the layers' buffers.
    pub fn absorb(&mut self, usage: &[Usage]) {
        self.layers.iter_mut().zip(usage).for_each(|(layer, usage)| layer.absorb(usage));
    }
}

module!(AttentionBlock { norm, attention as "" });
module!(enum Stem { Images as "input", Text as "embedding" });

module!(Model { stem as "", attention, layers, norms, head; spec });

#[cfg(test)]
mod tests;
