//! A run's settings: one flat list of keys, layered from defaults, data set, preset, file and flags.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::{self, text::tokenizer};
use crate::error::{Error, Result, nearest, require};
use crate::kernels::attention::Heads;
use crate::nn::router::{self, Sees};
use crate::nn::schedule::Schedule;
use crate::nn::spec::{Attention, Norm, Spec, Text};
use crate::optim::rate::RateSchedule;
use crate::optim::{self, Kind};

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
    /// Hidden width of an expert; 0 stands for `width / 2`.
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
    /// Where layer normalisation stands; always `pre` in a Transformer.
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
    pub tokenizer: tokenizer::Kind,
    /// Text: the most tokens that a sequence predicts.
    pub sequence: usize,
    /// Text: join documents, so that every sequence is whole.
    pub pack: bool,
    /// Text: use the embedding's table as the head's weight, too.
    pub tie: bool,
    /// How experts are chosen.
    #[serde(flatten)]
    pub routing: router::Settings,
    /// The optimiser.
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
            tokenizer: tokenizer::Kind::Gpt2,
            sequence: 128,
            pack: false,
            tie: false,
            routing: router::Settings::DEFAULT,
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
const TRANSFORMER: [&str; 6] = [
    "model=transformer",
    "dataset=guide",
    "tokenizer=bytes",
    "sequence=256",
    "clip_norm=1",
    "warmup_steps=20",
];

/// What a data set changes in the defaults: name, batch, epochs.
const DATASETS: [(&str, usize, usize); 3] = [("digits", 32, 30), ("cifar-10", 256, 25), ("guide", 8, 30)];

/// The same for any other text.
const TEXTS: (usize, usize) = (32, 5);

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
            over.entry("dataset").or_insert("guide".into());
        }
        let mut config = Config::default();
        let dataset = over.get("dataset").and_then(|v| v.as_str()).unwrap_or(&config.dataset);
        if let Some(&(_, batch, epochs)) = DATASETS.iter().find(|d| d.0 == dataset) {
            (config.batch, config.epochs) = (batch, epochs);
        } else if data::is_text(dataset) {
            (config.batch, config.epochs) = TEXTS;
        }
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
        positive("lr", self.lr, "above 0")?;
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
        let parameters = self.spec(1, 1).parameters();
        require(
            "width",
            parameters < 1 << 28,
            &self.width,
            "small enough for fewer than 2^28 parameters in all",
        )
    }

    /// Refuses what does not go with images or with text, and what only a Transformer has.
    fn check_kind(&self) -> Result<()> {
        let default = Config::default();
        let is_text = data::is_text(&self.dataset);
        if !is_text {
            data::catalog::entry(&self.dataset)?;
        }
        let refuse = |key: &str, is_set: bool, why: &str| match is_set {
            true => Err(Error::config(key, why)),
            false => Ok(()),
        };
        for (key, is_set) in [
            ("tokenizer", self.tokenizer != default.tokenizer),
            ("sequence", self.sequence != default.sequence),
            ("pack", self.pack),
            ("tie", self.tie),
        ] {
            refuse(key, is_set && !is_text, &format!("is for text, and {} is images", self.dataset))?;
        }
        let transformer = self.model == Network::Transformer;
        let why = format!("a Transformer is for text, and {} is images", self.dataset);
        refuse("model", transformer && !is_text, &why)?;
        for (key, is_set) in [
            ("heads", self.heads != 0),
            ("kv_heads", self.kv_heads != 0),
            ("rope_theta", self.rope_theta != default.rope_theta),
            ("rms_eps", self.rms_eps != default.rms_eps),
        ] {
            refuse(key, is_set && !transformer, "is for model = \"transformer\"")?;
        }
        refuse("norm", transformer && self.norm != Norm::Pre, "a Transformer has norm = \"pre\"")?;
        let rule = self.routing.rule();
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
        let experts = experts.into_iter().map(|scheduled| self.routing.experts(scheduled)).collect();
        let Config { width, norm, tie, rope_theta: theta, rms_eps: epsilon, sequence, .. } = *self;
        let attention = Attention { heads: self.heads(), theta, epsilon, sequence };
        let attention = (self.model == Network::Transformer).then_some(attention);
        let text = data::is_text(&self.dataset).then_some(Text { tied: tie, attention });
        let (hidden, router) = (self.hidden(), Some(self.routing));
        let spec = Spec { inputs, classes, width, hidden, experts, router, norm, text };
        match (self.model, self.match_by) {
            (Network::Dynamoe | Network::Transformer, _) => spec,
            (Network::Mlp, Match::Parameters) => spec.dense_match(|s| s.parameters() as f64),
            (Network::Mlp, Match::Flops) => spec.dense_match(Spec::nominal_flops),
        }
    }

    /// The optimiser's constants.
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
mod tests {
    use super::*;

