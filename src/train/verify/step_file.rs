//! One training step as a safetensors file, to compare this engine with others.
//!
//! | name | shape | what |
//! |---|---|---|
//! | `inputs`, `targets` | (T, inputs), (T) | the batch of images, standardized, and their classes |
//! | `inputs`, `starts`, `targets` | (T), (S + 1), (T) | or of text: tokens, where sequences begin and the last ends, the tokens that follow |
//! | `steps` | () | steps taken before |
//! | a name as in checkpoints | | parameters, `optimizer.first.` and `optimizer.second.` moments, before the step |
//! | `state.` and a name | () | running statistics such as thresholds, before the step, f64 |
//! | `outputs`, `loss` | (T, classes), () | logits (of images), and their mean cross-entropy |
//! | `router_losses.` and a name | () | what the routers add to the loss, weighted |
//! | `routing.L.chosen`, `routing.L.weights` | (T, E) | layer L's experts for each token, and their weights |
//! | `gradients.` and a name | | the gradient of `loss` and all `router_losses` together |
//! | `after.` and a name | | the parameter after the optimizer's step |

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use serde::Serialize;

use crate::data::Batch;
use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::tape::{Mode, Tape};
use crate::engine::tensors::{self, Tensor};
use crate::engine::watch::{Place, Seen};
use crate::nn::embedding::rows_of;
use crate::nn::{Feed, Phase, Tokens};
use crate::nn::{ItemMut, Module};
use crate::train::state::moment;
use crate::train::{Learner, State};

const INPUTS: &str = "inputs";
const TARGETS: &str = "targets";
/// What a step adds to the file; ignored when such a file is read again.
const RESULTS: [&str; 6] = ["outputs", "loss", "router_losses.", "routing.", "gradients.", "after."];
const STARTS: &str = "starts";
const STEPS: &str = "steps";
const STATE: &str = "state.";

/// The file's header.
#[derive(Serialize)]
struct Header<'a> {
    config: &'a crate::train::config::Config,
    /// Counted from 1.
    step: u64,
    /// The learning rate.
    rate: f64,
    /// The global norm of the gradients before clipping.
    gradient_norm: f64,
}

/// What was read from a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many parameters.
    pub parameters: usize,
    /// Of how many.
    pub of: usize,
    /// Whether it had inputs and targets.
    pub batch: bool,
}

