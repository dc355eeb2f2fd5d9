//! `dynamoe bench roofline`: the training step of every size against the least time it could take.

use anyhow::Result;
use serde::Serialize;

use super::Output;
use super::measure::{Effort, digits};
use super::network::Shape;
use super::step::{Roofline, StepReport, measure};
use crate::cli::flags::{Svg, Threads};
use crate::cli::output::{grouped, table};
use crate::cli::progress::note;
use crate::lab::plot::frame::{Key, Labels};
use crate::lab::plot::{axis::Axis, color, lines};
use crate::train::config::PRESETS;

/// The training step of every size against the least time it could take
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    svg: Svg,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    sizes: Vec<StepReport>,
}

/// Measures every size and prints a table.
pub fn run(args: Args) -> Result<()> {
    let Args { threads, output: Output { json, quick }, svg } = args;
    svg.check()?;
    let effort = Effort::FULL.or_quick(quick);
    let one = |size: &str| {
        note(&format!("measuring {size}"));
        measure(&Shape { batch: if quick { 8 } else { 256 }, ..Shape::of_size(size) }, effort)
    };
    let sizes = if quick { &PRESETS[..2] } else { &PRESETS[..] };
    let sizes = threads.run(|| sizes.iter().map(|preset| one(preset.0)).collect())?;
    let report = Report { sizes };
    let wrote = svg.write(|| draw(&report.sizes))?;
    json.print(&report, |report| describe(&report.sizes) + &wrote)
}

/// The bound that a report was measured against.
fn bound(r: &StepReport) -> Roofline {
    Roofline::of(r.train_flops as f64, r.parameters, r.peak_gflops, r.stream_gb_s)
}

fn describe(sizes: &[StepReport]) -> String {
    let row = |r: &StepReport| {
        vec![
            r.size.clone(),
            grouped(r.parameters),
            format!("{} ms", digits(r.train_step_ms.median)),
            format!("{} ms", digits(r.roofline_ms)),
            format!("{:.0}%", 100.0 * r.roofline_fraction),
            format!("{:.0} GFLOP/s", r.peak_gflops),
            format!("{:.0} GB/s", r.stream_gb_s),
            format!("{} ms", digits(r.eval_batch_ms.median)),
            format!("{} us", digits(r.eval_one_us.median)),
        ]
    };
    let head = [
        "size",
        "parameters",
        "step",
        "roofline",
        "reached",
        "peak",
        "memory",
        "inference, batch",
        "one image",
    ];
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(String::from).to_vec()).chain(sizes.iter().map(row)).collect();
    sizes.first().map_or(String::new(), |r| {
        let s = if r.threads == 1 { "" } else { "s" };
        format!("medians, batch {}, {} thread{s}, {}\n\n", r.batch, r.threads, r.simd_level)
    }) + &table(&rows)
}

/// Time of a step and its bound over the number of parameters.
fn draw(sizes: &[StepReport]) -> String {
    let points = |time: &dyn Fn(&StepReport) -> f64| -> Vec<(f64, f64)> {
        sizes.iter().map(|r| (r.parameters as f64, time(r))).collect()
    };
    let key = |name: &str, color, width| Key { name: name.into(), color, width };
    let step = points(&|r| r.train_step_ms.median);
    let label = |(r, &point): (&StepReport, &(f64, f64))| {
        (point, format!("{}: {:.0}%", r.size, 100.0 * r.roofline_fraction))
    };
    let annotations = sizes.iter().zip(&step).map(label).collect();
    let about = sizes.first().map_or(String::new(), |r| {
        let s = if r.threads == 1 { "" } else { "s" };
        format!(
            "Batch {}, {} thread{s}, {}; percentages: the share of the bound that is reached",
            r.batch, r.threads, r.simd_level
        )
    });
    let lines = vec![
        (key("products at peak speed", color::GRAY, 1.5), points(&|r| bound(r).products_ms())),
        (key("update at memory's speed", color::EDGE, 1.5), points(&|r| bound(r).update_ms())),
        (key("both: the bound", color::TEST, 2.0), points(&|r| r.roofline_ms)),
        (key("measured", color::TRAIN, 2.0), step),
    ];
    let all = || lines.iter().flat_map(|line| line.1.iter());
    lines::draw(&[lines::Chart {
        labels: Labels {
            title: "A training step and the least time it could take",
            subtitle: &about,
            x: "parameters",
            y: "time [ms]",
        },
        x: Axis::log_if_wide(all().map(|p| p.0)),
        // The topmost point needs room for its label.
        y: Axis::log_if_wide(all().flat_map(|p| [p.1, 2.0 * p.1])),
        annotations,
        lines,
    }])
}
