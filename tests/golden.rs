//! Ten training steps of tiny networks must be PyTorch's: losses, gradients and parameters.
//!
//! `golden/make.py` wrote the expected numbers, in float64, into `golden/tiny.json`. Run with `--nocapture`
//! to see the largest deviation of each comparison.

use std::collections::BTreeMap;

use serde::Deserialize;

use dynamoe::engine::arr::{self, Arr};
use dynamoe::engine::kernels::elem::Elem;
use dynamoe::engine::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use dynamoe::nn::optim::rate::{Rate, RateSchedule};
use dynamoe::nn::optim::{self, Optimizer};
use dynamoe::nn::router::percentile;
use dynamoe::nn::spec::{Norm, Spec};
use dynamoe::nn::{Init, Model, Module, Param, Phase};
use dynamoe::{Mode, Tape, train};

/// All of `tiny.json` that the comparison needs.
#[derive(Deserialize)]
struct Golden {
    inputs: usize,
    classes: usize,
    width: usize,
    hidden: usize,
    tau: f64,
    temperature: f64,
    lr: f64,
    weight_decay: f64,
    batches: Vec<Batch>,
    initial: Initial,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Batch {
    x: Vec<f64>,
    targets: Vec<u32>,
}

#[derive(Deserialize)]
struct Initial {
    routed: BTreeMap<String, Tensor>,
    dense: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    data: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    norm: Norm,
    experts: Vec<usize>,
    routed: bool,
    outcome: Outcome,
}

/// The numbers of each parameter, by name.
type Values = BTreeMap<String, Vec<f64>>;

/// What training gives.
#[derive(Deserialize)]
struct Outcome {
    losses: Vec<f64>,
    first_gradients: Values,
    last_gradients: Values,
    parameters: Values,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/tiny.json")).expect("golden/make.py writes the file")
}

fn array<F: Elem>(shape: &[usize], data: &[f64]) -> Arr<F> {
    arr::from_vec(shape, data.iter().map(|&v| F::of(v)).collect())
}

fn numbers<F: Elem>(array: &Arr<F>) -> Vec<f64> {
    arr::data(array).iter().map(|v| v.f64()).collect()
}

fn parameters<F: Elem>(model: &Model<F>) -> Values {
    model.parameters().into_iter().map(|(name, p)| (name, numbers(&p.value))).collect()
}

impl Golden {
    /// The network of a case with PyTorch's initial parameters.
    fn model<F: Elem>(&self, case: &Case) -> Model<F> {
        let &Golden { inputs, classes, width, hidden, tau, temperature, .. } = self;
        let settings = percentile::Settings { tau, temperature, noise: 0.0, ..Default::default() }.into();
        let router = case.routed.then_some(settings);
        let (experts, norm) = (case.experts.clone(), case.norm);
        let spec = Spec { inputs, classes, width, hidden, experts, router, norm, text: None };
        let mut model = Model::new(&spec, &mut Init::new(0));
        let initial = if case.routed { &self.initial.routed } else { &self.initial.dense };
        for (name, p) in model.parameters_mut() {
            let Tensor { shape, data } = &initial[&name];
            assert_eq!(p.value.shape(), shape, "{name}");
            p.value = array(shape, data);
        }
        model
    }

    /// The engine's gradients on a batch, taken as `train::step` takes them.
    fn gradients<F: Elem>(&self, model: &Model<F>, batch: &Batch) -> Values {
        let tape = Tape::new(Mode::Train);
        let x = array(&[batch.targets.len(), self.inputs], &batch.x);
        let (logits, _) = model.forward(tape.constant(x), Phase::Train { seed: Some(0), step: 0 }).unwrap();
        let targets = batch.targets.clone().into();
        let loss = tape.apply(SoftmaxCrossEntropy { targets }, [logits]).unwrap();
        let gradients = tape.backward(loss).unwrap();
        let gradient = |p: &Param<F>| numbers(gradients.parameter(p.id()).unwrap().values);
        model.parameters().into_iter().map(|(name, p)| (name, gradient(p))).collect()
    }

