//! The pictures of an analysis.

use super::probes::Probes;
use super::usage::{Difficulty, Layer, Usage};
use crate::lab::plot::axis::Axis;
use crate::lab::plot::frame::{Key, Labels};
use crate::lab::plot::lines::{self, Chart};
use crate::lab::plot::{color, heatmap};

/// Every picture: file name and SVG text.
pub fn all(usage: &Usage) -> Vec<(String, String)> {
    let many = usage.layers.iter().enumerate().filter(|(_, layer)| layer.record.experts > 1);
    let classes = many.map(|(l, layer)| {
        (format!("experts_by_class_{}.svg", l + 1), by_class(l, layer, &usage.class_names))
    });
    let difficulty =
        usage.difficulty.as_ref().map(|d| ("experts_by_difficulty.svg".into(), by_difficulty(d)));
    classes.chain(difficulty).collect()
}

fn by_class(l: usize, layer: &Layer, names: &[String]) -> String {
    let title = format!("Experts by class, layer {}", l + 1);
    let subtitle = format!(
        "Share of each class's assignments on the test split; mutual information of class and expert: {:.2} bits",
        layer.class_information_bits
    );
    let labels = heatmap::Labels { title: &title, subtitle: &subtitle, row: "class", column: "expert" };
    let classes = names.iter().zip(&layer.by_class);
    // Skip kinds of tokens that do not occur.
    let seen = classes.filter(|(_, shares)| shares.iter().any(|&share| share > 0.0));
    let rows: Vec<_> = seen.map(|(name, shares)| (name.clone(), &shares[..])).collect();
    heatmap::draw(&labels, &rows)
}

/// A chart's title, the label of its vertical axis, and the value to show.
type Probe = (&'static str, &'static str, fn(&Probes) -> f64);

/// The attention probes of a Transformer, by layer.
pub fn attention(probes: &[Probes]) -> String {
    let charts: [Probe; 5] = [
        ("Attention entropy", "relative to the maximum", |p| p.entropy),
        ("Mean attention distance", "tokens", |p| p.distance),
        ("Attention weight on the first token", "share", |p| p.first_token),
        ("Head specialization", "Jensen-Shannon divergence between heads [bits]", |p| p.specialization_bits),
        ("Superposition pressure", "directions in use per active hidden unit", |p| p.superposition),
    ];
    let chart = |(title, y, value): Probe| {
        let points: Vec<(f64, f64)> =
            probes.iter().enumerate().map(|(l, p)| (l as f64 + 1.0, value(p))).collect();
        Chart {
            labels: Labels { title, subtitle: "By layer, on sequences of the test split", x: "layer", y },
            x: Axis::counts(1.0, points.len() as f64),
            y: Axis::around(points.iter().map(|p| p.1).chain([0.0])),
            lines: vec![(Key { name: title.to_lowercase(), color: color::TRAIN, width: 2.5 }, points)],
            annotations: Vec::new(),
        }
    };
    lines::draw(&charts.map(chart))
}

fn by_difficulty(difficulty: &Difficulty) -> String {
    let points: Vec<(f64, f64)> =
        difficulty.tenths.iter().enumerate().map(|(i, group)| (i as f64 + 1.0, group.k)).collect();
    let correlation = difficulty.with_loss.map_or(String::new(), |c| {
        format!("; rank correlation of k and loss {:.2} ({:.2} to {:.2})", c.r, c.low, c.high)
    });
    lines::draw(&[Chart {
        labels: Labels {
            title: "Active experts by difficulty",
            subtitle: &format!("Test examples in deciles of ascending loss{correlation}"),
            x: "decile of loss, easiest first",
            y: "active experts, summed over layers (mean)",
        },
        x: Axis::counts(1.0, points.len() as f64),
        y: Axis::around(points.iter().map(|p| p.1).chain([0.0])),
        lines: vec![(Key { name: "experts".into(), color: color::TRAIN, width: 2.5 }, points)],
        annotations: Vec::new(),
    }])
}
