//! `dynamoe reproduce`: the papers' experiments, run where results are missing, and reported.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::flags::{Json, Machine};
use super::output::{print, table};
use super::progress::stop_on_ctrl_c;
use crate::lab::reproduce::cell::Scale;
use crate::lab::reproduce::experiment::Experiment;
use crate::lab::reproduce::experiments;
use crate::lab::reproduce::report::document::Block;
use crate::lab::reproduce::report::{self, Section};
use crate::lab::reproduce::results::{Outcome, Store};
use crate::lab::reproduce::run::{Event, Plan};
use crate::lab::reproduce::seeds::Seeds;

/// Run the papers' experiments and report which claims hold; finished networks are not trained again
#[derive(clap::Args)]
pub struct Args {
    /// table2, table3, table4, table6, table7, routers, balance, fairness, theory; all of these; and those that take
    /// hours: sizes, table5, table5-web, transformer
    #[arg(required = true, value_name = "NAME")]
    experiments: Vec<String>,
    /// Seeds, such as 1..5 (both included) or 1,2,5 [default: 1..3; with --quick 1..2]
    #[arg(long, value_name = "LIST")]
    seeds: Option<Seeds>,
    /// Tiny networks on the bundled digits, to check that everything runs
    #[arg(long)]
    quick: bool,
    /// Folder of results and report [default: runs/reproduce, with --quick runs/reproduce-quick]
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    // Networks train side by side, one per thread.
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    json: Json,
}

/// Trains what has no result yet, writes the report, and prints its sections on these experiments. Ctrl-C saves first.
pub fn run(args: Args) -> Result<()> {
    let Args { experiments, seeds, quick, out_dir, machine, json } = args;
    let scale = if quick { Scale::Quick } else { Scale::Full };
    let experiments = experiments::named(&experiments, scale)?;
    let (last, folder) = if quick { (2, "runs/reproduce-quick") } else { (3, "runs/reproduce") };
    let seeds = seeds.map_or_else(|| (1..=last).collect(), |seeds| seeds.0);
    let folder = out_dir.as_deref().unwrap_or(Path::new(folder));
    let workers = machine.threads.count()?;
    let mut store = Store::open(folder)?;
    let stop = stop_on_ctrl_c()?;
    let plan = Plan {
        experiments: &experiments,
        seeds: &seeds,
        folder,
        data_dir: machine.data.path(),
        workers,
        revision: super::revision(),
        stop: &stop,
    };
    let trained = watched(&plan, &mut store)?;
    report::write(folder, scale, &store)?;
    let sections: Vec<Section> = experiments.iter().filter_map(|e| Section::of(e, &store)).collect();
    if json.json {
        let json = serde_json::json!({ "trained": trained, "experiments": sections });
        return print(&(serde_json::to_string_pretty(&json)? + "\n"));
    }
    print(&(sections.iter().map(text).collect::<String>() + &closing(trained, &experiments, folder)))
}

/// Trains with one progress bar over all cells, if standard error is a terminal.
fn watched(plan: &Plan, store: &mut Store) -> Result<usize> {
    let bar = ProgressBar::new(0);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style =
        "{bar:24} {percent}% of {prefix} networks  {per_sec}  {elapsed} so far, {eta} left\n{wide_msg}";
    let style = ProgressStyle::with_template(style).expect("a valid template");
    bar.set_style(style.with_key(
        "per_sec",
        |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            _ = write!(out, "{:.0} steps/s", state.per_sec());
        },
    ));
    // Cells found so far, and the cell that each worker trains.
    let state = Mutex::new((0, vec![String::new(); plan.workers]));
    let show = |worker: usize, name: &str| {
        let mut state = state.lock().expect("no worker panicked");
        state.1[worker] = name.to_string();
        let busy = state.1.iter().filter(|name| !name.is_empty()).map(String::as_str);
        bar.set_message(busy.collect::<Vec<_>>().join("   "));
    };
    let watch = |event: Event| match event {
        Event::Found { cells, steps } => {
            let mut state = state.lock().expect("no worker panicked");
            state.0 += cells;
            bar.set_prefix(state.0.to_string());
            bar.inc_length(steps);
        }
        Event::Started { worker, job } => show(worker, &job.name),
        Event::Steps(count) => bar.inc(count),
        Event::Finished { worker, job, record } => {
            show(worker, "");
            let line = match &record.outcome {
                Outcome::Trained(t) => format!("{}: {:.2}%", job.name, 100.0 * t.last.test_accuracy),
                Outcome::Diverged(what) => format!("{}: {what}", job.name),
            };
            bar.println(line);
        }
    };
    let trained = plan.run(store, &watch);
    bar.finish_and_clear();
    Ok(trained?)
}

/// A section for the terminal: its table and its verdicts.
fn text(section: &Section) -> String {
    let mut out = format!("{}\n\n", section.title);
    if let Block::Table { head, rows } = &section.table {
        out += &table(&[std::slice::from_ref(head), rows].concat());
    }
    out.push('\n');
    for finding in &section.claims {
        out += &format!("{}: {} ({})\n", finding.claim, finding.word(), finding.evidence);
    }
    out + if section.claims.is_empty() { "" } else { "\n" }
}

fn closing(trained: usize, experiments: &[Experiment], folder: &Path) -> String {
    let cells: usize = experiments.iter().map(|e| e.cells.len()).sum();
    let folder = folder.display();
    format!(
        "{trained} networks trained now, for {cells} cells; results are in {folder}/results.jsonl\n\
         the report is in {folder}/report.md and {folder}/report.html\n"
    )
}
