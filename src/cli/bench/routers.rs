//! `dynamoe bench routers`: a training step with every router against plain top-2, in turns.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::Output;
use super::measure::{MS, Times, digits};
use super::network::Network;
use crate::cli::flags::Threads;
use crate::cli::output::table;
use crate::cli::progress::note;
use crate::engine::kernels::par;
use crate::nn::router::{NAMES, Settings};
use crate::train::config::{Config, Sources};

/// Images in a batch, numbers in an image, classes: MNIST's.
const SHAPE: (usize, usize, usize) = (256, 784, 10);
/// What the others are compared with.
const REFERENCE: &str = "top-k";

/// A training step with every router against plain top-2
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    threads: usize,
    turns: usize,
    routers: Vec<RouterReport>,
}

/// One router.
#[derive(Serialize)]
struct RouterReport {
    name: &'static str,
    /// Settings that bring it near two experts per image.
    settings: Vec<String>,
    /// Mean number of experts per image in the first training step, for each layer.
    mean_k: Vec<f64>,
    train_step_ms: Times,
    /// Median over the turns of its time over top-2's in the same turn.
    ratio: f64,
}

/// Measures and prints.
pub fn run(args: Args) -> Result<()> {
    let Args { threads, output: Output { json, quick } } = args;
    note("measuring every router");
    let report = threads.run(|| measure(if quick { 2 } else { 60 }))?;
    json.print(&report, describe)
}

fn measure(turns: usize) -> Result<Report> {
    let (batch, inputs, classes) = SHAPE;
    let network = |&name: &&str| -> Result<(Vec<String>, Network)> {
        let mut settings = vec![format!("router={name}")];
        settings.extend(Settings::named(name)?.near_two().iter().map(|text| text.to_string()));
        let config =
            Config::resolve(&Sources { preset: Some("small"), set: settings.clone(), ..Sources::default() })?;
        Ok((settings, Network::new(&config.spec(inputs, classes), batch)))
    };
    let mut all: Vec<_> = NAMES.iter().map(network).collect::<Result<_>>()?;
    let mean_k: Vec<Vec<f64>> = all.iter_mut().map(|(_, network)| network.step_k()).collect::<Result<_>>()?;
    // A turn of each before the first that counts.
    let mut seconds = vec![Vec::with_capacity(turns); all.len()];
    for turn in 0..=turns {
        for ((_, network), seconds) in all.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            network.step()?;
            if turn > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let reference = NAMES.iter().position(|&name| name == REFERENCE).expect("top-k is a router");
    let reference = seconds[reference].clone();
    let routers = NAMES.iter().zip(all).zip(seconds).zip(mean_k);
    let routers = routers.map(|(((name, (settings, _)), seconds), mean_k)| {
        let ratios = seconds.iter().zip(&reference).map(|(own, reference)| own / reference).collect();
        RouterReport {
            name,
            settings,
            mean_k,
            ratio: Times::of(ratios, 1.0).median,
            train_step_ms: Times::of(seconds, MS),
        }
    });
    Ok(Report { threads: par::threads(), turns, routers: routers.collect() })
}

fn describe(report: &Report) -> String {
    let head = ["router", "experts per image", "step", "against top-2"].map(String::from).to_vec();
    let rows = report.routers.iter().map(|r| {
        vec![
            r.name.to_string(),
            r.mean_k.iter().map(|k| format!("{k:.2}")).collect::<Vec<_>>().join(" "),
            format!("{} ms", digits(r.train_step_ms.median)),
            format!("{:.2}", r.ratio),
        ]
    });
    format!(
        "small, batch {}, {} threads, {} turns\n\n{}",
        SHAPE.0,
        report.threads,
        report.turns,
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    )
}