    #[test]
    fn text_has_settings_of_its_own() {
        let text = |settings: &[&str]| {
            let set = settings.iter().map(|s| s.to_string()).collect();
            Config::resolve(&Layers { set, text: Some(true), ..Layers::default() })
        };
        let plain = text(&[]).unwrap();
        assert_eq!((&plain.dataset[..], plain.batch, plain.epochs, plain.sequence), ("guide", 8, 30, 128));
        assert_eq!(plain.spec(0, 100).text, Some(Text { tied: false, attention: None }));
        assert!(text(&["dataset=mnist"]).unwrap_err().to_string().contains("task: mnist is images"));
        let wiki = text(&["dataset=wikitext-2", "model=transformer", "width=96"]).unwrap();
        assert_eq!((wiki.norm, wiki.heads, wiki.kv_heads, wiki.expert_hidden), (Norm::Pre, 3, 3, 96));
        assert_eq!((wiki.batch, wiki.epochs), TEXTS);
        for (settings, part) in [
            (&["router=expert-choice"][..], "router: does not do for text: it looks ahead"),
            (&["heads=2"], "heads: is for model = \"transformer\""),
            (&["model=transformer", "heads=3"], "heads: 3 is impossible"),
            (&["model=transformer", "kv_heads=3"], "kv_heads: 3 is impossible"),
            (&["model=transformer", "norm=post"], "norm: a Transformer has norm"),
            (&["tokenizer=words"], "tokenizer"),
        ] {
            let line = text(settings).unwrap_err().to_string();
            assert!(line.contains(part), "{settings:?}: {line}");
        }
        let line = set(&["tie=true"]).unwrap_err().to_string();
        assert!(line.contains("tie: is for text, and digits is images"), "{line}");
        assert!(set(&["model=transformer"]).unwrap_err().to_string().contains("a Transformer is for text"));
        // A model file that a run wrote is read again as it was.
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("config.toml");
        std::fs::write(&path, wiki.to_toml()).unwrap();
        assert_eq!(Config::resolve(&Layers { file: Some(&path), ..Layers::default() }).unwrap(), wiki);
    }

    #[test]
    fn transformers_are_about_as_large_as_their_names_say() {
        for (preset, millions) in [("1m", 1.0), ("3m", 3.0), ("10m", 10.0), ("30m", 30.0)] {
            let name = format!("transformer-{preset}");
            let config = Config::resolve(&Layers { preset: Some(&name), ..Layers::default() }).unwrap();
            let count = config.spec(0, 256).parameters() as f64 / 1e6;
            assert!((count / millions - 1.0).abs() < 0.05, "{name}: {count}");
        }
    }

    fn set(settings: &[&str]) -> Result<Config> {
        Config::resolve(&Layers {
            set: settings.iter().map(|s| s.to_string()).collect(),
            ..Layers::default()
        })
    }

    fn refusal(setting: &str) -> String {
        set(&[setting]).err().unwrap_or_else(|| panic!("{setting} was accepted")).to_string()
    }

