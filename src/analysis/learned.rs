//! The learned schedule: train briefly, measure each layer's diversity, allocate as many experts as uniform has.

use super::diversity::{allocate, profile};
use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::schedule::Schedule;
use crate::train::Learner;

/// The brief training's share of the epochs; it has one at least.
const SHARE: usize = 10;

/// `config` with a list of experts, if its schedule is to be learned and has none yet. A function of configuration and
/// data, like everything that comes after it.
///
/// # Errors
/// NaN or infinity in the brief training.
pub fn resolve(config: Config, data: &Dataset) -> Result<Config> {
    if config.schedule != Schedule::Learned || !config.experts.is_empty() {
        return Ok(config);
    }
    let Config { layers, experts_min: min, experts_max: max, .. } = config;
    let epochs = (config.epochs / SHARE).max(1);
    let brief = Config { schedule: Schedule::Uniform, epochs, ..config.clone() };
    let mut learner = Learner::new(&brief, data)?;
    while !learner.is_done() {
        learner.step(None).map_err(|error| match error {
            Error::NonFinite { step, what, .. } => {
                let what = format!(
                    "the brief training for it broke off at step {step}: {what}; lower lr or set clip_norm"
                );
                Error::config("schedule", what)
            }
            other => other,
        })?;
    }
    let layers_seen = profile(&learner.model, learner.train(), config.seed)?;
    let scores: Vec<f64> = layers_seen.iter().map(|layer| layer.score).collect();
    let budget = Schedule::Uniform.experts(layers, min, max).iter().sum();
    Ok(Config { experts: allocate(&scores, min, max, budget), ..config })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::data::{self, Dataset};

    #[test]
    fn a_schedule_is_learned_once_and_keeps_the_budget() {
        let set = ["layers=3", "width=16", "experts_max=6", "schedule=learned", "epochs=2"];
        let set = set.map(String::from).to_vec();
        let config = Config::resolve(&Layers { set, ..Layers::default() }).unwrap();
        assert!(config.experts.is_empty());
        let data = Dataset::from(data::load("digits", None).unwrap());
        let learned = resolve(config.clone(), &data).unwrap();
        assert_eq!((learned.experts.len(), learned.experts.iter().sum::<usize>()), (3, 9));
        assert!(learned.experts.iter().all(|e| (1..=6).contains(e)));
        assert_eq!(learned.spec(64, 10).experts, learned.experts);
        assert_eq!(resolve(learned.clone(), &data).unwrap(), learned);
        assert_eq!(resolve(config, &data).unwrap(), learned);
    }
}
