//! Kernels on one thread: products, selection, softmax, layer normalization, routes.

use criterion::{BenchmarkId, Criterion, Throughput};
use dynamoe::engine::kernels::gemm::{self, Mat};
use dynamoe::engine::kernels::{routes::Routes, rows, select, softmax};
use dynamoe::engine::ops::fused::layer_norm::LayerNorm;
use dynamoe::{Mode, Tape, arr};

mod common;
use common::normal;

/// Tokens in a batch.
const TOKENS: usize = 256;

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    // Rows, inner dimension, columns; the last is the gradient of the input layer's weights.
    for (m, k, n, left_transposed) in [
        (48, 128, 64, false),
        (256, 128, 8, false),
        (256, 784, 128, false),
        (512, 512, 512, false),
        (784, 256, 128, true),
    ] {
        let (a, b, mut out) = (normal(m * k, 0), normal(k * n, 1), vec![0.0; m * n]);
        let a = if left_transposed { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
        let b = Mat::new(&b, k, n);
        group.throughput(Throughput::Elements((2 * m * k * n) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{k}x{n}")), |bench| {
            bench.iter(|| gemm::product(&mut out, a, b));
        });
    }
}

fn selection(c: &mut Criterion) {
    let mut group = c.benchmark_group("select");
    group.throughput(Throughput::Elements(TOKENS as u64));
    for experts in [8, 16, 64, 256] {
        let gates = normal(TOKENS * experts, 2);
        let (k, mut mask) = (select::token_scope_k(experts, 0.7), vec![false; gates.len()]);
        group.bench_function(BenchmarkId::new("top_k", experts), |bench| {
            bench.iter(|| select::top_k(&gates, experts, k, &mut mask));
        });
        group.bench_function(BenchmarkId::new("routes", experts), |bench| {
            bench.iter(|| Routes::new(&mask, experts));
        });
    }
}

fn row_kernels(c: &mut Criterion) {
    let mut group = c.benchmark_group("rows");
    for width in [8, 128, 1024] {
        let (x, mut y) = (normal(TOKENS * width, 3), vec![0.0; TOKENS * width]);
        group.throughput(Throughput::Elements(x.len() as u64));
        group.bench_function(BenchmarkId::new("softmax", width), |bench| {
            bench.iter(|| {
                rows::each(
                    &mut y,
                    width,
                    #[inline(always)]
                    |r, y| softmax::softmax_row(&x[r * width..][..width], y),
                );
            });
        });
        let x = arr::from_vec(&[TOKENS, width], x);
        let (gain, bias) = (arr::full(&[width], 1.0f32), arr::zeros(&[width]));
        group.bench_function(BenchmarkId::new("layer_norm", width), |bench| {
            bench.iter(|| {
                let tape = Tape::new(Mode::Infer);
                let inputs = [&x, &gain, &bias].map(|input| tape.constant(input.clone()));
                tape.apply_fused(LayerNorm { epsilon: 1e-5 }, inputs).expect("shapes fit").value()
            });
        });
    }
}

fn main() {
    common::run(1, &[products, selection, row_kernels]);
}
