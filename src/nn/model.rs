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

    /// Takes the statistics of a training batch into the layers' running numbers.
    pub fn absorb(&mut self, usage: &[Usage]) {
        self.layers.iter_mut().zip(usage).for_each(|(layer, usage)| layer.absorb(usage));
    }
}

module!(AttentionBlock { norm, attention as "" });
module!(enum Stem { Images as "input", Text as "embedding" });

module!(Model { stem as "", attention, layers, norms, head; spec });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::arr;
    use crate::engine::gradcheck::{gradcheck, random};
    use crate::engine::tape::Mode;
    use crate::nn::Module;
    use crate::nn::router::{Settings, percentile, percentile::Scope};

    fn spec(scope: Scope, norm: Norm) -> Spec {
        let router = Some(percentile::Settings { percentile_scope: scope, ..Default::default() }.into());
        Spec { inputs: 6, classes: 3, width: 8, hidden: 4, experts: vec![5, 3, 1], router, norm, text: None }
    }

    #[test]
    fn the_formula_counts_every_parameter() {
        let norms = [Norm::Final, Norm::Post, Norm::Pre];
        for (norm, router) in norms.into_iter().flat_map(|n| Settings::all().map(move |router| (n, router))) {
            let spec = Spec { router: Some(router), ..spec(Scope::Token, norm) };
            for spec in [spec.clone(), spec.dense_match(|s| s.parameters() as f64)] {
                let model = Model::<f32>::new(&spec, &mut Init::new(1));
                let count: usize = model.parameters().iter().map(|(_, p)| p.value.len()).sum();
                assert_eq!(count, spec.parameters(), "{router:?}");
            }
        }
    }

    #[test]
    fn gradients_of_the_whole_network() {
        for (scope, norm) in
            [(Scope::Token, Norm::Final), (Scope::Batch, Norm::Post), (Scope::Token, Norm::Pre)]
        {
            let model = Model::<f64>::new(&spec(scope, norm), &mut Init::new(3));
            let phase = Phase::Train { seed: Some(1), step: 0 };
            let report = gradcheck([random(&[4, 6], 1)], |[x]| Ok(model.forward(x, phase)?.0)).unwrap();
            assert!(report.passed(), "{scope:?} {norm:?} {report:?}");
        }
    }

    #[test]
    fn spelled_out_in_small_operations_it_is_the_same_function() {
        let model = Model::<f64>::new(&spec(Scope::Batch, Norm::Post), &mut Init::new(3));
        let phase = Phase::Train { seed: Some(1), step: 0 };
        let run = |mode| {
            let tape = Tape::new(mode);
            let (y, _) = model.forward(tape.constant(random(&[4, 6], 1)), phase).unwrap();
            let gradients = tape.backward((y * y).mean()).unwrap();
            let mut all = arr::data(&y.value()).to_vec();
            for (_, p) in model.parameters() {
                all.extend(arr::data(gradients.parameter(p.id()).unwrap().values));
            }
            all
        };
        for (fused, plain) in run(Mode::Train).into_iter().zip(run(Mode::Teach)) {
            approx::assert_relative_eq!(fused, plain, epsilon = 1e-13, max_relative = 1e-11);
        }
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        let model = Model::<f64>::new(&spec(Scope::Token, Norm::Pre), &mut Init::new(3));
        let tape = Tape::new(Mode::Train);
        let (y, _) = model.forward(tape.constant(random(&[4, 6], 1)), Phase::Eval).unwrap();
        let gradients = tape.backward(y.mean()).unwrap();
        for (name, p) in model.parameters() {
            assert!(gradients.parameter(p.id()).is_some(), "{name}");
        }
    }

    #[test]
    fn permuting_tokens_permutes_outputs_and_a_token_alone_has_the_same_bits() {
        for scope in [Scope::Token, Scope::Batch] {
            let mut model = Model::<f32>::new(&spec(scope, Norm::Final), &mut Init::new(3));
            let x: Vec<f32> = arr::data(&random(&[5, 6], 1)).iter().map(|&v| v as f32).collect();
            let run = |model: &Model<f32>, rows: &[usize]| {
                let data = rows.iter().flat_map(|&r| x[r * 6..][..6].to_vec()).collect();
                let tape = Tape::new(Mode::Infer);
                let y = model
                    .forward(tape.constant(arr::from_vec(&[rows.len(), 6], data)), Phase::Eval)
                    .unwrap()
                    .0;
                arr::data(&y.value()).to_vec()
            };
            let thresholds = vec![Usage { threshold: Some(0.25), ..Usage::default() }; 3];
            model.absorb(&thresholds);
            let all = run(&model, &[0, 1, 2, 3, 4]);
            let turned = run(&model, &[4, 2, 0, 1, 3]);
            for (i, r) in [4, 2, 0, 1, 3].into_iter().enumerate() {
                assert_eq!(turned[i * 3..][..3], all[r * 3..][..3]);
                assert_eq!(run(&model, &[r]), all[r * 3..][..3]);
            }
        }
    }

    #[test]
    fn one_expert_is_the_dense_network() {
        let routed = Spec { experts: vec![1, 1], ..spec(Scope::Token, Norm::Final) };
        let dense = Spec { router: None, ..routed.clone() };
        let a = Model::<f32>::new(&routed, &mut Init::new(3));
        let mut b = Model::<f32>::new(&dense, &mut Init::new(4));
        let values: std::collections::BTreeMap<_, _> = a.parameters().into_iter().collect();
        b.parameters_mut().into_iter().for_each(|(name, p)| p.value = values[&name].value.clone());
        let x: Vec<f32> = arr::data(&random(&[5, 6], 1)).iter().map(|&v| v as f32).collect();
        let run = |model: &Model<f32>| {
            let tape = Tape::new(Mode::Infer);
            model.forward(tape.constant(arr::from_vec(&[5, 6], x.clone())), Phase::Eval).unwrap().0.value()
        };
        assert_eq!(run(&a), run(&b));
    }
}
