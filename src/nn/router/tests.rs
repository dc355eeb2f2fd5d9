//! What holds for every router: gradients, laws, ties, empty batches, independence of the batch.

use proptest::prelude::*;

use super::losses::{self, Weights};
use super::registry::variants;
use super::rule::Sum;
use super::*;
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Report, random};
use crate::engine::kernels::elem::Elem;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::tape::{Mode, Tape, Var};
use crate::nn::experts::{Experts, Form};
use crate::nn::moe::{Dispatch, Moe};
use crate::nn::param::{Init, Item, ItemMut, Module, Visitor};
use crate::nn::phase::Phase;
use crate::nn::usage::Usage;

const TRAIN: Phase = Phase::Train { seed: Some(1), step: 0 };

/// A router of a known type, and experts.
#[derive(Clone)]
pub struct Pair<R> {
    pub router: R,
    pub experts: Experts<f64>,
}

/// A router with all losses on, and experts, for tokens of width 4; every parameter is random.
pub fn pair<S: RouterSettings>(settings: S, experts: usize) -> Pair<S::Router<f64>> {
    let layer = Layer { number: 0, width: 4, experts };
    let init = &mut Init::new(2);
    let router = settings.build(layer, ALL_LOSSES, init);
    let mut pair = Pair { router, experts: Experts::new(experts, 4, 3, init) };
    randomize(&mut pair);
    pair
}

impl<R: Router<f64>> Module<f64> for Pair<R> {
    fn visit<'a>(&'a self, v: &mut Visitor<'_, Item<'a, f64>>) {
        v.part("router", |v| self.router.visit(v));
        v.part("experts", |v| self.experts.visit(v));
    }
    fn visit_mut<'a>(&'a mut self, v: &mut Visitor<'_, ItemMut<'a, f64>>) {
        v.part("router", |v| self.router.visit_mut(v));
        v.part("experts", |v| self.experts.visit_mut(v));
    }
}

/// Makes all parameters random, also those that start at zero.
fn randomize<F: Elem>(module: &mut impl Module<F>) {
    for (i, (_, p)) in module.parameters_mut().into_iter().enumerate() {
        let numbers = random(p.value.shape(), i as u64 + 9);
        p.value =
            arr::from_vec(numbers.shape(), arr::data(&numbers).iter().map(|&v| F::of(0.7 * v)).collect());
    }
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
    let gradients = tape.backward_from(y, cotangent.clone());
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
    for (number, (parameter, p)) in module.parameters().into_iter().enumerate() {
        let exact = gradients.parameter(p.id()).unwrap_or_else(|| panic!("{name}: none for {parameter}"));
        for i in (0..p.value.len()).step_by(p.value.len().div_ceil(MOST)) {
            let moved = [STEP, -STEP].map(|by| {
                let mut module = module.clone();
                arr::data_mut(&mut module.parameters_mut()[number].1.value)[i] += by;
                value(&module, &x)
            });
            compare(&format!("{parameter}[{i}]"), arr::data(exact.values)[i], moved);
        }
    }
}

/// `y` with the losses added to every element.
pub fn with_losses<'t>(y: Var<'t, f64>, losses: &Losses<'t, f64>) -> Var<'t, f64> {
    losses.iter().fold(y, |y, &(_, loss)| y.add(loss))
}

/// Weights with which every loss counts.
const ALL_LOSSES: Weights = Weights { balance: 0.3, z: 0.2, entropy: 0.1 };

/// The same settings with every common loss switched on.
fn all_losses(settings: Settings) -> Settings {
    let losses = losses::Settings {
        balance_loss: OrAuto::Set(ALL_LOSSES.balance),
        z_loss: OrAuto::Set(ALL_LOSSES.z),
        entropy_loss: OrAuto::Set(ALL_LOSSES.entropy),
    };
    Settings { losses, ..settings }
}

/// The same settings with every loss switched off.
fn no_losses(mut settings: Settings) -> Settings {
    let own: Vec<&str> = Settings::keys().filter(|k| k.0 == settings.name()).map(|k| k.1).collect();
    for key in own.into_iter().filter(|key| key.contains("loss")) {
        settings.set(key, &0.0.into()).unwrap();
    }
    settings
}

/// A layer for tokens of width 4, with its initial parameters.
fn initial<F: Elem>(settings: &Settings, experts: usize) -> Moe<F> {
    let layer = Layer { number: 0, width: 4, experts };
    Moe::routed(layer, 3, Form::Relu, settings, &mut Init::new(2))
}

