//! A run in progress: its network, its data, where it stands, and what it has written.

use std::time::Instant;

use super::metrics::{self, Best, EpochRecord, Line, Scores, StepRecord, Summary};
use super::run_folder::{MetricsFile, RunFolder};
use super::{Input, Progress, checkpoint, evaluate, step};
use crate::arr;
use crate::config::Config;
use crate::data::{Dataset, Standardize};
use crate::error::{Error, Result};
use crate::kernels::par;
use crate::kernels::random::{Purpose, Stream};
use crate::nn::{Init, Model, param};
use crate::optim::Optimizer;
use crate::optim::rate::Rate;

/// A run in progress.
pub struct Trainer<'a> {
    config: &'a Config,
    data: &'a Dataset,
    folder: &'a RunFolder,
    log: MetricsFile,
    model: Model<f32>,
    optimizer: Optimizer<f32>,
    standardize: Standardize,
    rate: Rate,
    progress: Progress,
    /// The order of this epoch's images.
    order: Vec<u32>,
}

impl<'a> Trainer<'a> {
    /// A run where its newest checkpoint left it, or before its first step if it has none.
    pub fn new(config: &'a Config, data: &'a Dataset, folder: &'a RunFolder) -> Result<Trainer<'a>> {
        let spec = config.spec(data.train.features(), data.classes);
        let mut model = Model::new(&spec, &mut Init::new(config.seed));
        let input = Input::of(data);
        let all_steps = steps_per_epoch(config, data) * config.epochs as u64;
        let rate = Rate {
            peak: config.lr,
            schedule: config.lr_schedule,
            warmup_steps: config.warmup_steps,
            total_steps: if config.max_steps > 0 { config.max_steps.min(all_steps) } else { all_steps },
        };
        let mut optimizer = Optimizer::new(config.optimizer_settings(), &mut model);
        let mut progress = Progress { init_digest: param::digest(&mut model), input, ..Progress::default() };
        let last = folder.last();
        if last.join(checkpoint::FILE).exists() {
            let saved = checkpoint::load(&last)?;
            if saved.config != *config {
                return Err(Error::data(
                    folder.path(),
                    "config.toml was edited after the training began; put it back",
                ));
            }
            if saved.progress.input != input {
                return Err(Error::data(folder.path(), "the data set is another than the run began with"));
            }
            saved.restore(&mut model, &last)?;
            saved.restore_optimizer(&mut model, &mut optimizer, &last)?;
            progress = saved.progress;
        }
        Ok(Trainer {
            log: folder.metrics(progress.step)?,
            standardize: input.standardize()?,
            optimizer,
            progress,
            order: Vec::new(),
            config,
            data,
            folder,
            model,
            rate,
        })
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.rate.total_steps
    }

    /// Whether the last step is taken.
    pub fn is_done(&self) -> bool {
        self.progress.step >= self.total_steps()
    }

    /// Whether the last step was the last of its epoch, or of the run.
    pub fn is_epoch_end(&self) -> bool {
        self.progress.step.is_multiple_of(steps_per_epoch(self.config, self.data)) || self.is_done()
    }

    /// Saves everything that going on needs.
    pub fn save(&mut self) -> Result<()> {
        self.log.flush()?;
        let Trainer { config, model, optimizer, progress, .. } = self;
        checkpoint::save(&self.folder.last(), config, model, Some(optimizer), progress)
    }

    /// One step on the next batch.
    pub fn step(&mut self) -> Result<StepRecord> {
        let start = Instant::now();
        let steps = steps_per_epoch(self.config, self.data);
        let (epoch, in_epoch) = (self.progress.step / steps, (self.progress.step % steps) as usize);
        if self.order.is_empty() || in_epoch == 0 {
            let stream = Stream::new(self.config.seed, Purpose::Shuffle, 0, epoch);
            self.order = stream.permutation(self.data.train.len());
        }
        let batch = self.config.batch;
        let part = &self.order[in_epoch * batch..((in_epoch + 1) * batch).min(self.order.len())];
        let seen = part.len();
        let x = evaluate::gather(&self.data.train, part, &self.standardize);
        let targets = evaluate::labels(&self.data.train, part);
        let lr = self.rate.at(self.progress.step);
        let Config { seed, clip_norm, .. } = *self.config;
        let result = match step(&mut self.model, &mut self.optimizer, x, targets.clone(), seed, lr, clip_norm)
        {
            Ok(result) => result,
            Err(error) => {
                self.log.flush()?;
                // A loss that is NaN was ruined by the step before: then the newest checkpoint is the good one.
                if !matches!(&error, Error::NonFinite { loss, .. } if !loss.is_finite()) {
                    self.save()?;
                }
                return Err(error);
            }
        };
        let progress = &mut self.progress;
        progress.step += 1;
        progress.epoch_loss += result.loss * seen as f64;
        progress.epoch_correct += evaluate::correct(&result.logits, &targets);
        progress.epoch_seen += seen;
        progress.seconds.train += start.elapsed().as_secs_f64();
        arr::recycle(result.logits);
        let (step, gradient_norm) = (progress.step, result.gradient_norm);
        let record = StepRecord { step, epoch: epoch as usize + 1, loss: result.loss, lr, gradient_norm };
        self.log.write(&Line::Step(record.clone()))?;
        Ok(record)
    }

    /// Evaluates, logs and saves at the end of an epoch.
    pub fn end_epoch(&mut self) -> Result<&EpochRecord> {
        let start = Instant::now();
        let (scores, layers) = evaluate::evaluate(&self.model, &self.data.test, &self.standardize)?;
        let progress = &mut self.progress;
        progress.seconds.eval += start.elapsed().as_secs_f64();
        let epoch = progress.step.div_ceil(steps_per_epoch(self.config, self.data)) as usize;
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
        self.log.write(&Line::Epoch(record.clone()))?;
        (progress.epoch_loss, progress.epoch_correct, progress.epoch_seen) = (0.0, 0, 0);
        progress.history.push(record);
        if scores.test_accuracy > progress.best.test_accuracy || progress.best.epoch == 0 {
            progress.best = Best { epoch, test_accuracy: scores.test_accuracy };
            checkpoint::save(&self.folder.best(), self.config, &mut self.model, None, progress)?;
        }
        self.save()?;
        Ok(&self.progress.history[self.progress.history.len() - 1])
    }

    /// Writes the plots and the summary after the last step.
    pub fn finish(mut self) -> Result<Summary> {
        let last_digest = param::digest(&mut self.model);
        let Trainer { config, data, progress, model, .. } = &self;
        let last = &progress.history[progress.history.len() - 1];
        // Whole epochs, and full batches of the one that was begun.
        let (steps, per_epoch) = (progress.step as usize, steps_per_epoch(config, data) as usize);
        let seen = steps / per_epoch * data.train.len() + steps % per_epoch * config.batch;
        let summary = Summary {
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
            digests: metrics::Digests { init: progress.init_digest.clone(), last: last_digest },
            seconds: progress.seconds,
            samples_per_second: seen as f64 / progress.seconds.train.max(1e-9),
            seed: config.seed,
            threads: par::threads(),
        };
        self.folder.finish(&summary, &progress.history, &self.log)?;
        Ok(summary)
    }
}

/// Steps that show every training image once; the last may have fewer.
fn steps_per_epoch(config: &Config, data: &Dataset) -> u64 {
    data.train.len().div_ceil(config.batch) as u64
}
