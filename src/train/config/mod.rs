//! A run's settings: one flat list of keys, what they mean, and which cannot be.

mod flat_router;
mod sources;

use serde::{Deserialize, Serialize};

use crate::data::{self, text::TokenizerKind};
use crate::engine::error::{Error, Result, require};
use crate::engine::kernels::attention::Heads;
use crate::nn::optim::rate::RateSchedule;
use crate::nn::optim::{self, Kind};
use crate::nn::router::Sees;
use crate::nn::schedule::Schedule;
use crate::nn::spec::{Attention, Norm, Spec, Text};

pub use flat_router::FlatRouter;
pub use sources::{Layers, PRESETS, TRANSFORMERS};

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

/// All settings of a run. `config.toml` in a run folder is exactly this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data set's name.
    pub dataset: String,
    /// Seed of every random number in the run.
    pub seed: u64,
    /// Which network.
    pub model: Network,
    /// For `model = "mlp"`: what it has in common with the DynaMoE network.
    pub match_by: Match,
    /// Number of layers L.
    pub layers: usize,
    /// Width d of the tokens.
    pub width: usize,
    /// Hidden width of an expert; 0 stands for `width / 2`, in a Transformer for `width`.
    pub expert_hidden: usize,
    /// How many experts each layer has.
    pub schedule: Schedule,
    /// The most experts of a layer.
    pub experts_max: usize,
    /// The fewest experts of a layer.
    pub experts_min: usize,
    /// Experts of each layer for `schedule = "custom"`; filled in from the schedule otherwise, by the training if it is
    /// to be learned.
    pub experts: Vec<usize>,
    /// Where layer normalization stands; always `pre` in a Transformer.
    pub norm: Norm,
    /// Transformer: heads of queries; 0 stands for one for each 32 numbers of `width`.
    pub heads: usize,
    /// Transformer: heads of keys and values; 0 stands for as many as `heads`.
    pub kv_heads: usize,
    /// Transformer: the base of the rotary angles.
    pub rope_theta: f64,
    /// Transformer: what keeps the norms' roots from being zero.
    pub rms_eps: f64,
    /// Text: how it is cut into tokens.
    pub tokenizer: TokenizerKind,
    /// Text: the most tokens that a sequence predicts.
    pub sequence: usize,
    /// Text: join documents, so that every sequence is whole.
    pub pack: bool,
    /// Text: use the embedding's table as the head's weight, too.
    pub tie: bool,
    /// How experts are chosen.
    #[serde(flatten)]
    pub routing: FlatRouter,
    /// The optimizer.
    pub optimizer: Kind,
    /// The learning rate.
    pub lr: f64,
    /// How the learning rate changes after warm-up.
    pub lr_schedule: RateSchedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Share of a weight lost per step, times the learning rate.
    pub weight_decay: f64,
    /// AdamW's first decay, or SGD's momentum.
    pub beta1: f64,
    /// AdamW's second decay.
    pub beta2: f64,
    /// Largest global norm of the gradients; 0 switches clipping off.
    pub clip_norm: f64,
    /// Images or sequences per batch.
    pub batch: usize,
    /// Batches whose gradients are added up for one step.
    pub accumulate: usize,
    /// Passes over the training split.
    pub epochs: usize,
    /// Stop after so many steps; 0 for no limit.
    pub max_steps: u64,
    /// Record a digest of the state every so many steps and at the end of every epoch; 0 for none at all.
    pub digest_every: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            dataset: "digits".into(),
            seed: 1,
            model: Network::Dynamoe,
            match_by: Match::Parameters,
            layers: 4,
            width: 128,
            expert_hidden: 0,
            schedule: Schedule::Descending,
            experts_max: 8,
            experts_min: 1,
            experts: Vec::new(),
            norm: Norm::Final,
            heads: 0,
            kv_heads: 0,
            rope_theta: 10_000.0,
            rms_eps: 1e-5,
            tokenizer: TokenizerKind::Gpt2,
            sequence: 128,
            pack: false,
            tie: false,
            routing: FlatRouter::default(),
            optimizer: Kind::AdamW,
            lr: 1e-3,
            lr_schedule: RateSchedule::Cosine,
            warmup_steps: 0,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            clip_norm: 0.0,
            batch: 256,
            accumulate: 1,
            epochs: 20,
            max_steps: 0,
            digest_every: 100,
        }
    }
}