/// Reads parameters, moments, running statistics and the step count from a file into `learner`, and the batch, if there
/// is one. What the file does not have is kept; the results of a step are ignored.
///
/// # Errors
/// A damaged file, unknown names, arrays of another shape, targets out of range.
pub fn take(learner: &mut Learner, path: &Path) -> Result<(Taken, Option<Batch>)> {
    let tensors::Content { mut tensors, .. } = tensors::read(path, "step file")?;
    let bad = |what: String| Error::data(path, what);
    let numbers = |name: &str, tensor: &Tensor| {
        let array =
            tensor.to_f32().ok_or_else(|| bad(format!("{name} holds {:?}, not F32", tensor.dtype)))?;
        match arr::data(&array).iter().position(|v| !v.is_finite()) {
            Some(at) => Err(bad(format!("{name} has a number that is not finite, at {at}"))),
            None => Ok(array),
        }
    };
    let shaped = |name: &str, tensor: &Tensor, must: &[usize]| {
        let array = numbers(name, tensor)?;
        let is = array.shape();
        if is == must { Ok(array) } else { Err(bad(format!("{name} is {is:?}; this network has {must:?}"))) }
    };
    let (mut taken, mut problem, mut names) = (Taken::default(), None, Vec::new());
    for (name, item) in learner.model.items_mut() {
        let found = match item {
            ItemMut::Param(param) => {
                names.push(name.clone());
                let Some(tensor) = tensors.remove(&name) else { continue };
                taken.parameters += 1;
                shaped(&name, &tensor, param.value.shape()).map(|array| param.value = array)
            }
            ItemMut::Buffer(state) => {
                let name = format!("{STATE}{name}");
                let Some(tensor) = tensors.remove(&name) else { continue };
                let number = tensor.to_number().ok_or_else(|| bad(format!("{name} must be one F64")));
                number.map(|number| *state = number)
            }
        };
        problem = problem.take().or(found.err());
    }
    taken.of = names.len();
    let optimizer = &mut learner.optimizer;
    for (which, moments) in [("first", &mut optimizer.first), ("second", &mut optimizer.second)] {
        for (name, value) in names.iter().zip(moments) {
            let name = moment(which, name);
            let Some(tensor) = tensors.remove(&name) else { continue };
            match shaped(&name, &tensor, value.shape()) {
                Ok(array) => *value = array,
                Err(error) => problem = problem.take().or(Some(error)),
            }
        }
    }
    if let Some(tensor) = tensors.remove(STEPS) {
        match tensor.to_i64().as_deref() {
            Some(&[steps]) if steps >= 0 => optimizer.steps = steps as u64,
            _ => problem = problem.take().or(Some(bad(format!("{STEPS} must be one I64, 0 or more")))),
        }
    }
    problem.map_or(Ok(()), Err)?;
    let spec = learner.model.spec();
    let whole = |name: &str, tensor: &Tensor, most: usize| -> Result<Vec<u32>> {
        let all = tensor.to_i64().ok_or_else(|| bad(format!("{name} must hold I64")))?;
        let fits = |&n: &i64| u32::try_from(n).ok().filter(|&n| n as usize <= most);
        let all: Option<Vec<u32>> = all.iter().map(fits).collect();
        let all = all.ok_or_else(|| bad(format!("{name} must be from 0 to {most}")))?;
        match all.is_empty() || tensor.shape.len() != 1 {
            true => Err(bad(format!("{name} is {:?}; it must be (T), at least one", tensor.shape))),
            false => Ok(all),
        }
    };
    let batch = match (tensors.remove(INPUTS), tensors.remove(TARGETS)) {
        (None, None) => None,
        (Some(inputs), Some(targets)) => {
            let targets = whole(TARGETS, &targets, spec.classes - 1)?;
            let count = targets.len();
            let fits = |is: &[usize], must: &[usize]| match is == must {
                true => Ok(()),
                false => Err(bad(format!("{INPUTS} is {is:?}; {count} targets need {must:?}"))),
            };
            let feed = if spec.text.is_some() {
                let ids = whole(INPUTS, &inputs, spec.classes - 1)?;
                fits(&[ids.len()], &[count])?;
                let starts =
                    tensors.remove(STARTS).map(|starts| whole(STARTS, &starts, count)).transpose()?;
                let starts = starts.unwrap_or_else(|| vec![0, count as u32]);
                let rise = starts.windows(2).all(|pair| pair[0] < pair[1]);
                if !rise || starts[0] != 0 || starts[starts.len() - 1] as usize != count {
                    return Err(bad(format!("{STARTS} must rise from 0 to the number of tokens, {count}")));
                }
                let starts = starts.into_iter().map(|start| start as usize).collect();
                Feed::Tokens(Tokens { ids: ids.into(), starts })
            } else {
                let images = numbers(INPUTS, &inputs)?;
                fits(images.shape(), &[count, spec.inputs])?;
                Feed::Rows(images)
            };
            Some((feed, targets))
        }
        _ => return Err(bad(format!("has only one of {INPUTS} and {TARGETS}"))),
    };
    taken.batch = batch.is_some();
    tensors.retain(|name, _| {
        !RESULTS.iter().any(|known| name == known || (known.ends_with('.') && name.starts_with(known)))
    });
    match tensors.keys().next() {
        Some(name) => {
            Err(bad(format!("{name} is neither {INPUTS}, {TARGETS} nor part of this network's state")))
        }
        None => Ok((taken, batch)),
    }
}

