//! What the benchmarks share: short measurements, made-up numbers, the networks.

#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::time::Duration;

use criterion::Criterion;
use dynamoe::config::PRESETS;
use dynamoe::kernels::random::{Purpose, Stream};
use dynamoe::nn::model::{Norm, Spec};
use dynamoe::nn::router::percentile::{Scope, Settings};
use dynamoe::nn::schedule::Schedule;

/// Images in a batch.
pub const BATCH: usize = 256;

/// A second for each figure.
pub fn short() -> Criterion {
    let criterion = Criterion::default().sample_size(20).without_plots();
    criterion.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800))
}

/// `len` standard normal numbers; `layer` tells one lot from another.
pub fn normal(len: usize, layer: u64) -> Vec<f32> {
    let mut numbers = vec![0.0; len];
    Stream::new(1, Purpose::Check, layer, 0).normal(&mut numbers, 1.0);
    numbers
}

/// How DynaMoE routes.
pub const ROUTER: Settings = Settings { scope: Scope::Token, tau: 0.7, temperature: 0.5, noise: 0.1 };

/// The network of a size, for MNIST's images.
pub fn spec(size: &str) -> Spec {
    let &(_, layers, width) = PRESETS.iter().find(|preset| preset.0 == size).expect("a preset's name");
    Spec {
        inputs: 784,
        classes: 10,
        width,
        hidden: width / 2,
        experts: Schedule::Descending.experts(layers, 1, 8),
        router: Some(ROUTER),
        norm: Norm::Post,
    }
}
