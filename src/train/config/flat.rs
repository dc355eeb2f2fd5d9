//! Configurations as versions up to 0.1 wrote them: one flat list of keys, those of all routers side by side.
//!
//! Such files are still read. The flat text is also what a manifest's digest of the configuration is taken from, so that
//! the digests of old runs hold.

use super::Config;
use super::keys::{Place, find};
use crate::nn::router;

/// The keys in their order.
const KEYS: [&str; 47] = [
    "dataset",
    "seed",
    "model",
    "match_by",
    "layers",
    "width",
    "expert_hidden",
    "schedule",
    "experts_max",
    "experts_min",
    "experts",
    "norm",
    "heads",
    "kv_heads",
    "rope_theta",
    "rms_eps",
    "tokenizer",
    "sequence",
    "pack",
    "tie",
    "router",
    "percentile_scope",
    "tau",
    "temperature",
    "noise",
    "k",
    "mass",
    "capacity_factor",
    "target_k",
    "anneal_steps",
    "own_losses",
    "balance_loss",
    "z_loss",
    "entropy_loss",
    "optimizer",
    "lr",
    "lr_schedule",
    "warmup_steps",
    "weight_decay",
    "beta1",
    "beta2",
    "clip_norm",
    "batch",
    "accumulate",
    "epochs",
    "max_steps",
    "digest_every",
];

/// What stood for a key that the chosen router does not have.
fn unused(key: &str) -> Option<toml::Value> {
    Some(match key {
        "percentile_scope" => "token".into(),
        "tau" => 0.7.into(),
        "temperature" => 0.5.into(),
        "noise" => 0.1.into(),
        "mass" => 0.4.into(),
        "target_k" => 2.58.into(),
        "anneal_steps" => 1000.into(),
        "own_losses" => 1.0.into(),
        "k" | "capacity_factor" | "balance_loss" | "z_loss" | "entropy_loss" => "auto".into(),
        _ => return None,
    })
}

/// What stood for "auto", where that is not the word itself.
fn automatic(key: &str) -> Option<toml::Value> {
    match key {
        "expert_hidden" | "heads" | "kv_heads" => Some(0.into()),
        "experts" => Some(toml::Value::Array(Vec::new())),
        _ => None,
    }
}

/// A value of a flat list as it is written now.
pub fn modern(key: &str, value: toml::Value) -> toml::Value {
    if automatic(key).as_ref() == Some(&value) { "auto".into() } else { value }
}

/// Whether a flat list has this value for a key that the router `name` does not have: then it says nothing.
pub fn is_unused(name: &str, key: &str, value: &toml::Value) -> bool {
    let is_own = router::Settings::keys().any(|(router, own, _)| router == name && own == key);
    let number = |value: &toml::Value| value.as_float().or(value.as_integer().map(|i| i as f64));
    let same = |unused: toml::Value| {
        unused == *value || number(&unused).zip(number(value)).is_some_and(|(a, b)| a == b)
    };
    !is_own && unused(key).is_some_and(same)
}

impl Config {
    /// The settings as a flat list.
    pub fn flat(&self) -> Vec<(String, toml::Value)> {
        let mut values = self.values();
        let mut take = |place: &Place| {
            let found =
                values.iter().position(|(section, key, _)| (*section, key) == (place.section, &place.key));
            found.map(|at| values.remove(at).2)
        };
        let mut flat: Vec<(String, toml::Value)> = Vec::new();
        for key in KEYS {
            let value = find(key).ok().as_ref().and_then(&mut take).or_else(|| unused(key));
            let value = value.expect("every flat key is a setting");
            let value = if value.as_str() == Some("auto") { automatic(key).unwrap_or(value) } else { value };
            flat.push((key.into(), value));
        }
        // Settings that came later are added where they differ from their default.
        let defaults = router::Settings::named(self.router.name()).unwrap_or_default().to_table();
        let later = values.into_iter().filter(|(section, key, value)| {
            *section != "router" || defaults.get(key).is_none_or(|default| default != value)
        });
        flat.extend(later.map(|(_, key, value)| (key, value)));
        flat
    }

    /// The text of the flat list.
    pub fn flat_text(&self) -> String {
        self.flat().into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }
}
