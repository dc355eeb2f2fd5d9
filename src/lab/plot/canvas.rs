//! A white sheet to draw on, in pixels and fractions of pixels.

use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::color;

/// The backend knows only whole numbers: it draws this many times too large, and the view box shrinks it.
const SCALE: f64 = 8.0;

/// The backend divides the size of a font by this.
const FONT_FACTOR: f64 = 1.24;

/// Height of the usual text.
pub const FONT: f64 = 14.0;

/// About how wide a text of the usual size is; fonts differ, so this errs on the wide side.
pub fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * 0.58
}

/// How a text looks and on which side of its point it stands.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Height in pixels.
    pub size: f64,
    /// Its color.
    pub color: RGBColor,
    /// Which of its sides the point lies on.
    pub side: Side,
    /// In bold letters.
    pub bold: bool,
    /// Running upwards.
    pub upright: bool,
}

/// Which side of a text its point lies on; the point is in the middle of the other direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The text begins there.
    Left,
    /// The text is centered there.
    Middle,
    /// The text ends there.
    Right,
}

impl Text {
    /// The usual text.
    pub const fn new(side: Side) -> Text {
        Text { size: FONT, color: color::INK, side, bold: false, upright: false }
    }
}

/// The sheet.
pub struct Canvas<'a> {
    backend: SVGBackend<'a>,
    /// Added to every position.
    origin: (f64, f64),
}

/// The SVG text of a white sheet with what `paint` draws on it.
pub fn svg(width: f64, height: f64, paint: impl FnOnce(&mut Canvas)) -> String {
    let (w, h) = (width.ceil().max(1.0), height.ceil().max(1.0));
    let large = ((w * SCALE) as u32, (h * SCALE) as u32);
    let mut text = String::new();
    let mut canvas = Canvas { backend: SVGBackend::with_string(&mut text, large), origin: (0.0, 0.0) };
    canvas.rect((0.0, 0.0), (w, h), color::PAPER);
    paint(&mut canvas);
    // Dropping the backend closes the document.
    drop(canvas);
    let is = format!("width=\"{}\" height=\"{}\"", large.0, large.1);
    text.replacen(&is, &format!("width=\"{w}\" height=\"{h}\""), 1)
}

fn stroke(color: RGBColor, width: f64) -> ShapeStyle {
    ShapeStyle { color: color.to_rgba(), filled: true, stroke_width: (width * SCALE).round() as u32 }
}

// Writing to a string cannot fail, so the backend's results carry no news.
impl Canvas<'_> {
    /// Draws what `paint` draws, moved by `by`.
    pub fn moved(&mut self, by: (f64, f64), paint: impl FnOnce(&mut Self)) {
        let before = self.origin;
        self.origin = (before.0 + by.0, before.1 + by.1);
        paint(self);
        self.origin = before;
    }

    fn scaled(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let (x, y) = (x + self.origin.0, y + self.origin.1);
        ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
    }

    /// A filled rectangle.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), fill: RGBColor) {
        let (from, to) = (self.scaled(from), self.scaled(to));
        let _ = self.backend.draw_rect(from, to, &fill, true);
    }

    /// A line through all points.
    pub fn path(&mut self, points: &[(f64, f64)], color: RGBColor, width: f64) {
        if points.len() > 1 {
            let points: Vec<(i32, i32)> = points.iter().map(|&p| self.scaled(p)).collect();
            let _ = self.backend.draw_path(points, &stroke(color, width));
        }
    }

    /// A filled circle.
    pub fn dot(&mut self, center: (f64, f64), radius: f64, fill: RGBColor) {
        let center = self.scaled(center);
        let _ = self.backend.draw_circle(center, (radius * SCALE) as u32, &fill, true);
    }

    /// A text.
    pub fn text(&mut self, text: &str, at: (f64, f64), look: Text) {
        let weight = if look.bold { FontStyle::Bold } else { FontStyle::Normal };
        let turn = if look.upright { FontTransform::Rotate270 } else { FontTransform::None };
        let side = match look.side {
            Side::Left => HPos::Left,
            Side::Middle => HPos::Center,
            Side::Right => HPos::Right,
        };
        let font = ("sans-serif", look.size * SCALE * FONT_FACTOR).into_font().style(weight).transform(turn);
        let style = TextStyle::from(font).color(&look.color).pos(Pos::new(side, VPos::Center));
        // The backend lowers the text by half an ex, a little less than half a digit's height.
        let drop = look.size * 0.09;
        let at = if look.upright { (at.0 + drop, at.1) } else { (at.0, at.1 + drop) };
        let at = self.scaled(at);
        let _ = self.backend.draw_text(text, &style, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plot::is_well_formed;

    #[test]
    fn texts_are_escaped_and_every_tag_closes() {
        let draw = || svg(10.0, 20.0, |c| c.text("<a & \"b\">", (5.0, 5.0), Text::new(Side::Middle)));
        assert!(is_well_formed(&draw()), "{}", draw());
        assert!(draw().starts_with("<svg width=\"10\" height=\"20\" viewBox=\"0 0 80 160\""), "{}", draw());
        assert!(draw().contains("&lt;a &amp; &quot;b&quot;&gt;") && draw() == draw());
        assert!(!is_well_formed("<svg><a></svg></a>") && !is_well_formed("<svg>") && !is_well_formed(""));
    }
}
