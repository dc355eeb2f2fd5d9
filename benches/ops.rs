//! Each fused operation of the network Small, forward and backward.

use std::sync::Arc;

use criterion::Criterion;
use dynamoe::kernels::routes::Routes;
use dynamoe::kernels::select;
use dynamoe::nn::experts::Experts;
use dynamoe::nn::linear::Linear;
use dynamoe::nn::norm::LayerNorm;
use dynamoe::nn::param::number;
use dynamoe::nn::router::{Layer, Router, percentile::Percentile};
use dynamoe::nn::{Init, Phase};
use dynamoe::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use dynamoe::{Mode, Tape, Var, arr};

mod common;
use common::{BATCH, ROUTER, normal};

const WIDTH: usize = 128;
const HIDDEN: usize = 64;
const EXPERTS: usize = 8;

/// Measures `op` on random input of `width` columns: alone, and with the gradients of all it reads.
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
    let mut linear = Linear::new(WIDTH, WIDTH, init);
    number(&mut linear);
    both(c, "linear", WIDTH, |x| linear.forward(x).expect("shapes fit"));

    let mut norm = LayerNorm::new(WIDTH);
    number(&mut norm);
    both(c, "layer_norm", WIDTH, |x| norm.forward(x).expect("shapes fit"));

    let mut router = Percentile::new(&ROUTER, Layer { number: 0, width: WIDTH, experts: EXPERTS }, init);
    number(&mut router);
    let phase = Phase::Train { seed: Some(1), step: 0 };
    both(c, "router and gate", WIDTH, |x| router.route(x, phase).expect("shapes fit").gates);

    let mut experts = Experts::new(EXPERTS, WIDTH, HIDDEN, init);
    number(&mut experts);
    let gates = normal(BATCH * EXPERTS, 1);
    let mut mask = vec![false; gates.len()];
    select::top_k(&gates, EXPERTS, select::token_scope_k(EXPERTS, ROUTER.tau), &mut mask);
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

fn main() {
    common::run(0, &[ops]);
}
