//! A run's folder: `config.toml`, `manifest.json`, `metrics.jsonl`, `checkpoints/{last,best}/`, `plots/`,
//! `summary.json`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::checkpoint;
use super::manifest::{self, Manifest};
use super::metrics::{Line, StepRecord, Summary};
use crate::engine::error::{Error, Result};
use crate::engine::files;
use crate::train::config::{Resolved, Sources};

/// The file that marks a folder as a run's.
const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";
/// The name of the newest checkpoint.
pub const LAST: &str = "last";

/// The folder of one run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held by the process that trains, so that no second one does; the system releases it when the process ends.
    _lock: Option<File>,
}

impl RunFolder {
    /// Creates the folder of a new run. Its `config.toml` marks it as taken.
    ///
    /// # Errors
    /// A folder that already holds a run, or that cannot be written to.
    pub fn create(path: &Path, config: &Resolved) -> Result<RunFolder> {
        files::create_dir(path)?;
        let taken = || {
            Error::data(path, "this folder already holds a run; choose another with --out-dir, or delete it")
        };
        if path.join(METRICS).exists() {
            return Err(taken());
        }
        let file = path.join(CONFIG);
        let created = files::create(&file, config.to_toml().as_bytes());
        created.map_err(|e| match e {
            Error::Io { ref reason, .. } if reason.kind() == ErrorKind::AlreadyExists => taken(),
            other => other,
        })?;
        RunFolder { path: path.to_path_buf(), _lock: None }.locked()
    }

    /// [`RunFolder::create`] in the first of `base`, `base-2`, `base-3`, .. that does not exist.
    ///
    /// # Errors
    /// As [`RunFolder::create`].
    pub fn create_numbered(base: &Path, config: &Resolved) -> Result<RunFolder> {
        files::create_dir(base.parent().unwrap_or(Path::new(".")))?;
        for n in 1.. {
            let path =
                if n == 1 { base.to_path_buf() } else { PathBuf::from(format!("{}-{n}", base.display())) };
            // Creating the folder decides between runs that start at the same moment.
            match std::fs::create_dir(&path) {
                Ok(()) => return RunFolder::create(&path, config),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create folder", &path)(e)),
            }
        }
        unreachable!("some number is free")
    }

    /// An existing run's folder.
    ///
    /// # Errors
    /// A folder that does not exist or holds no run.
    pub fn open(path: &Path) -> Result<(RunFolder, Resolved)> {
        let file = path.join(CONFIG);
        if !file.is_file() {
            let what = "not a run folder (it has no config.toml); give the folder that `dynamoe train` wrote";
            return Err(Error::data(path, what));
        }
        let config = Resolved::resolve(&Sources { file: Some(&file), ..Sources::default() })?;
        Ok((RunFolder { path: path.to_path_buf(), _lock: None }, config))
    }

