//! A run's settings: sections of keys, what they mean, and which values are valid.
//!
//! [`Config::resolve`] puts a configuration together from its [`Sources`]. A training takes a [`Resolved`] one, whose
//! layers all have a known number of experts.

mod check;
mod flat;
mod keys;
mod presets;
mod resolved;
mod section;
mod sections;
mod sources;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::engine::error::{Error, Result, require};
use crate::nn::optim;
use crate::nn::router;
use crate::nn::schedule::Schedule;
use crate::nn::spec::{Attention, Spec, Text};
use section::Section;

pub use presets::{PRESETS, TRANSFORMERS, names as preset_names};
pub use resolved::Resolved;
pub use sections::{DataSettings, ModelSettings, OptimizerSettings, TrainSettings};
pub use sources::Sources;

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Layers of routed experts.
    Dynamoe,
    /// One dense expert per layer, as wide as makes it equal to the DynaMoE network of the same settings.
    Mlp,
    /// A decoder-only Transformer with routed experts, for text.
    Transformer,
}

/// What the dense baseline has in common with the DynaMoE network of the same settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// The number of parameters.
    Parameters,
    /// The active FLOPs per token.
    Flops,
}

/// All settings of a run, by section. `config.toml` in a run folder holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "toml::Table", try_from = "toml::Table")]
pub struct Config {
    /// What is trained on.
    pub data: DataSettings,
    /// The network, but for its routers.
    pub model: ModelSettings,
    /// How experts are chosen.
    pub router: router::Settings,
    /// How gradients become steps.
    pub optimizer: OptimizerSettings,
    /// Batches, length and digests.
    pub train: TrainSettings,
}

impl Config {
    /// The network for images of `inputs` numbers in `classes` classes, or for text of a vocabulary of `classes`. Of a
    /// learned schedule that is not known yet it has as many experts as of the uniform one.
    pub fn spec(&self, inputs: usize, classes: usize) -> Spec {
        let model = &self.model;
        let uniform = || Schedule::Uniform.experts(model.layers, model.experts_min, model.experts_max);
        let experts = model.experts().unwrap_or_else(uniform);
        let experts = experts.into_iter().map(|scheduled| self.router.experts(scheduled)).collect();
        let (theta, epsilon) = (model.rope_theta, model.rms_eps);
        let attention = Attention { heads: model.heads(), theta, epsilon, sequence: self.data.sequence };
        let attention = (model.kind == Network::Transformer).then_some(attention);
        let text = self.is_text().then_some(Text { tied: model.tie, attention });
        let spec = Spec {
            inputs,
            classes,
            width: model.width,
            hidden: model.hidden(),
            experts,
            router: Some(self.router),
            norm: model.norm,
            text,
        };
        match (model.kind, model.match_by) {
            (Network::Dynamoe | Network::Transformer, _) => spec,
            (Network::Mlp, Match::Parameters) => spec.dense_match(|s| s.parameters() as f64),
            (Network::Mlp, Match::Flops) => spec.dense_match(Spec::nominal_flops),
        }
    }

    /// The same, for data that may require too large a network.
    ///
    /// # Errors
    /// A network of 2^28 parameters or more.
    pub fn checked_spec(&self, inputs: usize, classes: usize) -> Result<Spec> {
        let spec = self.spec(inputs, classes);
        let need = "small enough for fewer than 2^28 parameters in all, those of a vocabulary included";
        require("width", spec.parameters() < 1 << 28, &self.model.width, need)?;
        Ok(spec)
    }

    /// The optimizer's constants.
    pub fn optimizer_settings(&self) -> optim::Settings {
        let OptimizerSettings { name: kind, beta1, beta2, weight_decay, .. } = self.optimizer;
        optim::Settings { kind, beta1, beta2, weight_decay, ..optim::Settings::ADAMW }
    }

    /// Section, key and value of every setting, in the order of the documentation.
    fn values(&self) -> Vec<(&'static str, String, toml::Value)> {
        let Config { data, model, router, optimizer, train } = self;
        let mut all = Vec::new();
        let mut add = |section, values: Vec<(&str, toml::Value)>| {
            all.extend(values.into_iter().map(|(key, value)| (section, key.to_string(), value)));
        };
        add("data", data.values());
        add("model", model.values());
        add("router", router.values());
        add("optimizer", optimizer.values());
        add("train", train.values());
        all
    }

    /// The settings that apply, as TOML text in sections.
    pub fn to_toml(&self) -> String {
        let (mut text, mut last) = (String::new(), "");
        for (section, key, value) in self.applicable() {
            if section != last {
                let gap = if last.is_empty() { "" } else { "\n" };
                text += &format!("{gap}[{section}]\n");
                last = section;
            }
            text += &format!("{key} = {value}\n");
        }
        text
    }

    fn applicable(&self) -> impl Iterator<Item = (&'static str, String, toml::Value)> {
        self.values().into_iter().filter(|(_, key, _)| self.inapplicable(key).is_none())
    }
}

impl From<Config> for toml::Table {
    fn from(config: Config) -> toml::Table {
        let mut table = toml::Table::new();
        for (section, key, value) in config.applicable() {
            let entry = table.entry(section).or_insert_with(|| toml::Table::new().into());
            entry.as_table_mut().expect("a section is a table").insert(key, value);
        }
        table
    }
}

/// Sections, or a flat list of an earlier version.
impl TryFrom<toml::Table> for Config {
    type Error = Error;

    fn try_from(table: toml::Table) -> Result<Config> {
        Config::from_table(table)
    }
}
