//! `dynamoe bench accuracy`: how far the engine's f32 functions and norms are from the truth.

use anyhow::Result;
use serde::Serialize;

use super::measure::digits;
use crate::cli::bench::sweep::{FUNCTIONS, Function, NORMS, Norm};
use crate::cli::run::on_threads;
use crate::cli::text::{grouped, print, table};
use crate::engine::error::Error;
use crate::engine::kernels::{par, simd};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    threads: usize,
    profile: &'static str,
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
    ulps_of_element: f64,
}

/// Compares every `stride`-th f32, and random rows, with the same in f64 and prints the largest errors.
///
/// # Errors
/// A stride of 0, an impossible number of threads.
pub fn run(stride: u32, threads: Option<usize>, quick: bool, json: bool) -> Result<()> {
    if stride == 0 {
        return Err(Error::config("stride", "0 is impossible; it must be at least 1").into());
    }
    let (stride, rows) = if quick { (stride.max(1_000_003), 8) } else { (stride, 2_000) };
    let report = on_threads(threads, || {
        Ok(Report {
            threads: par::threads(),
            profile: simd::name(),
            stride,
            functions: FUNCTIONS.iter().map(|function| sweep(function, stride)).collect(),
            norms: NORMS.iter().map(|norm| measure(norm, rows)).collect(),
        })
    })?;
    if json {
        return print(&(serde_json::to_string_pretty(&report)? + "\n"));
    }
    print(&describe(&report))
}

fn sweep(function: &Function, stride: u32) -> FunctionError {
    let Function { name, low, high, .. } = *function;
    super::progress(&format!("trying {name}"));
    let (numbers, worst) = function.sweep(stride);
    FunctionError {
        function: name,
        low,
        high,
        numbers,
        ulps: worst.ulps,
        x: worst.x,
        got: worst.got,
        truth: worst.truth,
    }
}

fn measure(norm: &Norm, rows: usize) -> NormError {
    let Norm { name, mean, spread, .. } = *norm;
    super::progress(&format!("trying {name} on rows of mean {mean} and spread {spread}"));
    let error = norm.measure(rows);
    NormError {
        norm: name,
        mean,
        spread,
        elements: error.elements,
        ulps_of_largest: error.of_largest,
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
            format!("{:?}", f.x),
            format!("{:?}", f.got),
            format!("{:.9e}", f.truth),
        ]
    });
    let head = ["", "arguments", "tried", "ulp", "at", "there", "should be"].map(String::from).to_vec();
    let functions: Vec<_> = std::iter::once(head).chain(functions).collect();
    let norms = report.norms.iter().map(|n| {
        vec![
            n.norm.to_string(),
            format!("{:?}", n.mean),
            format!("{:?}", n.spread),
            grouped(n.elements),
            digits(n.ulps_of_largest),
            digits(n.ulps_of_element),
        ]
    });
    let head = ["", "mean", "spread", "elements", "ulp of the row's largest", "ulp of the element"];
    let norms: Vec<_> = std::iter::once(head.map(String::from).to_vec()).chain(norms).collect();
    format!(
        "largest errors in f32, every f32 at stride {}, {}\n\n{}\n{}",
        report.stride,
        report.profile,
        table(&functions),
        table(&norms)
    )
}