/// Takes one step on `batch`, or on the next batch of the data, and writes it to a file.
///
/// # Errors
/// NaN or infinity in the step, and the system's, with the path.
pub fn write(learner: &mut Learner, batch: Option<Batch>, path: &Path) -> Result<()> {
    let (feed, targets) = match batch {
        Some(batch) => batch,
        None => <[Batch; 1]>::try_from(learner.next_batches()).map(|[batch]| batch).map_err(|batches| {
            let what = format!("a step file holds one batch, not {}; set it to 1", batches.len());
            Error::config("accumulate", what)
        })?,
    };
    let ids = |ids: &[u32]| Tensor::i64(&[ids.len()], ids.iter().map(|&id| id.into()));
    let mut tensors = match &feed {
        Feed::Rows(images) => vec![(INPUTS.to_string(), Tensor::f32(images))],
        Feed::Tokens(tokens) => {
            let starts = tokens.starts.iter().map(|&start| start as i64);
            let starts = Tensor::i64(&[tokens.starts.len()], starts);
            vec![(INPUTS.to_string(), ids(&tokens.ids)), (STARTS.to_string(), starts)]
        }
    };
    tensors.extend([
        (TARGETS.to_string(), ids(&targets)),
        (STEPS.to_string(), Tensor::i64(&[], [learner.steps() as i64].into_iter())),
    ]);
    let State { tensors: arrays, numbers } = learner.state();
    tensors.extend(arrays.into_iter().map(|(name, array)| (name, Tensor::f32(&array))));
    tensors.extend(numbers.into_iter().map(|(name, v)| (format!("{STATE}{name}"), Tensor::number(v))));
    routing(learner, &feed, &mut tensors)?;

    // The last gradient shown for a parameter is the whole of it; the linear head's value is the logits.
    let gradients = Rc::new(RefCell::new(HashMap::new()));
    let outputs = Rc::new(RefCell::new(None));
    let watch = {
        let (gradients, outputs) = (Rc::clone(&gradients), Rc::clone(&outputs));
        move |seen: Seen, array: &mut Arr<f32>| match seen {
            Seen::Gradient { parameter: Some(id), .. } => {
                gradients.borrow_mut().insert(id, array.clone());
            }
            Seen::Value { place: Place("head", _), op: "linear", .. } => {
                *outputs.borrow_mut() = Some(array.clone())
            }
            _ => {}
        }
    };
    let rows = match &feed {
        Feed::Rows(_) => Vec::new(),
        Feed::Tokens(tokens) => rows_of(&tokens.ids),
    };
    let taken = learner.step_on(vec![(feed, targets)], Some(Rc::new(RefCell::new(watch))))?;
    let loss = arr::full(&[], taken.result.loss as f32);
    tensors.extend(outputs.take().map(|logits| ("outputs".to_string(), Tensor::f32(&logits))));
    tensors.push(("loss".to_string(), Tensor::f32(&loss)));
    let losses = taken.result.losses.iter();
    tensors.extend(
        losses.map(|(name, loss)| {
            (format!("router_losses.{name}"), Tensor::f32(&arr::full(&[], *loss as f32)))
        }),
    );
    let gradients = gradients.take();
    for (name, param) in learner.model.parameters() {
        let Some(gradient) = gradients.get(&param.id()) else { continue };
        // An embedding's has only the rows of the batch.
        let whole = match gradient.shape() == param.value.shape() {
            true => gradient.clone(),
            false => spread(gradient, &rows, param.value.shape()),
        };
        tensors.push((format!("gradients.{name}"), Tensor::f32(&whole)));
    }
    for (name, param) in learner.model.parameters() {
        tensors.push((format!("after.{name}"), Tensor::f32(&param.value)));
    }
    let header = Header {
        config: learner.config(),
        step: learner.steps(),
        rate: taken.rate,
        gradient_norm: taken.result.gradient_norm,
    };
    tensors::write(path, &tensors, serde_json::to_string(&header).expect("plain data"))
}

/// Zeros of this shape with `some` in these rows.
fn spread(some: &Arr<f32>, rows: &[u32], shape: &[usize]) -> Arr<f32> {
    let (mut whole, width) = (arr::zeros(shape), shape[1..].iter().product::<usize>());
    for (row, some) in rows.iter().zip(arr::data(some).chunks_exact(width)) {
        arr::data_mut(&mut whole)[*row as usize * width..][..width].copy_from_slice(some);
    }
    whole
}

/// The experts of each token in the next step, and their weights.
fn routing(learner: &Learner, feed: &Feed<f32>, tensors: &mut Vec<(String, Tensor)>) -> Result<()> {
    let tape = Tape::new(Mode::Infer);
    let phase = Phase::Train { seed: learner.seed(), step: learner.steps() };
    let (_, layers) = learner.model.hidden(&tape, feed, phase)?;
    for (l, layer) in layers.iter().enumerate() {
        let (weights, routes) = (layer.gates.value(), &layer.routes);
        let mut chosen = vec![false; weights.len()];
        for expert in 0..routes.experts() {
            routes.slots(expert).for_each(|slot| {
                chosen[routes.tokens[slot] as usize * routes.experts() + expert] = true;
            });
        }
        let chosen = Tensor::bool(weights.shape(), chosen.into_iter());
        tensors.push((format!("routing.{l}.chosen"), chosen));
        tensors.push((format!("routing.{l}.weights"), Tensor::f32(&weights)));
    }
    Ok(())
}
