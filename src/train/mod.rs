//! The training loop: batches, steps, evaluation, checkpoints, and the run folder.

pub mod checkpoint;
pub mod evaluate;
pub mod metrics;
pub mod plots;
pub mod run_folder;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::arr::{self, Arr};
use crate::config::Config;
use crate::data::{Dataset, Images, Standardize};
use crate::error::{Error, Result};
use crate::kernels::random::{Purpose, Stream};
use crate::kernels::{elem::Elem, par, reduce};
use crate::nn::moe::Usage;
use crate::nn::param::{self, Init, for_each_param};
use crate::nn::{Model, Phase};
use crate::ops::fused::softmax_cross_entropy::SoftmaxCrossEntropy;
use crate::optim::rate::Rate;
use crate::optim::{self, Optimizer};
use crate::tape::{Mode, Tape};
use metrics::{Best, EpochRecord, Line, Scores, Seconds, StepRecord, Summary};
use run_folder::RunFolder;

/// What a network's images look like, kept with its parameters so that it can judge one without the data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Values per position.
    pub channels: usize,
    /// The value of a full pixel.
    pub scale: f32,
    /// Classes to tell apart.
    pub classes: usize,
    /// Mean of the training pixels.
    pub mean: f32,
    /// Standard deviation of the training pixels.
    pub std: f32,
}

impl Input {
    fn of(data: &Dataset) -> Input {
        let standardize = Standardize::fit(&data.train);
        let Images { height, width, channels, scale, .. } = data.train;
        let (mean, std) = (standardize.mean(), standardize.std());
        Input { height, width, channels, scale, classes: data.classes, mean, std }
    }

    /// Whether these can be images at all; a damaged checkpoint may say anything.
    pub fn is_possible(&self) -> bool {
        let sane = |n: usize| (1..=1 << 12).contains(&n);
        sane(self.height) && sane(self.width) && (1..=16).contains(&self.channels) && sane(self.classes)
    }

    /// Numbers in an image.
    pub fn features(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// From pixels to the numbers the network takes.
    ///
    /// # Errors
    /// Impossible values, from a damaged file.
    pub fn standardize(&self) -> Result<Standardize> {
        Standardize::new(self.mean, self.std, self.scale)
    }
}

/// Where a run stands; with the parameters and the optimiser's memory it is all that going on needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Sum of the losses of this epoch's steps, each times its images.
    pub epoch_loss: f64,
    /// Training images put in the right class in this epoch.
    pub epoch_correct: usize,
    /// Training images seen in this epoch.
    pub epoch_seen: usize,
    /// The best epoch so far.
    pub best: Best,
    /// The finished epochs.
    pub history: Vec<EpochRecord>,
    /// Wall-clock time so far.
    pub seconds: Seconds,
    /// Digest of the initial parameters.
    pub init_digest: String,
    /// What the images look like.
    pub input: Input,
}

/// What one step found.
pub struct StepResult<E: Elem> {
    /// Mean loss of the batch.
    pub loss: f64,
    /// Global norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Logits of the batch, (T, classes).
    pub logits: Arr<E>,
    /// How each layer used its experts.
    pub usage: Vec<Usage>,
}

