//! `dynamoe step`: one training step as a file for other frameworks.

use std::path::PathBuf;

use anyhow::Result;

use super::flags::{Checkpoint, Machine, Network};
use super::output::print;
use crate::engine::error::Error;
use crate::train::config::Config;
use crate::train::learned;
use crate::train::run_folder::RunFolder;
use crate::train::verify::step_file;
use crate::train::{Learner, checkpoint, examples};

/// Write one training step, with every gradient, as a safetensors file for other frameworks
#[derive(clap::Args)]
pub struct Args {
    /// The file to write
    out: PathBuf,
    /// Take the network and the next batch from this run
    #[arg(long, value_name = "DIR", conflicts_with_all = ["preset", "dataset", "config", "set", "seed"])]
    run: Option<PathBuf>,
    #[command(flatten)]
    checkpoint: Checkpoint,
    /// Take parameters and inputs from this safetensors file, and leave out all noise
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    machine: Machine,
}

/// Takes one step and writes it.
pub fn run(args: Args) -> Result<()> {
    let Args { out, run, checkpoint, from, network, machine } = args;
    let (config, checkpoint) = match &run {
        None => (Config::resolve(&network.sources())?, None),
        Some(run) => {
            let (folder, config) = RunFolder::open(run)?;
            let folder = folder.checkpoint(&checkpoint.checkpoint);
            let saved = checkpoint::load(&folder)?;
            saved.check_config(&config, run)?;
            (config.into_config(), Some((saved, folder)))
        }
    };
    let lines = machine.threads.run(|| {
        let data = examples::load(&config, machine.data.path())?;
        let config = learned::resolve(config.clone(), &data)?;
        let mut learner = Learner::new(&config, &data)?;
        learner.quiet = from.is_some();
        if let Some((saved, folder)) = checkpoint {
            saved.restore(&mut learner.model, &folder)?;
            saved.restore_optimizer(&learner.model, &mut learner.optimizer, &folder)?;
        }
        let (mut lines, mut batch) = (String::new(), None);
        if let Some(from) = &from {
            let taken;
            (taken, batch) = step_file::take(&mut learner, from)?;
            let inputs = if taken.batch { "inputs and targets" } else { "no inputs" };
            let step_file::Taken { parameters, of, .. } = taken;
            lines = format!("took {parameters} of {of} parameters and {inputs} from {}\n", from.display());
        }
        step_file::write(&mut learner, batch, &out).map_err(|e| match e {
            Error::NonFinite { what, .. } => {
                Error::data(&out, format!("not written, the step failed: {what}"))
            }
            other => other,
        })?;
        Ok(format!("{lines}step {} is in {}\n", learner.steps(), out.display()))
    })?;
    print(&lines)
}
