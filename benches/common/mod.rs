//! What the benchmarks share: how they are run, made-up numbers, the networks.

#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::time::Duration;

use criterion::Criterion;
use dynamoe::engine::kernels::par;
use dynamoe::engine::kernels::random::{Purpose, Stream};
use dynamoe::nn::schedule::Schedule;
use dynamoe::nn::spec::{Norm, Spec};
use dynamoe::train::config::PRESETS;

/// Images in a batch.
pub const BATCH: usize = 256;

/// Runs `benchmarks` on `threads` threads (0: one per core), about a second for each figure.
pub fn run(threads: usize, benchmarks: &[fn(&mut Criterion)]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    par::with_threads(if threads == 0 { cores } else { threads }, || {
        let (warm_up, measured) = (Duration::from_millis(200), Duration::from_millis(800));
        let short = Criterion::default().sample_size(20).warm_up_time(warm_up).measurement_time(measured);
        let mut criterion = short.without_plots().configure_from_args();
        benchmarks.iter().for_each(|benchmark| benchmark(&mut criterion));
        criterion.final_summary();
    });
}

/// `len` standard normal numbers; `layer` selects the draw.
pub fn normal(len: usize, layer: u64) -> Vec<f32> {
    let mut numbers = vec![0.0; len];
    Stream::new(1, Purpose::Check, layer, 0).normal(&mut numbers, 1.0);
    numbers
}

/// The network of a preset, for MNIST's images.
pub fn spec(size: &str) -> Spec {
    let &(_, layers, width) = PRESETS.iter().find(|preset| preset.0 == size).expect("a preset's name");
    Spec {
        inputs: 784,
        classes: 10,
        width,
        hidden: width / 2,
        experts: Schedule::Descending.experts(layers, 1, 8),
        router: Some(Default::default()),
        norm: Norm::Post,
        text: None,
    }
}
