//! How a configuration is put together: defaults, data set, preset, file, flags.

use std::path::Path;

use super::{Config, Network};
use crate::data::{self, text::TokenizerKind};
use crate::engine::error::{Error, Result, nearest};
use crate::nn::schedule::Schedule;
use crate::nn::spec::Norm;

/// The sizes of the paper: name, layers, width.
pub const PRESETS: [(&str, usize, usize); 4] =
    [("tiny", 2, 64), ("small", 4, 128), ("medium", 6, 256), ("large", 8, 512)];

/// Transformers by about how many parameters they have with byte tokens: name, settings.
pub const TRANSFORMERS: [(&str, &[&str]); 4] = [
    ("transformer-1m", &["layers=4", "width=128", "experts_max=4", "expert_hidden=176"]),
    ("transformer-3m", &["layers=6", "width=192", "experts_max=6", "expert_hidden=168"]),
    ("transformer-10m", &["layers=8", "width=256", "experts_max=8", "expert_hidden=280"]),
    ("transformer-30m", &["layers=12", "width=384", "experts_max=8", "expert_hidden=368"]),
];

/// What every one of [`TRANSFORMERS`] sets.
const TRANSFORMER: [&str; 5] =
    ["model=transformer", "dataset=tinyshakespeare", "sequence=256", "clip_norm=1", "warmup_steps=20"];

/// The layers a configuration is made of, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Layers<'a> {
    /// A preset's name.
    pub preset: Option<&'a str>,
    /// A TOML file.
    pub file: Option<&'a Path>,
    /// `key=value` settings, and flags in that form.
    pub set: Vec<String>,
    /// Whether the data set must be text, or must be images; then text without a name is the bundled one.
    pub text: Option<bool>,
}

/// A parser's message in words for users.
fn plain(message: &str) -> String {
    let whole = "a whole number from 0 to 2^63 - 1";
    message
        .replace("expected usize", &format!("expected {whole}"))
        .replace("expected u64", &format!("expected {whole}"))
        .replace("expected f64", "expected a number")
        .replace("floating point", "the number")
}

/// The keys of a configuration.
fn keys() -> toml::Table {
    toml::Table::try_from(Config::default()).expect("the defaults are a table")
}

fn check_key(key: &str) -> Result<()> {
    let keys = keys();
    if keys.contains_key(key) {
        return Ok(());
    }
    let near = nearest(key, keys.keys().map(String::as_str)).unwrap_or_default();
    Err(Error::config(key, format!("no such setting; the nearest is `{near}`")))
}

/// The settings that a preset stands for.
fn preset(name: &str) -> Result<Vec<String>> {
    if let Some((_, layers, width)) = PRESETS.iter().find(|p| p.0 == name) {
        return Ok(vec![format!("layers={layers}"), format!("width={width}")]);
    }
    if let Some((_, own)) = TRANSFORMERS.iter().find(|p| p.0 == name) {
        return Ok(TRANSFORMER.iter().chain(*own).map(|text| text.to_string()).collect());
    }
    let names = || PRESETS.iter().map(|p| p.0).chain(TRANSFORMERS.iter().map(|p| p.0));
    let (near, all) = (nearest(name, names()).unwrap_or_default(), names().collect::<Vec<_>>().join(", "));
    Err(Error::config("preset", format!("`{name}` is none of {all}; the nearest is `{near}`")))
}

/// Reads one `key=value`; a value that is no TOML value is taken as a string.
fn parse_set(text: &str) -> Result<(String, toml::Value)> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error::config(text, "expected key=value"));
    };
    let (key, value) = (key.trim(), value.trim());
    check_key(key)?;
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"));
    let value =
        parsed.ok().and_then(|mut t| t.remove("v")).unwrap_or_else(|| toml::Value::String(value.into()));
    Ok((key.to_string(), value))
}

impl Config {
    /// Puts a configuration together.
    ///
    /// # Errors
    /// Unknown keys and presets, with the nearest valid name; values of the wrong kind; settings that cannot be.
    pub fn resolve(layers: &Layers) -> Result<Config> {
        let mut over = toml::Table::new();
        if let Some(path) = layers.file {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            let table = toml::from_str::<toml::Table>(&text).map_err(|e| {
                let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].lines().count().max(1));
                Error::data(path, format!("line {line}: not valid TOML: {}", e.message()))
            })?;
            for (key, value) in table {
                check_key(&key)?;
                over.insert(key, value);
            }
        }
        for text in &layers.set {
            let (key, value) = parse_set(text)?;
            over.insert(key, value);
        }
        if let Some(name) = layers.preset {
            for text in preset(name)? {
                let (key, value) = parse_set(&text)?;
                over.entry(key).or_insert(value);
            }
        }
        if layers.text == Some(true) {
            over.entry("dataset").or_insert("tinyshakespeare".into());
        }
        let mut config = Config::default();
        let dataset = over.get("dataset").and_then(|v| v.as_str()).unwrap_or(&config.dataset);
        let defaults = data::catalog::defaults(dataset);
        (config.batch, config.epochs) = (defaults.batch, defaults.epochs);
        let is_transformer = TRANSFORMERS.iter().any(|preset| Some(preset.0) == layers.preset);
        let tokenizer = if is_transformer { TokenizerKind::Bytes } else { config.tokenizer };
        config.tokenizer = defaults.tokenizer.unwrap_or(tokenizer);
        let listed = over.contains_key("experts");
        if over.get("model").and_then(|v| v.as_str()) == Some("transformer") {
            config.norm = Norm::Pre;
        }
        let mut table = toml::Table::try_from(config).expect("a configuration is a table");
        for (key, value) in over {
            // A whole number is a fine value for a setting that is a fraction.
            let value = match (&table[&key], value) {
                (toml::Value::Float(_), toml::Value::Integer(i)) => toml::Value::Float(i as f64),
                (_, value) => value,
            };
            let mut one = keys();
            one.insert(key.clone(), value.clone());
            one.try_into::<Config>()
                .map_err(|e| Error::config(&key, format!("{value} does not do: {}", plain(e.message()))))?;
            table.insert(key, value);
        }
        let mut config: Config =
            table.try_into().map_err(|e: toml::de::Error| Error::config("config", e.message()))?;
        config.check()?;
        if layers.text.is_some_and(|text| text != data::is_text(&config.dataset)) {
            let kind = if data::is_text(&config.dataset) { "text" } else { "images" };
            return Err(Error::config(
                "task",
                format!("{} is {kind}: leave --task or --dataset out", config.dataset),
            ));
        }
        if !matches!(config.schedule, Schedule::Custom | Schedule::Learned) {
            let experts = config.schedule.experts(config.layers, config.experts_min, config.experts_max);
            if listed && config.experts != experts {
                let what =
                    format!("a list of its own needs schedule = \"custom\"; this schedule gives {experts:?}");
                return Err(Error::config("experts", what));
            }
            config.experts = experts;
        }
        config.expert_hidden = config.hidden();
        if config.model == Network::Transformer {
            let heads = config.heads();
            (config.heads, config.kv_heads) = (heads.count, heads.groups);
        }
        Ok(config)
    }
}
