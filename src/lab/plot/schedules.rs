//! Expert schedules as a grid of bar charts.

use super::axis::Axis;
use super::svg::{self, Anchor, Svg, TextStyle};
use super::{color, frame};

const COLUMNS: usize = 4;
const CELL: (f64, f64) = (250.0, 212.0);
const BARS: (f64, f64) = (190.0, 120.0);
const LEFT: f64 = 50.0;
const TOP: f64 = 70.0;

/// One chart for each name and list of experts, all on the same scale.
pub fn draw(subtitle: &str, schedules: &[(&str, Vec<usize>)]) -> String {
    let rows = schedules.len().div_ceil(COLUMNS);
    let most = schedules.iter().flat_map(|s| &s.1).copied().max().unwrap_or(1);
    let (width, height) = (CELL.0 * COLUMNS as f64 + 16.0, TOP + CELL.1 * rows as f64);
    svg::document(width, height, |svg| {
        frame::heading(svg, 16.0, "Expert schedules", &format!("{subtitle}; Σ: total number of experts"));
        for (i, (name, experts)) in schedules.iter().enumerate() {
            let at = (CELL.0 * (i % COLUMNS) as f64, TOP + CELL.1 * (i / COLUMNS) as f64);
            panel(svg, at, name, experts, most);
        }
    })
}

fn panel(svg: &mut Svg, at: (f64, f64), name: &str, experts: &[usize], most: usize) {
    let (left, top) = (at.0 + LEFT, at.1 + 36.0);
    let (right, bottom) = (left + BARS.0, top + BARS.1);
    let axis = Axis::counts(0.0, most.max(1) as f64);
    let height = |count: usize| BARS.1 * axis.position(count as f64);
    for (v, label) in axis.ticks(4) {
        let y = bottom - BARS.1 * axis.position(v);
        svg.path(&[(left, y), (right, y)], color::GRID, 1.0);
        svg.text(&label, (left - 6.0, y), TextStyle { size: 12.0, ..TextStyle::new(Anchor::End) });
    }
    svg.text(name, (left, at.1 + 17.0), TextStyle { bold: true, ..TextStyle::new(Anchor::Start) });
    let total = format!("Σ {}", experts.iter().sum::<usize>());
    let gray = TextStyle { size: 12.0, color: color::GRAY, ..TextStyle::new(Anchor::End) };
    svg.text(&total, (right, at.1 + 17.0), gray);

    let width = BARS.0 / experts.len().max(1) as f64;
    let gap = (width * 0.2).min(4.0);
    for (l, &count) in experts.iter().enumerate() {
        let x = left + width * l as f64;
        svg.rect((x + gap / 2.0, bottom - height(count)), (x + width - gap / 2.0, bottom), color::TRAIN);
    }
    svg.path(&[(left, bottom), (right, bottom)], color::INK, 1.0);
    let layers = Axis::counts(1.0, experts.len().max(1) as f64);
    for (l, label) in layers.ticks(6) {
        let x = left + width * (l - 0.5);
        svg.text(&label, (x, bottom + 12.0), TextStyle { size: 12.0, ..TextStyle::new(Anchor::Middle) });
    }
    svg.text(
        "layer",
        (left + BARS.0 / 2.0, bottom + 30.0),
        TextStyle { size: 12.0, ..TextStyle::new(Anchor::Middle) },
    );
    let vertical = TextStyle { size: 12.0, vertical: true, ..TextStyle::new(Anchor::Middle) };
    svg.text("experts", (left - 34.0, top + BARS.1 / 2.0), vertical);
}
