//! The best networks over all experiments.

use std::collections::BTreeMap;

use super::document::Block;
use crate::data;
use crate::lab::analysis::stats::Mean;
use crate::lab::reproduce::quantity::{Quantity, shown};
use crate::lab::reproduce::results::{Store, Trained};
use crate::train::config::PRESETS;

/// The most accurate network of each data set and size.
pub fn blocks(store: &Store) -> Vec<Block> {
    let mut groups: BTreeMap<(String, usize), BTreeMap<String, Vec<&Trained>>> = BTreeMap::new();
    for record in store.records() {
        let Some(trained) = record.trained() else { continue };
        let dataset = record.settings.get("dataset").and_then(|v| v.as_str()).unwrap_or("digits");
        if data::is_text(dataset) {
            continue;
        }
        let number = |key: &str, default: u64| {
            record.settings.get(key).and_then(serde_json::Value::as_u64).unwrap_or(default) as usize
        };
        let default = crate::train::config::Config::default();
        let shape =
            (number("layers", default.model.layers as u64), number("width", default.model.width as u64));
        let Some(size) = PRESETS.iter().position(|&(_, layers, width)| (layers, width) == shape) else {
            continue;
        };
        let implied = |key: &str, value: &serde_json::Value| {
            IMPLIED.contains(&key) || (key == "expert_hidden" && value.as_u64() == Some(shape.1 as u64 / 2))
        };
        let network = record.settings.iter().filter(|(key, value)| !implied(key, value));
        let network: Vec<String> =
            network.map(|(key, value)| format!("{key}={value}").replace('"', "")).collect();
        let networks = groups.entry((dataset.to_string(), size)).or_default();
        networks.entry(network.join(" ")).or_default().push(trained);
    }
    let mut rows = Vec::new();
    for ((dataset, size), networks) in &groups {
        let seeds = networks.values().map(Vec::len).max().unwrap_or(0);
        let mean = |of: &[&Trained], quantity: Quantity| {
            Mean::of(&of.iter().map(|t| quantity.of(t)).collect::<Vec<_>>())
        };
        // Only networks with the largest number of seeds: means of fewer are more often extreme.
        let full = networks.iter().filter(|(_, of)| of.len() == seeds);
        let means = full.filter_map(|(name, of)| Some((name, mean(of, Quantity::Accuracy)?, of)));
        let Some((name, accuracy, of)) = means.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean)) else { continue };
        let name = if name.is_empty() { "the defaults".into() } else { format!("`{name}`") };
        let best = mean(of, Quantity::BestAccuracy).map_or("–".into(), |m| shown(&m, 2));
        let cells = [shown(&accuracy, 2), best, seeds.to_string(), networks.len().to_string()];
        let head = [format!("{dataset} {}", PRESETS[*size].0), name];
        rows.push(head.into_iter().chain(cells).collect());
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let head = [
        "",
        "settings that differ from the defaults",
        "accuracy %",
        "best epoch %",
        "seeds",
        "networks compared",
    ];
    let note = "The networks with the highest mean test accuracy. Selecting the best of many on the test split makes these \
                values optimistic.";
    vec![
        Block::Heading(2, "The best of all results".into()),
        Block::Table { head: head.map(String::from).into(), rows },
        Block::Text(note.into()),
    ]
}

/// Settings determined by data set, size and schedule.
const IMPLIED: [&str; 6] = ["dataset", "layers", "width", "experts", "batch", "epochs"];
