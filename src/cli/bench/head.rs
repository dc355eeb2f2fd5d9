//! `dynamoe bench head`: the head over a vocabulary with its loss, against the processor's peak.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Output;
use super::measure::{Effort, MS, Times, digits, time};
use super::peak;
use crate::cli::flags::Threads;
use crate::cli::output::{grouped, table};
use crate::cli::progress::note;
use crate::engine::arr::{self, Arr};
use crate::engine::error::require;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::{par, simd};
use crate::engine::ops::fused::linear_cross_entropy::LinearCrossEntropy;
use crate::engine::tape::{Mode, Tape};

/// How often to repeat what takes seconds.
const EFFORT: Effort = Effort { warm_up: 1, least: 7, most: 30, seconds: 4.0 };

/// The head over a vocabulary with its loss and gradients against the processor's peak
#[derive(clap::Args)]
pub struct Args {
    /// Width of a token
    #[arg(long, value_delimiter = ',', value_name = "WIDTHS", default_value = "64,128,256")]
    width: Vec<usize>,
    /// Tokens in a batch
    #[arg(long, value_name = "N", default_value_t = 4096)]
    tokens: usize,
    /// Tokens in the vocabulary
    #[arg(long, value_name = "N", default_value_t = 50257)]
    vocabulary: usize,
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
    peak_gflops: f64,
    tokens: usize,
    vocabulary: usize,
    widths: Vec<Width>,
}

/// The head for tokens of one width.
#[derive(Serialize)]
struct Width {
    width: usize,
    /// Three products: forward, and the gradients of tokens and vocabulary.
    train: Speed,
    /// One product.
    evaluate: Speed,
}

/// How long it takes, and the speed of its products in that time.
#[derive(Serialize)]
struct Speed {
    ms: Times,
    gflops: f64,
    share_of_peak: f64,
}

/// Prints the speed of the loss of random tokens, with and without its gradients.
pub fn run(args: Args) -> Result<()> {
    let Args { width: widths, tokens, vocabulary, threads, output: Output { json, quick } } = args;
    let sizes = [("tokens", tokens), ("vocabulary", vocabulary)];
    for (key, value) in widths.iter().map(|&width| ("width", width)).chain(sizes) {
        require(key, (1..=1 << 20).contains(&value), &value, "1 to 1048576")?;
    }
    let widest = widths.iter().max().copied().unwrap_or(0);
    let what = "too large; width times tokens and times vocabulary must stay below 2^28";
    ensure!(widest * tokens.max(vocabulary) < 1 << 28, "setting width: {widest}: {what}");
    let effort = EFFORT.or_quick(quick);
    let report = threads.run(|| {
        let before = peak::gflops(effort.peak());
        let mut widths: Vec<Width> =
            widths.iter().map(|&width| measure(width, tokens, vocabulary, effort)).collect::<Result<_>>()?;
        // Measured before and after, in case the machine is busy with something else in between.
        let peak_gflops = peak::gflops(effort.peak()).max(before);
        for speed in widths.iter_mut().flat_map(|width| [&mut width.train, &mut width.evaluate]) {
            speed.share_of_peak = speed.gflops / peak_gflops;
        }
        Ok(Report {
            threads: par::threads(),
            simd_level: simd::name(),
            peak_gflops,
            tokens,
            vocabulary,
            widths,
        })
    })?;
    json.print(&report, describe)
}

fn measure(width: usize, tokens: usize, vocabulary: usize, effort: Effort) -> Result<Width> {
    note(&format!("measuring width {width}"));
    let numbers = |rows: usize, layer, scale| {
        let mut numbers = vec![0.0f32; rows * width];
        Stream::new(1, Purpose::Check, layer, 0).normal(&mut numbers, scale);
        arr::from_vec(&[rows, width], numbers)
    };
    let inputs = [numbers(tokens, 0, 1.0), numbers(vocabulary, 1, 1.0 / (width as f32).sqrt())];
    let mut generator = Stream::new(1, Purpose::Check, 2, 0).generator();
    let targets: Arc<[u32]> = (0..tokens).map(|_| generator.bounded(vocabulary as u32)).collect();
    let speed = |mode, products: usize| -> Result<Speed> {
        let ms = time(effort, MS, || once(&inputs, &targets, mode))?;
        let gflops = (2 * products * tokens * vocabulary * width) as f64 / ms.median / 1e6;
        // Known when the peak is.
        Ok(Speed { ms, gflops, share_of_peak: f64::NAN })
    };
    Ok(Width { width, train: speed(Mode::Train, 3)?, evaluate: speed(Mode::Infer, 1)? })
}

/// The loss, and with `Mode::Train` its gradients.
fn once(inputs: &[Arr<f32>; 2], targets: &Arc<[u32]>, mode: Mode) -> Result<()> {
    let (tape, train) = (Tape::new(mode), mode == Mode::Train);
    let x = inputs.clone().map(|x| tape.variable(x));
    let op = LinearCrossEntropy { targets: targets.clone(), gradients: train, right: Arc::default() };
    let loss = tape.apply_fused(op, x)?;
    if train {
        let gradients = tape.backward(loss)?;
        // As a step does, so that the next one finds the buffers.
        let gradients = x.map(|x| gradients.wrt(x));
        drop(tape);
        gradients.into_iter().for_each(arr::recycle);
    }
    Ok(())
}

fn describe(report: &Report) -> String {
    let head = ["width", "", "median", "speed", "of the peak"].map(String::from).to_vec();
    let row = |width: usize, what: &str, speed: &Speed| {
        vec![
            width.to_string(),
            what.to_string(),
            format!("{} ms", digits(speed.ms.median)),
            format!("{:.1} GFLOP/s", speed.gflops),
            format!("{:.0}%", 100.0 * speed.share_of_peak),
        ]
    };
    let rows = report.widths.iter().flat_map(|w| {
        [row(w.width, "forward and backward", &w.train), row(w.width, "forward alone", &w.evaluate)]
    });
    format!(
        "{} tokens, a vocabulary of {}, {} threads, {}, peak {:.0} GFLOP/s\n\n{}",
        grouped(report.tokens),
        grouped(report.vocabulary),
        report.threads,
        report.simd_level,
        report.peak_gflops,
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    )
}