/// A layer for tokens of width 4 whose parameters are all random.
fn layer<F: Elem>(settings: &Settings, experts: usize) -> Moe<F> {
    let mut layer = initial(settings, experts);
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

#[test]
fn gradients_with_all_losses_match_finite_differences() {
    for settings in variants().filter(|settings| !settings.expect().straight_through) {
        for experts in [5, 1] {
            let layer: Moe<f64> = layer(&all_losses(settings), experts);
            assert_gradients(settings.name(), &layer, random(&[6, 4], 1), |layer, x| {
                let (y, dispatch) = layer.forward(x, TRAIN)?;
                Ok(with_losses(y, &dispatch.losses))
            });
        }
    }
}

#[test]
fn at_inference_a_token_has_the_same_bits_in_any_batch_unless_the_rule_says_otherwise() {
    for settings in variants() {
        let mut layer: Moe<f32> = layer(&settings, 6);
        let x = tokens(9, 1);
        let rows = |rows: &[usize]| {
            let picked = rows.iter().flat_map(|&r| arr::data(&x)[r * 4..][..4].to_vec()).collect();
            arr::from_vec(&[rows.len(), 4], picked)
        };
        let order = [4, 8, 2, 0, 6, 1, 3, 5, 7];
        // Before and after a training batch has updated the running statistics.
        for _ in 0..2 {
            let all = forward(&layer, &x, Phase::Eval).0;
            let permuted = forward(&layer, &rows(&order), Phase::Eval).0;
            let mut equal = true;
            for (i, r) in order.into_iter().enumerate() {
                let alone = forward(&layer, &rows(&[r]), Phase::Eval).0;
                equal &= arr::data(&alone) == &arr::data(&all)[r * 4..][..4];
                equal &= arr::data(&permuted)[i * 4..][..4] == arr::data(&all)[r * 4..][..4];
            }
            assert_eq!(equal, settings.rule().inference == Sees::Itself, "{settings:?}");
            let usage = forward(&layer, &x, TRAIN).2;
            layer.absorb(&usage);
        }
    }
}

#[test]
fn in_training_a_token_has_the_same_experts_beside_any_others_unless_the_rule_says_otherwise() {
    for settings in variants().filter(|settings| settings.rule().training == Sees::Itself) {
        let layer: Moe<f32> = layer(&settings, 6);
        let x = tokens(9, 1);
        let fewer = arr::from_vec(&[5, 4], arr::data(&x)[..20].to_vec());
        let (all, few) = (forward(&layer, &x, TRAIN).1, forward(&layer, &fewer, TRAIN).1);
        // Noise is addressed by the token's position.
        assert_eq!(arr::data(&all)[..30], arr::data(&few)[..], "{settings:?}");
    }
}

#[test]
fn equal_scores_go_to_the_lower_index() {
    for settings in variants() {
        // Tokens of zeros and initial biases of zero: all scores are equal.
        let gates = forward::<f64>(&initial(&settings, 6), &arr::zeros(&[3, 4]), Phase::Eval).1;
        let rows = arr::data(&gates).chunks(6);
        let k: Vec<usize> = rows.clone().map(|row| row.iter().filter(|&&g| g > 0.0).count()).collect();
        assert_eq!(k, settings.expect().tied, "{settings:?}");
        for (row, &k) in rows.zip(&k) {
            assert!(row.iter().enumerate().all(|(i, &gate)| (gate > 0.0) == (i < k)), "{settings:?} {row:?}");
        }
    }
}

#[test]
fn an_empty_batch() {
    for settings in variants() {
        for phase in [TRAIN, Phase::Eval] {
            let mut layer: Moe<f32> = layer(&all_losses(settings), 3);
            let (y, gates, usage, losses) = forward(&layer, &arr::zeros(&[0, 4]), phase);
            assert_eq!((y.shape(), gates.shape(), usage.tokens), (&[0, 4][..], &[0, 3][..], 0));
            assert!(losses.iter().all(|(_, loss)| loss.is_finite()), "{settings:?} {losses:?}");
            layer.absorb(&usage);
        }
    }
}

#[test]
fn losses_exist_in_training_only_and_can_be_switched_off() {
    for settings in variants() {
        let names = |settings: &Settings, phase| -> Vec<&str> {
            forward(&layer::<f64>(settings, 5), &random(&[7, 4], 1), phase)
                .3
                .into_iter()
                .map(|l| l.0)
                .collect()
        };
        let with_own = |weights: Option<Weights>| {
            let Weights { balance, z, entropy } = weights.unwrap_or_default();
            let common = [("balance", balance), ("z", z), ("entropy", entropy)];
            let common = common.into_iter().filter(|(_, weight)| *weight > 0.0).map(|(name, _)| name);
            common.chain(settings.expect().losses.iter().copied()).collect::<Vec<_>>()
        };
        let published = settings.published_losses();
        assert_eq!(names(&settings, TRAIN), with_own(published), "{settings:?}");
        let all = all_losses(settings);
        assert_eq!(names(&all, TRAIN), with_own(published.map(|_| ALL_LOSSES)), "{settings:?}");
        assert!(names(&all, Phase::Eval).is_empty(), "{settings:?}");
        assert!(names(&no_losses(settings), TRAIN).is_empty(), "{settings:?}");
    }
}

proptest! {
    #[test]
    fn laws(seed in 0u64..1000, count in 1usize..40, experts in 1usize..12, phase: bool) {
        let x = tokens(count, seed);
        for settings in variants() {
            let phase = if phase { Phase::Train { seed: Some(seed), step: 3 } } else { Phase::Eval };
            let expect = settings.expect();
            let (_, gates, usage, losses) = forward(&layer::<f32>(&settings, experts), &x, phase);
            prop_assert_eq!(usage.tokens, count as u64);
            prop_assert!(losses.iter().all(|(_, loss)| loss.is_finite()), "{:?} {:?}", settings, losses);
            let mut served = 0;
            for row in arr::data(&gates).chunks(experts) {
                let k = row.iter().filter(|&&gate| gate > 0.0).count();
                served += k as u64;
                prop_assert!(row.iter().all(|&gate| gate >= 0.0), "{:?}", settings);
                prop_assert!(k >= usize::from(expect.at_least_one), "{:?}", settings);
                let sum: f32 = row.iter().sum();
                let (least, most) = match expect.sum {
                    Sum::One => (k.min(1) as f32, 1.0),
                    Sum::AtMostOne => (0.0, 1.0),
                    Sum::AtMostK => (0.0, k as f32),
                };
                prop_assert!(sum >= least - 1e-5 && sum <= most + 1e-5, "{:?}: {}", settings, sum);
            }
            let run: u64 = usage.counts.iter().sum();
            let all_run = expect.runs_unused && phase != Phase::Eval;
            prop_assert!(if all_run { run >= served } else { run == served }, "{:?}", settings);
        }
    }
}

#[test]
fn balance_is_least_where_experts_are_used_evenly() {
    let weights = Weights { balance: 1.0, z: 0.0, entropy: 0.0 };
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
fn a_full_expert_drops_tokens_and_they_are_counted() {
    let full = OrAuto::Set(0.5);
    let switch = switch::Settings { capacity_factor: full };
    let gshard = gshard::Settings { capacity_factor: full };
    for (settings, k) in [(Settings::from(switch), 1), (Settings::from(gshard), 2)] {
        let layer: Moe<f64> = layer(&settings, 4);
        // The same token 16 times: all choose the same experts, which have room for floor(0.5 * 16 / 4) = 2.
        let x = arr::from_vec(&[16, 4], [1.0, -0.5, 0.3, 2.0].repeat(16));
        let (y, gates, usage, _) = forward(&layer, &x, Phase::Eval);
        assert_eq!((usage.counts.iter().sum::<u64>(), usage.dropped), (2 * k, 14 * k), "{settings:?}");
        assert_eq!((usage.k_counts[0], usage.k_counts[k as usize]), (14, 2), "{settings:?}");
        assert!(usage.counts.contains(&0), "{settings:?}: some expert has no token");
        // The first two are served, the others get nothing.
        assert!(arr::data(&y)[..8].iter().all(|&y| y != 0.0) && arr::data(&y)[8..].iter().all(|&y| y == 0.0));
        assert!(arr::data(&gates)[8..].iter().all(|&gate| gate == 0.0));
    }
}

#[test]
fn experts_choose_equally_many_tokens_and_may_leave_one_out() {
    let settings = expert_choice::Settings { capacity_factor: OrAuto::Set(1.0) }.into();
    let (_, _, usage, _) = forward(&layer::<f32>(&settings, 4), &tokens(22, 3), TRAIN);
    assert_eq!(usage.counts, [5; 4]);
    assert!(usage.k_counts[0] > 0, "{usage:?}");
    // One expert with a factor of 2 takes every token once.
    let one = expert_choice::Settings::default().into();
    assert_eq!(forward(&layer::<f32>(&one, 1), &tokens(22, 3), TRAIN).2.counts, [22]);
}

#[test]
fn a_second_expert_is_kept_by_chance_in_training_and_always_at_inference() {
    let settings = gshard::Settings { capacity_factor: OrAuto::Set(100.0) }.into();
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
