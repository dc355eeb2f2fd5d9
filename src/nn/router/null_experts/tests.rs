//! Null experts against plain loops.

use super::*;
use crate::engine::gradcheck::random;
use crate::engine::tape::{Mode, Tape};
use crate::nn::router::tests::pair;

const TRAIN: Phase = Phase::Train { seed: Some(1), step: 0 };

#[test]
fn weights_counts_and_loss_are_those_of_plain_loops() {
    let (tokens, experts, nulls, k, balance) = (60, 3, 6, 2, 0.3);
    let slots = experts + nulls;
    let settings = Settings { k: OrAuto::Set(k), nulls: OrAuto::Set(nulls) };
    let router = pair(settings, experts).router;
    let tape = Tape::<f64>::new(Mode::Infer);
    let x = tape.constant(random(&[tokens, 4], 1));
    let routing = router.route(x, TRAIN).unwrap();
    let logits = router.gate.forward(x).unwrap().value();

    let (mut gates, mut none) = (Vec::new(), 0);
    let (mut f, mut q) = (vec![0.0; slots], vec![0.0; slots]);
    for logits in arr::data(&logits).chunks(slots) {
        let exps: Vec<f64> = logits.iter().map(|&l| libm::exp(l)).collect();
        let p: Vec<f64> = exps.iter().map(|e| e / exps.iter().sum::<f64>()).collect();
        // Chosen is whoever has fewer than k better ones.
        let chosen = |i: usize| p.iter().filter(|&&other| other > p[i]).count() < k;
        let sum: f64 = (0..experts).filter(|&i| chosen(i)).map(|i| p[i]).sum();
        gates.extend((0..experts).map(|i| if chosen(i) { p[i] / sum } else { 0.0 }));
        none += usize::from(sum == 0.0);
        for i in 0..slots {
            f[i] += f64::from(u8::from(chosen(i))) / tokens as f64;
            q[i] += p[i] / tokens as f64;
        }
    }
    let mean = f[experts..].iter().sum::<f64>() / nulls as f64;
    f[experts..].fill(mean);
    let loss = balance * slots as f64 * f.iter().zip(&q).map(|(f, q)| f * q).sum::<f64>();

    assert!(none > 0, "some token has null experts only");
    let usage = Usage::new(&routing.routes);
    assert_eq!((usage.k_counts[0], usage.tokens), (none as u64, tokens as u64));
    for (gate, expected) in arr::data(&routing.gates.value()).iter().zip(&gates) {
        assert!((gate - expected).abs() < 1e-12, "{gate} {expected}");
    }
    let (name, found) = routing.losses[0];
    assert_eq!(name, "balance");
    assert!((found.item() - loss).abs() < 1e-12, "{} {loss}", found.item());
}

#[test]
fn cost_is_that_of_an_even_load() {
    let layer = |experts| Layer { number: 0, width: 4, experts };
    let cost = |settings: Settings, experts| settings.cost(layer(experts));
    assert_eq!([1, 2, 8].map(|experts| cost(Settings::default(), experts).k), [1.0, 2.0, 2.0]);
    let set = Settings { k: OrAuto::Set(3), nulls: OrAuto::Set(4) };
    assert_eq!(cost(set, 8), Cost { k: 2.0, parameters: 60, flops: 96.0 });
}
