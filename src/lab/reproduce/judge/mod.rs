//! Testing claims against the results.

use serde::Serialize;

use super::claim::{Claim, Extreme, LayerQuantity, Test};
use super::experiment_results::{CellResults, ExperimentResults};
use super::quantity::{Quantity, shown};
use crate::lab::analysis::stats::{Mean, Paired, Verdict};

/// The significance level.
const LEVEL: f64 = 0.05;

/// A claim and what the results say about it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The claim.
    pub claim: String,
    /// Whether it holds.
    pub verdict: Verdict,
    /// The numbers behind the verdict.
    pub evidence: String,
    /// The number of seeds behind the verdict.
    pub seeds: usize,
}

impl Finding {
    /// The verdict in words.
    pub fn word(&self) -> String {
        match self.verdict {
            Verdict::Holds => "held".into(),
            Verdict::Fails => "did not hold".into(),
            Verdict::Undecided => match self.seeds {
                0 => "cannot be decided without results".into(),
                1 => "cannot be decided with 1 seed".into(),
                n => format!("cannot be decided with {n} seeds"),
            },
        }
    }
}

/// Tests a claim.
pub fn judge(claim: &Claim, results: &ExperimentResults) -> Finding {
    let (verdict, evidence, seeds) = match &claim.test {
        Test::Larger(quantity, a, b) => larger(*quantity, results.cell(a), results.cell(b)),
        Test::IsExtreme { quantity, extreme, label, among } => {
            is_extreme(results, *quantity, *extreme, label, among)
        }
        Test::Figures(quantity) => figures(results, *quantity),
        Test::Layers(quantity, label, paper) => layers(results.cell(label), *quantity, paper),
    };
    Finding { claim: claim.says.clone(), verdict, evidence, seeds }
}

/// Verdict, evidence, number of seeds.
type Judgment = (Verdict, String, usize);

/// A difference with its sign and interval: `+0.21 ± 0.10`.
fn signed(mean: &Mean, digits: usize) -> String {
    let sign = if mean.mean < 0.0 { "" } else { "+" };
    format!("{sign}{mean:.digits$}")
}

fn p_value(p: Option<f64>) -> String {
    match p {
        None => "one seed".into(),
        Some(p) if p < 0.001 => "p < 0.001".into(),
        Some(p) => format!("p = {p:.3}"),
    }
}

fn larger(quantity: Quantity, a: &CellResults, b: &CellResults) -> Judgment {
    let pairs = a.pairs(b, quantity);
    let Some(paired) = Paired::of(&pairs) else {
        return (Verdict::Undecided, "no seed has a result for both".into(), 0);
    };
    let digits = quantity.digits();
    let difference = signed(&paired.difference, digits);
    let difference = match quantity {
        Quantity::Accuracy => format!("{difference} points"),
        _ => format!("{} {difference}", quantity.head()),
    };
    let mut evidence = format!("{difference}, {}", p_value(paired.p));
    if a.is_same(b) {
        evidence = "the two networks are identical, bit for bit".into();
    }
    if let (Some(a), Some(b)) = (a.paper(quantity), b.paper(quantity)) {
        let mean = Mean { mean: a - b, half: None, count: 1 };
        evidence += &format!("; reported: {}", signed(&mean, digits));
    }
    (paired.verdict(), evidence, pairs.len())
}

fn is_extreme(
    results: &ExperimentResults,
    quantity: Quantity,
    extreme: Extreme,
    label: &str,
    among: &[String],
) -> Judgment {
    let mine = results.cell(label);
    let sign = if extreme == Extreme::Largest { 1.0 } else { -1.0 };
    let rows: Vec<&CellResults> = among.iter().map(|label| results.cell(label)).collect();
    let means = rows.iter().filter_map(|row| Some((row.cell.label.as_str(), row.mean(quantity)?)));
    let first =
        means.reduce(|best, other| if sign * other.1.mean > sign * best.1.mean { other } else { best });
    let Some((first, mean)) = first else {
        return (Verdict::Undecided, "no results".into(), 0);
    };
    let (same, others): (Vec<&CellResults>, Vec<&CellResults>) =
        rows.into_iter().filter(|row| row.cell.label != label).partition(|row| row.is_same(mine));
    let paired: Vec<(&str, Paired)> = others
        .iter()
        .filter_map(|row| {
            let pairs = mine.pairs(row, quantity).into_iter().map(|(a, b)| (sign * a, sign * b));
            Some((row.cell.label.as_str(), Paired::of(&pairs.collect::<Vec<_>>())?))
        })
        .collect();
    let seeds = paired.iter().map(|(_, p)| p.difference.count).min().unwrap_or(0);
    let count = paired.len() as f64;
    // With many comparisons one is lost by chance now and then: Bonferroni's correction.
    let beaten = |p: &Paired| p.difference.mean < 0.0 && p.p.is_some_and(|p| p * count < LEVEL);
    let open: Vec<&str> =
        paired.iter().filter(|(_, p)| p.verdict() == Verdict::Undecided).map(|(label, _)| *label).collect();
    let verdict = if paired.is_empty() {
        Verdict::Undecided
    } else if paired.len() == others.len() && paired.iter().all(|(_, p)| p.verdict() == Verdict::Holds) {
        Verdict::Holds
    } else if paired.iter().any(|(_, p)| beaten(p)) {
        Verdict::Fails
    } else {
        Verdict::Undecided
    };
    let digits = quantity.digits();
    let which = if extreme == Extreme::Largest { "highest" } else { "lowest" };
    let mine = mine.mean(quantity);
    let is_first = mine.is_some_and(|mine| mine.mean == mean.mean);
    let first = if is_first { label } else { first };
    let mut evidence = format!("{which} {} here: {first}, {}", quantity.head(), shown(&mean, digits));
    if let (false, Some(mine)) = (is_first, mine) {
        evidence += &format!("; {label} has {}", shown(&mine, digits));
    }
    match open.len() {
        0 => {}
        1..=3 => evidence += &format!("; {label} is not significantly different from {}", open.join(", ")),
        many => {
            evidence +=
                &format!("; {label} is not significantly different from {many} of {} others", paired.len());
        }
    }
    if !same.is_empty() {
        let same: Vec<&str> = same.iter().map(|row| row.cell.label.as_str()).collect();
        evidence += &format!("; {label} is bit-identical to {}", same.join(", "));
    }
    (verdict, evidence, seeds)
}

