//! A run in progress: its learner, its progress, and the files it writes.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::evaluate::evaluate_until;
use super::learner::{Learner, Taken};
use super::manifest::{self, Link, Manifest, Session};
use super::metrics::{self, Best, EpochRecord, Line, Scores, StepRecord, Summary};
use super::run_folder::{LAST, MetricsFile, RunFolder};
use super::state::State;
use super::{Progress, Start, checkpoint};
use crate::data::Dataset;
use crate::engine::error::{Error, Result};
use crate::engine::kernels::par;
use crate::train::config::Resolved;

/// A run in progress.
pub struct Trainer<'a> {
    config: &'a Resolved,
    data: &'a Dataset,
    folder: &'a RunFolder,
    log: MetricsFile,
    learner: Learner<'a>,
    progress: Progress,
    /// Digest of the initial parameters.
    init_digest: String,
    /// Checkpoints to keep.
    keep_last: usize,
    /// Steps taken when the newest checkpoint was written.
    saved_step: Option<u64>,
}

impl<'a> Trainer<'a> {
    /// A run from its checkpoint, or before its first step if it has none.
    pub fn new(
        config: &'a Resolved,
        data: &'a Dataset,
        folder: &'a RunFolder,
        start: &Start,
    ) -> Result<Trainer<'a>> {
        let mut learner = Learner::new(config, data)?;
        let init_digest = State::of(&learner.model, None).digest();
        let mut progress = Progress::new(data);
        let (from, mut saved_step) = (folder.checkpoint(start.checkpoint), None);
        if start.checkpoint != LAST || folder.has_checkpoint() {
            let saved = checkpoint::load(&from)?;
            saved.check_config(config, folder.path())?;
            if saved.progress.data_digest != progress.data_digest {
                return Err(Error::data(
                    folder.path(),
                    "the data set has changed since the run began; put it back, or train again",
                ));
            }
            saved.restore(&mut learner.model, &from)?;
            saved.restore_optimizer(&learner.model, &mut learner.optimizer, &from)?;
            progress = saved.progress;
            saved_step = Some(progress.step);
        }
        if saved_step.is_some() && start.checkpoint != LAST {
            // The checkpoint first, then the newer lines: a kill in between loses nothing.
            folder.check_metrics(progress.step)?;
            folder.make_last(&from)?;
            folder.forget_after(progress.step)?;
        }
        let log = folder.metrics(progress.step, progress.judged_epochs())?;
        progress.sessions.retain(|session| session.from_step < learner.steps());
        progress.sessions.push(Session::here(learner.steps(), start.revision));
        let mut trainer = Trainer {
            log,
            config,
            data,
            folder,
            learner,
            progress,
            init_digest,
            keep_last: start.keep_last,
            saved_step,
        };
        if trainer.progress.chain.is_empty() {
            trainer.record_digest();
        }
        Ok(trainer)
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.learner.total_steps()
    }

    /// Whether the last step is taken.
    pub fn is_done(&self) -> bool {
        self.learner.is_done()
    }

    /// Whether the last step ended an epoch that is not evaluated yet.
    pub fn is_epoch_due(&self) -> bool {
        self.learner.ended_epoch().is_some_and(|epoch| epoch > self.progress.judged_epochs())
    }

    /// Saves everything that resuming needs.
    pub fn save(&mut self) -> Result<()> {
        // The lines first: the checkpoint counts them.
        self.log.sync()?;
        let Progress { sessions, chain, data_digest, .. } = &self.progress;
        if self.keep_last > 1 {
            self.folder.keep(self.saved_step.filter(|&step| step != self.progress.step))?;
        }
        let (state, step) = (self.learner.state(), self.progress.step);
        let known = chain.last().filter(|link| link.step == step).map(|link| link.digest.clone());
        let digest = known.unwrap_or_else(|| state.digest());
        checkpoint::save(&self.folder.last(), self.config, state, digest, &self.progress)?;
        if self.keep_last > 1 {
            self.folder.prune(self.keep_last)?;
        }
        self.folder.write_manifest(&Manifest {
            schema_version: manifest::SCHEMA_VERSION,
            config_digest: manifest::config_digest(self.config),
            data_digest: data_digest.clone(),
            sessions: sessions.clone(),
            chain: chain.clone(),
        })?;
        self.saved_step = Some(self.progress.step);
        Ok(())
    }

    /// Records the digest of the state if one is due.
    fn record_digest(&mut self) {
        if self.learner.is_digest_due() {
            let digest = self.learner.state().digest();
            let (step, epoch) = (self.learner.steps(), self.learner.ended_epoch());
            self.progress.chain.push(Link { step, epoch, digest });
        }
    }

    /// One step on the next batch.
    pub fn step(&mut self) -> Result<StepRecord> {
        let start = Instant::now();
        let Taken { result, count, epoch, rate: lr } = match self.learner.step(None) {
            Ok(taken) => taken,
            Err(error) => {
                self.log.sync()?;
                // If the loss is not finite, the step before diverged: the newest checkpoint is the good one.
                if !matches!(&error, Error::NonFinite { loss, .. } if !loss.is_finite()) {
                    self.save()?;
                }
                return Err(error);
            }
        };
        self.record_digest();
        let progress = &mut self.progress;
        progress.step += 1;
        progress.epoch_loss += result.loss * count as f64;
        progress.epoch_correct += result.right;
        progress.epoch_seen += count;
        progress.seen += count as u64;
        progress.seconds.train += start.elapsed().as_secs_f64();
        let (step, gradient_norm) = (progress.step, result.gradient_norm);
        let router_losses = result.losses.iter().map(|&(name, loss)| (name.to_string(), loss)).collect();
        let (epoch, loss) = (epoch as usize + 1, result.loss);
        let dropped_share = metrics::dropped_share(&result.usage);
        let record = StepRecord { step, epoch, loss, router_losses, dropped_share, lr, gradient_norm };
        self.log.write(&Line::Step(record.clone()))?;
        Ok(record)
    }

    /// Evaluates, logs and saves at the end of an epoch; none, and nothing done, if `stop` came first.
    pub fn end_epoch(&mut self, stop: &AtomicBool) -> Result<Option<&EpochRecord>> {
        let start = Instant::now();
        let Some((scores, layers)) = evaluate_until(&self.learner.model, self.learner.test(), stop)? else {
            return Ok(None);
        };
        let (step, loss) = (self.progress.step, scores.test_loss);
        if !loss.is_finite() {
            self.log.sync()?;
            return Err(Error::NonFinite {
                step,
                loss,
                what: format!("the loss on the test split is {loss}"),
            });
        }
        let progress = &mut self.progress;
        progress.seconds.eval += start.elapsed().as_secs_f64();
        let epoch = self.learner.ended_epoch().unwrap_or_default();
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
        let Scores { test_accuracy, test_loss, perplexity } = scores;
        let best = &progress.best;
        let is_better = match perplexity {
            None => test_accuracy > best.test_accuracy,
            Some(_) => test_loss < best.test_loss,
        };
        if is_better || best.epoch == 0 {
            progress.best = Best { epoch, test_accuracy, test_loss };
            let parameters = State::of(&self.learner.model, None);
            let digest = parameters.digest();
            // Never resumed, so it needs no digests.
            let progress = Progress { chain: Vec::new(), ..progress.clone() };
            checkpoint::save(&self.folder.best(), self.config, parameters, digest, &progress)?;
        }
        self.save()?;
        Ok(self.progress.history.last())
    }

    /// Writes the summary after the last step; `before` comes first.
    pub fn finish(self, before: &mut super::OnFinish) -> Result<Summary> {
        let last_digest = State::of(&self.learner.model, None).digest();
        let Trainer { config, data, progress, learner, .. } = &self;
        let last = &progress.history[progress.history.len() - 1];
        let (train, test) = (data.train.len(), data.test.len());
        let summary = Summary {
            schema_version: 1,
            dataset: metrics::DatasetSummary {
                name: data.name.clone(),
                train,
                test,
                digest: progress.data_digest.clone(),
            },
            model: metrics::ModelSummary::new(learner.model.spec(), &metrics::mean_active(&last.layers)),
            last: Scores {
                test_accuracy: last.test_accuracy,
                test_loss: last.test_loss,
                perplexity: data.encoding.task().predicts_next.then(|| metrics::perplexity(last.test_loss)),
            },
            best: progress.best,
            epochs_to_95: metrics::epochs_to_95(&progress.history),
            epochs: last.epoch,
            steps: progress.step,
            layers: last.layers.clone(),
            digests: metrics::Digests { init: self.init_digest.clone(), last: last_digest },
            seconds: progress.seconds,
            samples_per_second: progress.seen as f64 / progress.seconds.train.max(1e-9),
            seed: config.train.seed,
            threads: par::threads(),
        };
        before(self.folder, self.log.steps(), &progress.history)?;
        self.folder.finish(&summary)?;
        Ok(summary)
    }
}
