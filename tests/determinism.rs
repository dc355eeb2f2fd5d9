//! One curve and one digest: whatever the number of threads and the processor.

use dynamoe::engine::arr::{self, Arr};
use dynamoe::engine::kernels::random::{Purpose, Stream};
use dynamoe::engine::kernels::{par, simd};
use dynamoe::nn::optim::{self, Optimizer};
use dynamoe::nn::router::{Settings, percentile};
use dynamoe::nn::spec::{Norm, Spec};
use dynamoe::nn::{Init, Model};
use dynamoe::train::{State, step};

const INPUTS: usize = 40;
const CLASSES: usize = 7;

/// A batch of made-up images whose class depends on them.
fn batch(number: u64, rows: usize) -> (Arr<f32>, Vec<u32>) {
    let mut x = vec![0.0; rows * INPUTS];
    Stream::new(3, Purpose::Check, 0, number).normal(&mut x, 1.0);
    let class = |row: &[f32]| {
        row.iter().take(CLASSES).enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32
    };
    let targets = x.chunks_exact(INPUTS).map(class).collect();
    (arr::from_vec(&[rows, INPUTS], x), targets)
}

/// Losses of a short training, and the digest of what came out.
fn run(router: Settings, norm: Norm, threads: usize) -> (Vec<f64>, String) {
    par::with_threads(threads, || {
        let spec = Spec {
            inputs: INPUTS,
            classes: CLASSES,
            width: 48,
            hidden: 24,
            experts: vec![8, 5, 2, 1],
            router: Some(router),
            norm,
            text: None,
        };
        let mut model = Model::<f32>::new(&spec, &mut Init::new(1));
        let mut optimizer = Optimizer::new(optim::Settings::ADAMW, &model);
        let losses = (0..12).map(|i| {
            // The last batch is smaller, as at the end of an epoch.
            let (x, targets) = batch(i, if i == 11 { 37 } else { 300 });
            step(&mut model, &mut optimizer, x, targets, 1, 3e-3, 1.0).unwrap().loss
        });
        let losses = losses.collect();
        (losses, State::of(&model, None).digest())
    })
}

/// How each digest begins: equal on x86-64 and AArch64. A change of the definition moves it.
const TOKEN_SCOPE: &str = "efa7e4391b1cdfbc";
const BATCH_SCOPE: &str = "314b79fe49c04049";

/// The percentile over a whole batch.
fn batch_scope() -> Settings {
    percentile::Settings { percentile_scope: percentile::Scope::Batch, ..Default::default() }.into()
}

#[test]
fn token_scope_gives_one_digest_at_every_thread_count() {
    let run = |threads| run(Settings::default(), Norm::Final, threads);
    let one = run(1);
    assert!(one.0[10] < one.0[0], "it learns: {:?}", one.0);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
    assert_eq!(&one.1[..16], TOKEN_SCOPE);
}

#[test]
fn batch_scope_gives_one_digest_at_every_thread_count() {
    let run = |threads| run(batch_scope(), Norm::Post, threads);
    let one = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
    assert_eq!(&one.1[..16], BATCH_SCOPE);
}

#[test]
fn every_level_gives_these_digests() {
    simd::on_every_level(|level| {
        assert_eq!(&run(Settings::default(), Norm::Final, 2).1[..16], TOKEN_SCOPE, "{level}");
        assert_eq!(&run(batch_scope(), Norm::Post, 2).1[..16], BATCH_SCOPE, "{level}");
    });
}

#[test]
fn the_levels_are_those_of_this_processor() {
    let levels = simd::available();
    #[cfg(target_arch = "x86_64")]
    assert_eq!(levels.contains(&"avx2"), is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
    assert_eq!(levels.contains(&"neon"), cfg!(target_arch = "aarch64"));
    assert_eq!(levels.last(), Some(&"portable"));
    // So that a run under emulation shows that it emulates the processor it is meant to.
    if let Ok(expected) = std::env::var("EXPECTED_LEVELS") {
        assert_eq!(levels.join(","), expected);
    }
}

#[test]
fn every_router_learns_and_gives_one_digest_at_every_thread_count() {
    for router in Settings::all() {
        let run = |threads| run(router, Norm::Final, threads);
        let one = run(1);
        assert!(one.0[10] < one.0[0], "{router:?} learns: {:?}", one.0);
        for threads in [2, 8] {
            assert_eq!(run(threads), one, "{router:?}, {threads} threads");
        }
    }
}
