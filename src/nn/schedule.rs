//! How many experts each layer has: the schedules of DynaMoE (Gülmez, section on expert schedules).

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A rule for the number of experts of layer l = 1..L, from `p = (l - 1) / (L - 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// From most to fewest: `max - D p`.
    Descending,
    /// From fewest to most: `min + D p`.
    Ascending,
    /// Most in the middle: `min + D (1 - |2p - 1|)`.
    PyramidUp,
    /// Fewest in the middle: `max - D (1 - |2p - 1|)`.
    PyramidDown,
    /// A cosine wave that starts low: `(max + min)/2 - D/2 cos(2 pi 1.5 p)`.
    WaveUp,
    /// A cosine wave that starts high: `(max + min)/2 + D/2 cos(2 pi 1.5 p)`.
    WaveDown,
    /// The same everywhere: `floor((max + min) / 2)`.
    Uniform,
    /// The list given in the setting `experts`.
    Custom,
    /// From the diversity of the layers, measured after a brief training (the learned schedule of the training layer).
    Learned,
}

impl Schedule {
    /// Every schedule with its name in configurations.
    pub const ALL: [(Schedule, &'static str); 9] = [
        (Schedule::Descending, "descending"),
        (Schedule::Ascending, "ascending"),
        (Schedule::PyramidUp, "pyramid-up"),
        (Schedule::PyramidDown, "pyramid-down"),
        (Schedule::WaveUp, "wave-up"),
        (Schedule::WaveDown, "wave-down"),
        (Schedule::Uniform, "uniform"),
        (Schedule::Custom, "custom"),
        (Schedule::Learned, "learned"),
    ];

    /// Experts of each of `layers` layers, between `min` and `max`; halves are rounded away from zero.
    /// `Custom` and `Learned` have no rule of their own and count as uniform here.
    pub fn experts(self, layers: usize, min: usize, max: usize) -> Vec<usize> {
        let (low, high) = (min as f64, max as f64);
        let (range, middle) = (high - low, (high + low) / 2.0);
        let of = |layer: usize| {
            let p = if layers > 1 { layer as f64 / (layers - 1) as f64 } else { 0.0 };
            let peak = 1.0 - (2.0 * p - 1.0).abs();
            let wave = range / 2.0 * libm::cos(2.0 * PI * 1.5 * p);
            let exact = match self {
                Schedule::Descending => high - range * p,
                Schedule::Ascending => low + range * p,
                Schedule::PyramidUp => low + range * peak,
                Schedule::PyramidDown => high - range * peak,
                Schedule::WaveUp => middle - wave,
                Schedule::WaveDown => middle + wave,
                Schedule::Uniform | Schedule::Custom | Schedule::Learned => middle.floor(),
            };
            // Rounding may turn 5.5 into 5.4999999999999996.
            let rounded = (exact + 1e-9).round() as usize;
            rounded.clamp(min, max)
        };
        (0..layers).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn four_layers_from_eight_to_one() {
        let of = |schedule: Schedule| schedule.experts(4, 1, 8);
        assert_eq!(of(Schedule::Descending), [8, 6, 3, 1]);
        assert_eq!(of(Schedule::Ascending), [1, 3, 6, 8]);
        assert_eq!(of(Schedule::PyramidUp), [1, 6, 6, 1]);
        assert_eq!(of(Schedule::PyramidDown), [8, 3, 3, 8]);
        assert_eq!(of(Schedule::WaveDown), [8, 1, 8, 1]);
        assert_eq!(of(Schedule::WaveUp), [1, 8, 1, 8]);
        assert_eq!(of(Schedule::Uniform), [4, 4, 4, 4]);
    }

    #[test]
    fn halves_round_away_from_zero_and_one_layer_is_its_start() {
        assert_eq!(Schedule::Descending.experts(3, 1, 8), [8, 5, 1]);
        assert_eq!(Schedule::Descending.experts(1, 2, 8), [8]);
        assert_eq!(Schedule::Ascending.experts(1, 2, 8), [2]);
    }

    proptest! {
        #[test]
        fn every_count_lies_between_the_limits(layers in 1usize..40, min in 1usize..20, more in 0usize..40, which in 0usize..8) {
            let experts = Schedule::ALL[which].0.experts(layers, min, min + more);
            prop_assert_eq!(experts.len(), layers);
            prop_assert!(experts.iter().all(|e| (min..=min + more).contains(e)));
        }
    }
}
