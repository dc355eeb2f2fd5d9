//! Repeats a piece of work and sums up how long it took.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::cli::bench::peak;

/// How often to repeat.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Repetitions before the first that counts.
    pub warm_up: usize,
    /// The fewest repetitions that count.
    pub least: usize,
    /// The most.
    pub most: usize,
    /// After so long no further repetition than the fewest.
    pub seconds: f64,
}

impl Effort {
    /// What a figure needs to be worth comparing.
    pub const FULL: Effort = Effort { warm_up: 5, least: 30, most: 300, seconds: 2.0 };
    /// Enough for one point of a curve.
    pub const POINT: Effort = Effort { warm_up: 3, least: 7, most: 100, seconds: 0.4 };
    /// Only to see that it runs.
    pub const QUICK: Effort = Effort { warm_up: 1, least: 3, most: 3, seconds: 0.0 };

    /// `self`, or the least effort of all if `quick`.
    pub fn or_quick(self, quick: bool) -> Effort {
        if quick { Effort::QUICK } else { self }
    }

    /// The same time with many more repetitions, for work of microseconds.
    pub fn of_short_work(self) -> Effort {
        Effort { most: self.most * 30, ..self }
    }

    /// How long to look for the processor's best speed: in many runs that are shorter than the turns which
    /// the system gives to other programs.
    pub fn peak(self) -> peak::Effort {
        let runs = if self.seconds > 0.0 { 100 } else { 3 };
        peak::Effort { run: Duration::from_millis(1), runs }
    }
}

/// Durations in one unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Half were shorter.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// From the quarter point to the three-quarter point of the sorted durations.
    pub spread: f64,
}

impl Times {
    /// Of `seconds`, in units of which a second has `per_second`.
    pub fn of(mut seconds: Vec<f64>, per_second: f64) -> Times {
        seconds.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (seconds.len() - 1) as f64;
            let (low, high) = (seconds[place.floor() as usize], seconds[place.ceil() as usize]);
            per_second * (low + place.fract() * (high - low))
        };
        Times { median: at(0.5), min: at(0.0), spread: at(0.75) - at(0.25) }
    }

    /// `12.3 ms`, or with another unit, for each of the three.
    pub fn cells(&self, unit: &str) -> [String; 3] {
        [self.median, self.min, self.spread].map(|time| format!("{} {unit}", digits(time)))
    }
}

/// A positive number with three digits that count.
pub fn digits(number: f64) -> String {
    let decimals = match number.abs() {
        a if a >= 100.0 => 0,
        a if a >= 10.0 => 1,
        a if a >= 1.0 => 2,
        _ => 3,
    };
    format!("{number:.decimals$}")
}

/// How many milliseconds and microseconds a second has.
pub const MS: f64 = 1e3;
/// See [`MS`].
pub const US: f64 = 1e6;

/// Repeats `work` and returns its durations in units of which a second has `per_second`.
///
/// # Errors
/// Those of `work`.
pub fn time(effort: Effort, per_second: f64, mut work: impl FnMut() -> Result<()>) -> Result<Times> {
    for _ in 0..effort.warm_up {
        work()?;
    }
    let (begin, mut seconds) = (Instant::now(), Vec::with_capacity(effort.most));
    while seconds.len() < effort.least
        || (seconds.len() < effort.most && begin.elapsed().as_secs_f64() < effort.seconds)
    {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(Times::of(seconds, per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles_lie_between_neighbors() {
        let times = Times::of(vec![0.004, 0.001, 0.003, 0.002], MS);
        assert_eq!((times.median, times.min), (2.5, 1.0));
        approx::assert_relative_eq!(times.spread, 1.5, epsilon = 1e-12);
        assert_eq!(Times::of(vec![7.0], 1.0), Times { median: 7.0, min: 7.0, spread: 0.0 });
    }

    #[test]
    fn work_is_repeated_as_often_as_asked() {
        let mut count = 0;
        let mut run = |effort| {
            count = 0;
            time(effort, US, || {
                count += 1;
                Ok(())
            })
            .unwrap();
            count
        };
        assert_eq!(run(Effort::QUICK), 4);
        assert_eq!(run(Effort { warm_up: 2, least: 1, most: 10, seconds: 9.0 }), 12);
    }

    #[test]
    fn three_digits() {
        assert_eq!([1234.5, 45.67, 9.876, 0.1234].map(digits), ["1234", "45.7", "9.88", "0.123"]);
    }
}
