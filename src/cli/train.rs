//! `dynamoe train`: a run from settings to summary, with progress.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::flags::{Machine, Network, Training};
use super::output::{grouped, layers, print};
use super::progress::{steps_bar, stop_on_ctrl_c};
use crate::data::Dataset;
use crate::lab::plot;
use crate::train::config::{self, Config, Resolved, Sources};
use crate::train::learned;
use crate::train::learner::steps_per_epoch;
use crate::train::metrics::{EpochRecord, StepRecord, Summary, perplexity};
use crate::train::run_folder::{LAST, RunFolder};
use crate::train::{Control, examples, train};

/// Train a network (without flags: on the bundled digits)
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: Network,
    /// Passes over the training set
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Stop after this many steps; 0 for no limit
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    #[command(flatten)]
    machine: Machine,
    /// Folder of the run [default: a new one below runs/]
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    #[command(flatten)]
    training: Training,
}

/// Trains in `out_dir`, or in a new folder below `runs/`, and prints a report. Ctrl-C saves first.
pub fn run(args: Args) -> Result<()> {
    let Args { network, epochs, max_steps, machine, out_dir, training } = args;
    let config = Config::resolve(&Sources { epochs, max_steps, ..network.sources() })?;
    let (summary, path) = machine.threads.run(|| {
        let data = examples::load(&config, machine.data.path())?;
        let config = learned::resolve(config, &data)?;
        let folder = match &out_dir {
            Some(path) => RunFolder::create(path, &config)?,
            None => RunFolder::create_numbered(&default_folder(&config, network.preset.as_deref()), &config)?,
        };
        if training.is_verbose() {
            // Output that cannot be written must not end the training.
            print(&headline(&config, &data, folder.path())).ok();
        }
        let summary = watch(&config, &data, &folder, LAST, &training)?;
        Ok((summary, folder.path().to_path_buf()))
    })?;
    finish(&summary, &path, &training)
}

/// `runs/DATASET-SIZE-seedN`.
fn default_folder(config: &Config, preset: Option<&str>) -> PathBuf {
    let network = match config.model.kind {
        config::Network::Dynamoe => preset.unwrap_or("dynamoe"),
        config::Network::Mlp => "mlp",
        config::Network::Transformer => preset.unwrap_or("transformer"),
    };
    // The last part of a text's path is enough.
    let dataset = Path::new(&config.data.dataset).file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from("runs").join(format!("{dataset}-{network}-seed{}", config.train.seed))
}

fn headline(config: &Config, data: &Dataset, path: &Path) -> String {
    let spec = config.spec(data.encoding.features(), data.encoding.classes());
    let task = data.encoding.task();
    let mut examples = task.examples.to_string();
    if task.predicts_next {
        let (tokens, vocabulary) = (grouped(data.train.targets()), grouped(spec.classes));
        examples += &format!(", {tokens} training tokens, a vocabulary of {vocabulary}");
    }
    format!(
        "{}: {} training and {} test {examples}\nexperts {:?}, {} parameters, router: {}\nrun folder {}\n\n",
        data.name,
        grouped(data.train.len()),
        grouped(data.test.len()),
        spec.experts,
        grouped(spec.parameters()),
        spec.router_name(),
        path.display(),
    )
}

/// Trains from `checkpoint` on with a progress bar, a line for each epoch, and Ctrl-C.
pub fn watch(
    config: &Resolved,
    data: &Dataset,
    folder: &RunFolder,
    checkpoint: &str,
    training: &Training,
) -> Result<Summary> {
    let verbose = training.is_verbose();
    let stop = stop_on_ctrl_c()?;
    let bar = steps_bar(0, verbose);
    let per_epoch = steps_per_epoch(config, data);
    let mut on_step = |step: &StepRecord, total: u64| {
        bar.set_length(total);
        let ends = step.step == total || step.step.is_multiple_of(per_epoch);
        let next = if ends { ", evaluating" } else { "" };
        bar.set_message(format!("epoch {}  loss {:.4}{next}", step.epoch, step.loss));
        bar.set_position(step.step);
    };
    let mut on_epoch = |epoch: &EpochRecord| {
        if verbose {
            let mut line = format!(
                "epoch {:>3}  train loss {:.4}  accuracy {:6.2}%   test loss {:.4}  accuracy {:6.2}%",
                epoch.epoch,
                epoch.train_loss,
                100.0 * epoch.train_accuracy,
                epoch.test_loss,
                100.0 * epoch.test_accuracy
            );
            if data.encoding.task().predicts_next {
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
    let result = train(config, data, folder, &training.start(checkpoint), &mut control);
    bar.finish_and_clear();
    Ok(result?)
}

/// Prints the summary as the flags say.
pub fn finish(summary: &Summary, path: &Path, training: &Training) -> Result<()> {
    match (training.json, training.quiet) {
        (true, _) => print(&(serde_json::to_string_pretty(summary)? + "\n")),
        (false, true) => Ok(()),
        (false, false) => print(&report(summary, path)),
    }
}

fn report(summary: &Summary, path: &Path) -> String {
    let Summary { last, best, .. } = summary;
    let (scores, things) = match last.perplexity {
        None => {
            let text = format!(
                "test accuracy {:.2}% (best {:.2}% in epoch {}), loss {:.4}; 95% of it reached in epoch {}",
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
                "perplexity {now:.2} (best {:.2} in epoch {}), loss {:.4}, next-token accuracy {:.2}%",
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
         {:.1} s training, {:.1} s evaluating, {} {things}/s on {} threads\n\n{}\ndigest of the parameters {}\nrun folder {}\n",
        summary.seconds.train,
        summary.seconds.eval,
        grouped(summary.samples_per_second as usize),
        summary.threads,
        layers(&summary.layers),
        summary.digests.last,
        path.display(),
    )
}
