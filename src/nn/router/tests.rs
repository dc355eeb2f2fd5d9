//! What holds for every router: gradients, laws, ties, empty batches, independence of the batch.

use proptest::prelude::*;

use super::*;
use crate::engine::gradcheck::{Report, random};
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::tape::{Mode, Tape};
use crate::nn::experts::Experts;
use crate::nn::experts::Form;
use crate::nn::moe::{Dispatch, Moe};
use crate::nn::param::{self, Visitor, for_each_param};

const TRAIN: Phase = Phase::Train { seed: Some(1), step: 0 };

/// A router of a type of its own, and experts.
#[derive(Clone)]
pub struct Pair<R> {
    pub router: R,
    pub experts: Experts<f64>,
}

impl<R: Router<f64>> Pair<R> {
    /// For tokens of four numbers; every parameter is random.
    pub fn random(settings: &Settings, experts: usize) -> Pair<R> {
        let layer = Layer { number: 0, width: 4, experts };
        let init = &mut Init::new(2);
        let mut pair =
            Pair { router: R::new(settings, layer, init), experts: Experts::new(experts, 4, 3, init) };
        randomize(&mut pair);
        pair
    }
}

impl<R: Router<f64>> Module<f64> for Pair<R> {
    fn visit(&mut self, v: &mut Visitor<'_, f64>) {
        let Pair { router, experts } = self;
        v.child("router", router);
        v.child("experts", experts);
    }
}

/// Numbers the parameters and makes all random, those too that start at zero.
fn randomize<F: Elem>(module: &mut impl Module<F>) {
    param::number(module);
    for_each_param(module, |_, p| {
        p.value = arr::from_vec(
            p.value.shape(),
            arr::data(&random(p.value.shape(), p.slot() as u64 + 9))
                .iter()
                .map(|&v| F::of(0.7 * v))
                .collect(),
        );
    });
}

/// Compares the gradients of `f` with respect to the tokens `x` and every parameter (some elements of each) with
/// central differences.
pub fn assert_gradients<M: Module<f64> + Clone>(
    name: &str,
    module: &M,
    x: Arr<f64>,
    f: impl for<'t> Fn(&M, Var<'t, f64>) -> Result<Var<'t, f64>>,
) {
    const STEP: f64 = 1e-5;
    const MOST: usize = 24;
    let tape = Tape::new(Mode::Train);
    let tokens = tape.variable(x.clone());
    let y = f(module, tokens).unwrap();
    let cotangent = random(&y.shape(), 77);
    let mut gradients = tape.backward_from(y, cotangent.clone());
    let value = |module: &M, x: &Arr<f64>| -> f64 {
        let tape = Tape::new(Mode::Infer);
        let y = f(module, tape.constant(x.clone())).unwrap().value();
        arr::data(&y).iter().zip(arr::data(&cotangent)).map(|(y, c)| y * c).sum()
    };
    let compare = |what: &str, exact: f64, [up, down]: [f64; 2]| {
        let difference = (up - down) / (2.0 * STEP);
        let error = (exact - difference).abs() / difference.abs().max(1.0);
        assert!(error <= Report::TOLERANCE, "{name}: {what} is {exact}, differences say {difference}");
    };
    let exact = gradients.wrt(tokens);
    for i in 0..x.len() {
        let moved = [STEP, -STEP].map(|by| {
            let mut x = x.clone();
            arr::data_mut(&mut x)[i] += by;
            value(module, &x)
        });
        compare(&format!("x[{i}]"), arr::data(&exact)[i], moved);
    }
    let mut parameters = Vec::new();
    for_each_param(&mut module.clone(), |name, p| {
        parameters.push((name.to_string(), p.slot(), p.value.len()))
    });
    for (parameter, slot, len) in parameters {
        let exact = gradients.take_parameter(slot).unwrap_or_else(|| panic!("{name}: none for {parameter}"));
        for i in (0..len).step_by(len.div_ceil(MOST)) {
            let moved = [STEP, -STEP].map(|by| {
                let mut module = module.clone();
                for_each_param(&mut module, |_, p| {
                    if p.slot() == slot {
                        arr::data_mut(&mut p.value)[i] += by;
                    }
                });
                value(&module, &x)
            });
            compare(&format!("{parameter}[{i}]"), arr::data(&exact.values)[i], moved);
        }
    }
}

