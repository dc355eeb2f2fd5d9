//! A training without its files: network, optimizer, and the next batch.

use super::state::State;
use super::step::{StepResult, watched_step};
use crate::data::{Batch, Dataset, Examples};
use crate::engine::error::Result;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::watch::Watch;
use crate::nn::optim::Optimizer;
use crate::nn::optim::rate::Rate;
use crate::nn::{Init, Model};
use crate::train::config::{Config, Resolved, TrainSettings};

/// A training in progress. What its next step does is a function of the configuration, the data and
/// [`Learner::state`]. A clone is cheap: arrays are shared until one of the two changes them.
#[derive(Clone)]
pub struct Learner<'a> {
    config: &'a Resolved,
    data: &'a Dataset,
    /// The network.
    pub model: Model<f32>,
    /// The optimizer, which also counts the steps.
    pub optimizer: Optimizer<f32>,
    rate: Rate,
    /// The order of this epoch's examples.
    order: Vec<u32>,
    /// Without anything random in the routers: noise, jitter, sampling.
    pub quiet: bool,
}

/// Steps of an epoch, which shows every training example once; the last step may have fewer.
pub fn steps_per_epoch(config: &Config, data: &Dataset) -> u64 {
    data.train.len().div_ceil(config.train.batch * config.train.accumulate) as u64
}

/// One step that was taken.
pub struct Taken {
    /// Its result.
    pub result: StepResult,
    /// Number of targets.
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
    /// Images without a finite mean and deviation, text without a whole sequence, too large a network.
    pub fn new(config: &'a Resolved, data: &'a Dataset) -> Result<Learner<'a>> {
        let input = &data.encoding;
        let spec = config.checked_spec(input.features(), input.classes())?;
        let model = Model::new(&spec, &mut Init::new(config.train.seed));
        let optimizer = Optimizer::new(config.optimizer_settings(), &model);
        let all_steps = steps_per_epoch(config, data) * config.train.epochs as u64;
        let rate = Rate {
            peak: config.optimizer.lr,
            schedule: config.optimizer.lr_schedule,
            warmup_steps: config.optimizer.warmup_steps,
            total_steps: if config.train.max_steps > 0 {
                config.train.max_steps.min(all_steps)
            } else {
                all_steps
            },
        };
        Ok(Learner { config, data, model, optimizer, rate, order: Vec::new(), quiet: false })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps
    }

    /// Steps of the whole training.
    pub fn total_steps(&self) -> u64 {
        self.rate.total_steps
    }

    /// Steps of an epoch, which shows every training example once; the last step may have fewer.
    pub fn steps_per_epoch(&self) -> u64 {
        steps_per_epoch(self.config, self.data)
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

    /// Whether a digest is due: before the first step, every `digest_every` steps, and at the end of every epoch.
    pub fn is_digest_due(&self) -> bool {
        let every = self.config.train.digest_every;
        every > 0 && (self.steps().is_multiple_of(every) || self.ended_epoch().is_some())
    }

    /// Parameters, the optimizer state and running statistics.
    pub fn state(&self) -> State<f32> {
        State::of(&self.model, Some(&self.optimizer))
    }

    /// The training set.
    pub fn train(&self) -> &'a Examples {
        &self.data.train
    }

    /// The test set.
    pub fn test(&self) -> &'a Examples {
        &self.data.test
    }

    /// The settings.
    pub fn config(&self) -> &'a Resolved {
        self.config
    }

    /// The seed of a step; none if nothing is random.
    pub fn seed(&self) -> Option<u64> {
        (!self.quiet).then_some(self.config.train.seed)
    }

    /// The batches of the next step.
    pub fn next_batches(&mut self) -> Vec<Batch> {
        let (steps, TrainSettings { batch, accumulate, .. }) = (self.steps_per_epoch(), &self.config.train);
        let (epoch, in_epoch) = (self.steps() / steps, (self.steps() % steps) as usize);
        if self.order.is_empty() || in_epoch == 0 {
            let stream = Stream::new(self.config.train.seed, Purpose::Shuffle, 0, epoch);
            self.order = stream.permutation(self.train().len());
        }
        let first = in_epoch * batch * accumulate;
        let part = &self.order[first..(first + batch * accumulate).min(self.order.len())];
        part.chunks(*batch).map(|part| self.train().batch(part)).collect()
    }

    /// One step on the next batch; `watch` is shown every array.
    ///
    /// # Errors
    /// NaN or infinity in the loss or a gradient; nothing has changed then.
    pub fn step(&mut self, watch: Option<Watch<f32>>) -> Result<Taken> {
        let batches = self.next_batches();
        self.step_on(batches, watch)
    }

    /// [`Learner::step`] on other batches.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn step_on(&mut self, batches: Vec<Batch>, watch: Option<Watch<f32>>) -> Result<Taken> {
        let (epoch, rate) = (self.steps() / self.steps_per_epoch(), self.rate.at(self.steps()));
        let (seed, clip_norm) = (self.seed(), self.config.optimizer.clip_norm);
        let count = batches.iter().map(|(_, targets)| targets.len()).sum();
        let result =
            watched_step(&mut self.model, &mut self.optimizer, batches, seed, rate, clip_norm, watch)?;
        Ok(Taken { result, count, epoch, rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::engine::arr;
    use crate::train::config::Sources;

    #[test]
    fn batches_of_a_step_add_up_to_one_large_batch() {
        let data = Dataset::from(data::load("digits", None).unwrap());
        let config = |settings: &[&str]| {
            let common =
                ["layers=2", "width=16", "experts_max=4", "noise=0", "clip_norm=1", "balance_loss=0"];
            let set = common.iter().chain(settings).map(|s| s.to_string()).collect();
            Resolved::resolve(&Sources { set, ..Sources::default() }).unwrap()
        };
        let [one, several] = [config(&["batch=48"]), config(&["batch=16", "accumulate=3"])];
        let [mut one, mut several] = [&one, &several].map(|config| Learner::new(config, &data).unwrap());
        assert_eq!(one.steps_per_epoch(), several.steps_per_epoch());
        // The last step of the epoch has fewer examples: of 1442 there are 2 left.
        for _ in 0..one.steps_per_epoch() {
            let [a, b] = [&mut one, &mut several].map(|learner| learner.step(None).unwrap());
            assert_eq!((a.count, a.result.right), (b.count, b.result.right));
            approx::assert_relative_eq!(a.result.loss, b.result.loss, max_relative = 1e-5);
            approx::assert_relative_eq!(a.result.gradient_norm, b.result.gradient_norm, max_relative = 1e-3);
            assert_eq!(a.result.usage, b.result.usage);
        }
        for ((name, a), (_, b)) in one.state().tensors.iter().zip(&several.state().tensors) {
            let differences = arr::data(a).iter().zip(arr::data(b)).map(|(a, b)| (a - b).abs());
            assert!(differences.fold(0.0, f32::max) < 2e-3, "{name}");
        }
    }
}
