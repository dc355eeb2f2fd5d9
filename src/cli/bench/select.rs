//! `dynamoe bench select`: the choice of experts against a plain sort.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Output;
use super::measure::{Effort, US, digits, time};
use crate::cli::output::table;
use crate::cli::progress::note;
use crate::cli::threads::run_on;
use crate::engine::kernels::gate::{self, Gates};
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::{math, select, simd};

/// Numbers of experts to choose from.
const EXPERTS: [usize; 4] = [8, 16, 64, 256];

/// The percentile.
const TAU: f64 = 0.7;

/// Gates in a batch: too many for the branch predictor to memorize.
const GATES: usize = 1 << 18;

/// The choice of experts against a plain sort
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    output: Output,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    threads: usize,
    simd_level: &'static str,
    tau: f64,
    layers: Vec<Layer>,
}

/// The choice among one number of experts.
#[derive(Serialize)]
struct Layer {
    experts: usize,
    /// How many are chosen.
    k: usize,
    select: Pair,
    gate_and_select: Pair,
}

/// The engine's kernel and the plain one.
#[derive(Serialize)]
struct Pair {
    tokens_per_s: f64,
    plain_tokens_per_s: f64,
    /// How many times faster than the plain one.
    ratio: f64,
}

/// Prints tokens per second of selection alone, and of softmax and selection, on one thread. It is an error if kernel
/// and plain sort choose differently.
pub fn run(args: Args) -> Result<()> {
    let Output { json, quick } = args.output;
    let effort = Effort::POINT.or_quick(quick);
    let layers = run_on(1, || EXPERTS.into_iter().map(|e| measure(e, effort)).collect::<Result<_>>())?;
    let report = Report { threads: 1, simd_level: simd::name(), tau: TAU, layers };
    json.print(&report, describe)
}

fn measure(experts: usize, effort: Effort) -> Result<Layer> {
    note(&format!("measuring {experts} experts"));
    let k = select::token_scope_k(experts, TAU);
    let tokens = (GATES / experts).max(1);
    let mut logits = vec![0.0f32; tokens * experts];
    Stream::new(1, Purpose::Check, experts as u64, 0).normal(&mut logits, 1.0);
    let mut gates = vec![0.0; logits.len()];
    let (mut mask, mut plain_mask) = (vec![false; logits.len()], vec![false; logits.len()]);
    let mut scratch = gates.clone();
    let all = Gates { probabilities: &mut scratch, gates: &mut gates, mask: &mut mask };
    gate::gate(&logits, experts, None, None, all);

    let ours = time(effort, US, || {
        select::top_k(&gates, experts, k, &mut mask);
        Ok(())
    })?;
    let plain = time(effort, US, || {
        sort_and_take(&gates, experts, k, &mut plain_mask);
        Ok(())
    })?;
    agree(&mask, &plain_mask, experts)?;
    let selection = Pair::of(tokens, ours.median, plain.median);

    let ours = time(effort, US, || {
        let gates = Gates { probabilities: &mut gates, gates: &mut scratch, mask: &mut mask };
        gate::gate(&logits, experts, None, Some(k), gates);
        Ok(())
    })?;
    let plain = time(effort, US, || {
        plain_gate(&logits, experts, &mut scratch);
        sort_and_take(&scratch, experts, k, &mut plain_mask);
        Ok(())
    })?;
    agree(&mask, &plain_mask, experts)?;
    Ok(Layer { experts, k, select: selection, gate_and_select: Pair::of(tokens, ours.median, plain.median) })
}

impl Pair {
    /// Of the microseconds that a batch of `tokens` took.
    fn of(tokens: usize, ours_us: f64, plain_us: f64) -> Pair {
        let per_s = |us: f64| tokens as f64 * 1e6 / us;
        Pair { tokens_per_s: per_s(ours_us), plain_tokens_per_s: per_s(plain_us), ratio: plain_us / ours_us }
    }
}

/// A softmax as one would first write it.
fn plain_gate(logits: &[f32], experts: usize, gates: &mut [f32]) {
    for (logits, gates) in logits.chunks_exact(experts).zip(gates.chunks_exact_mut(experts)) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (gate, &logit) in gates.iter_mut().zip(logits) {
            *gate = math::exp(logit - max);
            sum += *gate;
        }
        gates.iter_mut().for_each(|gate| *gate /= sum);
    }
}

/// The choice as one would first write it: sort the experts by gate, the first of equals first, and take k.
fn sort_and_take(gates: &[f32], experts: usize, k: usize, mask: &mut [bool]) {
    mask.fill(false);
    let mut order: Vec<usize> = Vec::with_capacity(experts);
    for (gates, mask) in gates.chunks_exact(experts).zip(mask.chunks_exact_mut(experts)) {
        order.clear();
        order.extend(0..experts);
        order.sort_unstable_by(|&a, &b| gates[b].total_cmp(&gates[a]).then(a.cmp(&b)));
        order[..k].iter().for_each(|&expert| mask[expert] = true);
    }
}

/// Refuses to compare the speed of two ways that do different things.
fn agree(ours: &[bool], plain: &[bool], experts: usize) -> Result<()> {
    let differs = ours.chunks(experts).zip(plain.chunks(experts)).position(|(a, b)| a != b);
    ensure!(
        differs.is_none(),
        "selection among {experts} experts: the kernel and the plain sort choose differently for token {}; please report this",
        differs.unwrap_or_default()
    );
    Ok(())
}

fn describe(report: &Report) -> String {
    let millions = |per_s: f64| format!("{} M/s", digits(per_s / 1e6));
    let cells = |pair: &Pair| {
        [millions(pair.tokens_per_s), millions(pair.plain_tokens_per_s), format!("{:.1} x", pair.ratio)]
    };
    let row = |l: &Layer| {
        let first = [l.experts.to_string(), l.k.to_string()];
        [&first[..], &cells(&l.select), &cells(&l.gate_and_select)].concat()
    };
    let head =
        ["experts", "chosen", "selection", "by sorting", "ratio", "with softmax", "by sorting", "ratio"];
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(String::from).to_vec()).chain(report.layers.iter().map(row)).collect();
    format!("tokens per second, one thread, {}, tau {}\n\n{}", report.simd_level, report.tau, table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_choose_the_same_and_a_difference_is_named() {
        for experts in [1, 8, 37] {
            let layer = measure(experts, Effort::QUICK).unwrap();
            assert!(layer.select.ratio > 0.0 && layer.gate_and_select.ratio > 0.0);
        }
        let line =
            agree(&[true, false, true, false], &[true, false, false, true], 2).unwrap_err().to_string();
        assert!(line.contains("for token 1"), "{line}");
    }
}
