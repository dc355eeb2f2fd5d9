//! Pictures of synthetic runs, ordinary and extreme.

use super::*;
use crate::lab::plot::assert_well_formed;
use crate::nn::usage::Usage;
use crate::train::metrics::LayerRecord;

/// A layer with `active` experts per token on average, whose usage decays by `skew` per expert.
fn layer(experts: usize, active: f64, skew: f64) -> LayerRecord {
    let count = |e: usize| (1000.0 * libm::exp(-skew * e as f64)) as u64;
    let counts: Vec<u64> = (0..experts).map(count).collect();
    let tokens = (counts.iter().sum::<u64>() as f64 / active) as u64;
    LayerRecord::new(&Usage { tokens, counts, k_counts: vec![tokens / 2; experts + 1], ..Usage::default() })
}

/// A run with falling loss and deterministic noise.
fn run(experts: &[usize], epochs: usize, per_epoch: u64) -> (Vec<StepRecord>, Vec<EpochRecord>) {
    let noise = |i: u64| (i.wrapping_mul(2_654_435_761) >> 7) as f64 % 1000.0 / 1000.0 - 0.5;
    let decay = |step: u64, floor: f64| floor + 2.2 * libm::exp(-(step as f64) / (1.5 * per_epoch as f64));
    let step = |step: u64| StepRecord {
        router_losses: Default::default(),
        dropped_share: 0.0,
        step,
        epoch: ((step - 1) / per_epoch) as usize + 1,
        loss: decay(step, 0.035) * libm::exp(0.8 * noise(step)),
        lr: 1e-3,
        gradient_norm: 1.0,
    };
    let epoch = |epoch: usize| {
        let at = epoch as u64 * per_epoch;
        let gap = epoch as f64 / epochs as f64;
        let wobble = 0.006 * noise(at);
        EpochRecord {
            epoch,
            step: at,
            train_loss: decay(at, 0.035),
            train_accuracy: 0.99 - 0.2 * decay(at, 0.0),
            test_loss: decay(at, 0.25) + 0.08 * gap,
            test_accuracy: 0.90 - 0.16 * decay(at, 0.0) + wobble,
            layers: experts
                .iter()
                .enumerate()
                .map(|(l, &e)| {
                    layer(e, (0.3 * e as f64 + 0.4 * noise(at + l as u64)).max(1.0), 0.3 / (l + 1) as f64)
                })
                .collect(),
        }
    };
    ((1..=epochs as u64 * per_epoch).map(step).collect(), (1..=epochs).map(epoch).collect())
}

/// Draws everything twice and compares; also writes the pictures to the folder `$DYNAMOE_PLOTS` if that is set.
fn check(name: &str, steps: &[StepRecord], history: &[EpochRecord]) {
    let pictures = all(steps, history);
    assert_eq!(pictures, all(steps, history));
    for (file, svg) in &pictures {
        assert_well_formed(svg);
        assert!(svg.len() < 4 << 20, "{name}: {file} has {} bytes", svg.len());
        if let Ok(folder) = std::env::var("DYNAMOE_PLOTS") {
            std::fs::write(format!("{folder}/{name}-{file}"), svg).unwrap();
        }
    }
}

#[test]
fn ordinary_runs() {
    let (steps, history) = run(&[8, 6, 3, 1], 20, 235);
    check("paper", &steps, &history);
    let (steps, mut history) = run(&[8, 6, 3, 1], 12, 46);
    for e in &mut history {
        for (l, k) in e.layers.iter_mut().zip([3, 2, 1, 1]) {
            l.mean_active = k as f64;
            l.k_share = (0..=8).map(|i| f64::from(i == k)).collect();
        }
    }
    check("constant", &steps, &history);
}

#[test]
fn tiny_runs() {
    check("nothing", &[], &[]);
    let (steps, history) = run(&[1], 1, 1);
    check("one", &steps, &history);
    check("unfinished", &run(&[2], 1, 30).0, &[]);
    check("no-steps", &[], &run(&[4, 4], 2, 3).1);
    check("no-layers", &steps, &run(&[], 3, 1).1);
}

#[test]
fn large_runs() {
    let (steps, history) = run(&[256, 128, 17, 1], 100, 300);
    check("wide", &steps, &history);
    let deep: Vec<usize> = (1..=30).rev().collect();
    let (steps, history) = run(&deep, 50, 20);
    check("deep", &steps, &history);
    check("huge", &[], &run(&[4096; 300], 2, 1).1);
}

#[test]
fn non_finite_numbers() {
    let (mut steps, mut history) = run(&[4, 2], 4, 10);
    steps[3].loss = f64::NAN;
    steps[4].loss = f64::INFINITY;
    steps[5].loss = 1e300;
    steps[6].loss = 0.0;
    history[1].test_accuracy = f64::NAN;
    history[2].layers[0].mean_active = f64::NAN;
    history[3].layers[0].usage[1] = f64::NAN;
    history[3].layers[1].usage[0] = f64::INFINITY;
    history[3].layers.truncate(2);
    history[0].layers.truncate(1);
    check("odd", &steps, &history);
    for e in &mut history {
        (e.test_loss, e.train_accuracy, e.test_accuracy) = (f64::NAN, f64::NAN, f64::NEG_INFINITY);
    }
    steps.iter_mut().for_each(|s| s.loss = f64::NAN);
    check("nan", &steps, &history);
}
