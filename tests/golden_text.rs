//! Losses and every gradient of networks for text against PyTorch's (`tests/golden/make_text.py`).

use std::collections::BTreeMap;

use dynamoe::engine::arr;
use dynamoe::engine::kernels::attention::Heads;
use dynamoe::engine::kernels::elem::Elem;
use dynamoe::engine::tape::Gradient;
use dynamoe::nn::router::percentile;
use dynamoe::nn::spec::{Attention, Norm, Spec, Text};
use dynamoe::nn::{Feed, Init, Model, Module, Phase, Tokens};
use dynamoe::{Mode, Tape};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    ids: Vec<u32>,
    starts: Vec<usize>,
    targets: Vec<u32>,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    loss: f64,
    parameters: BTreeMap<String, Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    value: Vec<f64>,
    gradient: Vec<f64>,
}

/// The largest difference of the loss and of any gradient from PyTorch's.
fn largest_difference<F: Elem>(golden: &Golden, name: &str, mode: Mode) -> f64 {
    let case = &golden.cases[name];
    let attention = (name == "transformer").then_some(Attention {
        heads: Heads { count: 4, groups: 2, width: 2 },
        theta: 10_000.0,
        epsilon: 1e-5,
        sequence: 8,
    });
    let spec = Spec {
        inputs: 0,
        classes: 11,
        width: 8,
        hidden: 6,
        experts: vec![4, 1],
        router: Some(percentile::Settings { tau: 0.4, ..Default::default() }.into()),
        norm: if attention.is_some() { Norm::Pre } else { Norm::Final },
        text: Some(Text { tied: false, attention }),
    };
    let mut model = Model::<F>::new(&spec, &mut Init::new(1));
    let mut filled = 0;
    for (name, p) in model.parameters_mut() {
        let numbers = case.parameters[&name].value.iter().map(|&v| F::of(v)).collect();
        p.value = arr::from_vec(p.value.shape(), numbers);
        filled += 1;
    }
    assert_eq!(filled, case.parameters.len());
    let tape = Tape::new(mode);
    let tokens = Tokens { ids: golden.ids[..].into(), starts: golden.starts[..].into() };
    let phase = Phase::Train { seed: None, step: 0 };
    let (h, _) = model.hidden(&tape, &Feed::Tokens(tokens), phase).unwrap();
    let loss = model.loss(h, &golden.targets).unwrap().mean;
    let gradients = tape.backward(loss).unwrap();
    let mut largest = (loss.item().f64() - case.loss).abs();
    for (name, p) in model.parameters() {
        let Gradient { values, rows } = gradients.parameter(p.id()).unwrap();
        let width = p.value.len() / p.value.shape()[0];
        let whole = match rows {
            None => arr::data(values).to_vec(),
            Some(rows) => {
                let mut whole = vec![F::zero(); p.value.len()];
                for (row, values) in rows.iter().zip(arr::data(values).chunks(width)) {
                    whole[*row as usize * width..][..width].copy_from_slice(values);
                }
                whole
            }
        };
        let expected = &case.parameters[&name].gradient;
        assert_eq!(whole.len(), expected.len(), "{name}");
        let differences = whole.iter().zip(expected).map(|(v, e)| (v.f64() - e).abs());
        largest = differences.fold(largest, f64::max);
    }
    largest
}

#[test]
fn losses_and_gradients_are_pytorchs() {
    let golden: Golden = serde_json::from_str(include_str!("golden/text.json")).unwrap();
    for name in ["per-token", "transformer"] {
        for mode in [Mode::Train, Mode::Teach] {
            let (wide, narrow) = (
                largest_difference::<f64>(&golden, name, mode),
                largest_difference::<f32>(&golden, name, mode),
            );
            assert!(wide < 1e-9, "{name} {mode:?}: {wide:e} in f64");
            assert!(narrow < 1e-5, "{name} {mode:?}: {narrow:e} in f32");
        }
    }
}
