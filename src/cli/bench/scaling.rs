//! `dynamoe bench scaling`: how the time of a step grows with tokens, experts and threads.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Output;
use super::measure::{Effort, MS, digits, time};
use super::network::{Network, Shape};
use super::step::train_flops;
use crate::cli::flags::Svg;
use crate::cli::output::{grouped, table};
use crate::cli::progress::note;
use crate::cli::threads;
use crate::engine::kernels::simd;
use crate::lab::plot::frame::{Key, Labels};
use crate::lab::plot::{axis::Axis, color, lines};

/// Tokens (here: images) of a step.
const TOKENS: [usize; 9] = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];

/// Experts of every layer.
const EXPERTS: [usize; 5] = [1, 4, 16, 64, 256];

/// Layers of the network Small.
const LAYERS: usize = 4;

/// How the time of a step grows with tokens, experts and threads
#[derive(clap::Args)]
pub struct Args {
    /// Thread counts [default: 1, 2, 4 and so on up to one per core]
    #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
    threads_list: Option<Vec<usize>>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    svg: Svg,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    size: &'static str,
    simd_level: &'static str,
    /// Threads of the series over tokens and over experts.
    threads: usize,
    tokens: Series,
    experts: Series,
    over_threads: Series,
}

/// Step times over one variable.
#[derive(Serialize)]
struct Series {
    points: Vec<Point>,
    /// Slope of the logarithm of the time over that of the variable, in the upper half of the points; absent
    /// where there is only one.
    exponent: Option<f64>,
}

/// One step time.
#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    value: usize,
    train_step_ms: f64,
    /// Operations of the step's products.
    train_flops: f64,
    /// Time of an operation.
    ps_per_flop: f64,
}

impl Series {
    fn of(points: Vec<Point>) -> Series {
        let upper = points.len().div_ceil(2).max(2).min(points.len());
        let pairs = points[points.len() - upper..].iter().map(|p| (p.value as f64, p.train_step_ms));
        Series { exponent: exponent(&pairs.collect::<Vec<_>>()), points }
    }

    fn curve(&self) -> Vec<(f64, f64)> {
        self.points.iter().map(|p| (p.value as f64, p.train_step_ms)).collect()
    }

    /// What the curve would be if time were in proportion to `amount`, through the point `through`.
    fn in_proportion(&self, amount: impl Fn(&Point) -> f64, through: Option<&Point>) -> Vec<(f64, f64)> {
        let Some(through) = through else { return Vec::new() };
        let time = |p: &Point| through.train_step_ms * amount(p) / amount(through);
        self.points.iter().map(|p| (p.value as f64, time(p))).collect()
    }
}

/// The least-squares slope of ln y over ln x; `None` where x does not vary.
fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (libm::log(x), libm::log(y))).collect();
    let count = logs.len() as f64;
    let (mx, my) =
        (logs.iter().map(|p| p.0).sum::<f64>() / count, logs.iter().map(|p| p.1).sum::<f64>() / count);
    let covariance: f64 = logs.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
    let variance: f64 = logs.iter().map(|p| (p.0 - mx) * (p.0 - mx)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

/// Measures the three series and prints them. Over tokens and experts the network runs on the largest of the thread
/// counts.
pub fn run(args: Args) -> Result<()> {
    let Args { threads_list, output: Output { json, quick }, svg } = args;
    svg.check()?;
    let mut counts = threads_list.unwrap_or_else(default_threads);
    counts.sort_unstable();
    counts.dedup();
    ensure!(!counts.is_empty(), "setting threads-list: give at least one thread count, such as 1,2");
    let most = counts[counts.len() - 1];
    // Every count is checked before the first long measurement.
    for &count in &counts {
        threads::run_on(count, || Ok(()))?;
    }
    let effort = Effort::POINT.or_quick(quick);
    let few = |all: &[usize]| if quick { all[..2].to_vec() } else { all.to_vec() };
    let small = || Shape::of_size("small");
    let (tokens, experts) = threads::run_on(most, || {
        let tokens = few(&TOKENS).into_iter().map(|batch| point(batch, &Shape { batch, ..small() }, effort));
        let tokens = tokens.collect::<Result<_>>()?;
        let of = |e| Shape { experts: Some(vec![e; LAYERS]), batch: if quick { 8 } else { 256 }, ..small() };
        let experts = few(&EXPERTS).into_iter().map(|e| point(e, &of(e), effort)).collect::<Result<_>>()?;
        Ok((tokens, experts))
    })?;
    let on = |count| {
        let shape = Shape { batch: if quick { 8 } else { 256 }, ..small() };
        threads::run_on(count, || point(count, &shape, effort))
    };
    let over_threads = counts.iter().map(|&count| on(count)).collect::<Result<_>>()?;
    let report = Report {
        size: "small",
        simd_level: simd::name(),
        threads: most,
        tokens: Series::of(tokens),
        experts: Series::of(experts),
        over_threads: Series::of(over_threads),
    };
    let wrote = svg.write(|| draw(&report))?;
    json.print(&report, |report| describe(report) + &wrote)
}

/// 1, 2, 4 and so on, and the number of cores.
fn default_threads() -> Vec<usize> {
    let all = threads::cores();
    let doubles = std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|&n| n < all);
    doubles.chain([all]).collect()
}

