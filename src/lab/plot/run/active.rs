//! Active experts over the epochs.

use super::common;
use crate::lab::plot::axis::Axis;
use crate::lab::plot::color;
use crate::lab::plot::frame::{self, Key, Labels};
use crate::train::metrics::{EpochRecord, LayerRecord};

const TITLE: &str = "Active experts per layer";

/// The most lines; of more layers an evenly spaced selection is shown.
const MOST: usize = 60;

/// Mean number of active experts of each layer.
pub fn draw(history: &[EpochRecord]) -> String {
    let (Some(first), Some(last)) = (history.first(), history.last()) else {
        return frame::empty(TITLE, common::NO_EPOCH);
    };
    let layers = common::spread(last.layers.len(), MOST);
    if layers.is_empty() {
        return frame::empty(TITLE, "This network has no layer with experts.");
    }
    let series = |l: usize| -> Vec<(f64, f64)> {
        let of = |e: &EpochRecord| Some((e.epoch as f64, e.layers.get(l)?.mean_active));
        history.iter().filter_map(of).collect()
    };
    let lines: Vec<Vec<(f64, f64)>> = layers.iter().map(|&l| series(l)).collect();
    // Coinciding lines: the ones below are wider, so that all of them show.
    let width =
        |i: usize| 2.0 + 4.0 * lines[i + 1..].iter().filter(|l| **l == lines[i]).take(3).count() as f64;
    let key = |(i, &l): (usize, &usize)| {
        let experts = last.layers[l].experts;
        let s = if experts == 1 { "" } else { "s" };
        Key {
            name: format!("layer {} ({experts} expert{s})", l + 1),
            color: color::sequential(i, layers.len()),
            width: width(i),
        }
    };
    let keys: Vec<Key> = layers.iter().enumerate().map(key).collect();
    let y = Axis::around(lines.iter().flatten().map(|p| p.1).chain([0.0]));
    let constant: Vec<Option<usize>> = (0..last.layers.len()).map(|l| constant_k(history, l)).collect();
    let labels = Labels {
        title: TITLE,
        subtitle: &subtitle(&constant),
        x: "epoch",
        y: "active experts per token (mean)",
    };
    frame::chart(&labels, &keys, Axis::counts(first.epoch as f64, last.epoch as f64), y, |frame| {
        for (line, key) in lines.iter().zip(&keys) {
            frame.line(line, key.color, key.width, line.len() <= 40 && key.width < 3.0);
        }
    })
}

/// The number of active experts in layer `l`, if it is the same for all tokens and epochs.
fn constant_k(history: &[EpochRecord], l: usize) -> Option<usize> {
    let only = |layer: &LayerRecord| layer.k_share.iter().position(|&share| share > 1.0 - 1e-9);
    let mut ks = history.iter().map(|e| e.layers.get(l).and_then(only));
    let first = ks.next()??;
    ks.all(|k| k == Some(first)).then_some(first)
}

fn subtitle(constant: &[Option<usize>]) -> String {
    let known: Option<Vec<usize>> = constant.iter().copied().collect();
    let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let layers: Vec<usize> = (1..=constant.len()).filter(|&l| constant[l - 1].is_some()).collect();
    match (known, layers.len()) {
        (Some(k), 1..=16) => format!("k is constant: {} active experts per token, in every epoch", list(&k)),
        (Some(_), _) => "k is constant in every layer, in every epoch".into(),
        (None, 0) => "Mean over the tokens of the test split; k varies between tokens".into(),
        (None, 1) => {
            format!("Mean over the tokens of the test split; k is constant in layer {}", list(&layers))
        }
        (None, 2..=16) => {
            format!("Mean over the tokens of the test split; k is constant in layers {}", list(&layers))
        }
        (None, n) => format!("Mean over the tokens of the test split; k is constant in {n} layers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subtitle_names_layers_with_constant_k() {
        let all = subtitle(&[Some(3), Some(1)]);
        assert_eq!(all, "k is constant: 3, 1 active experts per token, in every epoch");
        assert!(subtitle(&[Some(3), None]).ends_with("k is constant in layer 1"));
        assert!(subtitle(&[None, None]).ends_with("k varies between tokens"));
        assert!(subtitle(&[Some(2); 30]).starts_with("k is constant in every layer"));
    }
}
