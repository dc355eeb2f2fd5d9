//! A chart with two axes: title, grid, ticks, and a legend beside the data.

use super::axis::Axis;
use super::color::{self, Color};
use super::svg::{self, Anchor, FONT, Svg, TextStyle, text_width};

const PLOT: (f64, f64) = (580.0, 340.0);
const LEFT: f64 = 92.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 64.0;
const ROW: f64 = 22.0;

/// The texts around a chart.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    /// Title.
    pub title: &'a str,
    /// A line below the title: how to read the chart.
    pub subtitle: &'a str,
    /// Label of the horizontal axis, with its unit.
    pub x: &'a str,
    /// Label of the vertical axis, with its unit.
    pub y: &'a str,
}

/// One entry of a legend.
#[derive(Clone, Debug)]
pub struct Key {
    /// The series' name.
    pub name: String,
    /// The series' color.
    pub color: Color,
    /// Width of the line in pixels; 0 for a ring marker.
    pub width: f64,
}

/// The plot area, in which points are given in data coordinates.
pub struct Frame<'a> {
    svg: &'a mut Svg,
    x: Axis,
    y: Axis,
}

/// A chart: axes and legend, then what `paint` draws.
pub fn chart(labels: &Labels, keys: &[Key], x: Axis, y: Axis, paint: impl FnOnce(&mut Frame)) -> String {
    let (width, height) = size(labels, keys);
    svg::document(width, height, |svg| draw(svg, labels, keys, x, y, paint))
}

/// Rows of a legend column.
const ROWS: usize = (PLOT.1 / ROW) as usize;

/// Width of a column of the legend.
fn column(keys: &[Key]) -> f64 {
    keys.iter().map(|k| text_width(&k.name)).fold(0.0, f64::max) + 46.0
}

/// Width and height of a chart.
pub fn size(labels: &Labels, keys: &[Key]) -> (f64, f64) {
    let width = LEFT + PLOT.0 + 24.0 + column(keys) * keys.len().div_ceil(ROWS) as f64;
    (width.max(LEFT + text_width(labels.subtitle)), TOP + PLOT.1 + BOTTOM)
}

/// Draws a chart of that [`size`] at the origin.
pub fn draw(svg: &mut Svg, labels: &Labels, keys: &[Key], x: Axis, y: Axis, paint: impl FnOnce(&mut Frame)) {
    heading(svg, LEFT, labels.title, labels.subtitle);
    for (i, key) in keys.iter().enumerate() {
        let left = LEFT + PLOT.0 + 24.0 + column(keys) * (i / ROWS) as f64;
        entry(svg, (left, TOP + ROW * ((i % ROWS) as f64 + 0.5)), key);
    }
    let mut frame = Frame { svg, x, y };
    frame.axes(labels);
    paint(&mut frame);
}

/// A picture with only a title and the reason why there is no chart.
pub fn empty(title: &str, why: &str) -> String {
    svg::document(LEFT + PLOT.0 + 24.0, 160.0, |svg| heading(svg, 24.0, title, why))
}

/// Title and subtitle.
pub fn heading(svg: &mut Svg, left: f64, title: &str, subtitle: &str) {
    svg.text(title, (left, 26.0), TextStyle { size: 18.0, bold: true, ..TextStyle::new(Anchor::Start) });
    svg.text(subtitle, (left, 50.0), TextStyle { color: color::GRAY, ..TextStyle::new(Anchor::Start) });
}

fn entry(svg: &mut Svg, at: (f64, f64), key: &Key) {
    if key.width > 0.0 {
        svg.path(&[at, (at.0 + 24.0, at.1)], key.color, key.width);
    } else {
        ring(svg, (at.0 + 12.0, at.1), key.color);
    }
    svg.text(&key.name, (at.0 + 32.0, at.1), TextStyle::new(Anchor::Start));
}

fn ring(svg: &mut Svg, at: (f64, f64), color: Color) {
    svg.dot(at, 7.0, color);
    svg.dot(at, 4.5, color::PAPER);
    svg.dot(at, 2.5, color);
}

impl Frame<'_> {
    /// The pixel of a point.
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (LEFT + PLOT.0 * self.x.position(x), TOP + PLOT.1 * (1.0 - self.y.position(y)))
    }

    fn axes(&mut self, labels: &Labels) {
        let (right, bottom) = (LEFT + PLOT.0, TOP + PLOT.1);
        for (v, label) in self.y.ticks(6) {
            let y = self.at((self.x.low, v)).1;
            self.svg.path(&[(LEFT, y), (right, y)], color::GRID, 1.0);
            self.svg.text(&label, (LEFT - 10.0, y), TextStyle::new(Anchor::End));
        }
        for (v, label) in self.x.ticks(8) {
            let x = self.at((v, self.y.low)).0;
            self.svg.path(&[(x, bottom), (x, bottom + 5.0)], color::INK, 1.0);
            self.svg.text(&label, (x, bottom + 17.0), TextStyle::new(Anchor::Middle));
        }
        self.svg.path(&[(LEFT, TOP), (LEFT, bottom), (right, bottom)], color::INK, 1.0);
        self.svg.text(labels.x, (LEFT + PLOT.0 / 2.0, bottom + 44.0), TextStyle::new(Anchor::Middle));
        let vertical = TextStyle { vertical: true, ..TextStyle::new(Anchor::Middle) };
        self.svg.text(labels.y, (22.0, TOP + PLOT.1 / 2.0), vertical);
    }

    /// A line through the finite points; with `dots`, a dot at each if there are at most 40.
    pub fn line(&mut self, points: &[(f64, f64)], color: Color, width: f64, dots: bool) {
        let finite = points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
        let points: Vec<(f64, f64)> = finite.map(|&p| self.at(p)).collect();
        self.svg.path(&points, color, width);
        if points.len() == 1 || (dots && points.len() <= 40) {
            points.iter().for_each(|&p| self.svg.dot(p, 1.0 + width, color));
        }
    }

    /// A text that ends above and to the left of a point, clear of a rising line.
    pub fn label(&mut self, point: (f64, f64), text: &str, color: Color) {
        let (x, y) = self.at(point);
        let right = (x - 4.0).max(LEFT + 1.1 * text_width(text) + 4.0);
        let look = TextStyle { color, bold: true, ..TextStyle::new(Anchor::End) };
        self.svg.text(text, (right, (y - 16.0).max(TOP - FONT)), look);
    }

    /// A ring around a point with a label, below it if `below`.
    pub fn mark(&mut self, point: (f64, f64), label: &str, color: Color, below: bool) {
        let (x, y) = self.at(point);
        ring(self.svg, (x, y), color);
        let below = if y < TOP + 30.0 { true } else { below && y < TOP + PLOT.1 - 30.0 };
        let label_y = if below { y + 20.0 } else { y - 20.0 };
        let half = text_width(label) / 2.0;
        let middle = x.clamp(LEFT + half + 4.0, LEFT + PLOT.0 - half);
        let height = FONT / 2.0 + 1.0;
        self.svg.rect((middle - half, label_y - height), (middle + half, label_y + height), color::PAPER);
        let look = TextStyle { color, bold: true, ..TextStyle::new(Anchor::Middle) };
        self.svg.text(label, (middle, label_y), look);
    }
}
