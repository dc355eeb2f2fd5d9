//! Claims about an experiment, and what the results say of them.

use serde::Serialize;

use crate::lab::analysis::stats::{Mean, Paired, Verdict};
use crate::lab::reproduce::quantity::{Quantity, shown};
use crate::lab::reproduce::view::{Row, View};
use crate::train::metrics::LayerRecord;

/// Differences less likely than this by chance count as real.
const LEVEL: f64 = 0.05;

/// A statement that results can support or contradict.
#[derive(Clone, Debug)]
pub struct Claim {
    /// In words, as a whole sentence without its full stop.
    pub says: String,
    /// How it is tested.
    pub test: Test,
}

/// How a claim is tested.
#[derive(Clone, Debug)]
pub enum Test {
    /// The first cell has a larger value than the second: a paired test over seeds.
    Larger(Quantity, String, String),
    /// Of all these cells one has the most extreme value: paired tests against each other one.
    Extreme {
        /// Which value.
        quantity: Quantity,
        /// Whether it is the largest or the smallest.
        end: End,
        /// The cell.
        label: String,
        /// It and the others.
        among: Vec<String>,
    },
    /// The figures that a paper gives for a quantity are those found: t-tests for each cell.
    Figures(Quantity),
    /// The figures that a paper gives for a cell's layers are those found: t-tests for each layer.
    ///
    /// A figure is that of a layer with so many experts.
    Layers(Stat, String, Vec<(usize, f64)>),
}

/// An end of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The largest.
    Most,
    /// The smallest.
    Least,
}

/// A number of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Mean active experts.
    MeanActive,
    /// Utilization in percent.
    Utilization,
    /// Usage entropy in bits.
    UsageEntropy,
}

impl Stat {
    /// Its value in a layer.
    pub fn of(self, layer: &LayerRecord) -> f64 {
        match self {
            Stat::MeanActive => layer.mean_active,
            Stat::Utilization => layer.utilization,
            Stat::UsageEntropy => layer.usage_entropy_bits,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Stat::MeanActive => "mean active experts",
            Stat::Utilization => "utilization in percent",
            Stat::UsageEntropy => "usage entropy in bits",
        }
    }
}

/// A claim and what the results say of it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The claim.
    pub claim: String,
    /// Whether it held.
    pub verdict: Verdict,
    /// The numbers behind the verdict.
    pub evidence: String,
    /// How many seeds it rests on.
    pub seeds: usize,
}

impl Judged {
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

impl Claim {
    /// `a` has a larger `quantity` than `b`.
    pub fn larger(says: impl Into<String>, quantity: Quantity, a: &str, b: &str) -> Claim {
        Claim { says: says.into(), test: Test::Larger(quantity, a.into(), b.into()) }
    }

    /// `label` has the most extreme `quantity` of the cells `among`.
    pub fn extreme(
        says: impl Into<String>,
        quantity: Quantity,
        end: End,
        label: &str,
        among: &[String],
    ) -> Claim {
        let test = Test::Extreme { quantity, end, label: label.into(), among: among.to_vec() };
        Claim { says: says.into(), test }
    }

    /// What the results say of it.
    pub fn judge(&self, view: &View) -> Judged {
        let (verdict, evidence, seeds) = match &self.test {
            Test::Larger(quantity, a, b) => larger(*quantity, view.row(a), view.row(b)),
            Test::Extreme { quantity, end, label, among } => extreme(view, *quantity, *end, label, among),
            Test::Figures(quantity) => figures(view, *quantity),
            Test::Layers(stat, label, paper) => layers(view.row(label), *stat, paper),
        };
        Judged { claim: self.says.clone(), verdict, evidence, seeds }
    }
}

/// Verdict, evidence, number of seeds.
type Finding = (Verdict, String, usize);

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

fn larger(quantity: Quantity, a: &Row, b: &Row) -> Finding {
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
        evidence = "the two are the same network, to the bit".into();
    }
    if let (Some(a), Some(b)) = (a.paper(quantity), b.paper(quantity)) {
        let mean = Mean { mean: a - b, half: None, count: 1 };
        evidence += &format!("; the paper has {}", signed(&mean, digits));
    }
    (paired.verdict(), evidence, pairs.len())
}

