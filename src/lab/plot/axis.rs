//! One axis: its range, the positions of values, and its ticks.

/// Larger values are clamped, so that no difference overflows.
const LARGEST: f64 = 1e30;

/// A range of values, with ticks at round numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// The lowest value.
    pub low: f64,
    /// The highest value, above `low`.
    pub high: f64,
    /// Logarithmic scale.
    pub log: bool,
    /// Ticks at whole numbers only.
    whole: bool,
}

/// The smallest and the largest of the finite values.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|v| v.is_finite()).map(|v| v.clamp(-LARGEST, LARGEST));
    finite.fold(None, |range, v| {
        let (low, high) = range.unwrap_or((v, v));
        Some((v.min(low), v.max(high)))
    })
}

/// The smallest number of the form 1, 2 or 5 times a power of ten that is not below `x`, which is positive.
fn round_up(x: f64) -> f64 {
    let power = libm::pow(10.0, libm::log10(x).floor());
    // The slack absorbs rounding errors.
    let step = [1.0, 2.0, 5.0].into_iter().find(|s| x <= s * power * (1.0 + 1e-9));
    step.unwrap_or(10.0) * power
}

/// The largest such number that is not above `x`.
fn round_down(x: f64) -> f64 {
    1.0 / round_up(1.0 / x)
}

impl Axis {
    /// From `low` to `high`, widened if the two (almost) coincide.
    pub fn exact(low: f64, high: f64) -> Axis {
        let (low, high) = range([low, high].into_iter()).unwrap_or((0.0, 1.0));
        let least = 1e-6 * low.abs().max(high.abs()).max(1e-24);
        let pad = if high - low < least { (low.abs() / 10.0).max(least) } else { 0.0 };
        Axis { low: low - pad, high: high + pad, log: false, whole: false }
    }

    /// Covers `values` and ends at ticks.
    pub fn around(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let axis = Axis::exact(low, high);
        let step = axis.step(6);
        Axis { low: (axis.low / step).floor() * step, high: (axis.high / step).ceil() * step, ..axis }
    }

    /// Covers `values`; logarithmic if the positive ones span more than a factor of 30.
    pub fn log_if_wide(values: impl Iterator<Item = f64> + Clone) -> Axis {
        match range(values.clone().filter(|&v| v >= 1.0 / LARGEST)) {
            Some((low, high)) if high > 30.0 * low => {
                Axis { low: round_down(low), high: round_up(high), log: true, whole: false }
            }
            _ => Axis::around(values),
        }
    }

    /// From `first` to `last`, with ticks at whole numbers only.
    pub fn counts(first: f64, last: f64) -> Axis {
        let pad = if first == last { 0.5 } else { 0.0 };
        Axis { whole: true, ..Axis::exact(first - pad, last + pad) }
    }

    /// The position of `value`: 0 at the low end, 1 at the high end, clamped to that range.
    pub fn position(&self, value: f64) -> f64 {
        let Axis { low, high, log, .. } = *self;
        let value = value.clamp(low, high);
        if log {
            (libm::log10(value) - libm::log10(low)) / (libm::log10(high) - libm::log10(low))
        } else {
            (value - low) / (high - low)
        }
    }

    fn step(&self, wanted: usize) -> f64 {
        let step = round_up((self.high - self.low) / wanted as f64);
        if self.whole { step.max(1.0) } else { step }
    }

    /// About `wanted` ticks at round numbers, with their labels.
    pub fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let wanted = wanted.max(1);
        if self.log {
            return self.log_ticks(wanted);
        }
        let step = self.step(wanted);
        let slack = step * 1e-6;
        let first = ((self.low - slack) / step).ceil();
        let values = (0..=2 * wanted).map(|i| (first + i as f64) * step);
        let largest = self.low.abs().max(self.high.abs());
        let decimals = if !(1e-3..1e6).contains(&largest) {
            None
        } else {
            Some((-(libm::log10(step) + 1e-9).floor()).clamp(0.0, 12.0) as usize)
        };
        let label = |v: f64| match decimals {
            Some(decimals) => format!("{v:.decimals$}"),
            None => scientific(v),
        };
        values.take_while(|&v| v <= self.high + slack).map(|v| (v, label(v + 0.0))).collect()
    }

    /// Powers of ten, and 2 and 5 times them if there is room.
    fn log_ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let (low, high) = (libm::log10(self.low), libm::log10(self.high));
        let (first, last) = (low.floor() as i32, high.ceil() as i32);
        let steps: &[f64] = if 3.0 * (high - low) <= 1.5 * wanted as f64 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let stride = ((last - first) as usize).div_ceil(2 * wanted).max(1);
        let tick = |power: i32, step: f64| step * libm::pow(10.0, f64::from(power));
        let all = (first..=last).step_by(stride).flat_map(|p| steps.iter().map(move |&s| tick(p, s)));
        let inside = |v: &f64| *v >= self.low * (1.0 - 1e-6) && *v <= self.high * (1.0 + 1e-6);
        let label = |v: f64| {
            if (0.9e-4..1e6).contains(&v) {
                format!("{v:.*}", (-(libm::log10(v) + 1e-9).floor()).max(0.0) as usize)
            } else {
                scientific(v)
            }
        };
        all.filter(inside).map(|v| (v, label(v))).collect()
    }
}

/// Scientific notation with at most five significant digits, such as `1.5e-7`.
fn scientific(v: f64) -> String {
    let text = format!("{v:.4e}");
    match text.split_once('e') {
        Some((digits, power)) if digits.contains('.') => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            if digits == "0" { "0".into() } else { format!("{digits}e{power}") }
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: Axis) -> Vec<String> {
        axis.ticks(6).into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            labels(Axis::around([0.13, 0.93].into_iter())),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(Axis::counts(1.0, 4.0)), ["1", "2", "3", "4"]);
        assert_eq!(labels(Axis::counts(7.0, 7.0)), ["7"]);
        assert_eq!(labels(Axis::around([3e7, 5e7].into_iter())), ["3e7", "3.5e7", "4e7", "4.5e7", "5e7"]);
        let log = Axis::log_if_wide([0.03, 2.3].into_iter());
        assert_eq!(labels(log), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"]);
        assert!((log.position(0.02), log.position(5.0), log.position(-1.0)) == (0.0, 1.0, 0.0));
        assert!(!Axis::log_if_wide([1.0, 30.0, 0.0].into_iter()).log);
    }

    proptest! {
        #[test]
        fn any_values_give_a_few_ticks_within_the_axis(a in any::<f64>(), b in any::<f64>(), first in 0u64..1000, more in 0u64..u64::MAX / 2) {
            let axes = [
                Axis::around([a, b].into_iter()),
                Axis::log_if_wide([a, b, f64::NAN].into_iter()),
                Axis::counts(first as f64, (first + more) as f64),
                Axis::around([a].into_iter()),
            ];
            for axis in axes {
                let ticks = axis.ticks(6);
                prop_assert!(ticks.len() <= 20 && axis.high > axis.low, "{axis:?} {ticks:?}");
                for v in ticks.iter().map(|t| t.0).chain([a, b]).filter(|v| !v.is_nan()) {
                    prop_assert!((0.0..=1.0).contains(&axis.position(v)), "{axis:?} {v}");
                }
            }
        }
    }
}
