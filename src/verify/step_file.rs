//! One training step as a safetensors file: for comparing this engine with any other, either way.
//!
//! | name | shape | what |
//! |---|---|---|
//! | `inputs`, `targets` | (T, inputs), (T) | the batch, standardised, and its classes |
//! | a parameter's name | | its value before the step |
//! | `outputs`, `loss` | (T, classes), () | logits, and their mean cross-entropy |
//! | `routing.L.chosen`, `routing.L.weights` | (T, E) | layer L's experts for each token, and their weights |
//! | `gradients.` and a name | | the loss's gradient |
//! | `after.` and a name | | the parameter after the optimiser's step |

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use serde::Serialize;

use crate::arr::{self, Arr};
use crate::error::{Error, Result};
use crate::nn::Phase;
use crate::nn::param::for_each_param;
use crate::tape::{Mode, Tape};
use crate::tensors::{self, Tensor};
use crate::train::Learner;
use crate::train::learner::Batch;
use crate::watch::Seen;

const INPUTS: &str = "inputs";
const TARGETS: &str = "targets";
/// What a step adds to the file; ignored when such a file is read again.
const RESULTS: [&str; 5] = ["outputs", "loss", "routing.", "gradients.", "after."];

/// What stands beside the arrays.
#[derive(Serialize)]
struct Header<'a> {
    config: &'a crate::config::Config,
    /// Counted from 1.
    step: u64,
    /// The learning rate.
    rate: f64,
    /// The global norm of the gradients before clipping.
    gradient_norm: f64,
}

/// What was taken from a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many parameters.
    pub parameters: usize,
    /// Whether it had inputs and targets.
    pub batch: bool,
}

/// Takes parameters from a file into `learner`, and the batch, if there is one. What the file does not have
/// stays; the results of a step are passed over.
///
/// # Errors
/// A damaged file, unknown names, arrays of another shape, targets that are no classes.
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
    let (mut taken, mut problem) = (Taken::default(), None);
    for_each_param(&mut learner.model, |name, param| {
        let Some(tensor) = tensors.remove(name) else { return };
        let fits = numbers(name, &tensor).and_then(|array| {
            let (is, must) = (array.shape().to_vec(), param.value.shape());
            if is == must {
                Ok(array)
            } else {
                Err(bad(format!("{name} is {is:?}; this network has {must:?}")))
            }
        });
        match fits {
            Ok(array) => (param.value, taken.parameters) = (array, taken.parameters + 1),
            Err(error) => problem = problem.take().or(Some(error)),
        }
    });
    problem.map_or(Ok(()), Err)?;
    let spec = learner.model.spec();
    let batch = match (tensors.remove(INPUTS), tensors.remove(TARGETS)) {
        (None, None) => None,
        (Some(inputs), Some(targets)) => {
            let images = numbers(INPUTS, &inputs)?;
            let classes = targets.to_i64().ok_or_else(|| bad(format!("{TARGETS} must hold I64")))?;
            let fits = |&class: &i64| u32::try_from(class).ok().filter(|&c| (c as usize) < spec.classes);
            let classes: Option<Vec<u32>> = classes.iter().map(fits).collect();
            let classes = classes
                .ok_or_else(|| bad(format!("{TARGETS} must be classes from 0 to {}", spec.classes - 1)))?;
            if images.shape() != [classes.len(), spec.inputs] || classes.is_empty() {
                let (is, inputs) = (images.shape(), spec.inputs);
                return Err(bad(format!(
                    "{INPUTS} is {is:?}; {} targets need [{0}, {inputs}]",
                    classes.len()
                )));
            }
            Some((images, classes))
        }
        _ => return Err(bad(format!("has only one of {INPUTS} and {TARGETS}"))),
    };
    taken.batch = batch.is_some();
    tensors.retain(|name, _| {
        !RESULTS.iter().any(|known| name == known || (known.ends_with('.') && name.starts_with(known)))
    });
    match tensors.keys().next() {
        Some(name) => Err(bad(format!("{name} is no parameter of this network, nor {INPUTS} or {TARGETS}"))),
        None => Ok((taken, batch)),
    }
}

/// Takes one step on `batch`, or on the next batch of the data, and writes all of it down.
///
/// # Errors
/// NaN or infinity in the step, and the system's, with the path.
pub fn write(learner: &mut Learner, batch: Option<Batch>, path: &Path) -> Result<()> {
    let (images, targets) = batch.unwrap_or_else(|| learner.next_batch());
    let mut tensors = vec![
        (INPUTS.to_string(), Tensor::f32(&images)),
        (TARGETS.to_string(), Tensor::i64(&[targets.len()], targets.iter().map(|&class| class.into()))),
    ];
    let mut names = Vec::new();
    for_each_param(&mut learner.model, |name, param| {
        names.push(name.to_string());
        tensors.push((name.to_string(), Tensor::f32(&param.value)));
    });
    routing(learner, &images, &mut tensors)?;

    // The last gradient shown for a parameter is the whole of it.
    let gradients = Rc::new(RefCell::new(vec![None; names.len()]));
    let watch = {
        let gradients = Rc::clone(&gradients);
        move |seen: Seen, array: &mut Arr<f32>| {
            if let Seen::Gradient { parameter: Some(slot), .. } = seen {
                gradients.borrow_mut()[slot] = Some(array.clone());
            }
        }
    };
    let taken = learner.step_on((images, targets), Some(Rc::new(RefCell::new(watch))))?;
    let loss = arr::full(&[], taken.result.loss as f32);
    tensors.push(("outputs".to_string(), Tensor::f32(&taken.result.logits)));
    tensors.push(("loss".to_string(), Tensor::f32(&loss)));
    let gradients = gradients.take();
    tensors.extend(
        names.iter().zip(&gradients).filter_map(|(name, gradient)| {
            Some((format!("gradients.{name}"), Tensor::f32(gradient.as_ref()?)))
        }),
    );
    for_each_param(&mut learner.model, |name, param| {
        tensors.push((format!("after.{name}"), Tensor::f32(&param.value)));
    });
    let header = Header {
        config: learner.config(),
        step: learner.steps(),
        rate: taken.rate,
        gradient_norm: taken.result.gradient_norm,
    };
    tensors::write(path, &tensors, serde_json::to_string(&header).expect("plain data"))
}

/// Which experts each token goes to in the step to come, and with what weights.
fn routing(learner: &Learner, images: &Arr<f32>, tensors: &mut Vec<(String, Tensor)>) -> Result<()> {
    let tape = Tape::new(Mode::Infer);
    let phase = Phase::Train { seed: learner.seed(), step: learner.steps() };
    let (_, layers) = learner.model.forward(tape.constant(images.clone()), phase)?;
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
