//! The whole DynaMoE network for images, and its dense baseline.

use serde::{Deserialize, Serialize};

use super::Phase;
use super::feed::Feed;
use super::linear::Linear;
use super::moe::{Dispatch, Moe, Usage};
use super::norm::LayerNorm;
use super::param::{self, Init, Module, Visitor};
use super::router::{Cost, Layer, Rule, Settings};
use crate::arr;
use crate::error::Result;
use crate::kernels::{elem::Elem, select};
use crate::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use crate::tape::{Tape, Var};

/// Where layer normalisation stands.
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
    /// Numbers in an image.
    pub inputs: usize,
    /// Classes to tell apart.
    pub classes: usize,
    /// Width d of the tokens inside.
    pub width: usize,
    /// Hidden width of an expert.
    pub hidden: usize,
    /// Experts of each layer.
    pub experts: Vec<usize>,
    /// How experts are chosen; `None` for the dense baseline, whose layers have one expert and no router.
    pub router: Option<Settings>,
    /// Where layer normalisation stands.
    pub norm: Norm,
}

impl Spec {
    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        let (d, h) = (self.width, self.hidden);
        let expert = d * h + h + h * d + d;
        let layers: usize = self.experts.iter().map(|&e| e * expert + self.cost(e).parameters).sum();
        (self.inputs + 1) * d + layers + self.norm_parameters() + (d + 1) * self.classes
    }

    /// Number of parameters in the norms.
    pub fn norm_parameters(&self) -> usize {
        self.norms() * 2 * self.width
    }

    fn norms(&self) -> usize {
        match self.norm {
            Norm::Final => 1,
            Norm::Post => self.experts.len(),
            Norm::Pre => self.experts.len() + 1,
        }
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

    /// Multiplications and additions per token with `k[l]` experts active in layer l: `k 4 d h` and the router's
    /// work, `2 d E` for a linear gate, a layer (Gülmez, proposition 1), and the input and the head.
    pub fn active_flops(&self, k: &[f64]) -> f64 {
        let (d, h) = (self.width as f64, self.hidden as f64);
        let layer = |(&e, &k): (&usize, &f64)| k * 4.0 * d * h + self.cost(e).flops;
        let layers: f64 = self.experts.iter().zip(k).map(layer).sum();
        layers + 2.0 * d * (self.inputs + self.classes) as f64
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

/// What a batch of answers cost.
pub struct Loss<'t, E: Elem> {
    /// Mean cross-entropy.
    pub mean: Var<'t, E>,
    /// How many targets had the largest logit.
    pub right: usize,
}

/// Input layer, layers of experts with residuals, normalisation, head.
#[derive(Clone, Debug)]
pub struct Model<E: Elem> {
    spec: Spec,
    input: Linear<E>,
    layers: Vec<Moe<E>>,
    norms: Vec<LayerNorm<E>>,
    head: Linear<E>,
}

impl<E: Elem> Model<E> {
    /// A network with fresh parameters.
    pub fn new(spec: &Spec, init: &mut Init) -> Model<E> {
        let (d, h) = (spec.width, spec.hidden);
        let input = Linear::new(spec.inputs, d, init);
        let layer = |(l, &experts): (usize, &usize)| match &spec.router {
            Some(settings) => Moe::routed(d, h, experts, l, settings, init),
            None => Moe::dense(d, h, init),
        };
        let layers = spec.experts.iter().enumerate().map(layer).collect();
        let norms = (0..spec.norms()).map(|_| LayerNorm::new(d)).collect();
        let head = Linear::new(d, spec.classes, init);
        let mut model = Model { spec: spec.clone(), input, layers, norms, head };
        param::number(&mut model);
        model
    }

    /// What the network is made of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Images (T, inputs) to logits (T, classes), and how each layer dispatched them to its experts.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward<'t>(&self, x: Var<'t, E>, phase: Phase) -> Result<(Var<'t, E>, Vec<Dispatch<'t, E>>)> {
        let (h, dispatch) = self.through(self.input.forward(x)?, phase)?;
        Ok((self.classify(h)?, dispatch))
    }

    /// A feed to tokens (T, d).
    ///
    /// # Errors
    /// A feed of another kind or size than the network takes.
    pub fn start<'t>(&self, tape: &'t Tape<E>, feed: &Feed<E>) -> Result<Var<'t, E>> {
        match feed {
            Feed::Images(images) => self.input.forward(tape.constant(images.clone())),
            Feed::Tokens(_) => unreachable!(),
        }
    }

    /// Tokens (T, d) through all layers.
    fn through<'t>(&self, mut h: Var<'t, E>, phase: Phase) -> Result<(Var<'t, E>, Vec<Dispatch<'t, E>>)> {
        let mut dispatch = Vec::with_capacity(self.layers.len());
        for l in 0..self.layers.len() {
            let (y, dispatched) = self.layer(l, h, phase)?;
            dispatch.push(dispatched);
            h = y;
        }
        Ok((h, dispatch))
    }

    /// Tokens (T, d) through layer number `l`, with its residual and its norm.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn layer<'t>(&self, l: usize, h: Var<'t, E>, phase: Phase) -> Result<(Var<'t, E>, Dispatch<'t, E>)> {
        h.tape().enter("layers", Some(l));
        let input = if self.spec.norm == Norm::Pre { self.norms[l].forward(h)? } else { h };
        let (y, dispatch) = self.layers[l].forward(input, phase)?;
        let h = h.add(y);
        Ok((if self.spec.norm == Norm::Post { self.norms[l].forward(h)? } else { h }, dispatch))
    }

    /// Tokens (T, d) to logits (T, classes).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn classify<'t>(&self, h: Var<'t, E>) -> Result<Var<'t, E>> {
        h.tape().enter("head", None);
        let normed = self.spec.norm != Norm::Post;
        self.head.forward(if normed { self.norms[self.norms.len() - 1].forward(h)? } else { h })
    }

    /// Tokens (T, d) as they come out of the last layer, and how each layer dispatched them to its experts.
    ///
    /// # Errors
    /// A feed of another kind or size than the network takes.
    pub fn hidden<'t>(
        &self,
        tape: &'t Tape<E>,
        feed: &Feed<E>,
        phase: Phase,
    ) -> Result<(Var<'t, E>, Vec<Dispatch<'t, E>>)> {
        self.through(self.start(tape, feed)?, phase)
    }

    /// The mean cross-entropy of the answers for tokens (T, d) from the last layer, with a target each.
    ///
    /// # Errors
    /// Shapes that do not fit, targets that are no classes.
    pub fn loss<'t>(&self, h: Var<'t, E>, targets: &[u32]) -> Result<Loss<'t, E>> {
        let logits = self.classify(h)?;
        let tape = h.tape();
        tape.enter("loss", None);
        let mean = tape.apply(SoftmaxCrossEntropy { targets: targets.into() }, [logits])?;
        let (logits, classes) = (logits.value(), self.spec.classes);
        Ok(Loss { mean, right: select::right(arr::data(&logits), classes, targets) })
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

