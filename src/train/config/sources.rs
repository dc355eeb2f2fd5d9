//! How a configuration is put together: defaults, data set, preset, file, `key=value`, flags; the later wins.

use std::path::Path;

use super::keys::{Place, SECTIONS, find};
use super::presets::{TRANSFORMERS, preset};
use super::section::Section;
use super::{Config, Network, flat};
use crate::data::{self, text::TokenizerKind};
use crate::engine::error::{Error, Result};
use crate::nn::router::{self, OrAuto};
use crate::nn::schedule::Schedule;
use crate::nn::spec::Norm;

/// The sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// A preset's name.
    pub preset: Option<&'a str>,
    /// A TOML file.
    pub file: Option<&'a Path>,
    /// `key=value` settings; a key may have its section before it, as in `optimizer.lr=0.1`.
    pub set: Vec<String>,
    /// Whether the data set must be text, or must be images; then text without a name is the bundled one.
    pub text: Option<bool>,
    /// The data set.
    pub dataset: Option<&'a str>,
    /// The seed.
    pub seed: Option<u64>,
    /// Passes over the training set.
    pub epochs: Option<usize>,
    /// The most steps.
    pub max_steps: Option<u64>,
}

impl Sources<'_> {
    /// `key=value` settings alone.
    pub fn of(settings: &[&str]) -> Self {
        Sources { set: settings.iter().map(|text| text.to_string()).collect(), ..Sources::default() }
    }
}

/// One setting of a source.
struct Entry {
    place: Place,
    value: toml::Value,
    /// Whether it is from a flat file, which has every key, whether it applies or not.
    flat: bool,
}

/// Reads one `key=value`; a value that is not TOML is a string.
fn parse(text: &str) -> Result<Entry> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error::config(text, "expected key=value"));
    };
    let (place, value) = (find(key.trim())?, value.trim());
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"));
    let value = parsed
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.into()));
    Ok(Entry { place, value, flat: false })
}

/// The settings of a file: of its sections, and of a flat list.
fn entries(table: toml::Table) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(section) if SECTIONS.contains(&&key[..]) => {
                for (name, value) in section {
                    let place = find(&format!("{key}.{name}"))?;
                    all.push(Entry { place, value, flat: false });
                }
            }
            value => {
                let (place, value) = (find(&key)?, flat::modern(&key, value));
                all.push(Entry { place, value, flat: true });
            }
        }
    }
    Ok(all)
}

fn read(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        Error::data(path, format!("line {line}: not valid TOML: {}", e.message()))
    })
}

/// The last value of a setting that is a string.
fn last<'a>(all: &'a [Entry], section: &str, key: &str) -> Option<&'a str> {
    let mut found = all.iter().rev().filter(|e| e.place.section == section && e.place.key == key);
    found.next()?.value.as_str()
}

impl Config {
    /// Puts a configuration together.
    ///
    /// # Errors
    /// Unknown settings and presets, with the nearest valid name; values of the wrong type or out of range; settings
    /// that do not apply or do not go together.
    pub fn resolve(sources: &Sources) -> Result<Config> {
        let mut all = Vec::new();
        for text in sources.preset.map_or(Ok(Vec::new()), preset)? {
            all.push(parse(&text)?);
        }
        if let Some(path) = sources.file {
            all.extend(entries(read(path)?)?);
        }
        for text in &sources.set {
            all.push(parse(text)?);
        }
        Config::build(&all, sources)
    }

    /// A configuration from a table, in sections or flat.
    pub(super) fn from_table(table: toml::Table) -> Result<Config> {
        Config::build(&entries(table)?, &Sources::default())
    }

    fn build(all: &[Entry], sources: &Sources) -> Result<Config> {
        let mut config = Config::default();
        let dataset = sources.dataset.or_else(|| last(all, "data", "dataset"));
        let bundled = sources.text.is_some_and(|text| text).then_some("tinyshakespeare");
        if let Some(name) = dataset.or(bundled) {
            config.data.dataset = name.into();
        }
        let defaults = data::catalog::defaults(&config.data.dataset);
        (config.train.batch, config.train.epochs) = (defaults.batch, defaults.epochs);
        if TRANSFORMERS.iter().any(|preset| Some(preset.0) == sources.preset) {
            config.data.tokenizer = TokenizerKind::Bytes;
        }
        config.data.tokenizer = defaults.tokenizer.unwrap_or(config.data.tokenizer);
        if last(all, "model", "kind") == Some("transformer") {
            config.model.norm = Norm::Pre;
        }
        // The router's name decides which settings it has.
        if let Some(name) = last(all, "router", "name") {
            config.router = router::Settings::named(name)?;
        }
        for Entry { place, value, flat } in all {
            let key = &place.key[..];
            match place.section {
                "data" => config.data.set(key, value)?,
                "model" => config.model.set(key, value)?,
                "optimizer" => config.optimizer.set(key, value)?,
                "train" => config.train.set(key, value)?,
                _ if key == "name" && value.is_str() => true,
                _ if *flat && flat::is_unused(config.router.name(), key, value) => true,
                _ => config.router.set(key, value).map(|()| true)?,
            };
        }
        if let Some(name) = dataset {
            config.data.dataset = name.into();
        }
        config.train.seed = sources.seed.unwrap_or(config.train.seed);
        config.train.epochs = sources.epochs.unwrap_or(config.train.epochs);
        config.train.max_steps = sources.max_steps.unwrap_or(config.train.max_steps);
        config.check()?;
        config.refuse_inapplicable(all)?;
        if sources.text.is_some_and(|text| text != config.is_text()) {
            let kind = if config.is_text() { "text" } else { "images" };
            let what = format!("{} is {kind}: omit --task or --dataset", config.data.dataset);
            return Err(Error::config("task", what));
        }
        config.fill_in()
    }

    /// Refuses settings without a meaning here; in a flat file, which has every key, only if they are not the default.
    fn refuse_inapplicable(&self, all: &[Entry]) -> Result<()> {
        let defaults = Config::default().values();
        let is_default = |entry: &Entry| {
            let Place { section, key } = &entry.place;
            defaults.iter().any(|(s, k, value)| (s, k) == (section, key) && *value == entry.value)
        };
        for entry in all {
            let key = &entry.place.key;
            if let Some(why) = self.inapplicable(key).filter(|_| !entry.flat || !is_default(entry)) {
                return Err(Error::config(key, why));
            }
        }
        Ok(())
    }

    /// Puts in numbers for "auto".
    fn fill_in(mut self) -> Result<Config> {
        let model = &mut self.model;
        if !matches!(model.schedule, Schedule::Custom | Schedule::Learned) {
            let experts = model.schedule.experts(model.layers, model.experts_min, model.experts_max);
            if let OrAuto::Set(list) = &model.experts
                && *list != experts
            {
                let what = format!("{list:?} needs schedule = \"custom\"; this schedule gives {experts:?}");
                return Err(Error::config("experts", what));
            }
            model.experts = OrAuto::Set(experts);
        }
        model.expert_hidden = OrAuto::Set(model.hidden());
        if model.kind == Network::Transformer {
            let heads = model.heads();
            (model.heads, model.kv_heads) = (OrAuto::Set(heads.count), OrAuto::Set(heads.groups));
        }
        Ok(self)
    }
}