    /// Trains the network of a case on all batches.
    fn train<F: Elem>(&self, case: &Case) -> Outcome {
        let mut model = self.model::<F>(case);
        let settings = optim::Settings { weight_decay: self.weight_decay, ..optim::Settings::ADAMW };
        let mut optimizer = Optimizer::new(settings, &model);
        let total_steps = self.batches.len() as u64;
        let rate = Rate { peak: self.lr, schedule: RateSchedule::Cosine, warmup_steps: 0, total_steps };
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for (step, batch) in self.batches.iter().enumerate() {
            gradients.push(self.gradients(&model, batch));
            let x = array(&[batch.targets.len(), self.inputs], &batch.x);
            let (targets, lr) = (batch.targets.clone(), rate.at(step as u64));
            losses.push(train::step(&mut model, &mut optimizer, x, targets, 0, lr, 0.0).unwrap().loss);
        }
        Outcome {
            losses,
            last_gradients: gradients.pop().expect("there are batches"),
            first_gradients: gradients.swap_remove(0),
            parameters: parameters(&model),
        }
    }
}

/// The largest difference between two arrays, relative to the largest number of the second. Infinite where
/// the lengths differ or a number is not finite.
fn deviation(actual: &[f64], expected: &[f64]) -> f64 {
    let finite = actual.iter().chain(expected).all(|v| v.is_finite());
    if actual.len() != expected.len() || !finite {
        return f64::INFINITY;
    }
    let difference = actual.iter().zip(expected).map(|(a, e)| (a - e).abs()).fold(0.0, f64::max);
    let scale = expected.iter().map(|e| e.abs()).fold(0.0, f64::max);
    if difference == 0.0 { 0.0 } else { difference / scale }
}

/// The largest deviation and where it is.
fn worst<'a>(all: impl IntoIterator<Item = (&'a str, f64)>) -> (&'a str, f64) {
    all.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("something to compare")
}

/// The worst of all parameters.
fn worst_value<'a>(actual: &Values, expected: &'a Values) -> (&'a str, f64) {
    assert!(actual.keys().eq(expected.keys()), "the parameters are not the same");
    worst(expected.iter().map(|(name, e)| (name.as_str(), deviation(&actual[name], e))))
}

/// The worst of all losses, each relative to itself.
fn worst_loss(actual: &[f64], expected: &[f64]) -> (&'static str, f64) {
    assert_eq!(actual.len(), expected.len());
    worst(actual.iter().zip(expected).map(|(&a, &e)| ("loss", deviation(&[a], &[e]))))
}

/// Largest deviations allowed.
struct Limits {
    losses: f64,
    first_gradients: f64,
    last_gradients: f64,
    parameters: f64,
}

/// Trains every case in `E` and compares it with PyTorch.
fn check<F: Elem>(limits: Limits) {
    let golden = golden();
    assert_eq!(golden.cases.len(), 4);
    for (case_name, case) in &golden.cases {
        let (actual, expected) = (golden.train::<F>(case), &case.outcome);
        let compared = [
            ("losses", worst_loss(&actual.losses, &expected.losses), limits.losses),
            (
                "first gradients",
                worst_value(&actual.first_gradients, &expected.first_gradients),
                limits.first_gradients,
            ),
            (
                "last gradients",
                worst_value(&actual.last_gradients, &expected.last_gradients),
                limits.last_gradients,
            ),
            ("parameters", worst_value(&actual.parameters, &expected.parameters), limits.parameters),
        ];
        for (what, (name, deviation), limit) in compared {
            println!("{} {case_name}: {what} within {deviation:.1e} ({name})", F::NAME);
            assert!(deviation <= limit, "{case_name}: {what} deviate by {deviation:e} at {name}");
        }
    }
}

#[test]
fn in_double_precision_everything_is_pytorchs() {
    check::<f64>(Limits { losses: 1e-10, first_gradients: 1e-10, last_gradients: 1e-10, parameters: 1e-10 });
}

/// After ten steps the rounding errors of all steps have added up, so the last two limits are wider.
#[test]
fn in_single_precision_losses_and_gradients_are_pytorchs() {
    check::<f32>(Limits { losses: 1e-5, first_gradients: 1e-5, last_gradients: 5e-5, parameters: 1e-5 });
}

#[test]
fn a_wrong_number_is_caught() {
    assert_eq!(deviation(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
    assert_eq!(deviation(&[1.5, -4.0], &[1.0, -4.0]), 0.125);
    assert_eq!(deviation(&[0.0], &[0.0]), 0.0);
    for (actual, expected) in [(vec![1e-300], vec![0.0]), (vec![f64::NAN], vec![1.0]), (vec![], vec![1.0])] {
        assert_eq!(deviation(&actual, &expected), f64::INFINITY);
    }
    let golden = golden();
    for case in golden.cases.values() {
        for (name, expected) in &case.outcome.parameters {
            // One number of one parameter, wrong by a millionth of the parameter's largest.
            let mut wrong = case.outcome.parameters.clone();
            let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            wrong.get_mut(name).unwrap()[0] += 1e-6 * largest;
            let (found, deviation) = worst_value(&wrong, &case.outcome.parameters);
            assert_eq!(found, name);
            assert!((deviation - 1e-6).abs() < 1e-9);
        }
    }
}
