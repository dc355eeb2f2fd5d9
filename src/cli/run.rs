//! What the verbs share: thread pools, and opening a run's network.

use std::path::Path;

use anyhow::Result;

use crate::config::Config;
use crate::error::Error;
use crate::kernels::par;
use crate::nn::{Init, Model};
use crate::train::Input;
use crate::train::checkpoint;
use crate::train::run_folder::RunFolder;

/// Which checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// The newest.
    Last,
    /// The one with the highest test accuracy.
    Best,
}

/// Runs `work` on `threads` threads, or on one for each core.
///
/// # Errors
/// An impossible number of threads, and those of `work`.
pub fn on_threads<R: Send>(threads: Option<usize>, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    const MOST: usize = 1024;
    let count = match threads {
        None => std::thread::available_parallelism().map_or(1, usize::from),
        Some(count) if (1..=MOST).contains(&count) => count,
        Some(count) => {
            return Err(
                Error::config("threads", format!("{count} is impossible; it must be 1 to {MOST}")).into()
            );
        }
    };
    par::try_with_threads(count, work).unwrap_or_else(|| {
        Err(Error::config("threads", format!("the system refuses to start {count}; ask for fewer")).into())
    })
}

/// A trained network with all it needs to judge an image.
pub struct Trained {
    /// The run's settings.
    pub config: Config,
    /// What its images look like.
    pub input: Input,
    /// The network.
    pub model: Model<f32>,
    /// Steps it was trained for.
    pub steps: u64,
}

/// Opens a run's network.
///
/// # Errors
/// A folder that holds no run, a checkpoint that is missing or damaged.
pub fn open(run: &Path, which: Which) -> Result<Trained> {
    let (folder, config) = RunFolder::open(run)?;
    let folder = match which {
        Which::Last => folder.last(),
        Which::Best => folder.best(),
    };
    let saved = checkpoint::load(&folder)?;
    if saved.config != config {
        let what = "was edited after the training; put it back, or train again";
        return Err(Error::data(&run.join("config.toml"), what).into());
    }
    let input = saved.progress.input;
    let mut model = Model::new(&config.spec(input.features(), input.classes), &mut Init::new(config.seed));
    saved.restore(&mut model, &folder)?;
    Ok(Trained { config, input, model, steps: saved.progress.step })
}