/// `y` with the losses added to every element.
pub fn with_losses<'t>(y: Var<'t, f64>, losses: &Losses<'t, f64>) -> Var<'t, f64> {
    losses.iter().fold(y, |y, &(_, loss)| y.add(loss))
}

/// Settings with every loss switched on.
pub fn all_losses(kind: Kind) -> Settings {
    let [balance_loss, z_loss, entropy_loss] = [0.3, 0.2, 0.1].map(OrAuto::Set);
    Settings { kind, balance_loss, z_loss, entropy_loss, ..Settings::DEFAULT }
}

/// A layer for tokens of four numbers whose parameters are all random.
fn layer<F: Elem>(settings: &Settings, experts: usize) -> Moe<F> {
    let mut layer = Moe::routed(4, 3, experts, 0, settings, Form::Relu, &mut Init::new(2));
    randomize(&mut layer);
    layer
}

/// Losses by name.
type Named = Vec<(&'static str, f64)>;

/// What a layer does with tokens: outputs, weights, counts and losses.
fn forward<F: Elem>(layer: &Moe<F>, x: &Arr<F>, phase: Phase) -> (Arr<F>, Arr<F>, Usage, Named) {
    let tape = Tape::new(Mode::Train);
    let (y, Dispatch { usage, gates, losses, .. }) = layer.forward(tape.constant(x.clone()), phase).unwrap();
    let losses = losses.into_iter().map(|(name, loss)| (name, loss.item().f64())).collect();
    (y.value(), gates.value(), usage, losses)
}

/// `tokens` tokens of four numbers.
fn tokens(tokens: usize, seed: u64) -> Arr<f32> {
    let mut x = arr::zeros(&[tokens, 4]);
    Stream::new(seed, Purpose::Check, 0, 0).normal(arr::data_mut(&mut x), 1.5);
    x
}

/// Every router with its settings; the percentile in both scopes.
fn all() -> impl Iterator<Item = Settings> {
    let batch = Settings { scope: percentile::Scope::Batch, ..Settings::DEFAULT };
    Kind::ALL.iter().map(|&kind| Settings { kind, ..Settings::DEFAULT }).chain([batch])
}

#[test]
fn gradients_of_layers_with_all_losses_are_those_of_differences() {
    // Routers with a straight-through gradient, which no difference shows, are checked in their files.
    let straight = [Kind::LearnedK, Kind::TopAny];
    let batch = Settings { scope: percentile::Scope::Batch, ..all_losses(Kind::Percentile) };
    let kinds = Kind::ALL.iter().filter(|kind| !straight.contains(kind));
    for settings in kinds.map(|&kind| all_losses(kind)).chain([batch]) {
        for experts in [5, 1] {
            let layer: Moe<f64> = layer(&settings, experts);
            assert_gradients(settings.kind.name(), &layer, random(&[6, 4], 1), |layer, x| {
                let (y, dispatch) = layer.forward(x, TRAIN)?;
                Ok(with_losses(y, &dispatch.losses))
            });
        }
    }
}

#[test]
fn at_inference_a_token_has_the_same_bits_in_any_batch_unless_the_rule_says_otherwise() {
    for settings in all() {
        let mut layer: Moe<f32> = layer(&settings, 6);
        let x = tokens(9, 1);
        let rows = |rows: &[usize]| {
            arr::from_vec(
                &[rows.len(), 4],
                rows.iter().flat_map(|&r| arr::data(&x)[r * 4..][..4].to_vec()).collect(),
            )
        };
        let order = [4, 8, 2, 0, 6, 1, 3, 5, 7];
        // Before and after a training batch has left its running numbers.
        for _ in 0..2 {
            let all = forward(&layer, &x, Phase::Eval).0;
            let turned = forward(&layer, &rows(&order), Phase::Eval).0;
            let mut equal = true;
            for (i, r) in order.into_iter().enumerate() {
                let alone = forward(&layer, &rows(&[r]), Phase::Eval).0;
                equal &= arr::data(&alone) == &arr::data(&all)[r * 4..][..4];
                equal &= arr::data(&turned)[i * 4..][..4] == arr::data(&all)[r * 4..][..4];
            }
            assert_eq!(equal, settings.rule().inference == Sees::Itself, "{settings:?}");
            let usage = forward(&layer, &x, TRAIN).2;
            layer.absorb(&usage);
        }
    }
}

#[test]
fn a_router_that_sees_only_itself_in_training_gives_a_token_the_same_experts_beside_any_others() {
    for settings in all() {
        let layer: Moe<f32> = layer(&settings, 6);
        let x = tokens(9, 1);
        let fewer = arr::from_vec(&[5, 4], arr::data(&x)[..20].to_vec());
        let (all, few) = (forward(&layer, &x, TRAIN).1, forward(&layer, &fewer, TRAIN).1);
        if settings.rule().training == Sees::Itself {
            // Noise is that of the token's place.
            assert_eq!(arr::data(&all)[..30], arr::data(&few)[..], "{settings:?}");
        }
    }
}

#[test]
fn equal_scores_go_to_the_lower_index() {
    for settings in all() {
        let experts = 6;
        // Tokens of zeros, and fresh biases of zero: all scores are equal.
        let mut layer = Moe::<f64>::routed(4, 3, experts, 0, &settings, Form::Relu, &mut Init::new(2));
        param::number(&mut layer);
        let gates = forward(&layer, &arr::zeros(&[3, 4]), Phase::Eval).1;
        let chosen: Vec<usize> =
            arr::data(&gates).chunks(experts).map(|row| row.iter().filter(|&&g| g > 0.0).count()).collect();
        let name = settings.kind.name();
        if settings.kind == Kind::ExpertChoice {
            // Each expert takes one token, the first.
            assert_eq!(chosen, [6, 0, 0], "{name}");
            continue;
        }
        for (row, &k) in arr::data(&gates).chunks(experts).zip(&chosen) {
            assert!(row.iter().enumerate().all(|(i, &gate)| (gate > 0.0) == (i < k)), "{name} {row:?}");
        }
        let expected: [usize; 3] = match settings.kind {
            // 0 is not above 0, so that the best has to do.
            Kind::TopAny | Kind::Single => [1; 3],
            // floor(2 * 3 / 6) = 1 place in each expert.
            Kind::Switch => [1, 0, 0],
            Kind::GShard => [2, 0, 0],
            Kind::Dense => [6; 3],
            Kind::TopP => [3; 3],
            Kind::NoisyTopK => [4; 3],
            _ => [2; 3],
        };
        assert_eq!(chosen, expected, "{name}");
    }
}

#[test]
fn no_tokens_at_all() {
    for settings in all() {
        for phase in [TRAIN, Phase::Eval] {
            let mut layer: Moe<f32> =
                layer(&Settings { kind: settings.kind, ..all_losses(settings.kind) }, 3);
            let (y, gates, usage, losses) = forward(&layer, &arr::zeros(&[0, 4]), phase);
            assert_eq!((y.shape(), gates.shape(), usage.tokens), (&[0, 4][..], &[0, 3][..], 0));
            assert!(losses.iter().all(|(_, loss)| loss.is_finite()), "{settings:?} {losses:?}");
            layer.absorb(&usage);
        }
    }
}

#[test]
fn the_readme_lists_every_router() {
    let readme = include_str!("../../../README.md");
    for kind in Kind::ALL {
        assert!(readme.contains(&format!("| `{}` |", kind.name())), "{kind:?}");
    }
}

#[test]
fn losses_are_there_in_training_alone_and_can_be_switched_off() {
    for settings in all() {
        let names = |settings: &Settings, phase| -> Vec<&str> {
            forward(&layer::<f64>(settings, 5), &random(&[7, 4], 1), phase)
                .3
                .into_iter()
                .map(|l| l.0)
                .collect()
        };
        let own: &[&str] = match settings.kind {
            Kind::NoisyTopK => &["importance", "load"],
            Kind::LearnedK => &["count", "variety"],
            Kind::TopAny => &["diversity", "simplicity"],
            _ => &[],
        };
        let published: &[&str] = match settings.kind {
            Kind::Switch | Kind::GShard => &["balance"],
            Kind::TopP => &["balance", "entropy"],
            Kind::LearnedK => &["balance", "z"],
            _ => &[],
        };
        let any: &[&str] = if settings.kind == Kind::Single { &[] } else { &["balance", "z", "entropy"] };
        assert_eq!(names(&settings, TRAIN), [published, own].concat(), "{settings:?}");
        assert_eq!(names(&all_losses(settings.kind), TRAIN), [any, own].concat(), "{settings:?}");
        assert!(names(&all_losses(settings.kind), Phase::Eval).is_empty(), "{settings:?}");
        let [balance_loss, z_loss, entropy_loss] = [OrAuto::Set(0.0); 3];
        let off = Settings { balance_loss, z_loss, entropy_loss, own_losses: 0.0, ..settings };
        assert!(names(&off, TRAIN).is_empty(), "{settings:?}");
    }
}

#[test]
fn balance_is_least_where_experts_are_used_evenly() {
    let weights = losses::Weights { balance: 1.0, z: 0.0, entropy: 0.0 };
    let tape = Tape::<f64>::new(Mode::Infer);
    let loss = |logits: [f64; 4], mask: [bool; 4]| {
        let logits = tape.constant(arr::from_vec(&[2, 2], logits.to_vec()));
        weights.losses(|| logits, &mask, TRAIN)[0].1.item()
    };
    approx::assert_relative_eq!(loss([2.0, 0.0, 0.0, 2.0], [true, false, false, true]), 1.0);
    let p = 1.0 / (1.0 + libm::exp(-2.0));
    approx::assert_relative_eq!(loss([2.0, 0.0, 2.0, 0.0], [true, false, true, false]), 2.0 * p);
}

#[test]
fn a_full_expert_turns_tokens_away_and_they_are_counted() {
    for (kind, capacity_factor, k) in [(Kind::Switch, 0.5, 1), (Kind::GShard, 0.5, 2)] {
        let settings = Settings { kind, capacity_factor: OrAuto::Set(capacity_factor), ..Settings::DEFAULT };
        let layer: Moe<f64> = layer(&settings, 4);
        // The same token again and again: all want the same experts, with room for floor(0.5 * 16 / 4) = 2.
        let x = arr::from_vec(&[16, 4], [1.0, -0.5, 0.3, 2.0].repeat(16));
        let (y, gates, usage, _) = forward(&layer, &x, Phase::Eval);
        assert_eq!((usage.counts.iter().sum::<u64>(), usage.dropped), (2 * k, 14 * k), "{kind:?}");
        assert_eq!((usage.k_counts[0], usage.k_counts[k as usize]), (14, 2), "{kind:?}");
        assert!(usage.counts.contains(&0), "{kind:?}: some expert has no token");
        // The first two are served, the others get nothing.
        assert!(arr::data(&y)[..8].iter().all(|&y| y != 0.0) && arr::data(&y)[8..].iter().all(|&y| y == 0.0));
        assert!(arr::data(&gates)[8..].iter().all(|&gate| gate == 0.0));
    }
}

#[test]
fn experts_choose_equally_many_tokens_and_may_leave_one_out() {
    let settings =
        Settings { kind: Kind::ExpertChoice, capacity_factor: OrAuto::Set(1.0), ..Settings::DEFAULT };
    let (_, _, usage, _) = forward(&layer::<f32>(&settings, 4), &tokens(22, 3), TRAIN);
    assert_eq!(usage.counts, [5; 4]);
    assert!(usage.k_counts[0] > 0, "{usage:?}");
    // With one expert and a factor of 2 it takes all there are, once.
    let one = Settings { capacity_factor: OrAuto::AUTO, ..settings };
    assert_eq!(forward(&layer::<f32>(&one, 1), &tokens(22, 3), TRAIN).2.counts, [22]);
}

#[test]
fn a_second_expert_is_kept_by_chance_in_training_and_always_at_inference() {
    let settings = Settings { kind: Kind::GShard, capacity_factor: OrAuto::Set(100.0), ..Settings::DEFAULT };
    let layer: Moe<f32> = layer(&settings, 5);
    let x = tokens(4000, 1);
    let (_, gates, usage, _) = forward(&layer, &x, Phase::Eval);
    assert_eq!((usage.k_counts[2], usage.dropped), (4000, 0));
    // The chance is twice the second weight.
    let second = |row: &[f32]| row.iter().filter(|&&g| g > 0.0).fold(1.0f32, |least, &g| least.min(g));
    let expected: f64 = arr::data(&gates).chunks(5).map(|row| f64::from(2.0 * second(row)).min(1.0)).sum();
    let kept = forward(&layer, &x, TRAIN).2.k_counts[2] as f64;
    assert!((kept - expected).abs() < 120.0, "{kept} of {expected}");
}

proptest! {
    #[test]
    fn laws(seed in 0u64..1000, count in 1usize..40, experts in 1usize..12, phase: bool) {
        let x = tokens(count, seed);
        for settings in all() {
            let phase = if phase { Phase::Train { seed: Some(seed), step: 3 } } else { Phase::Eval };
            let (_, gates, usage, losses) = forward(&layer::<f32>(&settings, experts), &x, phase);
            let name = format!("{} {:?}", settings.kind.name(), settings.scope);
            prop_assert_eq!(usage.tokens, count as u64);
            prop_assert!(losses.iter().all(|(_, loss)| loss.is_finite()), "{} {:?}", name, losses);
            // Switch, gshard and expert choice may leave a token without an expert, and learned k runs the
            // first eight in training, some with weight 0.
            let limited = [Kind::Switch, Kind::GShard, Kind::ExpertChoice].contains(&settings.kind);
            let all_run = settings.kind == Kind::LearnedK && phase != Phase::Eval;
            let mut served = 0;
            for row in arr::data(&gates).chunks(experts) {
                let k = row.iter().filter(|&&gate| gate > 0.0).count();
                served += k as u64;
                prop_assert!(row.iter().all(|&gate| gate >= 0.0), "{}", name);
                prop_assert!(limited || k >= 1, "{}", name);
                let sum: f32 = row.iter().sum();
                let sums_to_one = match settings.kind {
                    // Weights are probabilities, or parts of what was shared out before some were turned away.
                    Kind::Switch | Kind::GShard | Kind::ExpertChoice | Kind::TopP => false,
                    // Weights are sigmoids.
                    Kind::LossFree => { prop_assert!(sum <= k as f32); continue }
                    _ => true,
                };
                prop_assert!(sum <= 1.0 + 1e-5 && (!sums_to_one || sum >= 1.0 - 1e-5), "{}: {}", name, sum);
            }
            let run: u64 = usage.counts.iter().sum();
            prop_assert!(if all_run { run >= served } else { run == served }, "{}", name);
        }
    }
}
