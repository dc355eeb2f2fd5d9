//! Flags that several verbs share, each spelled once.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::output::print;
use crate::engine::error::Error;
use crate::engine::files;
use crate::train::Start;
use crate::train::config::Sources;
use crate::train::run_folder::LAST;

/// Where data sets are.
#[derive(Args)]
pub struct DataDir {
    /// Where data sets are [default: $DYNAMOE_DATA_DIR, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataDir {
    /// The folder, if given.
    pub fn path(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }
}

/// How many threads.
#[derive(Args)]
pub struct Threads {
    /// Threads [default: one per core]; the results do not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// What is computed with: data folder and threads.
#[derive(Args)]
pub struct Machine {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub threads: Threads,
}

/// Text or JSON.
#[derive(Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Json {
    /// Prints a report as JSON or in words.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print<R: Serialize>(&self, report: &R, describe: impl FnOnce(&R) -> String) -> Result<()> {
        match self.json {
            true => print(&(serde_json::to_string_pretty(report)? + "\n")),
            false => print(&describe(report)),
        }
    }
}

/// A trained network.
#[derive(Args)]
pub struct Saved {
    /// Folder of the run
    pub run: PathBuf,
    #[command(flatten)]
    pub checkpoint: Checkpoint,
}

/// One of a run's checkpoints.
#[derive(Args)]
pub struct Checkpoint {
    /// Which checkpoint: last, step-N, or best (which has no optimizer state)
    #[arg(long, value_name = "NAME", default_value = LAST)]
    pub checkpoint: String,
}

/// Where a picture goes.
#[derive(Args)]
pub struct Svg {
    /// Also write a picture to this SVG file
    #[arg(long = "svg", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

impl Svg {
    /// Refuses a folder that does not exist, before anything is computed for the picture.
    ///
    /// # Errors
    /// Such a folder.
    pub fn check(&self) -> Result<()> {
        let folder = self.path.as_deref().and_then(Path::parent).filter(|f| !f.as_os_str().is_empty());
        match (&self.path, folder) {
            (Some(path), Some(folder)) if !folder.is_dir() => {
                Err(Error::io("write", path)(ErrorKind::NotFound.into()).into())
            }
            _ => Ok(()),
        }
    }

    /// Writes the picture if one is wanted; the line that says so.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, draw: impl FnOnce() -> String) -> Result<String> {
        let Some(path) = &self.path else { return Ok(String::new()) };
        files::write(path, draw().as_bytes())?;
        Ok(format!("wrote {}\n", path.display()))
    }
}

/// What a training keeps and prints.
#[derive(Args)]
pub struct Training {
    /// Checkpoints to keep: the newest and those before it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    keep_last: u16,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
    /// Print summary.json at the end and nothing else
    #[arg(long)]
    pub json: bool,
}

impl Training {
    /// How a training starts from `checkpoint`.
    pub fn start<'a>(&self, checkpoint: &'a str) -> Start<'a> {
        Start { checkpoint, keep_last: self.keep_last.into(), revision: super::revision() }
    }

    /// Whether to print while it trains.
    pub fn is_verbose(&self) -> bool {
        !self.quiet && !self.json
    }
}

/// What a network is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// Classify images
    Images,
    /// Language modeling: predict the next token of a text
    Lm,
}

/// Which network, on which data.
#[derive(Args)]
pub struct Network {
    /// Size: tiny, small, medium, large; transformer-1m, -3m, -10m, -30m
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// What to train for [default: what the data set is for]
    #[arg(long, value_name = "TASK")]
    task: Option<Task>,
    #[arg(long, value_name = "NAME", help = dataset_help())]
    dataset: Option<String>,
    /// Read settings from a TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change one setting; may be repeated. A run's config.toml has all of them
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 63))]
    seed: Option<u64>,
}

impl Network {
    /// The flags as sources of settings.
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            preset: self.preset.as_deref(),
            file: self.config.as_deref(),
            set: self.set.clone(),
            text: self.task.map(|task| task == Task::Lm),
            dataset: self.dataset.as_deref(),
            seed: self.seed,
            ..Sources::default()
        }
    }
}

/// The help of `--dataset`.
fn dataset_help() -> String {
    let names = crate::data::catalog::names();
    format!("{names}; or the path of a text file, of a .jsonl file or of a folder of them")
}
