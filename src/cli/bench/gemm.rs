//! `dynamoe bench gemm`: matrix products against the processor's peak.

use anyhow::Result;
use serde::Serialize;

use super::Output;
use super::measure::{Effort, US, digits, time};
use super::peak;
use crate::cli::output::table;
use crate::cli::progress::note;
use crate::cli::threads::run_on;
use crate::engine::kernels::gemm::{self, Mat};
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::{par, simd};

/// A product of an m x k with a k x n matrix.
#[derive(Clone, Copy, Debug)]
struct Shape {
    what: &'static str,
    m: usize,
    k: usize,
    n: usize,
    /// The left matrix is stored as its transpose.
    left_t: bool,
    /// The right matrix is stored as its transpose.
    right_t: bool,
}

const fn plain(what: &'static str, m: usize, k: usize, n: usize) -> Shape {
    Shape { what, m, k, n, left_t: false, right_t: false }
}

/// Squares, and the products of a training step of the network Small.
const SHAPES: [Shape; 12] = [
    plain("square", 64, 64, 64),
    plain("square", 128, 128, 128),
    plain("square", 256, 256, 256),
    plain("square", 512, 512, 512),
    plain("square", 1024, 1024, 1024),
    plain("input layer", 256, 784, 128),
    Shape { left_t: true, ..plain("its weights' gradient", 784, 256, 128) },
    plain("router", 256, 128, 8),
    plain("expert, first layer", 48, 128, 64),
    plain("expert, second layer", 48, 64, 128),
    Shape { left_t: true, ..plain("expert, weights' gradient", 128, 48, 64) },
    Shape { right_t: true, ..plain("expert, inputs' gradient", 48, 64, 128) },
];

/// Matrix products against the processor's peak
#[derive(clap::Args)]
pub struct Args {
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    threads: usize,
    simd_level: &'static str,
    peak_gflops: f64,
    products: Vec<Product>,
}

/// One product.
#[derive(Serialize)]
struct Product {
    what: &'static str,
    m: usize,
    k: usize,
    n: usize,
    left_transposed: bool,
    right_transposed: bool,
    median_us: f64,
    gflops: f64,
    share_of_peak: f64,
}

/// Prints the speed of products.
pub fn run(args: Args) -> Result<()> {
    let Args { threads, output: Output { json, quick } } = args;
    let effort = Effort::POINT.or_quick(quick).of_short_work();
    let report = run_on(threads, || {
        let shapes = SHAPES.iter().filter(|shape| !quick || shape.m <= 256);
        let peak_before = peak::gflops(effort.peak());
        let mut products: Vec<Product> = shapes.map(|shape| measure(shape, effort)).collect::<Result<_>>()?;
        // Measured before and after, in case the machine is busy with something else in between.
        let peak_gflops = peak::gflops(effort.peak()).max(peak_before);
        products.iter_mut().for_each(|product| product.share_of_peak = product.gflops / peak_gflops);
        Ok(Report { threads: par::threads(), simd_level: simd::name(), peak_gflops, products })
    })?;
    json.print(&report, describe)
}

fn measure(shape: &Shape, effort: Effort) -> Result<Product> {
    let Shape { what, m, k, n, left_t, right_t } = *shape;
    note(&format!("measuring {m} x {k} x {n}"));
    let numbers = |len, layer| {
        let mut numbers = vec![0.0f32; len];
        Stream::new(1, Purpose::Check, layer, 0).normal(&mut numbers, 1.0);
        numbers
    };
    let (a, b) = (numbers(m * k, 0), numbers(k * n, 1));
    let a = if left_t { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
    let b = if right_t { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
    let mut out = vec![0.0; m * n];
    let times = time(effort, US, || {
        gemm::product(&mut out, a, b);
        std::hint::black_box(&out);
        Ok(())
    })?;
    Ok(Product {
        what,
        m,
        k,
        n,
        left_transposed: left_t,
        right_transposed: right_t,
        median_us: times.median,
        gflops: (2 * m * k * n) as f64 / times.median / 1e3,
        // Known when the peak is.
        share_of_peak: f64::NAN,
    })
}

fn describe(report: &Report) -> String {
    let mark = |transposed| if transposed { "^T" } else { "" };
    let row = |p: &Product| {
        vec![
            p.what.to_string(),
            format!(
                "{}x{}{} times {}x{}{}",
                p.m,
                p.k,
                mark(p.left_transposed),
                p.k,
                p.n,
                mark(p.right_transposed)
            ),
            format!("{} us", digits(p.median_us)),
            format!("{:.1} GFLOP/s", p.gflops),
            format!("{:.0}%", 100.0 * p.share_of_peak),
        ]
    };
    let head = ["", "product", "median", "speed", "of the peak"].map(String::from).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(report.products.iter().map(row)).collect();
    let s = if report.threads == 1 { "" } else { "s" };
    format!(
        "{} thread{s}, {}, peak {:.0} GFLOP/s; ^T: stored as its transpose\n\n{}",
        report.threads,
        report.simd_level,
        report.peak_gflops,
        table(&rows)
    )
}
