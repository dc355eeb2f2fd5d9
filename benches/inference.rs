//! Inference of every size: a batch and one image.

use criterion::{BenchmarkId, Criterion, Throughput};
use dynamoe::nn::{Init, Model, Phase};
use dynamoe::{Mode, Tape, arr};

mod common;
use common::{BATCH, normal, spec};

fn inference(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference");
    for size in ["tiny", "small", "medium", "large"] {
        let spec = spec(size);
        let model = Model::<f32>::new(&spec, &mut Init::new(1));
        for images in [1, BATCH] {
            let x = arr::from_vec(&[images, spec.inputs], normal(images * spec.inputs, 0));
            group.throughput(Throughput::Elements(images as u64));
            group.bench_function(BenchmarkId::new(size, images), |bench| {
                bench.iter(|| {
                    let tape = Tape::new(Mode::Infer);
                    model.forward(tape.constant(x.clone()), Phase::Eval).expect("shapes fit").0.value()
                });
            });
        }
    }
}

fn main() {
    common::run(0, &[inference]);
}
