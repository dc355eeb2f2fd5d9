//! The expert schedules as one picture of small charts.

use super::axis::Axis;
use super::canvas::{self, Canvas, Side, Text};
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
    canvas::svg(width, height, |canvas| {
        frame::heading(canvas, 16.0, "Expert schedules", &format!("{subtitle}; Σ: experts in all"));
        for (i, (name, experts)) in schedules.iter().enumerate() {
            let at = (CELL.0 * (i % COLUMNS) as f64, TOP + CELL.1 * (i / COLUMNS) as f64);
            panel(canvas, at, name, experts, most);
        }
    })
}

fn panel(canvas: &mut Canvas, at: (f64, f64), name: &str, experts: &[usize], most: usize) {
    let (left, top) = (at.0 + LEFT, at.1 + 36.0);
    let (right, bottom) = (left + BARS.0, top + BARS.1);
    let axis = Axis::counts(0.0, most.max(1) as f64);
    let height = |count: usize| BARS.1 * axis.place(count as f64);
    for (v, label) in axis.ticks(4) {
        let y = bottom - BARS.1 * axis.place(v);
        canvas.path(&[(left, y), (right, y)], color::GRID, 1.0);
        canvas.text(&label, (left - 6.0, y), Text { size: 12.0, ..Text::new(Side::Right) });
    }
    canvas.text(name, (left, at.1 + 17.0), Text { bold: true, ..Text::new(Side::Left) });
    let total = format!("Σ {}", experts.iter().sum::<usize>());
    let gray = Text { size: 12.0, color: color::GRAY, ..Text::new(Side::Right) };
    canvas.text(&total, (right, at.1 + 17.0), gray);

    let width = BARS.0 / experts.len().max(1) as f64;
    let gap = (width * 0.2).min(4.0);
    for (l, &count) in experts.iter().enumerate() {
        let x = left + width * l as f64;
        canvas.rect((x + gap / 2.0, bottom - height(count)), (x + width - gap / 2.0, bottom), color::TRAIN);
    }
    canvas.path(&[(left, bottom), (right, bottom)], color::INK, 1.0);
    let layers = Axis::counts(1.0, experts.len().max(1) as f64);
    for (l, label) in layers.ticks(6) {
        let x = left + width * (l - 0.5);
        canvas.text(&label, (x, bottom + 12.0), Text { size: 12.0, ..Text::new(Side::Middle) });
    }
    canvas.text(
        "layer",
        (left + BARS.0 / 2.0, bottom + 30.0),
        Text { size: 12.0, ..Text::new(Side::Middle) },
    );
    let upright = Text { size: 12.0, upright: true, ..Text::new(Side::Middle) };
    canvas.text("experts", (left - 34.0, top + BARS.1 / 2.0), upright);
}
