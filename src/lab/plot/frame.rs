//! A chart with two axes: title, grid, ticks, and a legend beside the data.

use plotters::style::RGBColor;

use super::axis::Axis;
use super::canvas::{self, Canvas, FONT, Side, Text, text_width};
use super::color;

const PLOT: (f64, f64) = (580.0, 340.0);
const LEFT: f64 = 92.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 64.0;
const ROW: f64 = 22.0;

/// What a chart says besides its data.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    /// What is shown.
    pub title: &'a str,
    /// How to read it.
    pub subtitle: &'a str,
    /// The horizontal axis with its unit.
    pub x: &'a str,
    /// The vertical axis with its unit.
    pub y: &'a str,
}

/// One entry of a legend.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its color.
    pub color: RGBColor,
    /// Width of its line; 0 for a ring.
    pub width: f64,
}

/// Where the data go.
pub struct Frame<'a, 'b> {
    canvas: &'a mut Canvas<'b>,
    x: Axis,
    y: Axis,
}

/// A chart: axes and legend, then what `paint` draws.
pub fn chart(words: &Words, keys: &[Key], x: Axis, y: Axis, paint: impl FnOnce(&mut Frame)) -> String {
    let (width, height) = size(words, keys);
    canvas::svg(width, height, |canvas| draw(canvas, words, keys, x, y, paint))
}

/// Rows of a legend before a new column begins.
const ROWS: usize = (PLOT.1 / ROW) as usize;

/// Width of a column of the legend.
fn column(keys: &[Key]) -> f64 {
    keys.iter().map(|k| text_width(&k.name)).fold(0.0, f64::max) + 46.0
}

/// Width and height of a chart.
pub fn size(words: &Words, keys: &[Key]) -> (f64, f64) {
    let width = LEFT + PLOT.0 + 24.0 + column(keys) * keys.len().div_ceil(ROWS) as f64;
    (width.max(LEFT + text_width(words.subtitle)), TOP + PLOT.1 + BOTTOM)
}

/// Draws a chart of that size at the canvas's origin.
pub fn draw(
    canvas: &mut Canvas,
    words: &Words,
    keys: &[Key],
    x: Axis,
    y: Axis,
    paint: impl FnOnce(&mut Frame),
) {
    heading(canvas, LEFT, words.title, words.subtitle);
    for (i, key) in keys.iter().enumerate() {
        let left = LEFT + PLOT.0 + 24.0 + column(keys) * (i / ROWS) as f64;
        entry(canvas, (left, TOP + ROW * ((i % ROWS) as f64 + 0.5)), key);
    }
    let mut frame = Frame { canvas, x, y };
    frame.axes(words);
    paint(&mut frame);
}

/// A chart that has nothing to show, and says so.
pub fn empty(title: &str, why: &str) -> String {
    canvas::svg(LEFT + PLOT.0 + 24.0, 160.0, |canvas| heading(canvas, 24.0, title, why))
}

/// Title and subtitle.
pub fn heading(canvas: &mut Canvas, left: f64, title: &str, subtitle: &str) {
    canvas.text(title, (left, 26.0), Text { size: 18.0, bold: true, ..Text::new(Side::Left) });
    canvas.text(subtitle, (left, 50.0), Text { color: color::GRAY, ..Text::new(Side::Left) });
}

fn entry(canvas: &mut Canvas, at: (f64, f64), key: &Key) {
    if key.width > 0.0 {
        canvas.path(&[at, (at.0 + 24.0, at.1)], key.color, key.width);
    } else {
        ring(canvas, (at.0 + 12.0, at.1), key.color);
    }
    canvas.text(&key.name, (at.0 + 32.0, at.1), Text::new(Side::Left));
}

fn ring(canvas: &mut Canvas, at: (f64, f64), color: RGBColor) {
    canvas.dot(at, 7.0, color);
    canvas.dot(at, 4.5, color::PAPER);
    canvas.dot(at, 2.5, color);
}

impl Frame<'_, '_> {
    /// The pixel of a point.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (LEFT + PLOT.0 * self.x.place(x), TOP + PLOT.1 * (1.0 - self.y.place(y)))
    }

    fn axes(&mut self, words: &Words) {
        let (right, bottom) = (LEFT + PLOT.0, TOP + PLOT.1);
        for (v, label) in self.y.ticks(6) {
            let y = self.at((self.x.low, v)).1;
            self.canvas.path(&[(LEFT, y), (right, y)], color::GRID, 1.0);
            self.canvas.text(&label, (LEFT - 10.0, y), Text::new(Side::Right));
        }
        for (v, label) in self.x.ticks(8) {
            let x = self.at((v, self.y.low)).0;
            self.canvas.path(&[(x, bottom), (x, bottom + 5.0)], color::INK, 1.0);
            self.canvas.text(&label, (x, bottom + 17.0), Text::new(Side::Middle));
        }
        self.canvas.path(&[(LEFT, TOP), (LEFT, bottom), (right, bottom)], color::INK, 1.0);
        self.canvas.text(words.x, (LEFT + PLOT.0 / 2.0, bottom + 44.0), Text::new(Side::Middle));
        let upright = Text { upright: true, ..Text::new(Side::Middle) };
        self.canvas.text(words.y, (22.0, TOP + PLOT.1 / 2.0), upright);
    }

    /// A line through the finite points, with a dot at each if there are few.
    pub fn line(&mut self, points: &[(f64, f64)], color: RGBColor, width: f64, dots: bool) {
        let finite = points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
        let points: Vec<(f64, f64)> = finite.map(|&p| self.at(p)).collect();
        self.canvas.path(&points, color, width);
        if points.len() == 1 || (dots && points.len() <= 40) {
            points.iter().for_each(|&p| self.canvas.dot(p, 1.0 + width, color));
        }
    }

    /// A text that ends above and left of a point: beside a rising line, not on it.
    pub fn label(&mut self, point: (f64, f64), text: &str, color: RGBColor) {
        let (x, y) = self.at(point);
        let right = (x - 4.0).max(LEFT + 1.1 * text_width(text) + 4.0);
        let look = Text { color, bold: true, ..Text::new(Side::Right) };
        self.canvas.text(text, (right, (y - 16.0).max(TOP - FONT)), look);
    }

    /// A ring around a point with a label, below it if `below`.
    pub fn mark(&mut self, point: (f64, f64), label: &str, color: RGBColor, below: bool) {
        let (x, y) = self.at(point);
        ring(self.canvas, (x, y), color);
        let below = if y < TOP + 30.0 { true } else { below && y < TOP + PLOT.1 - 30.0 };
        let label_y = if below { y + 20.0 } else { y - 20.0 };
        let half = text_width(label) / 2.0;
        let middle = x.clamp(LEFT + half + 4.0, LEFT + PLOT.0 - half);
        let height = FONT / 2.0 + 1.0;
        self.canvas.rect((middle - half, label_y - height), (middle + half, label_y + height), color::PAPER);
        let look = Text { color, bold: true, ..Text::new(Side::Middle) };
        self.canvas.text(label, (middle, label_y), look);
    }
}
