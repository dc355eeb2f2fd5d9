//! A training without its files: network, optimiser, and the batch that comes next.

use super::Input;
use super::examples::{Batch, Examples};
use super::state::State;
use super::step::{StepResult, watched_step};
use crate::config::Config;
use crate::data::{Dataset, Standardize};
use crate::error::Result;
use crate::kernels::random::{Purpose, Stream};
use crate::nn::{Init, Model};
use crate::optim::Optimizer;
use crate::optim::rate::Rate;
use crate::watch::Watch;

/// A training in progress. What its next step does is a function of the configuration, the data and
/// [`Learner::state`]. A clone is cheap: arrays are shared until one of the two changes them.
#[derive(Clone)]
pub struct Learner<'a> {
    config: &'a Config,
    data: &'a Dataset,
    /// The network.
    pub model: Model<f32>,
    /// The optimiser, which also counts the steps.
    pub optimizer: Optimizer<f32>,
    /// From pixels to the numbers the network takes.
    pub standardize: Standardize,
    rate: Rate,
    /// The order of this epoch's images.
    order: Vec<u32>,
    /// Leave out everything random in the routers: noise, jitter, draws.
    pub quiet: bool,
}

/// One step that was taken.
pub struct Taken {
    /// What it found.
    pub result: StepResult,
    /// How many answers the batch asked for.
    pub count: usize,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The learning rate.
    pub rate: f64,
}

impl<'a> Learner<'a> {
    /// Before the first step.
    ///
    /// # Errors
    /// Images without a finite mean and deviation.
    pub fn new(config: &'a Config, data: &'a Dataset) -> Result<Learner<'a>> {
        let spec = config.spec(data.train.features(), data.classes);
        let mut model = Model::new(&spec, &mut Init::new(config.seed));
        let optimizer = Optimizer::new(config.optimizer_settings(), &mut model);
        let standardize = Input::of(data).standardize()?;
        let all_steps = data.train.len().div_ceil(config.batch) as u64 * config.epochs as u64;
        let rate = Rate {
            peak: config.lr,
            schedule: config.lr_schedule,
            warmup_steps: config.warmup_steps,
            total_steps: if config.max_steps > 0 { config.max_steps.min(all_steps) } else { all_steps },
        };
        Ok(Learner { config, data, model, optimizer, standardize, rate, order: Vec::new(), quiet: false })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps
    }

    /// Steps of the whole training.
    pub fn total_steps(&self) -> u64 {
        self.rate.total_steps
    }

    /// Steps that show every training image once; the last may have fewer.
    pub fn steps_per_epoch(&self) -> u64 {
        self.data.train.len().div_ceil(self.config.batch) as u64
    }

    /// Whether the last step is taken.
    pub fn is_done(&self) -> bool {
        self.steps() >= self.total_steps()
    }

    /// The epoch that the last step ended, counted from 1, if it was the last of one or of the training.
    pub fn ended_epoch(&self) -> Option<usize> {
        let (steps, per_epoch) = (self.steps(), self.steps_per_epoch());
        let ended = steps > 0 && (steps.is_multiple_of(per_epoch) || self.is_done());
        ended.then(|| steps.div_ceil(per_epoch) as usize)
    }

    /// Whether a digest is to be recorded here: before the first step, every so many steps, and at the end of
    /// every epoch.
    pub fn is_digest_due(&self) -> bool {
        let every = self.config.digest_every;
        every > 0 && (self.steps().is_multiple_of(every) || self.ended_epoch().is_some())
    }

    /// Parameters, the optimiser's memory and running numbers.
    pub fn state(&mut self) -> State<f32> {
        State::of(&mut self.model, Some(&self.optimizer))
    }

    /// What it learns from.
    pub fn train(&self) -> Examples<'_> {
        Examples::Images(&self.data.train, &self.standardize)
    }

    /// What it is judged on.
    pub fn test(&self) -> Examples<'_> {
        Examples::Images(&self.data.test, &self.standardize)
    }

    /// The settings.
    pub fn config(&self) -> &'a Config {
        self.config
    }

    /// The seed of what is random in a step, if anything is.
    pub fn seed(&self) -> Option<u64> {
        (!self.quiet).then_some(self.config.seed)
    }

    /// The next batch.
    pub fn next_batch(&mut self) -> Batch {
        let (steps, batch) = (self.steps_per_epoch(), self.config.batch);
        let (epoch, in_epoch) = (self.steps() / steps, (self.steps() % steps) as usize);
        if self.order.is_empty() || in_epoch == 0 {
            let stream = Stream::new(self.config.seed, Purpose::Shuffle, 0, epoch);
            self.order = stream.permutation(self.data.train.len());
        }
        let part = &self.order[in_epoch * batch..((in_epoch + 1) * batch).min(self.order.len())];
        self.train().batch(part)
    }

    /// One step on the next batch; `watch` is shown every array.
    ///
    /// # Errors
    /// NaN or infinity in the loss or a gradient; nothing has changed then.
    pub fn step(&mut self, watch: Option<Watch<f32>>) -> Result<Taken> {
        let batch = self.next_batch();
        self.step_on(batch, watch)
    }

    /// [`Learner::step`] on another batch.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn step_on(&mut self, batch: Batch, watch: Option<Watch<f32>>) -> Result<Taken> {
        let (epoch, rate) = (self.steps() / self.steps_per_epoch(), self.rate.at(self.steps()));
        let (seed, clip_norm) = (self.seed(), self.config.clip_norm);
        let count = batch.1.len();
        let result = watched_step(&mut self.model, &mut self.optimizer, batch, seed, rate, clip_norm, watch)?;
        Ok(Taken { result, count, epoch, rate })
    }
}
