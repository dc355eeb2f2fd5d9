//! `dynamoe bench step`: a training step and inference, and how near they come to what the machine can do.

use anyhow::Result;
use serde::Serialize;

use super::Output;
use super::measure::{Effort, MS, Times, US, digits, time};
use super::memory::{allocations, peak_rss_mb};
use super::network::{Network, Shape};
use super::peak;
use crate::cli::flags::Threads;
use crate::cli::output::{grouped, table};
use crate::cli::progress::note;
use crate::engine::kernels::{par, simd};
use crate::nn::spec::{Norm, Spec};
use crate::train::config::Config;

/// A training step and inference of one network
#[derive(clap::Args)]
pub struct Args {
    /// Size: tiny, small, medium, large
    #[arg(long, value_name = "NAME", default_value = "small")]
    size: String,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 256)]
    batch: usize,
    /// Numbers in an image
    #[arg(long, value_name = "N", default_value_t = 784)]
    input: usize,
    /// Classes
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,
    /// Experts of each layer, such as 8,6,3,1 [default: descending from 8 to 1]
    #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
    experts: Option<Vec<usize>>,
    /// Hidden width of an expert [default: half the network's width]
    #[arg(long, value_name = "N")]
    expert_hidden: Option<usize>,
    /// Layer normalization: final, post, pre
    #[arg(long, value_name = "WHERE", default_value = "post")]
    norm: String,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    output: Output,
}

/// What a measurement of one network found; what `--json` prints.
#[derive(Debug, Serialize)]
pub struct StepReport {
    /// The preset's name.
    pub size: String,
    /// Images in a batch.
    pub batch: usize,
    /// Numbers in an image.
    pub input: usize,
    /// Classes.
    pub classes: usize,
    /// Experts of each layer.
    pub experts: Vec<usize>,
    /// Hidden width of an expert.
    pub expert_hidden: usize,
    /// Where layer normalization stands.
    pub norm: Norm,
    /// Parameters of the network.
    pub parameters: usize,
    /// Threads it ran on.
    pub threads: usize,
    /// SIMD level of the kernels.
    pub simd_level: &'static str,
    /// A training step: forward, backward, AdamW.
    pub train_step_ms: Times,
    /// Inference for one batch.
    pub eval_batch_ms: Times,
    /// Inference for one image.
    pub eval_one_us: Times,
    /// A digest of the state, as runs record it.
    pub digest_ms: Times,
    /// Multiply-adds in registers on these threads, measured; one counts as two operations.
    pub peak_gflops: f64,
    /// Memory traffic of an optimizer's pass over as many parameters on these threads, measured.
    pub stream_gb_s: f64,
    /// The least time of a step: see [`Roofline`].
    pub roofline_ms: f64,
    /// Its share of the median step.
    pub roofline_fraction: f64,
    /// Operations of a forward pass per image.
    pub active_flops: u64,
    /// Operations of a training step's products.
    pub train_flops: u64,
    /// Calls of the allocator per step, new and resized blocks; absent unless the program was built with the feature
    /// `count-allocations`.
    pub allocations_per_step: Option<f64>,
    /// Loops per step that were distributed over threads.
    pub parallel_regions_per_step: f64,
    /// Peak memory of the process before inference was measured; absent where the system does not report it.
    pub peak_rss_mb: Option<f64>,
}

/// The least time that a training step can take: its products at the processor's peak, and then the
/// optimizer's pass at the speed of memory, 28 bytes for each parameter (value, gradient and two moments are
/// read, all but the gradient written). The two are added, since the update cannot begin before the
/// gradients are there. Activations are left out: of these networks they fit in cache. So is all that is
/// neither a product nor the update; to reach 100% it would have to take no time at all.
#[derive(Clone, Copy, Debug)]
pub struct Roofline {
    /// Operations of the products.
    pub train_flops: f64,
    /// Bytes that the update moves.
    pub bytes: f64,
    /// Operations the processor does at most, in billions per second.
    pub peak_gflops: f64,
    /// Bytes that memory moves at most, in billions per second.
    pub stream_gb_s: f64,
}

impl Roofline {
    /// The bound for a step of `train_flops` operations on `parameters` parameters.
    pub fn of(train_flops: f64, parameters: usize, peak_gflops: f64, stream_gb_s: f64) -> Roofline {
        let bytes = (peak::STREAM_BYTES * parameters) as f64;
        Roofline { train_flops, bytes, peak_gflops, stream_gb_s }
    }

    /// Time of the products alone.
    pub fn products_ms(&self) -> f64 {
        self.train_flops / self.peak_gflops / 1e6
    }

    /// Time of the update alone.
    pub fn update_ms(&self) -> f64 {
        self.bytes / self.stream_gb_s / 1e6
    }
}

/// Operations of a training step's products: the forward pass, and as many for each of the two gradients
/// (parameters and inputs), but the gradient of the images themselves, which is not required.
pub fn train_flops(spec: &Spec, batch: usize) -> f64 {
    batch as f64 * (3.0 * spec.nominal_flops() - 2.0 * (spec.inputs * spec.width) as f64)
}