/// One training step: forward, backward, clipping, update. `x` (T, inputs), one target each.
///
/// # Errors
/// [`Error::NonFinite`] if the loss or a gradient is NaN or infinite; the model is then unchanged.
pub fn step<E: Elem>(
    model: &mut Model<E>,
    optimizer: &mut Optimizer<E>,
    x: Arr<E>,
    targets: Vec<u32>,
    seed: u64,
    rate: f64,
    clip_norm: f64,
) -> Result<StepResult<E>> {
    let step = optimizer.steps;
    let tape = Tape::new(Mode::Train);
    let (logits, usage) = model.forward(tape.constant(x), Phase::Train { seed, step })?;
    let loss = tape.apply(SoftmaxCrossEntropy { targets: targets.into() }, [logits])?;
    let gradients = optim::collect(model, &mut tape.backward(loss)?)?;
    let gradient_norm = optim::global_norm(&gradients);
    let (loss_value, logits) = (loss.item().f64(), logits.value());
    if !loss_value.is_finite() || !gradient_norm.is_finite() {
        let culprit = tape.first_non_finite(loss).unwrap_or_else(|| "the norm of the gradients".into());
        let parameter = first_bad(model, &gradients)
            .map_or(String::new(), |name| format!("; first bad gradient: {name}"));
        let what = format!("loss {loss_value}, first NaN or infinity in {culprit}{parameter}");
        return Err(Error::NonFinite { step: step + 1, loss: loss_value, what });
    }
    // The tape holds the parameters too; without it the optimiser can write in place.
    drop(tape);
    let clip = if clip_norm > 0.0 && gradient_norm > clip_norm { clip_norm / gradient_norm } else { 1.0 };
    optimizer.step(model, &gradients, rate, clip);
    gradients.into_iter().for_each(arr::recycle);
    model.absorb(&usage);
    Ok(StepResult { loss: loss_value, gradient_norm, logits, usage })
}

/// The first parameter with a gradient that is NaN or infinite.
fn first_bad<E: Elem>(model: &mut Model<E>, gradients: &[Arr<E>]) -> Option<String> {
    let mut found = None;
    let mut gradients = gradients.iter();
    for_each_param(model, |name, _| {
        let gradient = gradients.next().expect("one gradient per parameter");
        if found.is_none() && reduce::first_non_finite(arr::data(gradient)).is_some() {
            found = Some(name.to_string());
        }
    });
    found
}

/// What the caller of [`train`] sees and steers.
pub struct Watch<'a> {
    /// Called after every step with the record, the epoch's steps and all steps.
    pub on_step: &'a mut dyn FnMut(&StepRecord, u64),
    /// Called after every epoch.
    pub on_epoch: &'a mut dyn FnMut(&EpochRecord),
    /// Set from outside (Ctrl-C) to save and stop.
    pub stop: &'a AtomicBool,
}

