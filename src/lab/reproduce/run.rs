//! Training the cells without a result, several in parallel, each on one thread.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use cpu_time::ThreadTime;

use super::experiment::Experiment;
use super::results::{Outcome, Record, Store, Trained};
use crate::data::Dataset;
use crate::engine::error::{Error, Result};
use crate::engine::kernels::par;
use crate::lab::analysis::tokens::Classes;
use crate::lab::analysis::{gradient_variance, tokens};
use crate::nn::{Init, Model};
use crate::train::config::{Config, DataSettings};
use crate::train::learned;
use crate::train::metrics::{Seconds, StepRecord, Summary};
use crate::train::run_folder::{LAST, RunFolder};
use crate::train::{Control, Start, checkpoint, examples, learner::steps_per_epoch, train};

/// What to train, and how.
pub struct Plan<'a> {
    /// The experiments.
    pub experiments: &'a [Experiment],
    /// The seeds.
    pub seeds: &'a [u64],
    /// The folder of the results and of cells in training.
    pub folder: &'a Path,
    /// The folder of the data sets.
    pub data_dir: Option<&'a Path>,
    /// The number of cells to train in parallel.
    pub workers: usize,
    /// The git revision of the program.
    pub revision: Option<&'a str>,
    /// Set by the caller (Ctrl-C) to save and stop.
    pub stop: &'a AtomicBool,
}

/// Progress, reported by any of the workers.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Cells without a result were found; more may follow.
    Found {
        /// The number of cells.
        cells: usize,
        /// Their optimizer steps in total.
        steps: u64,
    },
    /// A worker starts or resumes a cell.
    Started {
        /// The worker, from 0.
        worker: usize,
        /// The cell.
        job: &'a Job,
    },
    /// This many steps were taken since the last report.
    Steps(u64),
    /// A cell is finished and stored.
    Finished {
        /// The worker.
        worker: usize,
        /// The cell.
        job: &'a Job,
        /// Its result.
        record: &'a Record,
    },
}

/// A cell with one seed.
#[derive(Debug)]
pub struct Job {
    /// The first experiment that contains the cell, its label and the seed.
    pub name: String,
    config: Config,
}