fn extreme(view: &View, quantity: Quantity, end: End, label: &str, among: &[String]) -> Finding {
    let mine = view.row(label);
    let sign = if end == End::Most { 1.0 } else { -1.0 };
    let rows: Vec<&Row> = among.iter().map(|label| view.row(label)).collect();
    let means = rows.iter().filter_map(|row| Some((row.cell.label.as_str(), row.mean(quantity)?)));
    let first =
        means.reduce(|best, other| if sign * other.1.mean > sign * best.1.mean { other } else { best });
    let Some((first, mean)) = first else {
        return (Verdict::Undecided, "no results".into(), 0);
    };
    let (same, others): (Vec<&Row>, Vec<&Row>) =
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
    // That it is beaten by one of many would also come up by chance: Bonferroni's correction.
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
    let which = if end == End::Most { "highest" } else { "lowest" };
    let mine = mine.mean(quantity);
    let is_first = mine.is_some_and(|mine| mine.mean == mean.mean);
    let first = if is_first { label } else { first };
    let mut evidence = format!("{which} {} here: {first}, {}", quantity.head(), shown(&mean, digits));
    if let (false, Some(mine)) = (is_first, mine) {
        evidence += &format!("; {label} has {}", shown(&mine, digits));
    }
    match open.len() {
        0 => {}
        1..=3 => evidence += &format!("; {label} cannot be told apart from {}", open.join(", ")),
        many => {
            evidence += &format!("; {label} cannot be told apart from {many} of {} others", paired.len());
        }
    }
    if !same.is_empty() {
        let same: Vec<&str> = same.iter().map(|row| row.cell.label.as_str()).collect();
        evidence += &format!("; {label} is the same network as {}, to the bit", same.join(", "));
    }
    (verdict, evidence, seeds)
}

/// How many digits after the point a paper gives.
fn decimals(figure: f64) -> i32 {
    figure.to_string().split_once('.').map_or(0, |(_, digits)| digits.len() as i32)
}

/// A t-test of `values` against a figure that was rounded to the digits it has.
fn against(values: &[f64], figure: f64) -> Option<Paired> {
    let mean = Mean::of(values)?.mean;
    let reach = 0.5 * libm::pow(10.0, f64::from(-decimals(figure)));
    let nearest = mean.clamp(figure - reach, figure + reach);
    Paired::of(&values.iter().map(|&v| (v, nearest)).collect::<Vec<_>>())
}

/// One verdict for several comparisons with figures: it holds if none is contradicted, and fails if one is even
/// by Bonferroni's count.
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

/// How many of these comparisons find no contradiction, in words.
fn agreeing(all: &[Paired], things: &str) -> String {
    let inside = all.iter().filter(|paired| paired.p.is_some_and(|p| p >= LEVEL)).count();
    match all.iter().any(|paired| paired.p.is_none()) {
        true => "one seed gives no interval".into(),
        false => format!("the paper's figure lies in our 95% interval in {inside} of {} {things}", all.len()),
    }
}

fn figures(view: &View, quantity: Quantity) -> Finding {
    let mut all = Vec::new();
    let mut away = Vec::new();
    for row in &view.rows {
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
        format!("{}; ours less the paper's is {low:+.digits$} to {high:+.digits$}", agreeing(&all, "cells"));
    (agreement(&all), evidence, all.iter().map(|p| p.difference.count).min().unwrap_or(0))
}

fn layers(row: &Row, stat: Stat, paper: &[(usize, f64)]) -> Finding {
    let (mut all, mut means, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for (l, &(experts, figure)) in paper.iter().enumerate() {
        let layer =
            row.trained().filter_map(|(_, t)| t.layers.get(l).filter(|layer| layer.experts == experts));
        let values: Vec<f64> = layer.map(|layer| stat.of(layer)).collect();
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
        format!("{} against {}; {}", means.join(", "), figures.join(", "), agreeing(&all, "layers"));
    (agreement(&all), evidence, all[0].difference.count)
}

#[cfg(test)]
mod tests;
