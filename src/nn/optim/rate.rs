//! Learning rates over the course of training.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate changes after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateSchedule {
    /// It does not.
    Constant,
    /// Half a cosine from the full rate to 0.
    Cosine,
}

/// The learning rate of every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The full rate.
    pub peak: f64,
    /// How it changes after warm-up.
    pub schedule: RateSchedule,
    /// Steps over which it first rises linearly from near 0.
    pub warmup_steps: u64,
    /// Steps of the whole training.
    pub total_steps: u64,
}

impl Rate {
    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            RateSchedule::Constant => self.peak,
            RateSchedule::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let done = ((step - self.warmup_steps) as f64 / length).min(1.0);
                self.peak * 0.5 * (1.0 + libm::cos(PI * done))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_cosine_to_zero() {
        let rate = Rate { peak: 2.0, schedule: RateSchedule::Cosine, warmup_steps: 4, total_steps: 14 };
        assert_eq!([0, 1, 3, 4].map(|s| rate.at(s)), [0.5, 1.0, 2.0, 2.0]);
        approx::assert_relative_eq!(rate.at(9), 1.0, max_relative = 1e-12);
        assert!(rate.at(14).abs() < 1e-12 && rate.at(13) > 0.0);
        let constant = Rate { schedule: RateSchedule::Constant, warmup_steps: 0, ..rate };
        assert_eq!([0, 13].map(|s| constant.at(s)), [2.0, 2.0]);
    }
}