    #[test]
    fn layers_override_each_other_and_the_result_reads_back() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"tau = 0.5\nlr = 1\nwidth = 32\n").unwrap();
        let layers = Layers {
            preset: Some("medium"),
            file: Some(file.path()),
            set: vec!["tau=0.9".into(), "schedule=wave-up".into()],
            text: None,
        };
        let config = Config::resolve(&layers).unwrap();
        assert_eq!((config.layers, config.width, config.routing.tau, config.lr), (6, 32, 0.9, 1.0));
        assert_eq!(config.experts.len(), 6);
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
        assert_eq!(set(&["dataset=cifar-10"]).unwrap().epochs, 25);
    }

    #[test]
    fn a_resolved_file_resolves_to_itself() {
        let config = set(&["schedule=custom", "experts=[3,2]", "layers=2"]).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, config.to_toml().as_bytes()).unwrap();
        let layers = Layers { file: Some(file.path()), ..Layers::default() };
        assert_eq!(Config::resolve(&layers).unwrap(), config);
    }

    #[test]
    fn routers_are_chosen_by_name_and_each_has_its_settings() {
        for &kind in router::Kind::ALL {
            let config = set(&[&format!("router={}", kind.name()), "k=3", "balance_loss=1"]).unwrap();
            assert_eq!((config.routing.kind, config.routing.k.or(7)), (kind, 3));
            assert_eq!((config.routing.balance_loss.or(7.0), config.routing.z_loss.or(7.0)), (1.0, 7.0));
            assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
        }
        assert_eq!(set(&["k=auto"]).unwrap(), set(&[]).unwrap());
        let single = set(&["router=single"]).unwrap();
        assert_eq!((&single.experts[..], single.spec(9, 2).experts), (&[8, 6, 3, 1][..], vec![1; 4]));
    }

    #[test]
    fn a_configuration_from_before_a_setting_existed_has_its_default() {
        assert_eq!(
            toml::from_str::<Config>("tau = 0.7\npercentile_scope = \"token\"").unwrap(),
            Config::default()
        );
        assert!(toml::from_str::<Config>("tua = 0.7").is_err());
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        assert!(refusal("tua=0.5").contains("nearest is `tau`"));
        assert!(refusal("tau=1.5").contains("setting tau: 1.5 is impossible"));
        assert!(
            refusal("router=top-kk")
                .contains("unknown variant `top-kk`, expected one of `percentile`, `top-k`")
        );
        assert!(refusal("k=0").contains("0 is impossible; it must be \"auto\", or 1 to 4096"));
        assert!(refusal("k=2.5").contains("setting k: 2.5 does not do: expected \"auto\" or a number"));
        assert!(refusal("z_loss=-1").contains("setting z_loss: -1 is impossible"));
        assert!(refusal("entropy_loss=none").contains("setting entropy_loss"));
        assert!(refusal("mass=0").contains("setting mass: 0 is impossible; it must be above 0, to 1"));
        assert!(refusal("capacity_factor=0").contains("setting capacity_factor"));
        assert!(refusal("target_k=0.5").contains("setting target_k"));
        assert!(refusal("own_losses=-1").contains("setting own_losses"));
        assert!(refusal("layers=0").contains("setting layers"));
        assert!(refusal("schedule=zigzag").contains("setting schedule"));
        assert!(refusal("dataset=mnits").contains("nearest is `mnist`"));
        assert!(refusal("tau=NaN").contains("setting tau"));
        assert!(refusal("lr=-1").contains("setting lr"));
        assert!(refusal("batch=1.5").contains("setting batch"));
        assert!(refusal("experts_min=9").contains("setting experts_min"));
        assert!(refusal("nonsense").contains("expected key=value"));
        assert!(refusal("width=1000000").contains("setting width"));
        assert!(refusal("experts=[1,2]").contains("needs schedule"));
        assert!(refusal("seed=18446744073709551615").contains("a whole number from 0 to 2^63 - 1"));
        let custom = set(&["schedule=custom", "experts=[1,2]"]).err().unwrap().to_string();
        assert!(custom.contains("one for each layer"), "{custom}");
        let preset = Config::resolve(&Layers { preset: Some("smal"), ..Layers::default() });
        assert!(preset.err().unwrap().to_string().contains("nearest is `small`"));
    }
}
