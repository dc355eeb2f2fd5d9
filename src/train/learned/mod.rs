//! The learned schedule: train briefly, measure each layer's diversity, allocate the uniform schedule's total of experts.

pub mod diversity;
pub mod gradients;
pub mod spectrum;

use crate::data::Dataset;
use crate::engine::error::{Error, Result};
use crate::nn::router::OrAuto;
use crate::nn::schedule::Schedule;
use crate::train::Learner;
use crate::train::config::{Config, ModelSettings, Resolved};
use diversity::profile;

/// The brief training has the epochs divided by this, at least one.
const SHARE: usize = 10;

/// `config` with the experts of every layer; a learned schedule is learned by a brief training. A function of
/// configuration and data, like everything that follows.
///
/// # Errors
/// NaN or infinity in the brief training.
pub fn resolve(config: Config, data: &Dataset) -> Result<Resolved> {
    if config.model.experts().is_some() {
        return config.try_into();
    }
    let ModelSettings { layers, experts_min: min, experts_max: max, .. } = config.model;
    let epochs = (config.train.epochs / SHARE).max(1);
    let mut brief = config.clone();
    (brief.model.schedule, brief.train.epochs) = (Schedule::Uniform, epochs);
    let brief = brief.try_into()?;
    let mut learner = Learner::new(&brief, data)?;
    while !learner.is_done() {
        learner.step(None).map_err(|error| match error {
            Error::NonFinite { step, what, .. } => {
                let what = format!(
                    "the brief training for the learned one failed at step {step}: {what}; lower lr or set clip_norm"
                );
                Error::config("schedule", what)
            }
            other => other,
        })?;
    }
    let layers_seen = profile(&learner.model, learner.train(), config.train.seed)?;
    let scores: Vec<f64> = layers_seen.iter().map(|layer| layer.score).collect();
    let budget = Schedule::Uniform.experts(layers, min, max).iter().sum();
    let mut config = config;
    config.model.experts = OrAuto::Set(allocate(&scores, min, max, budget));
    config.try_into()
}

/// Experts for each layer by its score, `round(min + (max - min) (D - least) / (largest - least))`; then, under a
/// budget, single experts are taken from or given to the layers where rounding and the budget leave most to correct.
/// Layers with equal scores get as many each. (The specification's learned schedule.)
pub fn allocate(scores: &[f64], min: usize, max: usize, budget: usize) -> Vec<usize> {
    let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = largest - least;
    let share = |score: &f64| if range > 0.0 { (score - least) / range } else { 0.5 };
    let exact: Vec<f64> = scores.iter().map(|s| min as f64 + (max - min) as f64 * share(s)).collect();
    let mut experts: Vec<usize> = exact.iter().map(|e| (e.round() as usize).clamp(min, max)).collect();
    let budget = budget.clamp(min * scores.len(), max * scores.len());
    // Of all layers scaled to the budget, the one furthest from its share; of equal ones the first.
    let total: f64 = exact.iter().sum();
    let target: Vec<f64> = exact.iter().map(|e| e * budget as f64 / total).collect();
    while experts.iter().sum::<usize>() != budget {
        let over = experts.iter().sum::<usize>() > budget;
        let room = |l: &usize| if over { experts[*l] > min } else { experts[*l] < max };
        let gap = |l: usize| (experts[l] as f64 - target[l]) * if over { 1.0 } else { -1.0 };
        let next =
            (0..experts.len()).filter(room).reduce(|best, l| if gap(l) > gap(best) { l } else { best });
        let Some(l) = next else { break };
        experts[l] = if over { experts[l] - 1 } else { experts[l] + 1 };
    }
    experts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Dataset};
    use crate::train::config::Sources;

    #[test]
    fn experts_follow_the_scores_under_a_budget() {
        assert_eq!(allocate(&[1.0, 0.0, 0.5], 1, 8, 14), [8, 1, 5]);
        assert_eq!(allocate(&[1.0, 0.0, 0.5], 1, 8, 12).iter().sum::<usize>(), 12);
        assert_eq!(allocate(&[0.3; 4], 1, 8, 16), [4, 4, 4, 4]);
        assert_eq!(allocate(&[1.0, 0.0], 1, 4, 100), [4, 4]);
        assert_eq!(allocate(&[1.0, 0.0], 2, 4, 1), [2, 2]);
        let falling = allocate(&[3.0, 2.0, 1.0, 0.0], 1, 8, 16);
        assert!(
            falling.windows(2).all(|w| w[0] >= w[1]) && falling.iter().sum::<usize>() == 16,
            "{falling:?}"
        );
    }

    #[test]
    fn a_schedule_is_learned_once_and_keeps_the_budget() {
        let set = ["layers=3", "width=16", "experts_max=6", "schedule=learned", "epochs=2"];
        let set = set.map(String::from).to_vec();
        let config = Config::resolve(&Sources { set, ..Sources::default() }).unwrap();
        assert!(config.model.experts().is_none());
        let data = Dataset::from(data::load("digits", None).unwrap());
        let learned = resolve(config.clone(), &data).unwrap();
        let experts = learned.model.experts().unwrap();
        assert_eq!((experts.len(), experts.iter().sum::<usize>()), (3, 9));
        assert!(experts.iter().all(|e| (1..=6).contains(e)));
        assert_eq!(learned.spec(64, 10).experts, experts);
        assert_eq!(resolve(learned.clone().into_config(), &data).unwrap(), learned);
        assert_eq!(resolve(config, &data).unwrap(), learned);
    }
}