    /// The same folder, locked for writing, and without files that a killed process left unfinished.
    ///
    /// # Errors
    /// Another process that is training there.
    pub fn locked(self) -> Result<RunFolder> {
        let file = self.path.join(CONFIG);
        let lock = File::open(&file).map_err(Error::io("read", &file))?;
        // Best effort: some file systems have no locks.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            let what = "another process is training in this folder; wait for it, or stop it first";
            return Err(Error::data(&self.path, what));
        }
        let checkpoints = self.checkpoints().into_iter().map(|(_, folder)| folder);
        let folders = [self.path.clone(), self.path.join("plots"), self.last(), self.best()];
        for folder in folders.into_iter().chain(checkpoints) {
            files::remove_temporary(&folder);
        }
        Ok(RunFolder { _lock: Some(lock), ..self })
    }

    /// The kept checkpoints before the newest: the steps after which they were written, and their folders;
    /// oldest first.
    fn checkpoints(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(self.path.join(CHECKPOINTS)).into_iter().flatten().flatten();
        let step = |name: &str| name.strip_prefix("step-")?.parse().ok();
        let mut all: Vec<(u64, PathBuf)> =
            entries.filter_map(|entry| Some((step(entry.file_name().to_str()?)?, entry.path()))).collect();
        all.sort();
        all
    }

    /// Whether there is any checkpoint.
    pub fn has_checkpoint(&self) -> bool {
        let all = self.checkpoints().into_iter().map(|(_, folder)| folder);
        all.chain([self.last(), self.best()]).any(|folder| folder.join(checkpoint::FILE).exists())
    }

    /// Copies the checkpoint in `folder` to `last`.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn make_last(&self, folder: &Path) -> Result<()> {
        let from = folder.join(checkpoint::FILE);
        let bytes = fs::read(&from).map_err(Error::io("read", &from))?;
        files::create_dir(&self.last())?;
        files::write(&self.last().join(checkpoint::FILE), &bytes)
    }

    /// Keeps the newest checkpoint, written after step `newest`, as `step-N` before the next overwrites it.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn keep(&self, newest: Option<u64>) -> Result<()> {
        if let Some(step) = newest {
            let file = self.last().join(checkpoint::FILE);
            let kept = self.checkpoint(&format!("step-{step}"));
            files::create_dir(&kept)?;
            let kept = kept.join(checkpoint::FILE);
            // A second name for the same file; the next checkpoint replaces only the first name.
            let _ = fs::remove_file(&kept);
            fs::hard_link(&file, &kept)
                .or_else(|_| fs::copy(&file, &kept).map(drop))
                .map_err(Error::io("write", &kept))?;
        }
        Ok(())
    }

    /// Removes the oldest checkpoints, so that `count` remain with the newest.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn prune(&self, count: usize) -> Result<()> {
        let all = self.checkpoints();
        for (_, folder) in &all[..all.len().saturating_sub(count - 1)] {
            fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
        }
        Ok(())
    }

    /// Removes the kept checkpoints after step `step`, for a run that returned to that step.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn forget_after(&self, step: u64) -> Result<()> {
        for (_, folder) in self.checkpoints().into_iter().filter(|(kept, _)| *kept > step) {
            fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
        }
        Ok(())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the run is finished.
    pub fn is_finished(&self) -> bool {
        self.path.join("summary.json").exists()
    }

    /// The folder of a checkpoint by name: `last`, `best` or `step-N`.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.path.join(CHECKPOINTS).join(name)
    }

    /// The folder of the newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.checkpoint(LAST)
    }

    /// The folder of the checkpoint with the highest test accuracy.
    pub fn best(&self) -> PathBuf {
        self.checkpoint("best")
    }

    /// Writes `manifest.json`.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let json = serde_json::to_string_pretty(manifest).expect("plain data");
        files::write(&self.path.join(manifest::FILE), (json + "\n").as_bytes())
    }

    /// The steps in `metrics.jsonl`, in order.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub fn steps(&self) -> Result<Vec<StepRecord>> {
        let path = self.path.join(METRICS);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        Ok(lines.filter_map(|line| if let Line::Step(step) = line { Some(step) } else { None }).collect())
    }

    /// Checks that `metrics.jsonl` has the lines of the first `step` steps.
    ///
    /// # Errors
    /// Missing lines, and the system's errors, with the path.
    pub fn check_metrics(&self, step: u64) -> Result<()> {
        let mut steps = self.steps()?;
        steps.retain(|record| record.step <= step);
        check_lines(&self.path.join(METRICS), &steps, step)
    }

    /// Opens `metrics.jsonl` for appending, after removing lines after step `step` or epoch `epoch`.
    ///
    /// # Errors
    /// Missing lines of earlier steps, and the system's, with the path.
    pub fn metrics(&self, step: u64, epoch: usize) -> Result<MetricsFile> {
        let is_known = |line: &Line| match line {
            Line::Step(record) => record.step <= step,
            Line::Epoch(record) => record.epoch <= epoch,
        };
        let path = self.path.join(METRICS);
        let mut steps = Vec::new();
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            // The last line may be truncated: what does not parse is newer than the checkpoint.
            let lines =
                text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok().map(|l| (line, l)));
            let mut kept = String::new();
            for (text, line) in lines.filter(|(_, line)| is_known(line)) {
                kept.push_str(text);
                kept.push('\n');
                if let Line::Step(record) = line {
                    steps.push(record);
                }
            }
            check_lines(&path, &steps, step)?;
            files::write(&path, kept.as_bytes())?;
        } else {
            check_lines(&path, &steps, step)?;
        }
        let file =
            OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
        Ok(MetricsFile { path, file: BufWriter::new(file), steps })
    }

    /// Writes `summary.json`, which marks the run as finished.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn finish(&self, summary: &Summary) -> Result<()> {
        let json = serde_json::to_string_pretty(summary).expect("plain data");
        files::write(&self.path.join("summary.json"), (json + "\n").as_bytes())
    }
}

/// Checks that the lines are those of steps 1 to `step`.
fn check_lines(path: &Path, steps: &[StepRecord], step: u64) -> Result<()> {
    if steps.iter().map(|record| record.step).eq(1..=step) {
        return Ok(());
    }
    let what = format!(
        "does not have the lines of all steps up to the checkpoint's, {step}; resume from an earlier one (--checkpoint), \
         or train again"
    );
    Err(Error::data(path, what))
}

/// `metrics.jsonl`, open for appending; it also keeps the records of all steps.
pub struct MetricsFile {
    path: PathBuf,
    file: BufWriter<File>,
    steps: Vec<StepRecord>,
}

impl MetricsFile {
    /// The records of all steps so far.
    pub fn steps(&self) -> &[StepRecord] {
        &self.steps
    }

    /// Appends a line.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        if let Line::Step(step) = line {
            self.steps.push(step.clone());
        }
        let json = serde_json::to_string(line).expect("plain data");
        writeln!(self.file, "{json}").map_err(Error::io("write", &self.path))
    }

    /// Writes everything to the disk.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn sync(&mut self) -> Result<()> {
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        flushed.map_err(Error::io("write", &self.path))
    }
}
