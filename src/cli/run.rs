//! What the verbs share: thread pools, progress, and opening a run's network.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::data::Dataset;
use crate::engine::error::Error;
use crate::engine::kernels::par;
use crate::nn::{Init, Model};
use crate::train::config::Config;
use crate::train::run_folder::RunFolder;
use crate::train::{Input, checkpoint, examples};

/// A bar over `steps` steps with rate and time left, if it may talk and somebody is there to see it.
pub fn steps_bar(steps: u64, talk: bool) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if !talk || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = "{bar:30} step {pos}/{len}  {msg}  {per_sec}  {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    bar
}

/// Runs `work` on `threads` threads, or on one for each core.
///
/// # Errors
/// An impossible number of threads, and those of `work`.
pub fn on_threads<R: Send>(threads: Option<usize>, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let count = thread_count(threads)?;
    par::try_with_threads(count, work).unwrap_or_else(|| Err(par::refused(count).into()))
}

/// A flag that Ctrl-C sets; the second time it ends the program.
///
/// # Errors
/// A system that refuses.
pub fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        // The second time the user means it.
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// How many threads there are to be: as many as asked for, or one for each core.
///
/// # Errors
/// An impossible number of threads.
pub fn thread_count(threads: Option<usize>) -> Result<usize> {
    let count = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    check_threads(count)?;
    Ok(count)
}

/// Refuses an impossible number of threads.
///
/// # Errors
/// Such a number, with what is possible.
pub fn check_threads(count: usize) -> Result<()> {
    const MOST: usize = 1024;
    if (1..=MOST).contains(&count) {
        return Ok(());
    }
    Err(Error::config("threads", format!("{count} is impossible; it must be 1 to {MOST}")).into())
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
    /// [`Dataset::digest`] of what it was trained on; nothing where that is elsewhere.
    data_digest: String,
}

/// Opens a run's network from one of its checkpoints: `last`, `best` or `step-N`.
///
/// # Errors
/// A folder that holds no run, a checkpoint that is missing or damaged.
pub fn open(run: &Path, checkpoint: &str) -> Result<Trained> {
    let (folder, config) = RunFolder::open(run)?;
    let folder = folder.checkpoint(checkpoint);
    let saved = checkpoint::load(&folder)?;
    saved.check_config(&config, run)?;
    let input = saved.progress.input.clone();
    let spec = config.checked_spec(input.features(), input.classes())?;
    let mut model = Model::new(&spec, &mut Init::new(config.seed));
    saved.restore(&mut model, &folder)?;
    let progress = saved.progress;
    Ok(Trained { config, input, model, steps: progress.step, data_digest: progress.data_digest })
}

impl Trained {
    /// The run's data set, or the one called `dataset`; text in the tokens that this network knows. Says so on standard
    /// error where the run's own is no longer what it was trained on.
    ///
    /// # Errors
    /// Files that are missing or damaged, images for a network for text or the other way round.
    pub fn data(&self, dataset: Option<&str>, data_dir: Option<&Path>) -> Result<Dataset> {
        let config =
            Config { dataset: dataset.unwrap_or(&self.config.dataset).into(), ..self.config.clone() };
        let data = examples::load_as(&config, &self.input, data_dir)?;
        let is_known = !self.data_digest.is_empty() && dataset.is_none();
        if is_known && data.digest() != self.data_digest {
            eprintln!("note: {} is no longer what this network was trained on", config.dataset);
        }
        Ok(data)
    }
}