/// The step time of the network of `shape` on the current threads.
fn point(value: usize, shape: &Shape, effort: Effort) -> Result<Point> {
    let spec = shape.spec()?;
    let experts = spec.experts.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    note(&format!("measuring {} tokens, experts {experts}", shape.batch));
    let mut network = Network::new(&spec, shape.batch);
    let ms = time(effort, MS, || network.step())?.median;
    let flops = train_flops(&spec, shape.batch);
    Ok(Point { value, train_step_ms: ms, train_flops: flops, ps_per_flop: ms * 1e9 / flops })
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// How the time grows, in labels; empty where that is not known.
fn growth(series: &Series) -> String {
    series.exponent.map_or(String::new(), |exponent| format!("grows as n^{exponent:.2} in the upper half"))
}

/// How much faster the most threads are than the fewest, in labels; empty where there is only one number.
fn speed_up(series: &Series) -> String {
    match (series.points.first(), series.points.last()) {
        (Some(few), Some(many)) if few.value < many.value => {
            let ratio = few.train_step_ms / many.train_step_ms;
            format!("{} threads are {ratio:.2} times as fast as {}", many.value, few.value)
        }
        _ => String::new(),
    }
}

fn describe(report: &Report) -> String {
    let part = |name: &str, series: &Series, finding: String| {
        let head = [name, "step", "operations", "time per operation"].map(String::from).to_vec();
        let row = |p: &Point| {
            vec![
                grouped(p.value),
                format!("{} ms", digits(p.train_step_ms)),
                format!("{:.3e}", p.train_flops),
                format!("{} ps", digits(p.ps_per_flop)),
            ]
        };
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(series.points.iter().map(row)).collect();
        let finding = if finding.is_empty() { finding } else { finding + "\n" };
        format!("{}{finding}\n", table(&rows))
    };
    format!(
        "median training steps of the network Small, {}; batch 256 and {} thread{} unless said otherwise\n\n{}{}{}",
        report.simd_level,
        report.threads,
        plural(report.threads),
        part("tokens", &report.tokens, growth(&report.tokens)),
        part("experts in each layer", &report.experts, growth(&report.experts)),
        part("threads", &report.over_threads, speed_up(&report.over_threads)),
    )
}

/// The measured curve over what it would be in proportion to something.
fn chart<'a>(
    labels: Labels<'a>,
    name: &str,
    proportion: Vec<(f64, f64)>,
    series: &Series,
) -> lines::Chart<'a> {
    let key = |name: &str, color, width| Key { name: name.into(), color, width };
    let curve = series.curve();
    let both = || proportion.iter().chain(&curve);
    lines::Chart {
        labels,
        x: Axis::log_if_wide(both().map(|p| p.0)),
        y: Axis::log_if_wide(both().map(|p| p.1)),
        annotations: Vec::new(),
        lines: vec![(key(name, color::TEST, 1.5), proportion), (key("measured", color::TRAIN, 2.0), curve)],
    }
}

/// The three series, one chart each.
fn draw(report: &Report) -> String {
    let Report { tokens, experts, over_threads, threads, simd_level, .. } = report;
    let about = |network: &str, finding: String| {
        let finding = if finding.is_empty() { finding } else { format!("; {finding}") };
        format!("{network}, {simd_level}{finding}")
    };
    let on = format!("{threads} thread{}", plural(*threads));
    let tokens_about = about(&format!("Network Small, {on}"), growth(tokens));
    let experts_about = about(&format!("Four layers like Small's, batch 256, {on}"), growth(experts));
    let threads_about = about("Network Small, batch 256", speed_up(over_threads));
    let y = "training step [ms]";
    let tokens = chart(
        Labels { title: "Step time over tokens", subtitle: &tokens_about, x: "tokens in a batch", y },
        "in proportion to tokens",
        tokens.in_proportion(|p| p.value as f64, tokens.points.last()),
        tokens,
    );
    let experts = chart(
        Labels { title: "Step time over experts", subtitle: &experts_about, x: "experts in each layer", y },
        "in proportion to operations",
        experts.in_proportion(|p| p.train_flops, experts.points.last()),
        experts,
    );
    let ideal = over_threads.in_proportion(|p| 1.0 / p.value as f64, over_threads.points.first());
    let mut of_threads = chart(
        Labels { title: "Step time over threads", subtitle: &threads_about, x: "threads", y },
        "in inverse proportion",
        ideal,
        over_threads,
    );
    let values = over_threads.points.iter().map(|p| p.value as f64);
    of_threads.x = Axis::counts(values.clone().fold(f64::MAX, f64::min), values.fold(0.0, f64::max));
    of_threads.y = Axis::around(over_threads.points.iter().map(|p| p.train_step_ms).chain([0.0]));
    lines::draw(&[tokens, experts, of_threads])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plot::assert_well_formed;

    #[test]
    fn the_exponent_of_a_power_is_its_exponent() {
        let curve: Vec<(f64, f64)> = (1..6).map(f64::from).map(|x| (x, 3.0 * x * x)).collect();
        approx::assert_relative_eq!(exponent(&curve).unwrap(), 2.0, epsilon = 1e-12);
        assert_eq!((exponent(&curve[..1]), exponent(&[])), (None, None));
    }

    #[test]
    fn the_upper_half_decides_and_the_picture_is_well_formed() {
        let point = |value: usize, train_step_ms| Point {
            value,
            train_step_ms,
            train_flops: value as f64,
            ps_per_flop: train_step_ms / value as f64,
        };
        let series = || Series::of(vec![point(1, 7.0), point(2, 7.0), point(4, 8.0), point(8, 16.0)]);
        approx::assert_relative_eq!(series().exponent.unwrap(), 1.0, epsilon = 1e-12);
        let report = Report {
            size: "small",
            simd_level: "none",
            threads: 1,
            tokens: series(),
            experts: series(),
            over_threads: Series::of(vec![point(1, 7.0)]),
        };
        assert_well_formed(&draw(&report));
        assert!(describe(&report).contains("grows as n^1.00"));
    }
}
