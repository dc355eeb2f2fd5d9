//! Claims about an experiment, and what the results say of them.

use serde::Serialize;

use super::quantity::{Quantity, shown};
use super::view::{Row, View};
use crate::analysis::stats::{Mean, Paired, Verdict};
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
    /// Utilisation in percent.
    Utilisation,
    /// Usage entropy in bits.
    UsageEntropy,
}

impl Stat {
    /// Its value in a layer.
    pub fn of(self, layer: &LayerRecord) -> f64 {
        match self {
            Stat::MeanActive => layer.mean_active,
            Stat::Utilisation => layer.utilisation,
            Stat::UsageEntropy => layer.usage_entropy_bits,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Stat::MeanActive => "mean active experts",
            Stat::Utilisation => "utilisation in percent",
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
mod tests {
    use super::super::cell::Scale;
    use super::super::experiments;
    use super::super::report::tests::{filled, unrest};
    use super::*;

    /// The verdicts on table 2 with these accuracies by label and seed.
    fn table2(seeds: u64, accuracy: impl Fn(&str, u64) -> f64) -> Vec<Judged> {
        let folder = tempfile::tempdir().unwrap();
        let experiment = experiments::named(&["table2".into()], Scale::Full).unwrap().remove(0);
        let store = filled(folder.path(), &[&experiment], seeds, |_, label, seed| accuracy(label, seed));
        let view = View::new(&experiment, &store);
        experiment.claims.iter().map(|claim| claim.judge(&view)).collect()
    }

    fn of<'a>(judged: &'a [Judged], says: &str) -> &'a Judged {
        judged.iter().find(|j| j.claim == says).unwrap()
    }

    #[test]
    fn a_clear_difference_holds_and_its_opposite_fails() {
        let ordered = |best: &'static str, worst: &'static str| {
            table2(3, move |label, seed| {
                let base =
                    [(best, 0.95), (worst, 0.85)].iter().find(|(l, _)| *l == label).map_or(0.9, |l| l.1);
                base + unrest(label, seed)
            })
        };
        let judged = ordered("descending", "ascending");
        let best = of(&judged, "Descending is the most accurate schedule");
        assert_eq!((best.verdict, best.seeds), (Verdict::Holds, 3));
        assert!(best.evidence.starts_with("highest accuracy % here: descending, 95."), "{}", best.evidence);
        assert_eq!(of(&judged, "Ascending is the worst schedule").verdict, Verdict::Holds);
        let beats = of(&judged, "Descending beats uniform on MNIST");
        assert_eq!((beats.verdict, beats.word()), (Verdict::Holds, "held".into()));
        assert!(beats.evidence.starts_with("+5.0") && beats.evidence.ends_with("the paper has +1.33"));

        let judged = ordered("ascending", "descending");
        for says in [
            "Descending is the most accurate schedule",
            "Ascending is the worst schedule",
            "Descending beats uniform on MNIST",
            "Descending beats the dense baseline (MLP, equal parameters)",
        ] {
            let found = of(&judged, says);
            assert_eq!((found.verdict, found.word()), (Verdict::Fails, "did not hold".into()), "{says}");
        }
    }

    #[test]
    fn what_seeds_scatter_more_than_it_differs_is_undecided() {
        let judged = table2(3, |label, seed| 0.9 + 100.0 * unrest(label, seed));
        let beats = of(&judged, "Descending beats uniform on MNIST");
        assert_eq!(
            (beats.verdict, beats.word()),
            (Verdict::Undecided, "cannot be decided with 3 seeds".into())
        );
        let best = of(&judged, "Descending is the most accurate schedule");
        assert_eq!(best.verdict, Verdict::Undecided);
        assert!(best.evidence.contains("descending cannot be told apart from"), "{}", best.evidence);
    }

    #[test]
    fn one_seed_decides_nothing() {
        let judged = table2(1, |label, _| if label == "descending" { 0.99 } else { 0.5 });
        for found in &judged {
            assert_eq!(found.word(), "cannot be decided with 1 seed", "{}", found.claim);
        }
    }

    #[test]
    fn figures_agree_where_the_interval_reaches_them() {
        let paper = |label: &str| {
            let of_schedule = super::super::paper::TABLE2
                .iter()
                .find(|row| crate::nn::schedule::Schedule::ALL.contains(&(row.0, label)));
            of_schedule.map_or(super::super::paper::TABLE2_MLP.0, |row| row.1)
        };
        let near = table2(3, |label, seed| (paper(label) + 0.1 * (seed as f64 - 2.0)) / 100.0);
        let found = of(&near, "Our accuracies do not contradict the paper's");
        assert_eq!(found.verdict, Verdict::Holds);
        assert!(found.evidence.contains("in 9 of 9 cells"), "{}", found.evidence);
        let far = table2(3, |label, seed| (paper(label) + 5.0 + 0.1 * (seed as f64 - 2.0)) / 100.0);
        let found = of(&far, "Our accuracies do not contradict the paper's");
        assert_eq!(found.verdict, Verdict::Fails);
        assert!(found.evidence.ends_with("ours less the paper's is +5.00 to +5.00"), "{}", found.evidence);
    }

    #[test]
    fn figures_count_as_rounded() {
        assert!(against(&[2.44, 2.44], 2.4).unwrap().p.unwrap() > LEVEL);
        assert!(against(&[2.46, 2.46], 2.4).unwrap().p.unwrap() < LEVEL);
        assert_eq!((decimals(30.0), decimals(2.12), decimals(1.5)), (0, 2, 1));
    }

    #[test]
    fn layers_and_equal_networks() {
        let folder = tempfile::tempdir().unwrap();
        let all = experiments::named(&["table6".into(), "table7".into()], Scale::Full).unwrap();
        // All settings of tau end in one network, all other networks differ.
        let store = filled(folder.path(), &[&all[0], &all[1]], 2, |_, label, seed| {
            let tau = label.starts_with("tau") || label.starts_with("percentile (token)");
            0.9 + 0.01 * seed as f64 + if tau { 0.0 } else { 1e-3 * label.len() as f64 }
        });
        let judged = |experiment| {
            let view = View::new(experiment, &store);
            let claims = view.experiment.claims.iter();
            claims.map(|claim| claim.judge(&view)).collect::<Vec<_>>()
        };
        // The made-up networks give every token one expert.
        let literal = &judged(&all[0])[0];
        assert_eq!(literal.verdict, Verdict::Fails);
        assert!(
            literal.evidence.starts_with("1.00, 1.00, 1.00, 1.00 against 2.4, 2.1"),
            "{}",
            literal.evidence
        );
        assert!(literal.evidence.ends_with("in 1 of 4 layers"), "{}", literal.evidence);
        let taus = judged(&all[1]);
        let tau = of(&taus, "The best tau is 0.7");
        assert_eq!(tau.verdict, Verdict::Undecided);
        assert!(tau.evidence.contains("the same network as tau 0.5, tau 0.6, tau 0.8, tau 0.9, to the bit"));
    }
}
