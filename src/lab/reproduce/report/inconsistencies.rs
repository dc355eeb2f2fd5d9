//! Inconsistencies of the first paper, each with its calculation.

use super::document::Block;
use crate::engine::kernels::select::token_scope_k;
use crate::lab::analysis::stats::Mean;
use crate::lab::reproduce::paper::{SMALL_PARAMETERS, TABLE3, TABLE6, TABLE7};
use crate::lab::reproduce::quantity::{Quantity, efficiency};
use crate::lab::reproduce::results::{Record, Store};
use crate::nn::router::percentile;
use crate::nn::spec::{Norm, Spec};
use crate::train::config::{Config, Sources};

/// The section on inconsistencies.
pub fn blocks(store: &Store) -> Vec<Block> {
    let parts = [constant_k(store), equal_taus(store), parameters(), efficiencies(store), entropies()];
    let heading = Block::Heading(2, "Inconsistencies in the first paper".into());
    [heading].into_iter().chain(parts.into_iter().flatten()).collect()
}

/// The network of size Small for MNIST with further settings.
fn small(settings: &[&str]) -> Spec {
    let set = settings.iter().map(|s| s.to_string()).collect();
    let config = Config::resolve(&Sources { preset: Some("small"), set, ..Sources::default() });
    config.expect("settings in the source are valid").spec(784, 10)
}