/// Steps over which allocations and parallel regions are counted.
const COUNTED: u32 = 4;

/// Measures the network of `shape` on the current threads.
///
/// # Errors
/// A network that cannot be.
pub fn measure(shape: &Shape, effort: Effort) -> Result<StepReport> {
    let spec = shape.spec()?;
    // The peak is measured before and after, in case the machine is busy with something else in between.
    let peak_before = peak::gflops(effort.peak());
    let mut network = Network::new(&spec, shape.batch);
    let train_step_ms = time(effort, MS, || network.step())?;
    let before = (allocations(), par::regions());
    for _ in 0..COUNTED {
        network.step()?;
    }
    let per_step = |count: u64| count as f64 / f64::from(COUNTED);
    let allocations_per_step =
        allocations().zip(before.0).map(|(now, before)| per_step((now - before) as u64));
    let parallel_regions_per_step = per_step(par::regions() - before.1);
    let eval_batch_ms = time(effort, MS, || network.evaluate())?;
    let eval_one_us = time(effort.of_short_work(), US, || network.evaluate_one())?;
    let digest_ms = time(effort, MS, || network.digest())?;
    let peak_rss_mb = peak_rss_mb();
    drop(network);
    let peak_gflops = peak::gflops(effort.peak()).max(peak_before);
    let stream_gb_s = peak::stream_gb_s(spec.parameters(), effort.peak());
    let train_flops = train_flops(&spec, shape.batch);
    let roofline = Roofline::of(train_flops, spec.parameters(), peak_gflops, stream_gb_s);
    let roofline_ms = roofline.products_ms() + roofline.update_ms();
    Ok(StepReport {
        size: shape.size.into(),
        batch: shape.batch,
        input: shape.input,
        classes: shape.classes,
        parameters: spec.parameters(),
        threads: par::threads(),
        simd_level: simd::name(),
        train_step_ms,
        eval_batch_ms,
        eval_one_us,
        digest_ms,
        peak_gflops,
        stream_gb_s,
        roofline_ms,
        roofline_fraction: roofline_ms / train_step_ms.median,
        active_flops: spec.nominal_flops() as u64,
        train_flops: train_flops as u64,
        allocations_per_step,
        parallel_regions_per_step,
        peak_rss_mb,
        expert_hidden: spec.hidden,
        norm: spec.norm,
        experts: spec.experts,
    })
}

/// Measures one network and prints what was found.
pub fn run(args: Args) -> Result<()> {
    let Args { size, batch, input, classes, experts, expert_hidden, norm, threads, output } = args;
    let Output { json, quick } = output;
    let shape = Shape { size: &size, batch, input, classes, experts, expert_hidden, norm: &norm };
    note(&format!("measuring {size}"));
    let report = threads.run(|| measure(&shape, Effort::FULL.or_quick(quick)))?;
    json.print(&report, describe)
}

fn describe(r: &StepReport) -> String {
    let row = |what: &str, times: &Times, unit| [&[what.to_string()][..], &times.cells(unit)].concat();
    let head = ["", "median", "min", "spread"].map(String::from).to_vec();
    let times = table(&[
        head,
        row("training step", &r.train_step_ms, "ms"),
        row("inference, the batch", &r.eval_batch_ms, "ms"),
        row("inference, one image", &r.eval_one_us, "us"),
        row("digest of the state", &r.digest_ms, "ms"),
    ]);
    let every = Config::default().train.digest_every;
    let digest_share = 100.0 * r.digest_ms.median / (every as f64 * r.train_step_ms.median);
    let memory = r.peak_rss_mb.map_or(String::new(), |mb| format!("; {mb:.0} MB at most"));
    let allocations = r.allocations_per_step.map_or_else(
        || "allocations not counted (build with --features count-allocations)".into(),
        |count| format!("{count:.0} allocations"),
    );
    format!(
        "{}: experts {:?}, {} parameters, batch {}, {} threads, {}\n\n{times}\n\
         roofline {} ms: {:.3e} operations at {:.0} GFLOP/s, {:.3e} bytes at {:.0} GB/s\n\
         the training step reaches {:.0}% of it\n\
         {allocations} and {:.0} parallel regions per step{memory}\n\
         one digest every {every} steps takes {digest_share:.2}% of the time\n",
        r.size,
        r.experts,
        grouped(r.parameters),
        r.batch,
        r.threads,
        r.simd_level,
        digits(r.roofline_ms),
        r.train_flops as f64,
        r.peak_gflops,
        (peak::STREAM_BYTES * r.parameters) as f64,
        r.stream_gb_s,
        100.0 * r.roofline_fraction,
        r.parallel_regions_per_step,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_a_step_is_counted_by_hand() {
        let spec = Shape::of_size("small").spec().unwrap();
        let layers = 7 * 4 * 128 * 64 + 18 * 2 * 128;
        let expected = 256 * (3 * layers + 2 * 2 * 784 * 128 + 3 * 2 * 128 * 10);
        assert_eq!(train_flops(&spec, 256), f64::from(expected));
    }
}