/// The number of decimals of a reported value.
fn decimals(figure: f64) -> i32 {
    figure.to_string().split_once('.').map_or(0, |(_, digits)| digits.len() as i32)
}

/// A t-test of `values` against a reported value, which stands for every number that rounds to it.
fn against(values: &[f64], figure: f64) -> Option<Paired> {
    let mean = Mean::of(values)?.mean;
    let reach = 0.5 * libm::pow(10.0, f64::from(-decimals(figure)));
    let nearest = mean.clamp(figure - reach, figure + reach);
    Paired::of(&values.iter().map(|&v| (v, nearest)).collect::<Vec<_>>())
}

/// One verdict for several comparisons with reported values: it holds if none differs significantly, and fails if one
/// does even with Bonferroni's correction.
fn agreement(all: &[Paired]) -> Verdict {
    let p = || all.iter().map(|paired| paired.p);
    if all.is_empty() || p().any(|p| p.is_none()) {
        Verdict::Undecided
    } else if p().flatten().all(|p| p >= LEVEL) {
        Verdict::Holds
    } else if p().flatten().any(|p| p * (all.len() as f64) < LEVEL) {
        Verdict::Fails
    } else {
        Verdict::Undecided
    }
}

/// The number of comparisons without a significant difference, in words.
fn agreeing(all: &[Paired], things: &str) -> String {
    let inside = all.iter().filter(|paired| paired.p.is_some_and(|p| p >= LEVEL)).count();
    match all.iter().any(|paired| paired.p.is_none()) {
        true => "one seed gives no interval".into(),
        false => format!("the reported value lies in our 95% interval in {inside} of {} {things}", all.len()),
    }
}

fn figures(results: &ExperimentResults, quantity: Quantity) -> Judgment {
    let mut all = Vec::new();
    let mut away = Vec::new();
    for row in &results.cells {
        let Some(figure) = row.paper(quantity) else { continue };
        let values: Vec<f64> = row.trained().map(|(_, t)| quantity.of(t)).collect();
        all.extend(against(&values, figure));
        away.extend(row.mean(quantity).map(|mean| mean.mean - figure));
    }
    let (low, high) = away.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    if all.is_empty() {
        return (Verdict::Undecided, "no results".into(), 0);
    }
    let digits = quantity.digits();
    let evidence =
        format!("{}; ours minus reported: {low:+.digits$} to {high:+.digits$}", agreeing(&all, "cells"));
    (agreement(&all), evidence, all.iter().map(|p| p.difference.count).min().unwrap_or(0))
}

fn layers(row: &CellResults, quantity: LayerQuantity, paper: &[(usize, f64)]) -> Judgment {
    let (mut all, mut means, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for (l, &(experts, figure)) in paper.iter().enumerate() {
        let layer =
            row.trained().filter_map(|(_, t)| t.layers.get(l).filter(|layer| layer.experts == experts));
        let values: Vec<f64> = layer.map(|layer| quantity.of(layer)).collect();
        if let (Some(paired), Some(mean)) = (against(&values, figure), Mean::of(&values)) {
            all.push(paired);
            means.push(shown(&mean, 2));
            figures.push(figure.to_string());
        }
    }
    if all.is_empty() {
        return (Verdict::Undecided, "no results".into(), 0);
    }
    let evidence =
        format!("{} (reported: {}); {}", means.join(", "), figures.join(", "), agreeing(&all, "layers"));
    (agreement(&all), evidence, all[0].difference.count)
}

#[cfg(test)]
mod tests;
