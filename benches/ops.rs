//! Each fused operation of the network Small, and those of a Transformer's attention, forward and backward.

use std::sync::Arc;

use criterion::{Criterion, Throughput};
use dynamoe::engine::kernels::attention::{self, Heads, Starts};
use dynamoe::engine::kernels::routes::Routes;
use dynamoe::engine::kernels::select;
use dynamoe::engine::ops::fused::attention::Attention;
use dynamoe::engine::ops::fused::rotary::Rotary;
use dynamoe::engine::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use dynamoe::nn::experts::Experts;
use dynamoe::nn::linear::Linear;
use dynamoe::nn::norm::LayerNorm;
use dynamoe::nn::router::{Layer, Settings};
use dynamoe::nn::{Init, Phase};
use dynamoe::{Mode, Tape, Var, arr};

mod common;
use common::{BATCH, normal};

const WIDTH: usize = 128;
const HIDDEN: usize = 64;
const EXPERTS: usize = 8;

/// Measures `op` on random input of `width` columns: alone, and with the gradients of all its inputs.
fn both(c: &mut Criterion, name: &str, width: usize, op: impl for<'t> Fn(Var<'t, f32>) -> Var<'t, f32>) {
    let x = arr::from_vec(&[BATCH, width], normal(BATCH * width, 0));
    let mut group = c.benchmark_group(name);
    group.bench_function("forward", |bench| {
        bench.iter(|| {
            let tape = Tape::new(Mode::Infer);
            op(tape.variable(x.clone())).value()
        });
    });
    group.bench_function("forward and backward", |bench| {
        bench.iter(|| {
            let tape = Tape::new(Mode::Train);
            let x = tape.variable(x.clone());
            let y = op(x);
            let gradients = tape.backward_from(y, y.value());
            gradients.wrt(x)
        });
    });
}

fn ops(c: &mut Criterion) {
    let init = &mut Init::new(1);
    let linear = Linear::new(WIDTH, WIDTH, init);
    both(c, "linear", WIDTH, |x| linear.forward(x).expect("shapes fit"));

    let norm = LayerNorm::new(WIDTH);
    both(c, "layer_norm", WIDTH, |x| norm.forward(x).expect("shapes fit"));

    let router = Settings::default().router(Layer { number: 0, width: WIDTH, experts: EXPERTS }, init);
    let phase = Phase::Train { seed: Some(1), step: 0 };
    both(c, "router and gate", WIDTH, |x| router.route(x, phase).expect("shapes fit").gates);

    let experts = Experts::new(EXPERTS, WIDTH, HIDDEN, init);
    let gates = normal(BATCH * EXPERTS, 1);
    let mut mask = vec![false; gates.len()];
    select::top_k(&gates, EXPERTS, select::token_scope_k(EXPERTS, 0.7), &mut mask);
    let routes = Arc::new(Routes::new(&mask, EXPERTS));
    let gates = arr::from_vec(&[BATCH, EXPERTS], gates);
    both(c, "experts", WIDTH, |x| {
        let gates = x.tape().variable(gates.clone());
        experts.forward(x, gates, routes.clone()).expect("shapes fit")
    });

    let targets: Arc<[u32]> = (0..BATCH as u32).map(|i| i % 10).collect();
    both(c, "softmax_cross_entropy", 10, |x| {
        x.tape().apply_fused(SoftmaxCrossEntropy { targets: targets.clone() }, [x]).expect("shapes fit")
    });
}

/// Causal attention, eight heads of width 32 over 4,096 tokens. The throughput counts floating-point operations of its
/// matrix products: 4 for each element of a query's head and visible key forward, and 10 backward.
fn sequences(c: &mut Criterion) {
    const HEADS: Heads = Heads { count: 8, groups: 8, width: 32 };
    let (tokens, width) = (4096, HEADS.count * HEADS.width);
    let x = [0, 1, 2].map(|layer| arr::from_vec(&[tokens, width], normal(tokens * width, layer)));
    for length in [128, 256] {
        let starts: Arc<[usize]> = (0..=tokens).step_by(length).collect();
        let seen = (tokens * width * (length + 1) / 2) as u64;
        let attention = Attention { starts: starts.clone(), heads: HEADS };
        let mut group = c.benchmark_group(format!("attention, {} x {length}", tokens / length));
        group.throughput(Throughput::Elements(4 * seen)).bench_function("forward", |bench| {
            bench.iter(|| {
                let tape = Tape::new(Mode::Infer);
                tape.apply(attention.clone(), x.clone().map(|x| tape.constant(x)))
                    .expect("shapes fit")
                    .value()
            });
        });
        group.throughput(Throughput::Elements(14 * seen)).bench_function("forward and backward", |bench| {
            bench.iter(|| {
                let tape = Tape::new(Mode::Train);
                let x = x.clone().map(|x| tape.variable(x));
                let y = tape.apply(attention.clone(), x).expect("shapes fit");
                tape.backward_from(y, y.value()).wrt(x[0])
            });
        });
        let rotary = Rotary { starts, head: HEADS.width, theta: 10_000.0, first: 0 };
        group.throughput(Throughput::Elements((tokens * width) as u64)).bench_function("rotary", |bench| {
            bench.iter(|| {
                let tape = Tape::new(Mode::Infer);
                tape.apply(rotary.clone(), [tape.constant(x[0].clone())]).expect("shapes fit").value()
            });
        });
    }
    let keys = 256;
    let (mut y, mut log_sums) = (vec![0.0; width], vec![0.0; HEADS.count]);
    let inputs = [normal(width, 0), normal(keys * width, 1), normal(keys * width, 2)];
    let starts = Starts { queries: &[0, 1], keys: &[0, keys] };
    c.bench_function("attention, one query and 256 keys", |bench| {
        bench.iter(|| {
            attention::forward(inputs.each_ref().map(|x| &x[..]), HEADS, starts, &mut y, &mut log_sums);
            y[0]
        });
    });
}

fn main() {
    common::run(0, &[ops, sequences]);
}
