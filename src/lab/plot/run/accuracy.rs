//! Accuracy over the epochs.

use super::common;
use crate::lab::plot::axis::Axis;
use crate::lab::plot::color;
use crate::lab::plot::frame::{self, Key, Labels};
use crate::train::metrics::EpochRecord;

const TITLE: &str = "Accuracy";

/// Accuracy in training and on the test split, with the best test epoch marked.
pub fn draw(history: &[EpochRecord]) -> String {
    let (Some(first), Some(last)) = (history.first(), history.last()) else {
        return frame::empty(TITLE, common::NO_EPOCH);
    };
    let percent = |accuracy: fn(&EpochRecord) -> f64| -> Vec<(f64, f64)> {
        history.iter().map(|e| (e.epoch as f64, 100.0 * accuracy(e))).collect()
    };
    let (train, test) = (percent(|e| e.train_accuracy), percent(|e| e.test_accuracy));
    let finite = (0..test.len()).filter(|&i| test[i].1.is_finite());
    let best = finite.reduce(|a, b| if test[b].1 > test[a].1 { b } else { a });

    let key = |name: &str, color, width| Key { name: name.into(), color, width };
    let mut keys = vec![key("training", color::TRAIN, 2.0), key("test", color::TEST, 2.0)];
    let value = best.map_or(String::new(), |i| format!("{:.2}%", test[i].1));
    if let Some(i) = best {
        keys.push(key(&format!("best test, epoch {}", history[i].epoch), color::TEST, 0.0));
    }
    let y = Axis::around(train.iter().chain(&test).map(|p| p.1));
    let labels = Labels {
        title: TITLE,
        subtitle: "Share of correct answers; training accuracy is measured with noise on the gates",
        x: "epoch",
        y: "accuracy [%]",
    };
    frame::chart(&labels, &keys, Axis::counts(first.epoch as f64, last.epoch as f64), y, |frame| {
        frame.line(&train, color::TRAIN, 2.0, true);
        frame.line(&test, color::TEST, 2.0, true);
        if let Some(i) = best {
            frame.mark(test[i], &value, color::TEST, train[i].1 >= test[i].1);
        }
    })
}
