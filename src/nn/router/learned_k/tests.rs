//! Tests of the router.

use super::super::tests::{assert_gradients, pair, with_losses};
use super::*;
use crate::engine::gradcheck::random;
use crate::engine::kernels::routes::Routes;
use crate::engine::tape::{Mode, Tape};

#[test]
fn gradients_with_the_choice_held_still_are_those_of_differences() {
    for (experts, phase) in [
        (10, Phase::Train { seed: Some(1), step: 0 }),
        (3, Phase::Train { seed: Some(1), step: 700 }),
        (1, Phase::Train { seed: Some(1), step: 0 }),
    ] {
        let pair = pair(Settings::default(), experts);
        let x = random(&[6, 4], 1);
        let tape = Tape::new(Mode::Infer);
        let choice = pair.router.choose(&pair.router.heads(tape.constant(x.clone())).unwrap(), phase);
        let routes = std::sync::Arc::new(Routes::new(&choice.runs, experts));
        assert_gradients("learned-k", &pair, x, |pair, x| {
            let heads = pair.router.heads(x)?;
            let y = pair.experts.forward(x, weigh(&heads, &choice), routes.clone())?;
            Ok(with_losses(y, &pair.router.losses(&heads, &choice, phase)))
        });
    }
}

#[test]
fn pairs_of_experts_join_in_the_order_of_their_probabilities() {
    let layer = Layer { number: 0, width: 4, experts: 12 };
    let router = Settings::default().build::<f64>(layer, Weights::NONE, &mut Init::new(1));
    let tape = Tape::new(Mode::Infer);
    for phase in [Phase::Eval, Phase::Train { seed: Some(1), step: 0 }] {
        let heads = router.heads(tape.constant(random(&[50, 4], 1))).unwrap();
        let choice = router.choose(&heads, phase);
        let (gates, p) = (weigh(&heads, &choice).value(), probabilities(&heads.logits.value()));
        for (t, (gates, p)) in arr::data(&gates).chunks(12).zip(arr::data(&p).chunks(12)).enumerate() {
            let mut order: Vec<usize> = (0..12).collect();
            order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
            let k = gates.iter().filter(|&&gate| gate > 0.0).count();
            assert!(COUNTS.contains(&k), "token {t} has {k}");
            let sum: f64 = order[..k].iter().map(|&e| p[e]).sum();
            for (rank, &e) in order.iter().enumerate() {
                let expected = if rank < k { p[e] / sum } else { 0.0 };
                assert!((gates[e] - expected).abs() < 1e-12);
                let runs = if phase == Phase::Eval { rank < k } else { rank < 8 };
                assert_eq!((choice.chosen[t * 12 + e], choice.runs[t * 12 + e]), (rank < k, runs));
            }
        }
    }
}

#[test]
fn counts_are_those_of_the_layer_and_annealing_ends() {
    assert_eq!([1, 3, 7, 20].map(counts), [[1; 4], [2, 3, 3, 3], [2, 4, 6, 7], [2, 4, 6, 8]]);
    let layer = Layer { number: 0, width: 4, experts: 3 };
    let router = Settings::default().build::<f64>(layer, Weights::NONE, &mut Init::new(1));
    assert_eq!([0, 500, 1000, 5000].map(|step| router.annealed(step)), [0.0, 0.5, 1.0, 1.0]);
}
