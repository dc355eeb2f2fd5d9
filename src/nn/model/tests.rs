//! Tests of whole networks.

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
    for (scope, norm) in [(Scope::Token, Norm::Final), (Scope::Batch, Norm::Post), (Scope::Token, Norm::Pre)]
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
            let y =
                model.forward(tape.constant(arr::from_vec(&[rows.len(), 6], data)), Phase::Eval).unwrap().0;
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
