//! `dynamoe train`: a run from settings to summary, with progress.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::run::{on_threads, steps_bar, stop_on_ctrl_c};
use super::text::{grouped, layers, print};
use crate::data::Dataset;
use crate::engine::error::Error;
use crate::lab::plot;
use crate::train::config::{Config, Layers, Network};
use crate::train::learned;
use crate::train::learner::steps_per_epoch;
use crate::train::metrics::{EpochRecord, StepRecord, Summary, perplexity};
use crate::train::run_folder::RunFolder;
use crate::train::{Control, Input, Start, checkpoint, examples, train};

/// The flags that `dynamoe train` and `dynamoe resume` share.
#[derive(Debug)]
pub struct How<'a> {
    /// Where data sets are.
    pub data_dir: Option<&'a Path>,
    /// How many threads; all if not given.
    pub threads: Option<usize>,
    /// Print nothing.
    pub quiet: bool,
    /// Print the summary as JSON, and nothing else.
    pub json: bool,
    /// Where it begins, and what it keeps.
    pub start: Start<'a>,
}

/// Trains the network of these settings in `out_dir`, or in a new folder below `runs/`, and reports on it.
///
/// # Errors
/// Settings that cannot be, data that is missing, NaN in training, a full disk, Ctrl-C (after saving).
pub fn run(layers: &Layers, out_dir: Option<&Path>, how: &How) -> Result<()> {
    let config = Config::resolve(layers)?;
    let (summary, path) = on_threads(how.threads, || {
        let data = examples::load(&config, how.data_dir)?;
        let config = learned::resolve(config, &data)?;
        let folder = match out_dir {
            Some(path) => RunFolder::create(path, &config)?,
            None => RunFolder::create_numbered(&default_folder(&config, layers.preset), &config)?,
        };
        if how.talks() {
            // Output that cannot be written must not end the training.
            print(&headline(&config, &data, folder.path())).ok();
        }
        let summary = watched(&config, &data, &folder, how)?;
        Ok((summary, folder.path().to_path_buf()))
    })?;
    finish(&summary, &path, how)
}

/// Goes on with a run that was stopped.
///
/// # Errors
/// A folder that holds no run or a finished one, and those of [`run`].
pub fn resume(path: &Path, how: &How) -> Result<()> {
    let (folder, config) = RunFolder::open(path)?;
    let folder = folder.locked()?;
    if folder.is_finished() {
        return Err(Error::data(path, "this run is finished; see its summary.json").into());
    }
    if folder.has_checkpoint() {
        let saved = checkpoint::load(&folder.checkpoint(how.start.checkpoint))?;
        if saved.progress.data_digest.is_empty() {
            return Err(Error::data(path, "an imported network has no training that could go on").into());
        }
    }
    let summary = on_threads(how.threads, || {
        let data = examples::load(&config, how.data_dir)?;
        watched(&config, &data, &folder, how)
    })?;
    finish(&summary, path, how)
}

impl How<'_> {
    /// Whether to print while it goes on.
    fn talks(&self) -> bool {
        !self.quiet && !self.json
    }
}

/// Prints what came out, as the flags ask.
fn finish(summary: &Summary, path: &Path, how: &How) -> Result<()> {
    match (how.json, how.quiet) {
        (true, _) => print(&(serde_json::to_string_pretty(summary)? + "\n")),
        (false, true) => Ok(()),
        (false, false) => print(&report(summary, path)),
    }
}

/// `runs/DATASET-SIZE-seedN`.
fn default_folder(config: &Config, preset: Option<&str>) -> PathBuf {
    let network = match config.model {
        Network::Dynamoe => preset.unwrap_or("dynamoe"),
        Network::Mlp => "mlp",
        Network::Transformer => preset.unwrap_or("transformer"),
    };
    // Of a text's path the last part says enough.
    let dataset = Path::new(&config.dataset).file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from("runs").join(format!("{dataset}-{network}-seed{}", config.seed))
}

fn headline(config: &Config, data: &Dataset, path: &Path) -> String {
    let input = Input::of(data);
    let spec = config.spec(input.features(), input.classes());
    let (train, test) = data.counts();
    let examples = match data {
        Dataset::Images(_) => "images".into(),
        Dataset::Text(set) => format!(
            "sequences, {} tokens to learn from, a vocabulary of {}",
            grouped(set.train.predicted()),
            grouped(spec.classes)
        ),
    };
    format!(
        "{}: {} training and {} test {examples}\nexperts {:?}, {} parameters, router: {}\nrun folder {}\n\n",
        data.name(),
        grouped(train),
        grouped(test),
        spec.experts,
        grouped(spec.parameters()),
        spec.router_name(),
        path.display(),
    )
}

/// Trains with a progress bar, a line for each epoch, and Ctrl-C.
fn watched(config: &Config, data: &Dataset, folder: &RunFolder, how: &How) -> Result<Summary> {
    let talk = how.talks();
    let stop = stop_on_ctrl_c()?;
    let bar = steps_bar(0, talk);
    let per_epoch = steps_per_epoch(config, data);
    let mut on_step = |step: &StepRecord, total: u64| {
        bar.set_length(total);
        let ends = step.step == total || step.step.is_multiple_of(per_epoch);
        let then = if ends { ", evaluating" } else { "" };
        bar.set_message(format!("epoch {}  loss {:.4}{then}", step.epoch, step.loss));
        bar.set_position(step.step);
    };
    let mut on_epoch = |epoch: &EpochRecord| {
        if talk {
            let mut line = format!(
                "epoch {:>3}  train loss {:.4}  accuracy {:6.2}%   test loss {:.4}  accuracy {:6.2}%",
                epoch.epoch,
                epoch.train_loss,
                100.0 * epoch.train_accuracy,
                epoch.test_loss,
                100.0 * epoch.test_accuracy
            );
            if let Dataset::Text(_) = data {
                line += &format!("   perplexity {:.2}", perplexity(epoch.test_loss));
            }
            line.push('\n');
            bar.suspend(|| print(&line)).ok();
        }
    };
    let mut control = Control {
        on_step: &mut on_step,
        on_epoch: &mut on_epoch,
        on_finish: &mut plot::run::write,
        stop: &stop,
    };
    let result = train(config, data, folder, &how.start, &mut control);
    bar.finish_and_clear();
    Ok(result?)
}

fn report(summary: &Summary, path: &Path) -> String {
    let Summary { last, best, .. } = summary;
    let (scores, things) = match last.perplexity {
        None => {
            let text = format!(
                "test accuracy {:.2}% (best {:.2}% in epoch {}), loss {:.4}; 95% of it after epoch {}",
                100.0 * last.test_accuracy,
                100.0 * best.test_accuracy,
                best.epoch,
                last.test_loss,
                summary.epochs_to_95
            );
            (text, "images")
        }
        Some(now) => {
            let text = format!(
                "perplexity {now:.2} (best {:.2} in epoch {}), loss {:.4}, next token right {:.2}%",
                perplexity(best.test_loss),
                best.epoch,
                last.test_loss,
                100.0 * last.test_accuracy
            );
            (text, "tokens")
        }
    };
    format!(
        "\n{scores}\n\
         {:.1} s training, {:.1} s evaluating, {} {things}/s on {} threads\n\n{}\ndigest of the parameters {}\neverything is in {}\n",
        summary.seconds.train,
        summary.seconds.eval,
        grouped(summary.samples_per_second as usize),
        summary.threads,
        layers(&summary.layers),
        summary.digests.last,
        path.display(),
    )
}
