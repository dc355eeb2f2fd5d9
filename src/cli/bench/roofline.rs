//! `dynamoe bench roofline`: the training step of every size against the least time it could take.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::measure::{Effort, digits};
use super::network::Shape;
use super::step::{Allocations, Roofline, StepReport, measure};
use crate::cli::run::on_threads;
use crate::cli::text::{grouped, print, table};
use crate::engine::files;
use crate::lab::plot::frame::{Key, Words};
use crate::lab::plot::{axis::Axis, color, lines};
use crate::train::config::PRESETS;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    sizes: Vec<StepReport>,
}

/// Measures every size and prints a table; as a picture in `svg`.
///
/// # Errors
/// An impossible number of threads, or a file that cannot be written.
pub fn run(
    threads: Option<usize>,
    quick: bool,
    json: bool,
    svg: Option<&Path>,
    allocations: Allocations,
) -> Result<()> {
    super::check_folder(svg)?;
    let effort = Effort::FULL.or_quick(quick);
    let one = |size: &str| {
        super::progress(&format!("measuring {size}"));
        let shape = Shape { batch: if quick { 8 } else { 256 }, ..Shape::of_size(size) };
        measure(&shape, effort, allocations)
    };
    let sizes = if quick { &PRESETS[..2] } else { &PRESETS[..] };
    let sizes = on_threads(threads, || sizes.iter().map(|preset| one(preset.0)).collect())?;
    let report = Report { sizes };
    if let Some(path) = svg {
        files::write(path, draw(&report.sizes).as_bytes())?;
    }
    if json {
        return print(&(serde_json::to_string_pretty(&report)? + "\n"));
    }
    let wrote = svg.map_or(String::new(), |path| format!("wrote {}\n", path.display()));
    print(&(describe(&report.sizes) + &wrote))
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
        format!("medians, batch {}, {} thread{s}, {}\n\n", r.batch, r.threads, r.profile)
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
    let labels = sizes.iter().zip(&step).map(label).collect();
    let about = sizes.first().map_or(String::new(), |r| {
        let s = if r.threads == 1 { "" } else { "s" };
        format!(
            "Batch {}, {} thread{s}, {}; percentages: the share of the bound that is reached",
            r.batch, r.threads, r.profile
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
        words: Words {
            title: "A training step and the least time it could take",
            subtitle: &about,
            x: "parameters",
            y: "time [ms]",
        },
        x: Axis::log_if_wide(all().map(|p| p.0)),
        // The topmost point needs room for its label.
        y: Axis::log_if_wide(all().flat_map(|p| [p.1, 2.0 * p.1])),
        labels,
        lines,
    }])
}
