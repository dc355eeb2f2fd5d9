//! `results.jsonl`: one line per finished cell and seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::error::{Error, Result};
use crate::engine::files;
use crate::lab::analysis::gradient_variance::Comparison;
use crate::train::config::Config;
use crate::train::metrics::{Best, LayerRecord, Scores, Seconds, Summary};

/// The file's name.
pub const FILE: &str = "results.jsonl";

/// One finished cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The seed.
    pub seed: u64,
    /// The other settings that differ from the defaults. With the seed they identify the cell, so that adding a setting
    /// to the program does not change the identity of old results.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// This crate's version.
    pub version: String,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A trained network.
    Trained(Box<Trained>),
    /// Training diverged: the first non-finite value, in words.
    Diverged(String),
}

/// The summary of a trained network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Scores after the last epoch.
    #[serde(rename = "final")]
    pub last: Scores,
    /// The epoch with the highest test accuracy.
    pub best: Best,
    /// The first epoch that reached 95% of the final test accuracy.
    pub epochs_to_95: usize,
    /// Epochs of the training.
    pub epochs: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// Multiplications and additions per token with the mean number of active experts on the test split.
    pub active_flops_per_token: f64,
    /// How each layer used its experts on the test split.
    pub layers: Vec<LayerRecord>,
    /// The number of distinct activation patterns (sets of experts) on the test split, for each layer.
    pub patterns: Vec<usize>,
    /// Variance of the gates' gradients with varying and with fixed k, where the router allows both.
    #[serde(default)]
    pub gradient_variance: Option<Comparison>,
    /// CPU time.
    pub seconds: Seconds,
    /// BLAKE3 of the trained parameters.
    pub digest: String,
}

impl Trained {
    /// From a run's summary, the patterns of its layers, and the variances of its gates' gradients.
    pub fn new(summary: Summary, patterns: Vec<usize>, gradient_variance: Option<Comparison>) -> Trained {
        Trained {
            last: summary.last,
            best: summary.best,
            epochs_to_95: summary.epochs_to_95,
            epochs: summary.epochs,
            parameters: summary.model.parameters,
            active_flops_per_token: summary.model.active_flops_per_token,
            layers: summary.layers,
            patterns,
            gradient_variance,
            seconds: summary.seconds,
            digest: summary.digests.last,
        }
    }
}

impl Record {
    /// The outcome of training with a configuration.
    pub fn new(config: &Config, outcome: Outcome) -> Record {
        let defaults: toml::Table = Config::default().flat().into_iter().collect();
        let other = |(key, value): &(String, toml::Value)| key != "seed" && defaults.get(key) != Some(value);
        let json = |value| serde_json::to_value::<toml::Value>(value).expect("a setting is plain data");
        Record {
            seed: config.train.seed,
            settings: config
                .flat()
                .into_iter()
                .filter(other)
                .map(|(key, value)| (key, json(value)))
                .collect(),
            version: env!("CARGO_PKG_VERSION").into(),
            outcome,
        }
    }

    /// The identity: seed and settings.
    fn key(&self) -> String {
        serde_json::to_string(&(self.seed, &self.settings)).expect("plain data")
    }

    /// The trained network, unless training diverged.
    pub fn trained(&self) -> Option<&Trained> {
        match &self.outcome {
            Outcome::Trained(trained) => Some(trained),
            Outcome::Diverged(_) => None,
        }
    }
}

/// All results in a folder, locked by one process at a time.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Locked while open.
    file: File,
    records: BTreeMap<String, Record>,
}

impl Store {
    /// Opens the results in `folder`, which is created if missing. An incomplete last line, left by a killed process, is
    /// dropped.
    ///
    /// # Errors
    /// A folder that cannot be written or is locked by another process; an invalid line.
    pub fn open(folder: &Path) -> Result<Store> {
        files::create_dir(folder)?;
        let path = folder.join(FILE);
        let options = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = options.map_err(Error::io("open", &path))?;
        // On a file system without locks a second process cannot be excluded.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = "another process uses this folder; wait for it, or choose another --out-dir";
            return Err(Error::data(folder, what));
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(Error::io("write", &path))?;
        }
        let mut records = BTreeMap::new();
        for (number, line) in text[..whole].lines().enumerate() {
            let record: Record = serde_json::from_str(line).map_err(|e| {
                let what = format!(
                    "line {}: not a valid result ({e}); delete the line to train that network again",
                    number + 1
                );
                Error::data(&path, what)
            })?;
            records.entry(record.key()).or_insert(record);
        }
        Ok(Store { path, file, records })
    }

    /// The path of `results.jsonl`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The result for a configuration.
    pub fn get(&self, config: &Config) -> Option<&Record> {
        self.records.get(&Record::new(config, Outcome::Diverged(String::new())).key())
    }

    /// All results, by key.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The seeds that have any result.
    pub fn seeds(&self) -> BTreeSet<u64> {
        self.records.values().map(|record| record.seed).collect()
    }

    /// Appends a result as one line and syncs it to disk. Does nothing if it is there already.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn append(&mut self, record: Record) -> Result<()> {
        if self.records.contains_key(&record.key()) {
            return Ok(());
        }
        let line = serde_json::to_string(&record).expect("plain data") + "\n";
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(Error::io("write", &self.path))?;
        self.records.insert(record.key(), record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::reproduce::fixtures::{config, trained};

    fn record(settings: &[&str], seed: u64) -> Record {
        Record::new(&config(settings, seed), Outcome::Trained(Box::new(trained(0.9, &[8, 6]))))
    }

    #[test]
    fn results_are_stored_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let records = [record(&[], 1), record(&[], 2), record(&["tau=0.5"], 1)];
        let mut store = Store::open(folder.path()).unwrap();
        for record in records.iter().chain(&records) {
            store.append(record.clone()).unwrap();
        }
        let diverged = Record::new(&config(&["lr=9"], 1), Outcome::Diverged("step 3".into()));
        store.append(diverged.clone()).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another process uses this folder"), "{error}");
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.records().count(), 4);
        assert_eq!(store.get(&config(&["tau=0.5"], 1)), Some(&records[2]));
        assert_eq!(store.get(&config(&["lr=9"], 1)), Some(&diverged));
        assert_eq!((store.get(&config(&["tau=0.5"], 2)), diverged.trained()), (None, None));
        assert_eq!(std::fs::read_to_string(store.path()).unwrap().lines().count(), 4);
        assert_eq!(
            records[2].settings.keys().collect::<Vec<_>>(),
            ["batch", "epochs", "expert_hidden", "experts", "tau"]
        );
    }

    #[test]
    fn an_incomplete_last_line_is_dropped_and_an_invalid_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let lines = [record(&[], 1), record(&[], 2)].map(|r| serde_json::to_string(&r).unwrap());
        for cut in [1, lines[1].len() / 2, lines[1].len()] {
            std::fs::write(&path, format!("{}\n{}", lines[0], &lines[1][..cut])).unwrap();
            let mut store = Store::open(folder.path()).unwrap();
            assert_eq!(store.records().count(), 1);
            store.append(record(&[], 2)).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n{}\n", lines[0], lines[1]));
        }
        std::fs::write(&path, format!("{}\nnonsense\n{}\n", lines[0], lines[1])).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("line 2: not a valid result") && !error.contains('\n'), "{error}");
    }
}