impl Config {
    /// Refuses settings that cannot be.
    fn check(&self) -> Result<()> {
        self.routing.check()?;
        self.check_kind()?;
        let whole = |key: &str, value: usize, most: usize| {
            require(key, (1..=most).contains(&value), &value, &format!("1 to {most}"))
        };
        whole("layers", self.layers, 1000)?;
        whole("width", self.width, 65_536)?;
        require(
            "expert_hidden",
            self.expert_hidden <= 1 << 20,
            &self.expert_hidden,
            "0 (half the width, a Transformer's the width) to 1048576",
        )?;
        whole("experts_max", self.experts_max, 4096)?;
        whole("experts_min", self.experts_min, self.experts_max)?;
        whole("batch", self.batch, 1 << 20)?;
        whole("accumulate", self.accumulate, 1 << 20)?;
        whole("sequence", self.sequence, 1 << 16)?;
        whole("epochs", self.epochs, 1_000_000)?;
        require("seed", i64::try_from(self.seed).is_ok(), &self.seed, "below 2^63")?;
        let positive = |key: &str, v: f64, need: &str| require(key, v.is_finite() && v > 0.0, &v, need);
        let not_negative = |key: &str, v: f64| require(key, v.is_finite() && v >= 0.0, &v, "0 or more");
        positive("lr", self.lr, "a finite number above 0")?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("clip_norm", self.clip_norm)?;
        require("beta1", (0.0..1.0).contains(&self.beta1), &self.beta1, "from 0 to below 1")?;
        require("beta2", (0.0..1.0).contains(&self.beta2), &self.beta2, "from 0 to below 1")?;
        let learned = self.schedule == Schedule::Learned && !self.experts.is_empty();
        if self.schedule == Schedule::Custom || learned {
            let list = format!("{:?}", self.experts);
            let need = format!("a list of {} numbers from 1 to 4096, one for each layer", self.layers);
            let fits =
                self.experts.len() == self.layers && self.experts.iter().all(|e| (1..=4096).contains(e));
            require("experts", fits, &list, &need)?;
        }
        self.checked_spec(1, 1).map(drop)
    }

    /// Refuses what does not go with images or with text, and what only a Transformer has.
    fn check_kind(&self) -> Result<()> {
        let default = Config::default();
        let is_text = data::is_text(&self.dataset);
        data::catalog::check(&self.dataset)?;
        let refuse = |key: &str, is_set: bool, why: &str| match is_set {
            true => Err(Error::config(key, why)),
            false => Ok(()),
        };
        let transformer = self.model == Network::Transformer;
        let why = format!("a Transformer is for text, and {} is images", self.dataset);
        refuse("model", transformer && !is_text, &why)?;
        for (key, is_set) in [
            ("tokenizer", self.tokenizer != default.tokenizer),
            ("sequence", self.sequence != default.sequence),
            ("pack", self.pack),
            ("tie", self.tie),
        ] {
            refuse(key, is_set && !is_text, &format!("is for text, and {} is images", self.dataset))?;
        }
        for (key, is_set) in [
            ("heads", self.heads != 0),
            ("kv_heads", self.kv_heads != 0),
            ("rope_theta", self.rope_theta != default.rope_theta),
            ("rms_eps", self.rms_eps != default.rms_eps),
        ] {
            refuse(key, is_set && !transformer, "is for model = \"transformer\"")?;
        }
        let dense = self.model == Network::Mlp;
        refuse("match_by", self.match_by != default.match_by && !dense, "is for model = \"mlp\"")?;
        refuse("norm", transformer && self.norm != Norm::Pre, "a Transformer has norm = \"pre\"")?;
        let rule = self.routing.settings()?.rule();
        let ahead = is_text && self.model != Network::Mlp && rule.inference == Sees::All;
        let why = format!("does not do for text: it looks ahead ({})", rule.looks_across());
        refuse("router", ahead, &why)?;
        if transformer {
            let Heads { count, groups, width } = self.heads();
            let need = "such that heads divides width, into an even number for each";
            require("heads", count * width == self.width && width.is_multiple_of(2), &count, need)?;
            require("kv_heads", count.is_multiple_of(groups), &groups, "a divisor of heads")?;
            let theta = self.rope_theta;
            require("rope_theta", theta.is_finite() && theta > 1.0, &theta, "above 1")?;
            let epsilon = self.rms_eps;
            require("rms_eps", epsilon > 0.0 && epsilon < 1.0, &epsilon, "above 0 and below 1")?;
        }
        Ok(())
    }

