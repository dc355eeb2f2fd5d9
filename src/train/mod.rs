//! From a configuration to a trained network in a run folder.

pub mod checkpoint;
pub mod evaluate;
pub mod examples;
pub mod learner;
pub mod manifest;
pub mod metrics;
pub mod plots;
pub mod progress;
pub mod run_folder;
pub mod state;
mod step;
mod trainer;

use std::sync::atomic::{AtomicBool, Ordering};

pub use examples::Examples;
pub use learner::Learner;
pub use progress::{ImageInput, Input, Progress};
pub use state::State;
pub use step::{StepResult, step, watched_step};

use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result};
use metrics::{EpochRecord, StepRecord, Summary};
use run_folder::RunFolder;
use trainer::Trainer;

/// What the caller of [`train`] sees and steers.
pub struct Control<'a> {
    /// Called after every step with the record and the number of all steps.
    pub on_step: &'a mut dyn FnMut(&StepRecord, u64),
    /// Called after every epoch.
    pub on_epoch: &'a mut dyn FnMut(&EpochRecord),
    /// Set from outside (Ctrl-C) to save and stop.
    pub stop: &'a AtomicBool,
}

/// How a run begins, or goes on.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The checkpoint to go on from: `last`, or `step-N` (`best` lacks the optimiser's memory).
    pub checkpoint: &'a str,
    /// How many checkpoints to keep, the newest and those before it; at least one.
    pub keep_last: usize,
    /// The git revision that the program was built from, for the manifest.
    pub revision: Option<&'a str>,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Start { checkpoint: run_folder::LAST, keep_last: 1, revision: None }
    }
}

/// Trains a network and leaves everything in `folder`. A run that was stopped goes on where a
/// checkpoint left it, and comes to the same bits as if it had not been.
///
/// # Errors
/// NaN or infinity (the last good state is saved), a full disk, [`Error::Interrupted`] (after saving).
pub fn train(
    config: &Config,
    data: &Dataset,
    folder: &RunFolder,
    start: &Start,
    control: &mut Control,
) -> Result<Summary> {
    let mut trainer = Trainer::new(config, data, folder, start)?;
    // From here on there is always a good state to fall back on.
    trainer.save()?;
    while !trainer.is_done() {
        (control.on_step)(&trainer.step()?, trainer.total_steps());
        if trainer.is_epoch_end() {
            (control.on_epoch)(trainer.end_epoch()?);
        }
        if control.stop.load(Ordering::Relaxed) && !trainer.is_done() {
            trainer.save()?;
            return Err(Error::Interrupted { saved: folder.last(), next: "`dynamoe resume`" });
        }
    }
    trainer.finish()
}