/// Trains a network from scratch and leaves everything in `folder`.
///
/// # Errors
/// NaN or infinity (after the last good state was saved), a full disk, [`Error::Interrupted`] (after saving).
pub fn train(config: &Config, data: &Dataset, folder: &RunFolder, watch: &mut Watch) -> Result<Summary> {
    let spec = config.spec(data.train.features(), data.classes);
    let mut model = Model::<f32>::new(&spec, &mut Init::new(config.seed));
    let mut optimizer = Optimizer::new(config.optimizer_settings(), &mut model);
    let input = Input::of(data);
    let standardize = input.standardize()?;
    let mut progress = Progress { init_digest: param::digest(&mut model), input, ..Progress::default() };
    let mut log = folder.metrics()?;
    // From here on there is always a good state to fall back on.
    checkpoint::save(&folder.last(), config, &mut model, Some(&optimizer), &progress)?;

    let steps_per_epoch = data.train.len().div_ceil(config.batch) as u64;
    let all_steps = steps_per_epoch * config.epochs as u64;
    let total_steps = if config.max_steps > 0 { config.max_steps.min(all_steps) } else { all_steps };
    let rate = Rate {
        peak: config.lr,
        schedule: config.lr_schedule,
        warmup_steps: config.warmup_steps,
        total_steps,
    };
    let mut order = Vec::new();
    while progress.step < total_steps {
        let (epoch, in_epoch) = (progress.step / steps_per_epoch, (progress.step % steps_per_epoch) as usize);
        if order.is_empty() || in_epoch == 0 {
            order = Stream::new(config.seed, Purpose::Shuffle, 0, epoch).permutation(data.train.len());
        }
        let start = Instant::now();
        let part = &order[in_epoch * config.batch..((in_epoch + 1) * config.batch).min(order.len())];
        let x = evaluate::gather(&data.train, part, &standardize);
        let targets = evaluate::labels(&data.train, part);
        let lr = rate.at(progress.step);
        let result = step(&mut model, &mut optimizer, x, targets.clone(), config.seed, lr, config.clip_norm);
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                log.flush()?;
                // A loss that is NaN was ruined by the step before: then the newest checkpoint is the good one.
                if !matches!(&error, Error::NonFinite { loss, .. } if !loss.is_finite()) {
                    checkpoint::save(&folder.last(), config, &mut model, Some(&optimizer), &progress)?;
                }
                return Err(error);
            }
        };
        progress.step += 1;
        progress.epoch_loss += result.loss * part.len() as f64;
        progress.epoch_correct += evaluate::correct(&result.logits, &targets);
        progress.epoch_seen += part.len();
        arr::recycle(result.logits);
        let epoch = epoch as usize + 1;
        let record = StepRecord {
            step: progress.step,
            epoch,
            loss: result.loss,
            lr,
            gradient_norm: result.gradient_norm,
        };
        progress.seconds.train += start.elapsed().as_secs_f64();
        (watch.on_step)(&record, total_steps);
        log.write(&Line::Step(record))?;

        if progress.step.is_multiple_of(steps_per_epoch) || progress.step == total_steps {
            let start = Instant::now();
            let (scores, layers) = evaluate::evaluate(&model, &data.test, &standardize)?;
            progress.seconds.eval += start.elapsed().as_secs_f64();
            let seen = progress.epoch_seen as f64;
            let record = EpochRecord {
                epoch,
                step: progress.step,
                train_loss: progress.epoch_loss / seen,
                train_accuracy: progress.epoch_correct as f64 / seen,
                test_loss: scores.test_loss,
                test_accuracy: scores.test_accuracy,
                layers,
            };
            (progress.epoch_loss, progress.epoch_correct, progress.epoch_seen) = (0.0, 0, 0);
            (watch.on_epoch)(&record);
            log.write(&Line::Epoch(record.clone()))?;
            log.flush()?;
            progress.history.push(record);
            if scores.test_accuracy > progress.best.test_accuracy || progress.best.epoch == 0 {
                progress.best = Best { epoch, test_accuracy: scores.test_accuracy };
                checkpoint::save(&folder.best(), config, &mut model, None, &progress)?;
            }
            checkpoint::save(&folder.last(), config, &mut model, Some(&optimizer), &progress)?;
        }
        if watch.stop.load(Ordering::Relaxed) && progress.step < total_steps {
            log.flush()?;
            checkpoint::save(&folder.last(), config, &mut model, Some(&optimizer), &progress)?;
            return Err(Error::Interrupted { saved: folder.last() });
        }
    }
    let summary = summarise(config, data, &mut model, &progress);
    folder.finish(&summary, &progress.history, &log)?;
    Ok(summary)
}

fn summarise(config: &Config, data: &Dataset, model: &mut Model<f32>, progress: &Progress) -> Summary {
    let last = progress.history.last().expect("the last step ends with an evaluation");
    let seen: u64 = progress.step * config.batch as u64;
    Summary {
        schema_version: 1,
        dataset: metrics::DatasetSummary {
            name: data.name.to_string(),
            train: data.train.len(),
            test: data.test.len(),
            digest: data.digest(),
        },
        model: metrics::ModelSummary::new(model.spec(), &metrics::mean_active(&last.layers)),
        last: Scores { test_accuracy: last.test_accuracy, test_loss: last.test_loss },
        best: progress.best,
        epochs_to_95: metrics::epochs_to_95(&progress.history),
        epochs: last.epoch,
        steps: progress.step,
        layers: last.layers.clone(),
        digests: metrics::Digests { init: progress.init_digest.clone(), last: param::digest(model) },
        seconds: progress.seconds,
        samples_per_second: seen as f64 / progress.seconds.train.max(1e-9),
        seed: config.seed,
        threads: par::threads(),
    }
}
