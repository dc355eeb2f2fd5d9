//! A run's folder: `config.toml`, `metrics.jsonl`, `checkpoints/{last,best}/`, `plots/`, `summary.json`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::metrics::{EpochRecord, Line, StepRecord, Summary};
use super::plots;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files;

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run. Its `config.toml` marks it as taken.
    ///
    /// # Errors
    /// A folder that already holds a run, or that cannot be written to.
    pub fn create(path: &Path, config: &Config) -> Result<RunFolder> {
        files::create_dir(path)?;
        let taken = || {
            Error::data(path, "this folder already holds a run; choose another with --out-dir, or delete it")
        };
        if path.join("metrics.jsonl").exists() {
            return Err(taken());
        }
        let file = path.join("config.toml");
        let opened = OpenOptions::new().write(true).create_new(true).open(&file);
        let mut opened = opened.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => taken(),
            _ => Error::io("write", &file)(e),
        })?;
        opened.write_all(config.to_toml().as_bytes()).map_err(|e| {
            // Half a file must not mark the folder as taken.
            let _ = std::fs::remove_file(&file);
            Error::io("write", &file)(e)
        })?;
        Ok(RunFolder { path: path.to_path_buf() })
    }

    /// [`RunFolder::create`] in the first of `base`, `base-2`, `base-3`, .. that is not there yet.
    ///
    /// # Errors
    /// As [`RunFolder::create`].
    pub fn create_numbered(base: &Path, config: &Config) -> Result<RunFolder> {
        files::create_dir(base.parent().unwrap_or(Path::new(".")))?;
        for n in 1.. {
            let path =
                if n == 1 { base.to_path_buf() } else { PathBuf::from(format!("{}-{n}", base.display())) };
            // Making the folder decides between runs that start at the same moment.
            match std::fs::create_dir(&path) {
                Ok(()) => return RunFolder::create(&path, config),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create folder", &path)(e)),
            }
        }
        unreachable!("some number is free")
    }

    /// An existing run's folder.
    ///
    /// # Errors
    /// A folder that is not there or holds no run.
    pub fn open(path: &Path) -> Result<(RunFolder, Config)> {
        let file = path.join("config.toml");
        if !file.is_file() {
            let what = "not a run folder (it has no config.toml); give the folder that `dynamoe train` wrote";
            return Err(Error::data(path, what));
        }
        let config = Config::resolve(&crate::config::Layers { file: Some(&file), ..Default::default() })?;
        Ok((RunFolder { path: path.to_path_buf() }, config))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the run came to its end.
    pub fn is_finished(&self) -> bool {
        self.path.join("summary.json").exists()
    }

    /// The folder of the newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.path.join("checkpoints/last")
    }

    /// The folder of the checkpoint with the highest test accuracy.
    pub fn best(&self) -> PathBuf {
        self.path.join("checkpoints/best")
    }

    /// Opens `metrics.jsonl` to append to, without any lines that come after step `step`.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn metrics(&self, step: u64) -> Result<MetricsFile> {
        let path = self.path.join("metrics.jsonl");
        let mut steps = Vec::new();
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            // The last line may be cut off: what does not parse came after the checkpoint.
            let lines =
                text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok().map(|l| (line, l)));
            let mut kept = String::new();
            for (text, line) in lines.filter(|(_, line)| line.step() <= step) {
                kept.push_str(text);
                kept.push('\n');
                if let Line::Step(record) = line {
                    steps.push(record);
                }
            }
            files::write(&path, kept.as_bytes())?;
        }
        let file =
            OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
        Ok(MetricsFile { path, file: BufWriter::new(file), steps })
    }

    /// Writes the plots and `summary.json`, which marks the run as finished.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn finish(&self, summary: &Summary, history: &[EpochRecord], metrics: &MetricsFile) -> Result<()> {
        let folder = self.path.join("plots");
        files::create_dir(&folder)?;
        for (name, svg) in plots::all(&metrics.steps, history) {
            files::write(&folder.join(name), svg.as_bytes())?;
        }
        let json = serde_json::to_string_pretty(summary).expect("plain data");
        files::write(&self.path.join("summary.json"), (json + "\n").as_bytes())
    }
}

/// `metrics.jsonl`, open for appending; also keeps the steps for the plots.
pub struct MetricsFile {
    path: PathBuf,
    file: BufWriter<File>,
    steps: Vec<StepRecord>,
}

impl MetricsFile {
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

    /// Hands everything to the system.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}
