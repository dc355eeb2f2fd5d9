//! From a configuration to a trained network in a run folder.
//!
//! - [`config`]: the settings of a run; [`Sources`](config::Sources) become a [`Config`](config::Config), and that a
//!   [`Resolved`] one, whose layers have a known number of experts ([`learned::resolve`] if the schedule is learned).
//! - [`step()`]: forward, backward, clipping, update. [`Learner`]: network, optimizer and the batch that comes next.
//! - [`train`]: the loop over a [`Learner`] that logs, evaluates, saves and resumes; everything goes into a
//!   [`RunFolder`]: settings, [`manifest`], [`metrics`], [`checkpoint`]s, summary.
//! - [`verify`]: replays a run and finds the first difference. [`generate`]: text from a network. [`import`]: published
//!   networks.

pub mod checkpoint;
pub mod config;
pub mod evaluate;
pub mod examples;
pub mod generate;
pub mod import;
pub mod learned;
pub mod learner;
pub mod manifest;
pub mod metrics;
pub mod progress;
pub mod run_folder;
pub mod state;
mod step;
mod trainer;
pub mod verify;

use std::sync::atomic::{AtomicBool, Ordering};

pub use learner::Learner;
pub use progress::Progress;
pub use state::State;
pub use step::{StepResult, step, watched_step};

use crate::data::Dataset;
use crate::engine::error::{Error, Result};
use crate::train::config::Resolved;
use metrics::{EpochRecord, StepRecord, Summary};
use run_folder::RunFolder;
use trainer::Trainer;

/// Called with the folder and the records of all steps and epochs, before the summary marks the run as finished.
pub type OnFinish<'a> = dyn FnMut(&RunFolder, &[StepRecord], &[EpochRecord]) -> Result<()> + 'a;

/// Callbacks of [`train`], and how to stop it.
pub struct Control<'a> {
    /// Called after every step with the record and the number of all steps.
    pub on_step: &'a mut dyn FnMut(&StepRecord, u64),
    /// Called after every epoch.
    pub on_epoch: &'a mut dyn FnMut(&EpochRecord),
    /// Called once after the last epoch, for example to draw plots.
    pub on_finish: &'a mut OnFinish<'a>,
    /// Set by another thread (on Ctrl-C) to save and stop.
    pub stop: &'a AtomicBool,
}

/// How a run starts or resumes.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The checkpoint to resume from: `last`, or `step-N` (`best` has no optimizer state).
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

/// Trains a network and writes everything to `folder`. A stopped run resumes from a checkpoint, to the same bits as if
/// it had not been stopped.
///
/// # Errors
/// NaN or infinity (the last good state is saved), a full disk, [`Error::Interrupted`] (after saving).
pub fn train(
    config: &Resolved,
    data: &Dataset,
    folder: &RunFolder,
    start: &Start,
    control: &mut Control,
) -> Result<Summary> {
    let mut trainer = Trainer::new(config, data, folder, start)?;
    // From here on there is always a good state to return to.
    trainer.save()?;
    loop {
        if trainer.is_epoch_due()
            && let Some(record) = trainer.end_epoch(control.stop)?
        {
            (control.on_epoch)(record);
        }
        if trainer.is_done() && !trainer.is_epoch_due() {
            return trainer.finish(control.on_finish);
        }
        if control.stop.load(Ordering::Relaxed) {
            trainer.save()?;
            let path = folder.path().to_path_buf();
            let next = format!("`dynamoe resume {}`", path.display());
            return Err(Error::Interrupted { saved: path, next });
        }
        (control.on_step)(&trainer.step()?, trainer.total_steps());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::train::config::Sources;

    #[test]
    fn a_run_stopped_before_an_evaluation_makes_up_for_it() {
        let set = ["layers=1", "width=16", "epochs=3", "batch=512"].map(String::from).to_vec();
        let config = Resolved::resolve(&Sources { set, ..Sources::default() }).unwrap();
        let data = Dataset::from(data::load("digits", None).unwrap());
        let base = tempfile::tempdir().unwrap();
        let run = |name: &str, stop_after: u64| {
            let path = base.path().join(name);
            let folder = match path.exists() {
                true => RunFolder::open(&path).unwrap().0,
                false => RunFolder::create(&path, &config).unwrap(),
            };
            let (stop, mut epochs) = (AtomicBool::new(false), Vec::new());
            let mut on_step = |step: &StepRecord, _| stop.store(step.step == stop_after, Ordering::Relaxed);
            let mut on_epoch = |record: &EpochRecord| epochs.push(record.epoch);
            let mut on_finish = |_: &RunFolder, _: &[StepRecord], _: &[EpochRecord]| Ok(());
            let mut control = Control {
                on_step: &mut on_step,
                on_epoch: &mut on_epoch,
                on_finish: &mut on_finish,
                stop: &stop,
            };
            let summary = train(&config, &data, &folder, &Start::default(), &mut control);
            (summary, epochs, std::fs::read_to_string(path.join("metrics.jsonl")).unwrap())
        };
        let (whole, epochs, lines) = run("whole", 0);
        assert_eq!(epochs, [1, 2, 3]);
        // Three steps are an epoch: the second epoch's evaluation is stopped, then the last.
        let (stopped, epochs, _) = run("parts", 6);
        assert!(matches!(stopped, Err(Error::Interrupted { .. })) && epochs == [1]);
        let (stopped, epochs, _) = run("parts", 9);
        assert!(matches!(stopped, Err(Error::Interrupted { .. })) && epochs == [2]);
        let (parts, epochs, found) = run("parts", 0);
        assert_eq!(epochs, [3]);
        assert_eq!(parts.unwrap().digests, whole.unwrap().digests);
        assert_eq!(found, lines);
    }
}
