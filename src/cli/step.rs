//! `dynamoe step`: one training step as a file that other frameworks read.

use std::path::Path;

use anyhow::Result;

use super::run::on_threads;
use super::text::print;
use crate::engine::error::Error;
use crate::train::config::{Config, Layers};
use crate::train::learned;
use crate::train::run_folder::RunFolder;
use crate::train::verify::step_file;
use crate::train::{Learner, checkpoint, examples};

/// Where the network of the step comes from.
#[derive(Debug)]
pub enum Source<'a> {
    /// A fresh one.
    Settings(Layers<'a>),
    /// A run's checkpoint.
    Run(&'a Path, &'a str),
}

/// Takes one step and writes it to `out`; with `from`, on the parameters and inputs of another file, without
/// noise.
///
/// # Errors
/// Settings, runs and files that cannot be used; NaN in the step; a full disk.
pub fn run(
    out: &Path,
    source: &Source,
    from: Option<&Path>,
    data_dir: Option<&Path>,
    threads: Option<usize>,
) -> Result<()> {
    let (config, checkpoint) = match source {
        Source::Settings(layers) => (Config::resolve(layers)?, None),
        Source::Run(run, name) => {
            let (folder, config) = RunFolder::open(run)?;
            let folder = folder.checkpoint(name);
            let saved = checkpoint::load(&folder)?;
            saved.check_config(&config, run)?;
            (config, Some((saved, folder)))
        }
    };
    let lines = on_threads(threads, || {
        let data = examples::load(&config, data_dir)?;
        let config = learned::resolve(config.clone(), &data)?;
        let mut learner = Learner::new(&config, &data)?;
        learner.quiet = from.is_some();
        if let Some((saved, folder)) = checkpoint {
            saved.restore(&mut learner.model, &folder)?;
            saved.restore_optimizer(&mut learner.model, &mut learner.optimizer, &folder)?;
        }
        let (mut lines, mut batch) = (String::new(), None);
        if let Some(from) = from {
            let taken;
            (taken, batch) = step_file::take(&mut learner, from)?;
            let inputs = if taken.batch { "inputs and targets" } else { "no inputs" };
            let step_file::Taken { parameters, of, .. } = taken;
            lines = format!("took {parameters} of {of} parameters and {inputs} from {}\n", from.display());
        }
        step_file::write(&mut learner, batch, out).map_err(|e| match e {
            Error::NonFinite { what, .. } => {
                Error::data(out, format!("not written, the step breaks off: {what}"))
            }
            other => other,
        })?;
        Ok(format!("{lines}step {} is in {}\n", learner.steps(), out.display()))
    })?;
    print(&lines)
}
