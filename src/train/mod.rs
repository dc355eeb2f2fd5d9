//! From a configuration to a trained network in a run folder.

pub mod checkpoint;
pub mod evaluate;
pub mod metrics;
pub mod plots;
pub mod progress;
pub mod run_folder;
mod step;
mod trainer;

use std::sync::atomic::{AtomicBool, Ordering};

pub use progress::{Input, Progress};
pub use step::{StepResult, step};

use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result};
use metrics::{EpochRecord, StepRecord, Summary};
use run_folder::RunFolder;
use trainer::Trainer;

/// What the caller of [`train`] sees and steers.
pub struct Watch<'a> {
    /// Called after every step with the record and the number of all steps.
    pub on_step: &'a mut dyn FnMut(&StepRecord, u64),
    /// Called after every epoch.
    pub on_epoch: &'a mut dyn FnMut(&EpochRecord),
    /// Set from outside (Ctrl-C) to save and stop.
    pub stop: &'a AtomicBool,
}

/// Trains a network and leaves everything in `folder`. A run that was stopped goes on where its newest
/// checkpoint left it, and comes to the same bits as if it had not been.
///
/// # Errors
/// NaN or infinity (the last good state is saved), a full disk, [`Error::Interrupted`] (after saving).
pub fn train(config: &Config, data: &Dataset, folder: &RunFolder, watch: &mut Watch) -> Result<Summary> {
    let mut trainer = Trainer::new(config, data, folder)?;
    // From here on there is always a good state to fall back on.
    trainer.save()?;
    while !trainer.is_done() {
        (watch.on_step)(&trainer.step()?, trainer.total_steps());
        if trainer.is_epoch_end() {
            (watch.on_epoch)(trainer.end_epoch()?);
        }
        if watch.stop.load(Ordering::Relaxed) && !trainer.is_done() {
            trainer.save()?;
            return Err(Error::Interrupted { saved: folder.last() });
        }
    }
    trainer.finish()
}
