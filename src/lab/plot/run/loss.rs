//! Loss over the steps.

use crate::lab::plot::axis::Axis;
use crate::lab::plot::color;
use crate::lab::plot::frame::{self, Key, Labels};
use crate::train::metrics::{EpochRecord, StepRecord};

const TITLE: &str = "Loss";

/// With more than twice as many steps, this many equal groups are drawn by their minimum and maximum.
const GROUPS: usize = 1000;

/// Training loss per step, raw and smoothed, and test loss per epoch.
pub fn draw(steps: &[StepRecord], history: &[EpochRecord]) -> String {
    let finite = |p: &(f64, f64)| p.1.is_finite();
    let train: Vec<(f64, f64)> = steps.iter().map(|s| (s.step as f64, s.loss)).filter(finite).collect();
    let test: Vec<(f64, f64)> = history.iter().map(|e| (e.step as f64, e.test_loss)).filter(finite).collect();
    let all = train.iter().chain(&test);
    let Some(last) = all.clone().map(|p| p.0).reduce(f64::max) else {
        return frame::empty(TITLE, "No step has finished yet.");
    };
    let first = all.clone().map(|p| p.0).fold(last, f64::min);
    let window = (train.len() / 50).max(5);
    let smooth = format!("training, moving average of {window}");
    let key = |name: &str, color, width| Key { name: name.into(), color, width };
    let keys = [
        key("training, per step", color::TRAIN_LIGHT, 1.5),
        key(&smooth, color::TRAIN, 2.0),
        key("test, per epoch", color::TEST, 2.0),
    ];
    let y = Axis::log_if_wide(all.map(|p| p.1));
    let subtitle = if y.log { "Cross-entropy on a logarithmic scale" } else { "Cross-entropy" };
    let labels = Labels { title: TITLE, subtitle, x: "optimizer step", y: "loss [nats]" };
    frame::chart(&labels, &keys, Axis::counts(first, last), y, |frame| {
        frame.line(&thin(&train), color::TRAIN_LIGHT, 1.0, false);
        let stride = (train.len() / GROUPS).max(1);
        let smooth: Vec<(f64, f64)> = smoothed(&train, window).into_iter().step_by(stride).collect();
        frame.line(&smooth, color::TRAIN, 2.0, false);
        frame.line(&test, color::TEST, 2.0, true);
    })
}

/// The moving average over `window` points, over fewer near the ends.
fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let (before, after) = (window / 2, window - window / 2);
    let mean = |i: usize| {
        let near = &points[i.saturating_sub(before)..(i + after).min(points.len())];
        near.iter().map(|p| p.1 / near.len() as f64).sum()
    };
    points.iter().enumerate().map(|(i, p)| (p.0, mean(i))).collect()
}

/// The minimum and the maximum of each group, in order.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(GROUPS);
    if size <= 2 {
        return points.to_vec();
    }
    let ends = |group: &[(f64, f64)]| {
        let low = group.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a });
        let high = group.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let mut ends: Vec<(f64, f64)> = low.into_iter().chain(high).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends
    };
    points.chunks(size).flat_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_extremes_and_smoothing_the_mean() {
        let points: Vec<(f64, f64)> = (0..5000).map(|i| (i as f64, f64::from(i % 7))).collect();
        let thin = thin(&points);
        assert_eq!((thin.len(), thin[0], thin[1]), (2000, (0.0, 0.0), (4.0, 4.0)));
        let smooth = smoothed(&points, 7);
        assert!(smooth[3..4997].iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        assert_eq!(smoothed(&points, 1), points);
    }
}
