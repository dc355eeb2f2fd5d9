//! One training step: forward, backward, clipping, update.

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::kernels::{elem::Elem, reduce};
use crate::engine::tape::{Gradient, Gradients, Mode, Tape, Var};
use crate::engine::watch::{Part, Seen, Watch};
use crate::nn::head::Loss;
use crate::nn::moe::Dispatch;
use crate::nn::optim::{self, Optimizer};
use crate::nn::usage::Usage;
use crate::nn::{Feed, Model, Module, Phase};

/// The result of one step.
#[derive(Default)]
pub struct StepResult {
    /// Mean loss of the batch, without the routers' own losses.
    pub loss: f64,
    /// The routers' losses by name, weighted, each summed over the layers.
    pub losses: Vec<(&'static str, f64)>,
    /// Global norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Correct predictions.
    pub right: usize,
    /// How each layer used its experts.
    pub usage: Vec<Usage>,
}

/// One training step: forward, backward, clipping, update; one target for each row of the feed.
///
/// # Errors
/// [`Error::NonFinite`] if the loss or a gradient is NaN or infinite; the model is then unchanged.
pub fn step<F: Elem>(
    model: &mut Model<F>,
    optimizer: &mut Optimizer<F>,
    feed: impl Into<Feed<F>>,
    targets: Vec<u32>,
    seed: u64,
    rate: f64,
    clip_norm: f64,
) -> Result<StepResult> {
    watched_step(model, optimizer, vec![(feed.into(), targets)], Some(seed), rate, clip_norm, None)
}

/// [`step`] on several batches, whose gradients are summed as if they were one batch. `watch` is called with every array
/// in the order of execution; without a seed nothing is random.
///
/// # Errors
/// As [`step`].
pub fn watched_step<F: Elem>(
    model: &mut Model<F>,
    optimizer: &mut Optimizer<F>,
    batches: Vec<(Feed<F>, Vec<u32>)>,
    seed: Option<u64>,
    rate: f64,
    clip_norm: f64,
    watch: Option<Watch<F>>,
) -> Result<StepResult> {
    let step = optimizer.steps;
    let count: usize = batches.iter().map(|(_, targets)| targets.len()).sum();
    let mut sum: Option<Gradients<F>> = None;
    let mut found = StepResult::default();
    for (part, (feed, targets)) in batches.into_iter().enumerate() {
        let tape = Tape::watched(Mode::Train, watch.clone());
        // Each batch of a step has its own random numbers.
        let seed = seed.map(|seed| seed ^ ((part as u64) << 44));
        let (h, dispatch) = model.hidden(&tape, &feed, Phase::Train { seed, step })?;
        let Loss { mean: loss, right } = model.loss(h, &targets)?;
        let (total, losses) = with_routers(loss, &dispatch);
        let share = targets.len() as f64 / count as f64;
        let gradients = tape.backward_from(total, arr::full(&total.shape(), F::of(share)));
        let sum = match &mut sum {
            None => sum.insert(gradients),
            Some(sum) => {
                sum.accumulate(gradients);
                sum
            }
        };
        found.gradient_norm = optim::global_norm(model, sum)?;
        let total_value = total.item().f64();
        if !total_value.is_finite() || !found.gradient_norm.is_finite() {
            let culprit = tape.first_non_finite(total).unwrap_or_else(|| "the norm of the gradients".into());
            let parameter =
                first_bad(model, sum).map_or(String::new(), |name| format!("; first bad gradient: {name}"));
            let what = format!("loss {total_value}, first NaN or infinity in {culprit}{parameter}");
            return Err(Error::NonFinite { step: step + 1, loss: total_value, what });
        }
        found.add(share, loss.item().f64(), losses, right, &dispatch);
        // The tape holds the parameters too; without it the optimizer can write in place.
    }
    let gradients = sum.expect("a step has at least one batch");
    let norm = found.gradient_norm;
    let clip = if clip_norm > 0.0 && norm > clip_norm { clip_norm / norm } else { 1.0 };
    optimizer.step_scaled(model, &gradients, rate, clip)?;
    if let Some(watch) = watch {
        watch.borrow_mut()(Seen::GradientNorm, &mut arr::full(&[], F::of(norm)));
        show_update(model, optimizer, &mut *watch.borrow_mut());
    }
    model.absorb(&found.usage);
    Ok(found)
}

impl StepResult {
    /// Adds the result of one batch, which has this share of the step's targets.
    fn add<F: Elem>(
        &mut self,
        share: f64,
        loss: f64,
        losses: Vec<(&'static str, f64)>,
        right: usize,
        dispatch: &[Dispatch<F>],
    ) {
        self.loss += share * loss;
        self.right += right;
        self.losses.resize(losses.len(), ("", 0.0));
        for (sum, (name, loss)) in self.losses.iter_mut().zip(losses) {
            *sum = (name, sum.1 + share * loss);
        }
        self.usage.resize(dispatch.len(), Usage::default());
        self.usage.iter_mut().zip(dispatch).for_each(|(sum, layer)| sum.add(&layer.usage));
    }
}

/// The task's loss and those of all layers' routers together; and the latter by name, in order of appearance.
fn with_routers<'t, F: Elem>(
    task: Var<'t, F>,
    dispatch: &[Dispatch<'t, F>],
) -> (Var<'t, F>, Vec<(&'static str, f64)>) {
    let (mut total, mut by_name) = (task, Vec::<(&str, f64)>::new());
    for &(name, loss) in dispatch.iter().flat_map(|layer| &layer.losses) {
        total = total.add(loss);
        let value = loss.item().f64();
        match by_name.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => by_name.push((name, value)),
        }
    }
    (total, by_name)
}

/// Calls `watch` with every parameter and its moments after the update.
fn show_update<F: Elem>(
    model: &mut Model<F>,
    optimizer: &mut Optimizer<F>,
    watch: &mut dyn FnMut(Seen, &mut Arr<F>),
) {
    let Optimizer { first, second, .. } = optimizer;
    for (i, (_, param)) in model.parameters_mut().into_iter().enumerate() {
        let parameter = param.id();
        let mut show = |part, array| watch(Seen::Update { parameter, part }, array);
        // In the order in which they are computed: the value from the moments.
        show(Part::First, &mut first[i]);
        second.get_mut(i).into_iter().for_each(|second| show(Part::Second, second));
        show(Part::Value, &mut param.value);
    }
}

/// The first parameter with a gradient that is NaN or infinite.
fn first_bad<F: Elem>(model: &Model<F>, gradients: &Gradients<F>) -> Option<String> {
    let bad = |gradient: Gradient<F>| reduce::first_non_finite(arr::data(gradient.values)).is_some();
    let mut parameters = model.parameters().into_iter();
    parameters.find(|(_, p)| gradients.parameter(p.id()).is_some_and(bad)).map(|(name, _)| name)
}
