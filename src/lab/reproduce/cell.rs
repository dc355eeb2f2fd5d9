//! A cell of an experiment: a configuration that is trained once per seed.

use super::quantity::Quantity;
use super::results::Store;
use crate::nn::router::OrAuto;
use crate::nn::spec::Spec;
use crate::train::config::{Config, ModelSettings, Sources};
use crate::train::metrics::mean_active;

/// The size of the experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As in the papers.
    Full,
    /// A smoke test: tiny networks, one epoch on the bundled digits or text.
    Quick,
}

/// The cost that a cell is matched to the reference in, by choosing the hidden width of its experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Not matched.
    None,
    /// The number of parameters.
    Parameters,
    /// The active FLOPs per token, with the mean number of active experts that the unmatched cell had on the
    /// test split under the same seed.
    Flops,
}

/// One configuration without its seed.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its name in tables and claims.
    pub label: String,
    /// The settings; the seed is ignored.
    pub config: Config,
    /// The cost that is matched to the reference.
    pub matched: Match,
    /// Values that a paper reports.
    pub paper: Vec<(Quantity, f64)>,
}

impl Cell {
    /// A cell with a preset and `key=value` settings.
    ///
    /// # Panics
    /// On invalid settings: experiments are part of the source, and a test resolves all of them.
    pub fn new(scale: Scale, preset: &str, label: impl Into<String>, settings: &[&str]) -> Cell {
        let (label, mut set) = (label.into(), settings.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        if scale == Scale::Quick {
            let text = set.iter().any(|s| s.strip_prefix("dataset=").is_some_and(crate::data::is_text));
            let small: &[&str] = match text {
                true => {
                    &["dataset=tinyshakespeare", "tokenizer=bytes", "max_steps=20", "layers=2", "width=64"]
                }
                false => &["dataset=digits", "epochs=1"],
            };
            set.extend(small.iter().map(|s| s.to_string()));
        }
        // A Transformer's size is in its settings then.
        let quick = scale == Scale::Quick && !preset.starts_with("transformer");
        let preset = Some(if quick { "tiny" } else { preset });
        let config = Config::resolve(&Sources { preset, set, ..Sources::default() });
        let config = config.unwrap_or_else(|error| panic!("cell {label}: {error}"));
        Cell { label, config, matched: Match::None, paper: Vec::new() }
    }

    /// The same cell with a value that a paper reports for it.
    pub fn paper(mut self, quantity: Quantity, figure: f64) -> Cell {
        self.paper.push((quantity, figure));
        self
    }

    /// The same cell, matched to the reference.
    pub fn matched(self, matched: Match) -> Cell {
        let with = match matched {
            Match::None => return self,
            Match::Parameters => "equal parameters",
            Match::Flops => "equal FLOPs",
        };
        Cell { label: format!("{}, {with}", self.label), matched, ..self }
    }

    /// The configuration for a seed; `None` if it depends on a result that is missing.
    pub fn config(&self, seed: u64, store: &Store) -> Option<Config> {
        let mut config = self.config.clone();
        config.train.seed = seed;
        let spec = config.spec(1, 1);
        let reference = reference(&config).spec(1, 1);
        let hidden = match self.matched {
            Match::None => return Some(config),
            Match::Parameters => {
                nearest_hidden(&spec, |s| s.parameters() as f64, reference.parameters() as f64)
            }
            Match::Flops => {
                let k = mean_active(&store.get(&config)?.trained()?.layers);
                nearest_hidden(&spec, |s| s.active_flops(&k), reference.nominal_flops())
            }
        };
        config.model.expert_hidden = OrAuto::Set(hidden);
        Some(config)
    }
}

/// The reference of matched cells: the same size and data with the first paper's router and schedule.
fn reference(config: &Config) -> Config {
    let Config { model: ModelSettings { schedule, .. }, router, .. } = Config::default();
    let model = ModelSettings { schedule, experts: OrAuto::AUTO, ..config.model.clone() };
    Config { router, model, ..config.clone() }
}

/// The hidden width that brings `measure`, a linear function of it, closest to `target`.
fn nearest_hidden(spec: &Spec, measure: impl Fn(&Spec) -> f64, target: f64) -> usize {
    let at = |hidden| measure(&Spec { hidden, ..spec.clone() });
    (1.0 + (target - at(1)) / (at(2) - at(1))).round().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::trained;
    use super::super::results::{Outcome, Record};
    use super::*;

    #[test]
    fn equal_parameters_and_equal_flops() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let settings = ["dataset=mnist", "router=top-k"];
        let cell = || Cell::new(Scale::Full, "small", "top-k", &settings);
        let plain = cell().config(3, &store).unwrap();
        assert_eq!((plain.train.seed, plain.model.hidden(), plain.model.width), (3, 64, 128));

        let parameters = cell().matched(Match::Parameters);
        let uniform =
            Cell { config: Cell::new(Scale::Full, "small", "", &["schedule=uniform"]).config, ..parameters };
        let found = uniform.config(1, &store).unwrap().spec(784, 10).parameters();
        assert!(found.abs_diff(402_716) < 16 * 129, "{found}");

        let flops = cell().matched(Match::Flops);
        assert_eq!((flops.config(3, &store), &flops.label[..]), (None, "top-k, equal FLOPs"));
        // The measured layers have 1 active expert each, those of the reference 3, 2, 1 and 1.
        let measured = Outcome::Trained(Box::new(trained(0.9, &[8, 6, 3, 1])));
        store.append(Record::new(&plain, measured)).unwrap();
        assert_eq!(flops.config(3, &store).unwrap().model.hidden(), 64 * 7 / 4);
        assert_eq!(flops.config(2, &store), None, "each seed has a measurement of its own");
    }
}