impl Plan<'_> {
    /// Trains every cell without a result and returns their number.
    ///
    /// # Errors
    /// Missing data, I/O errors, [`Error::Interrupted`] (after saving). Divergence is a result, not an error.
    pub fn run(&self, store: &mut Store, watch: &(dyn Fn(Event) + Sync)) -> Result<usize> {
        let (mut data, mut count) = (BTreeMap::new(), 0);
        loop {
            // The configuration of a matched cell is known only after the cell it is derived from.
            let jobs = self.jobs(store);
            if jobs.is_empty() {
                return Ok(count);
            }
            for job in &jobs {
                if let Entry::Vacant(place) = data.entry(data_key(&job.config)) {
                    place.insert(examples::load(&job.config, self.data_dir)?);
                }
            }
            let steps = jobs.iter().map(|job| steps(&job.config, &data)).sum();
            watch(Event::Found { cells: jobs.len(), steps });
            self.train_all(&jobs, &data, store, watch)?;
            count += jobs.len();
        }
    }

    /// Cells without a result, without duplicates; all cells of one seed before the next seed.
    fn jobs(&self, store: &Store) -> Vec<Job> {
        let (mut jobs, mut seen) = (Vec::new(), BTreeSet::new());
        for &seed in self.seeds {
            for (experiment, cell) in
                self.experiments.iter().flat_map(|e| e.cells.iter().map(move |c| (e, c)))
            {
                let Some(config) = cell.config(seed, store) else { continue };
                if store.get(&config).is_none() && seen.insert(config.to_toml()) {
                    let name = format!("{}: {}, seed {seed}", experiment.name, cell.label);
                    jobs.push(Job { name, config });
                }
            }
        }
        jobs
    }

    fn train_all(
        &self,
        jobs: &[Job],
        data: &BTreeMap<String, Dataset>,
        store: &mut Store,
        watch: &(dyn Fn(Event) + Sync),
    ) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (store, error) = (Mutex::new(store), Mutex::new(None));
        let work = |worker: usize| -> Result<()> {
            while !failed.load(Ordering::Relaxed) {
                let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                if self.stop.load(Ordering::Relaxed) {
                    return Err(self.interrupted());
                }
                watch(Event::Started { worker, job });
                let folder = self.cell_folder(&job.config);
                let outcome = self.train_one(&folder, job, &data[&data_key(&job.config)], watch)?;
                let record = Record::new(&job.config, outcome);
                store.lock().expect("no worker panicked").append(record.clone())?;
                std::fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
                watch(Event::Finished { worker, job, record: &record });
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            for worker in 0..self.workers.clamp(1, jobs.len()) {
                let (work, failed, error) = (&work, &failed, &error);
                scope.spawn(move || {
                    let done = par::try_with_threads(1, || work(worker));
                    if let Err(e) = done.unwrap_or_else(|| Err(par::refused(self.workers))) {
                        failed.store(true, Ordering::Relaxed);
                        error.lock().expect("no worker panicked").get_or_insert(e);
                    }
                });
            }
        });
        error.into_inner().expect("no worker panicked").map_or(Ok(()), Err)
    }

    fn interrupted(&self) -> Error {
        Error::Interrupted { saved: self.folder.to_path_buf(), next: "the same command".into() }
    }

    /// The run folder of a cell while it trains.
    fn cell_folder(&self, config: &Config) -> PathBuf {
        self.folder.join("cells").join(&crate::train::manifest::config_digest(config)[..16])
    }

    /// Trains a cell, or resumes it.
    fn train_one(
        &self,
        path: &Path,
        job: &Job,
        data: &Dataset,
        watch: &(dyn Fn(Event) + Sync),
    ) -> Result<Outcome> {
        let config = &match learned::resolve(job.config.clone(), data) {
            Ok(config) => config,
            Err(error) => return diverged(error),
        };
        let opened = RunFolder::open(path).ok().filter(|(_, found)| found == config);
        let folder = match opened {
            Some((folder, _)) => folder.locked()?,
            None => {
                // A leftover of a process that was killed before its run began.
                if path.exists() {
                    std::fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
                }
                RunFolder::create(path, config)?
            }
        };
        let (wall, own) = (Instant::now(), ThreadTime::now());
        let summary = match finished(&folder) {
            Some(summary) => summary,
            None => {
                let mut before = 0;
                let mut on_step = |step: &StepRecord, _| {
                    watch(Event::Steps(step.step - before));
                    before = step.step;
                };
                let mut control = Control {
                    on_step: &mut on_step,
                    on_epoch: &mut |_| (),
                    on_finish: &mut |_, _, _| Ok(()),
                    stop: self.stop,
                };
                let start = Start { checkpoint: LAST, keep_last: 1, revision: self.revision };
                match train(config, data, &folder, &start, &mut control) {
                    Ok(summary) => {
                        // CPU time: waiting for a core does not count.
                        let share = (own.elapsed().as_secs_f64() / wall.elapsed().as_secs_f64()).min(1.0);
                        let Seconds { train, eval } = summary.seconds;
                        Summary { seconds: Seconds { train: share * train, eval: share * eval }, ..summary }
                    }
                    Err(Error::Interrupted { .. }) => return Err(self.interrupted()),
                    Err(error) => return diverged(error),
                }
            }
        };
        if !summary.last.test_loss.is_finite() {
            return Ok(Outcome::Diverged(format!(
                "the loss on the test split is {}",
                summary.last.test_loss
            )));
        }
        let (patterns, gradient_variance) = analyze(config, data, &folder)?;
        Ok(Outcome::Trained(Box::new(Trained::new(summary, patterns, gradient_variance))))
    }
}

/// Divergence is a result.
fn diverged(error: Error) -> Result<Outcome> {
    match error {
        Error::NonFinite { step, what, .. } => Ok(Outcome::Diverged(format!("step {step}: {what}"))),
        error => Err(error),
    }
}

/// The summary of a run that finished just before its process was killed.
fn finished(folder: &RunFolder) -> Option<Summary> {
    serde_json::from_slice(&std::fs::read(folder.path().join("summary.json")).ok()?).ok()
}

/// The number of distinct activation patterns in each layer on the test split, and the variance of the gates'
/// gradients with varying and with fixed k.
fn analyze(
    config: &Config,
    data: &Dataset,
    folder: &RunFolder,
) -> Result<(Vec<usize>, Option<gradient_variance::Comparison>)> {
    let saved = checkpoint::load(&folder.last())?;
    let input = &saved.progress.input;
    let mut model =
        Model::new(&config.spec(input.features(), input.classes()), &mut Init::new(config.train.seed));
    saved.restore(&mut model, &folder.last())?;
    let tokens = tokens::observe(&model, &data.test, &Classes::of(input))?;
    let patterns = (0..config.model.layers).map(|layer| tokens::patterns(&tokens, layer).len()).collect();
    Ok((patterns, gradient_variance::compare(&model, &data.train, config.train.seed)?))
}

/// The settings that determine the data of a cell.
fn data_key(config: &Config) -> String {
    let DataSettings { dataset, tokenizer, sequence, pack } = &config.data;
    format!("{dataset} {tokenizer:?} {sequence} {pack}")
}

/// Optimizer steps of a complete training.
fn steps(config: &Config, data: &BTreeMap<String, Dataset>) -> u64 {
    let all = steps_per_epoch(config, &data[&data_key(config)]) * config.train.epochs as u64;
    if config.train.max_steps > 0 { all.min(config.train.max_steps) } else { all }
}
