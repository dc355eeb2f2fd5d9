//! From a configuration to a trained network in a run folder.

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
use crate::train::config::Config;
use metrics::{EpochRecord, StepRecord, Summary};
use run_folder::RunFolder;
use trainer::Trainer;

/// Called with the folder and the records of all steps and epochs, before the summary marks the run as finished.
pub type OnFinish<'a> = dyn FnMut(&RunFolder, &[StepRecord], &[EpochRecord]) -> Result<()> + 'a;

/// What the caller of [`train`] sees and steers.
pub struct Control<'a> {
    /// Called after every step with the record and the number of all steps.
    pub on_step: &'a mut dyn FnMut(&StepRecord, u64),
    /// Called after every epoch.
    pub on_epoch: &'a mut dyn FnMut(&EpochRecord),
    /// Called once after the last epoch, to draw plots say.
    pub on_finish: &'a mut OnFinish<'a>,
    /// Set from outside (Ctrl-C) to save and stop.
    pub stop: &'a AtomicBool,
}

/// How a run begins, or goes on.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The checkpoint to go on from: `last`, or `step-N` (`best` lacks the optimizer's memory).
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
            return Err(Error::Interrupted { saved: folder.last(), next: "`dynamoe resume`" });
        }
        (control.on_step)(&trainer.step()?, trainer.total_steps());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;
    use crate::train::config::Layers;

    #[test]
    fn a_run_stopped_before_an_evaluation_makes_up_for_it() {
        let set = ["layers=1", "width=16", "epochs=3", "batch=512"].map(String::from).to_vec();
        let config = Config::resolve(&Layers { set, ..Layers::default() }).unwrap();
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
