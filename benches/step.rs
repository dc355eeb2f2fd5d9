//! A training step of every size: forward, backward, AdamW.

use criterion::{Criterion, Throughput};
use dynamoe::nn::optim::{Optimizer, Settings};
use dynamoe::nn::{Init, Model};
use dynamoe::{arr, train::step};

mod common;
use common::{BATCH, normal, spec};

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in ["tiny", "small", "medium", "large"] {
        let spec = spec(size);
        let mut model = Model::<f32>::new(&spec, &mut Init::new(1));
        let mut optimizer = Optimizer::new(Settings::ADAMW, &model);
        let x = arr::from_vec(&[BATCH, spec.inputs], normal(BATCH * spec.inputs, 0));
        let targets: Vec<u32> = (0..BATCH as u32).map(|i| i % 10).collect();
        group.bench_function(size, |bench| {
            bench.iter(|| {
                step(&mut model, &mut optimizer, x.clone(), targets.clone(), 1, 1e-3, 0.0)
                    .expect("a finite loss");
            });
        });
    }
}

fn main() {
    common::run(0, &[steps]);
}
