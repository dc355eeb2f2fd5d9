//! Tests of the router.

use super::super::tests::{assert_gradients, pair, with_losses};
use super::*;
use crate::engine::gradcheck::random;
use crate::engine::kernels::routes::Routes;
use crate::engine::tape::{Mode, Tape};

#[test]
fn gradients_with_the_choice_held_still_are_those_of_differences() {
    let phase = Phase::Train { seed: Some(1), step: 0 };
    for experts in [5, 1] {
        let pair = pair(Settings::default(), experts);
        let x = random(&[6, 4], 1);
        let tape = Tape::new(Mode::Infer);
        let choice = choose(&pair.router.scores(tape.constant(x.clone())));
        let routes = std::sync::Arc::new(Routes::new(&choice.mask, experts));
        assert_gradients("top-any", &pair, x, |pair, x| {
            let scores = pair.router.scores(x);
            let y = pair.experts.forward(x, weigh(&scores, &choice), routes.clone())?;
            Ok(with_losses(y, &pair.router.losses(&scores, &choice, phase)))
        });
    }
}

#[test]
fn active_experts_count_equally_and_without_any_the_most_alike_serves() {
    let layer = Layer { number: 0, width: 2, experts: 3 };
    let mut router = Settings::default().build::<f64>(layer, Weights::NONE, &mut Init::new(1));
    // Directions east, north and north-east.
    router.directions.value = arr::from_vec(&[2, 3], vec![1.0, 0.0, 2.0, 0.0, 1.0, 2.0]);
    let tape = Tape::new(Mode::Infer);
    let x = tape.constant(arr::from_vec(&[3, 2], vec![3.0, 1.0, 1.0, -0.5, -1.0, -3.0]));
    let gates = router.route(x, Phase::Eval).unwrap().gates.value();
    let third = 1.0 / 3.0;
    assert_eq!(arr::data(&gates), [third, third, third, 0.5, 0.0, 0.5, 1.0, 0.0, 0.0]);
}