fn list(numbers: impl Iterator<Item = usize>) -> String {
    numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether this result is for the percentile in token scope.
fn is_literal(record: &Record) -> bool {
    let set = |key: &str| record.settings.contains_key(key);
    !set("router") && !set("percentile_scope") && !set("model")
}

fn constant_k(store: &Store) -> Vec<Block> {
    let tau = percentile::Settings::default().tau;
    let rows = TABLE6.map(|(experts, active, ..)| {
        let (k, batch) = (token_scope_k(experts, tau), ((1.0 - tau) * experts as f64).max(1.0));
        let fits = if active == k as f64 { "yes" } else { "no" };
        [experts.to_string(), k.to_string(), active.to_string(), fits.into(), format!("{batch:.1}")].into()
    });
    let layers =
        || store.records().filter(|r| is_literal(r)).filter_map(|r| r.trained()).flat_map(|t| &t.layers);
    let constant = layers().filter(|layer| layer.k_share.iter().any(|&share| share > 1.0 - 1e-12)).count();
    let measured = match layers().count() {
        0 => String::new(),
        all => format!(
            " In our results with this rule, {constant} of {all} layers gave every image of the test split the same \
             number of experts."
        ),
    };
    let head = [
        "experts E",
        "k of the rule",
        "paper's mean active",
        "possible?",
        "batch scope in training, at least (1 - tau) E",
    ];
    let possible = TABLE6.iter().filter(|row| row.1 == token_scope_k(row.0, tau) as f64).count();
    vec![
        Block::Heading(3, "The literal rule never varies k".into()),
        Block::Text(format!(
            "The rule keeps the experts whose gate is above the tau-percentile of the token's own E gates. A \
             percentile depends on ranks only: without ties exactly `max(1, E - 1 - floor(tau (E - 1)))` of E numbers are \
             above it, whatever their values. At tau = {tau}, {possible} of the {} reported averages can result from \
             it.{measured}",
            TABLE6.len()
        )),
        Block::Table { head: head.map(String::from).into(), rows: rows.into() },
    ]
}

fn equal_taus(store: &Store) -> Vec<Block> {
    let taus = TABLE7.iter().find(|row| row.0 == "tau").map_or(&[][..], |row| row.2);
    let experts = small(&[]).experts;
    let k = |tau: &str| -> Vec<usize> {
        let tau = tau.parse().expect("a number in the source");
        experts.iter().map(|&e| token_scope_k(e, tau)).collect()
    };
    let rows: Vec<Vec<String>> =
        taus.iter().map(|tau| vec![tau.to_string(), list(k(tau).into_iter())]).collect();
    let mut same = Vec::new();
    for (i, a) in taus.iter().enumerate() {
        same.extend(taus[i + 1..].iter().filter(|b| k(a) == k(b)).map(|b| (*a, *b)));
    }
    let pairs: Vec<String> = same.iter().map(|(a, b)| format!("{a} and {b}")).collect();
    let mut text = match same.len() {
        0 => "All of them differ.".to_string(),
        _ => {
            format!("So tau {} are the same model; no experiment can distinguish them.", pairs.join(", and "))
        }
    };
    for (a, b) in same {
        let found = |tau: &str, seed: u64| {
            let setting = format!("tau={tau}");
            let set = vec!["dataset=mnist".into(), setting, format!("seed={seed}")];
            let config =
                Config::resolve(&Sources { preset: Some("small"), set, ..Sources::default() }).ok()?;
            Some(store.get(&config)?.trained()?.digest.clone())
        };
        let pairs: Vec<bool> =
            store.seeds().into_iter().filter_map(|seed| Some(found(a, seed)? == found(b, seed)?)).collect();
        let equal = pairs.iter().filter(|&&same| same).count();
        if !pairs.is_empty() {
            text += &format!(
                " Trained with tau {a} and {b}, {equal} of {} pairs are bit-identical.",
                pairs.len()
            );
        }
    }
    vec![
        Block::Heading(3, "Different tau, the same model".into()),
        Block::Text(format!("The active experts of layers with {} experts:", list(experts.iter().copied()))),
        Block::Table { head: vec!["tau".into(), "k in each layer".into()], rows },
        Block::Text(text),
    ]
}

fn parameters() -> Vec<Block> {
    let norms = [
        (Norm::Final, "once, before the head"),
        (Norm::Post, "after every residual"),
        (Norm::Pre, "before every layer and the head"),
    ];
    let mut rows: Vec<Vec<String>> = Vec::new();
    let away = |count: usize| format!("{:+.1}%", 100.0 * (count as f64 / SMALL_PARAMETERS - 1.0));
    for (norm, place) in norms {
        let count = Spec { norm, ..small(&[]) }.parameters();
        rows.push(vec![format!("normalization {place}"), "64".into(), count.to_string(), away(count)]);
    }
    let nearest = (1..=256)
        .min_by_key(|&hidden| Spec { hidden, ..small(&[]) }.parameters().abs_diff(SMALL_PARAMETERS as usize));
    let hidden = nearest.unwrap_or(64);
    let count = Spec { hidden, ..small(&[]) }.parameters();
    rows.push(vec![
        "the hidden width that comes closest".into(),
        hidden.to_string(),
        count.to_string(),
        away(count),
    ]);
    vec![
        Block::Heading(3, "The number of parameters".into()),
        Block::Text(format!(
            "The paper gives {SMALL_PARAMETERS} for Small. Counted for 784 inputs, 10 classes, width 128 and 8, 6, 3, \
             1 experts, with weights and biases of experts `W2 relu(W1 x + b1) + b2` and gates:"
        )),
        Block::Table {
            head: ["", "hidden width", "parameters", "difference from the paper"].map(String::from).into(),
            rows,
        },
    ]
}

fn efficiencies(store: &Store) -> Vec<Block> {
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for (most, fewest, accuracy) in TABLE3 {
        let settings = [format!("experts_max={most}"), format!("experts_min={fewest}")];
        let count = small(&settings.each_ref().map(String::as_str)).parameters();
        let found = |seed: u64| {
            let set = [vec!["dataset=mnist".into(), format!("seed={seed}")], settings.to_vec()].concat();
            let config =
                Config::resolve(&Sources { preset: Some("small"), set, ..Sources::default() }).ok()?;
            Some(Quantity::Efficiency.of(store.get(&config)?.trained()?))
        };
        let ours = Mean::of(&store.seeds().into_iter().filter_map(found).collect::<Vec<_>>());
        let theirs = efficiency(accuracy, count as f64);
        all.push((most, fewest, count, theirs));
        rows.push(vec![
            format!("E{most}-{fewest}"),
            count.to_string(),
            accuracy.to_string(),
            format!("{theirs:.3}"),
            ours.map_or("–".into(), |mean| format!("{mean:.3}")),
        ]);
    }
    let claimed = TABLE3.iter().find(|row| (row.0, row.1) == (8, 1)).map_or(0.0, |row| row.2);
    let best = all.iter().max_by(|a, b| a.3.total_cmp(&b.3)).expect("six rows");
    let smallest = all.iter().min_by_key(|row| row.2).expect("six rows");
    let also = if best == smallest { ", which is also the smallest network" } else { "" };
    let head = ["", "parameters counted", "paper's accuracy", "resulting efficiency", "our efficiency"];
    vec![
        Block::Heading(3, "Efficiency with counted parameters".into()),
        Block::Text(format!(
            "Table 3 divides accuracy by the number of parameters. With {SMALL_PARAMETERS} parameters E8-1 has \
             {:.3} percent per 10,000; with counted parameters, the paper's own accuracies make E{}-{} the most \
             efficient{also}.",
            efficiency(claimed, SMALL_PARAMETERS),
            best.0,
            best.1
        )),
        Block::Table { head: head.map(String::from).into(), rows },
    ]
}

/// The smallest possible entropy, in bits, of the shares of assignments if tokens have `k` experts on average: an expert
/// serves a token at most once, so no share exceeds 1/k.
fn least_entropy(k: f64) -> f64 {
    let (full, share) = (k.floor(), 1.0 / k);
    let rest = 1.0 - full * share;
    let term = |p: f64| if p > 1e-12 { -p * libm::log2(p) } else { 0.0 };
    full * term(share) + term(rest)
}

fn entropies() -> Vec<Block> {
    let mut rows = Vec::new();
    let mut wrong = 0;
    for (experts, active, utilization, entropy) in TABLE6 {
        let (from_active, most) = (100.0 * active / experts as f64, libm::log2(experts as f64));
        let least = least_entropy(active);
        // The reported values are rounded: utilization to whole percents, entropy to hundredths.
        let fits =
            (from_active - utilization).abs() <= 0.5 && (least - 0.005..=most + 0.005).contains(&entropy);
        wrong += usize::from(!fits);
        rows.push(vec![
            experts.to_string(),
            utilization.to_string(),
            format!("{from_active:.1}"),
            entropy.to_string(),
            format!("{least:.2} to {most:.2}"),
            if fits { "yes" } else { "no" }.into(),
        ]);
    }
    let head =
        ["experts E", "utilization %", "100 mean active / E", "usage entropy", "possible", "consistent?"];
    vec![
        Block::Heading(3, "Utilization and usage entropy".into()),
        Block::Text(format!(
            "Utilization must be 100 times mean active over E; usage entropy is at most log2 E and at least that of the \
             most uneven usage with this number of active experts. {wrong} of {} rows of Table 6 contradict this.",
            TABLE6.len()
        )),
        Block::Table { head: head.map(String::from).into(), rows },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_by_hand() {
        assert_eq!((least_entropy(1.0), least_entropy(2.0), least_entropy(4.0)), (0.0, 1.0, 2.0));
        // Two experts serve 0.4 each, a third 0.2.
        approx::assert_relative_eq!(least_entropy(2.5), 1.521_928_1, max_relative = 1e-6);
    }

    #[test]
    fn the_calculations_give_known_results() {
        let folder = tempfile::tempdir().unwrap();
        let text = super::super::document::markdown(&blocks(&Store::open(folder.path()).unwrap()));
        for part in [
            "| 8 | 3 | 2.4 | no | 2.4 |",
            "| 1 | 1 | 1 | yes | 1.0 |",
            "1 of the 4 reported averages can result from it",
            "So tau 0.6 and 0.7 are the same model",
            "| normalization after every residual | 64 | 403484 | +6.2% |",
            "| normalization once, before the head | 64 | 402716 | +6.0% |",
            "0 of 4 rows of Table 6 contradict this",
            "E8-1 has 2.439 percent",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