impl<E: Elem> Module<E> for Model<E> {
    fn visit(&mut self, v: &mut Visitor<'_, E>) {
        let Model { spec: _, input, layers, norms, head } = self;
        v.child("input", input);
        v.children("layers", layers);
        v.children("norms", norms);
        v.child("head", head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{gradcheck, random};
    use crate::nn::router::{Kind, percentile::Scope};
    use crate::tape::Mode;

    fn spec(scope: Scope, norm: Norm) -> Spec {
        let router = Some(Settings { scope, ..Settings::DEFAULT });
        Spec { inputs: 6, classes: 3, width: 8, hidden: 4, experts: vec![5, 3, 1], router, norm }
    }

    #[test]
    fn the_papers_small_network() {
        let router = Some(Settings::DEFAULT);
        let small = Spec {
            inputs: 784,
            classes: 10,
            width: 128,
            hidden: 64,
            experts: vec![8, 6, 3, 1],
            router,
            norm: Norm::Post,
        };
        assert_eq!(small.parameters(), 403_484);
        assert_eq!(small.nominal_flops(), (7 * 4 * 128 * 64 + 18 * 2 * 128 + 2 * 128 * 794) as f64);
        let dense = small.dense_match(|s| s.parameters() as f64);
        assert!(dense.parameters().abs_diff(small.parameters()) < 1024, "{}", dense.parameters());
        let dense = small.dense_match(Spec::nominal_flops);
        assert!((dense.nominal_flops() - small.nominal_flops()).abs() < 2048.0);
    }

    #[test]
    fn the_formula_counts_every_parameter() {
        let norms = [Norm::Final, Norm::Post, Norm::Pre];
        for (norm, &kind) in norms.into_iter().flat_map(|n| Kind::ALL.iter().map(move |k| (n, k))) {
            let router = Some(Settings { kind, ..Settings::DEFAULT });
            let spec = Spec { router, ..spec(Scope::Token, norm) };
            for spec in [spec.clone(), spec.dense_match(|s| s.parameters() as f64)] {
                let mut count = 0;
                param::for_each_param(&mut Model::<f32>::new(&spec, &mut Init::new(1)), |_, p| {
                    count += p.value.len()
                });
                assert_eq!(count, spec.parameters(), "{kind:?}");
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
        let mut model = Model::<f64>::new(&spec(Scope::Batch, Norm::Post), &mut Init::new(3));
        let phase = Phase::Train { seed: Some(1), step: 0 };
        let mut run = |mode| {
            let tape = Tape::new(mode);
            let (y, _) = model.forward(tape.constant(random(&[4, 6], 1)), phase).unwrap();
            let mut gradients = tape.backward(y.mul(y).mean()).unwrap();
            let mut all = arr::data(&y.value()).to_vec();
            param::for_each_param(&mut model, |_, p| {
                all.extend(arr::data(&gradients.take_parameter(p.slot()).unwrap().values));
            });
            all
        };
        for (fused, plain) in run(Mode::Train).into_iter().zip(run(Mode::Teach)) {
            approx::assert_relative_eq!(fused, plain, epsilon = 1e-13, max_relative = 1e-11);
        }
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        let mut model = Model::<f64>::new(&spec(Scope::Token, Norm::Pre), &mut Init::new(3));
        let tape = Tape::new(Mode::Train);
        let (y, _) = model.forward(tape.constant(random(&[4, 6], 1)), Phase::Eval).unwrap();
        let mut gradients = tape.backward(y.mean()).unwrap();
        param::for_each_param(&mut model, |name, p| {
            assert!(gradients.take_parameter(p.slot()).is_some(), "{name}");
        });
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
        let mut a = Model::<f32>::new(&routed, &mut Init::new(3));
        let mut b = Model::<f32>::new(&dense, &mut Init::new(4));
        let mut values = std::collections::BTreeMap::new();
        param::for_each_param(&mut a, |name, p| {
            values.insert(name.to_string(), p.value.clone());
        });
        param::for_each_param(&mut b, |name, p| p.value = values[name].clone());
        let x: Vec<f32> = arr::data(&random(&[5, 6], 1)).iter().map(|&v| v as f32).collect();
        let run = |model: &Model<f32>| {
            let tape = Tape::new(Mode::Infer);
            model.forward(tape.constant(arr::from_vec(&[5, 6], x.clone())), Phase::Eval).unwrap().0.value()
        };
        assert_eq!(run(&a), run(&b));
    }
}
