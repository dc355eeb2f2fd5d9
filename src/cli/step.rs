//! `dynamoe step`: one training step as a file that other frameworks read.

use std::path::Path;

use anyhow::Result;

use super::run::on_threads;
use super::text::print;
use crate::config::{Config, Layers};
use crate::data;
use crate::train::run_folder::RunFolder;
use crate::train::{Learner, checkpoint};
use crate::verify::step_file;

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
    let config = match source {
        Source::Settings(layers) => Config::resolve(layers)?,
        Source::Run(run, _) => RunFolder::open(run)?.1,
    };
    let lines = on_threads(threads, || {
        let data = data::load(&config.dataset, data_dir)?;
        let saved = match source {
            Source::Settings(_) => None,
            Source::Run(run, name) => {
                let folder = RunFolder::open(run)?.0.checkpoint(name);
                Some((checkpoint::load(&folder)?, folder))
            }
        };
        let mut learner = Learner::new(&config, &data)?;
        learner.quiet = from.is_some();
        if let Some((saved, folder)) = saved {
            saved.restore(&mut learner.model, &folder)?;
            saved.restore_optimizer(&mut learner.model, &mut learner.optimizer, &folder)?;
        }
        let (mut lines, mut batch) = (String::new(), None);
        if let Some(from) = from {
            let taken;
            (taken, batch) = step_file::take(&mut learner, from)?;
            let inputs = if taken.batch { "inputs and targets" } else { "no inputs" };
            lines = format!("took {} parameters and {inputs} from {}\n", taken.parameters, from.display());
        }
        step_file::write(&mut learner, batch, out)?;
        Ok(format!("{lines}step {} is in {}\n", learner.steps(), out.display()))
    })?;
    print(&lines)
}
