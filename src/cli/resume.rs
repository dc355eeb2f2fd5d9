//! `dynamoe resume`: a stopped run, trained to its end.

use std::path::PathBuf;

use anyhow::Result;

use super::flags::{Checkpoint, Machine, Training};
use super::train::{finish, watch};
use crate::engine::error::Error;
use crate::train::run_folder::RunFolder;
use crate::train::{checkpoint, examples};

/// Resume a stopped run; the result has the same bits as if it had never stopped
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run
    run: PathBuf,
    #[command(flatten)]
    checkpoint: Checkpoint,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    training: Training,
}

/// Trains the rest of the run and prints a report.
pub fn run(args: Args) -> Result<()> {
    let Args { run, checkpoint: Checkpoint { checkpoint }, machine, training } = args;
    let (folder, config) = RunFolder::open(&run)?;
    let folder = folder.locked()?;
    if folder.is_finished() {
        return Err(Error::data(&run, "this run is finished; see its summary.json").into());
    }
    if folder.has_checkpoint() {
        let saved = checkpoint::load(&folder.checkpoint(&checkpoint))?;
        if saved.progress.data_digest.is_empty() {
            return Err(Error::data(&run, "this network was imported: there is no training to resume").into());
        }
    }
    let summary = machine.threads.run(|| {
        let data = examples::load(&config, machine.data.path())?;
        watch(&config, &data, &folder, &checkpoint, &training)
    })?;
    finish(&summary, &run, &training)
}
