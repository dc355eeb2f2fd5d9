//! `dynamoe bench accuracy`: how far the engine's f32 functions and norms are from the truth.

use anyhow::Result;
use serde::Serialize;

use super::Output;
use super::measure::digits;
use super::sweep::{FUNCTIONS, Function, NORMS, Norm};
use crate::cli::flags::Threads;
use crate::cli::output::{grouped, table};
use crate::cli::progress::note;
use crate::engine::error::require;
use crate::engine::kernels::{par, simd};

/// The errors of functions and norms in f32, in units in the last place
#[derive(clap::Args)]
pub struct Args {
    /// Try every N-th number; 1 tries all, which takes minutes
    #[arg(long, value_name = "N", default_value_t = 1)]
    stride: u32,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    threads: usize,
    simd_level: &'static str,
    stride: u32,
    functions: Vec<FunctionError>,
    norms: Vec<NormError>,
}

/// The worst of one function.
#[derive(Serialize)]
struct FunctionError {
    function: &'static str,
    low: f32,
    high: f32,
    numbers: u64,
    /// The largest error.
    ulps: f64,
    /// The documented bound of it.
    bound: f64,
    /// Where it is first met.
    x: f32,
    got: f32,
    truth: f64,
}

/// The worst of one norm on rows of one kind.
#[derive(Serialize)]
struct NormError {
    norm: &'static str,
    mean: f32,
    spread: f32,
    elements: usize,
    ulps_of_largest: f64,
    /// The documented bound of it.
    bound: f64,
    ulps_of_element: f64,
}

/// Prints the largest errors against the same functions in f64.
pub fn run(args: Args) -> Result<()> {
    let Args { stride, threads, output: Output { json, quick } } = args;
    require("stride", stride > 0, &stride, "1 or more")?;
    let (stride, rows) = if quick { (stride.max(1_000_003), 8) } else { (stride, 2_000) };
    let report = threads.run(|| {
        Ok(Report {
            threads: par::threads(),
            simd_level: simd::name(),
            stride,
            functions: FUNCTIONS.iter().map(|function| sweep(function, stride)).collect(),
            norms: NORMS.iter().map(|norm| measure(norm, rows)).collect(),
        })
    })?;
    json.print(&report, describe)
}

fn sweep(function: &Function, stride: u32) -> FunctionError {
    let Function { name, low, high, bound, .. } = *function;
    note(&format!("trying {name}"));
    let (numbers, worst) = function.sweep(stride);
    FunctionError {
        function: name,
        low,
        high,
        numbers,
        ulps: worst.ulps,
        bound,
        x: worst.x,
        got: worst.got,
        truth: worst.truth,
    }
}

fn measure(norm: &Norm, rows: usize) -> NormError {
    let Norm { name, mean, spread, bound, .. } = *norm;
    note(&format!("trying {name} on rows of mean {mean} and spread {spread}"));
    let error = norm.measure(rows);
    NormError {
        norm: name,
        mean,
        spread,
        elements: error.elements,
        ulps_of_largest: error.of_largest,
        bound,
        ulps_of_element: error.of_element,
    }
}

fn describe(report: &Report) -> String {
    let functions = report.functions.iter().map(|f| {
        vec![
            f.function.to_string(),
            format!("{:?} to {:?}", f.low, f.high),
            grouped(f.numbers as usize),
            digits(f.ulps),
            digits(f.bound),
            format!("{:?}", f.x),
            format!("{:?}", f.got),
            format!("{:.9e}", f.truth),
        ]
    });
    let head =
        ["", "arguments", "tried", "ulp", "bound", "at", "result", "correct"].map(String::from).to_vec();
    let functions: Vec<_> = std::iter::once(head).chain(functions).collect();
    let norms = report.norms.iter().map(|n| {
        vec![
            n.norm.to_string(),
            format!("{:?}", n.mean),
            format!("{:?}", n.spread),
            grouped(n.elements),
            digits(n.ulps_of_largest),
            digits(n.bound),
            digits(n.ulps_of_element),
        ]
    });
    let head = ["", "mean", "spread", "elements", "ulp of the row's largest", "bound", "ulp of the element"];
    let norms: Vec<_> = std::iter::once(head.map(String::from).to_vec()).chain(norms).collect();
    format!(
        "largest errors in f32, every f32 at stride {}, {}\n\n{}\n{}",
        report.stride,
        report.simd_level,
        table(&functions),
        table(&norms)
    )
}