    /// The attention's heads.
    fn heads(&self) -> Heads {
        let count = if self.heads == 0 { (self.width / 32).max(1) } else { self.heads };
        let groups = if self.kv_heads == 0 { count } else { self.kv_heads };
        Heads { count, groups, width: self.width / count }
    }

    /// The experts' hidden width.
    fn hidden(&self) -> usize {
        match (self.expert_hidden, self.model) {
            (0, Network::Transformer) => self.width,
            (0, _) => (self.width / 2).max(1),
            (hidden, _) => hidden,
        }
    }

    /// The network for images of `inputs` numbers in `classes` classes, or for text of a vocabulary of `classes`.
    pub fn spec(&self, inputs: usize, classes: usize) -> Spec {
        let experts = match self.schedule {
            Schedule::Custom => self.experts.clone(),
            Schedule::Learned if !self.experts.is_empty() => self.experts.clone(),
            schedule => schedule.experts(self.layers, self.experts_min, self.experts_max),
        };
        let routing = self.routing.settings().expect("checked settings");
        let experts = experts.into_iter().map(|scheduled| routing.experts(scheduled)).collect();
        let Config { width, norm, tie, rope_theta: theta, rms_eps: epsilon, sequence, .. } = *self;
        let attention = Attention { heads: self.heads(), theta, epsilon, sequence };
        let attention = (self.model == Network::Transformer).then_some(attention);
        let text = data::is_text(&self.dataset).then_some(Text { tied: tie, attention });
        let (hidden, router) = (self.hidden(), Some(routing));
        let spec = Spec { inputs, classes, width, hidden, experts, router, norm, text };
        match (self.model, self.match_by) {
            (Network::Dynamoe | Network::Transformer, _) => spec,
            (Network::Mlp, Match::Parameters) => spec.dense_match(|s| s.parameters() as f64),
            (Network::Mlp, Match::Flops) => spec.dense_match(Spec::nominal_flops),
        }
    }

    /// The same, for data that may ask for too large a network.
    ///
    /// # Errors
    /// A network of 2^28 parameters or more.
    pub fn checked_spec(&self, inputs: usize, classes: usize) -> Result<Spec> {
        let spec = self.spec(inputs, classes);
        let need = "small enough for fewer than 2^28 parameters in all, those of a vocabulary included";
        require("width", spec.parameters() < 1 << 28, &self.width, need)?;
        Ok(spec)
    }

    /// The optimizer's constants.
    pub fn optimizer_settings(&self) -> optim::Settings {
        let Config { optimizer: kind, beta1, beta2, weight_decay, .. } = *self;
        optim::Settings { kind, beta1, beta2, weight_decay, ..optim::Settings::ADAMW }
    }

    /// The settings as TOML text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration is a table")
    }
}

#[cfg(test)]
mod tests;
