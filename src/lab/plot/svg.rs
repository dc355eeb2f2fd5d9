//! A small SVG writer: rectangles, lines, circles and texts, in pixels.

use std::fmt::Write;

use super::color::{self, Color};

/// Height of ordinary text in pixels.
pub const FONT: f64 = 14.0;

/// An upper estimate of the width of a text of height [`FONT`]; fonts differ.
pub fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * 0.58
}

/// The look of a text and its alignment to a point. Vertically the text is centered at the point.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// Height in pixels.
    pub size: f64,
    /// Fill color.
    pub color: Color,
    /// Horizontal alignment, along the direction of reading.
    pub anchor: Anchor,
    /// Bold weight.
    pub bold: bool,
    /// Rotated to read upward.
    pub vertical: bool,
}

/// The part of a text that is placed at its point (SVG's `text-anchor`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The text starts there.
    Start,
    /// The text is centered there.
    Middle,
    /// The text ends there.
    End,
}

impl TextStyle {
    /// Ordinary text.
    pub const fn new(anchor: Anchor) -> TextStyle {
        TextStyle { size: FONT, color: color::INK, anchor, bold: false, vertical: false }
    }
}

/// An SVG document under construction.
pub struct Svg {
    out: String,
    /// Added to every position.
    origin: (f64, f64),
}

/// The text of an SVG document with a white background and what `paint` draws on it.
pub fn document(width: f64, height: f64, paint: impl FnOnce(&mut Svg)) -> String {
    let (w, h) = (width.ceil().max(1.0), height.ceil().max(1.0));
    let head = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"sans-serif\" font-size=\"{FONT}\">\n"
    );
    let mut svg = Svg { out: head, origin: (0.0, 0.0) };
    svg.rect((0.0, 0.0), (w, h), color::PAPER);
    paint(&mut svg);
    svg.out + "</svg>\n"
}

/// A coordinate or length with at most two decimals.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        // Adding zero turns -0 into 0.
        write!(f, "{}", (100.0 * self.0).round() / 100.0 + 0.0)
    }
}

impl Svg {
    /// Draws what `paint` draws, moved by `by`.
    pub fn moved(&mut self, by: (f64, f64), paint: impl FnOnce(&mut Self)) {
        let before = self.origin;
        self.origin = (before.0 + by.0, before.1 + by.1);
        paint(self);
        self.origin = before;
    }

    fn at(&self, (x, y): (f64, f64)) -> (Number, Number) {
        (Number(x + self.origin.0), Number(y + self.origin.1))
    }

    fn line(&mut self, element: std::fmt::Arguments) {
        writeln!(self.out, "{element}").expect("writing to a string cannot fail");
    }

    /// A filled rectangle between two opposite corners.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), fill: Color) {
        let (x, y) = self.at((from.0.min(to.0), from.1.min(to.1)));
        let (w, h) = (Number((to.0 - from.0).abs()), Number((to.1 - from.1).abs()));
        self.line(format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"/>"));
    }

    /// A line through all points.
    pub fn path(&mut self, points: &[(f64, f64)], color: Color, width: f64) {
        if points.len() > 1 {
            let points: Vec<String> =
                points.iter().map(|&p| self.at(p)).map(|(x, y)| format!("{x},{y}")).collect();
            self.line(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{}\"/>",
                points.join(" "),
                Number(width)
            ));
        }
    }

    /// A filled circle.
    pub fn dot(&mut self, center: (f64, f64), radius: f64, fill: Color) {
        let ((x, y), r) = (self.at(center), Number(radius));
        self.line(format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\" fill=\"{fill}\"/>"));
    }

    /// A text at a point.
    pub fn text(&mut self, text: &str, at: (f64, f64), style: TextStyle) {
        let (x, y) = self.at(at);
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let size =
            if style.size == FONT { String::new() } else { format!(" font-size=\"{}\"", Number(style.size)) };
        let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
        let turn = if style.vertical { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
        let (fill, text) = (style.color, escaped(text));
        // Digits are about 0.7 em high: lowering the baseline by half of that centers them.
        self.line(format_args!(
            "<text x=\"{x}\" y=\"{y}\" dy=\"0.35em\" text-anchor=\"{anchor}\" fill=\"{fill}\"{size}{weight}{turn}>{text}</text>"
        ));
    }
}

/// `text` with the characters escaped that have a meaning in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plot::assert_well_formed;

    #[test]
    fn elements_are_placed_and_texts_are_escaped() {
        let svg = document(10.0, 19.2, |svg| {
            svg.text("<a & \"b\">", (5.0, 5.0), TextStyle::new(Anchor::Middle));
            svg.moved((1.0, 2.0), |svg| svg.dot((0.5, 1.0 / 3.0), 2.0, color::INK));
            svg.path(&[(0.0, -0.001), (1.5, 2.0)], color::GRID, 1.0);
        });
        assert_well_formed(&svg);
        for part in [
            "width=\"10\" height=\"20\" viewBox=\"0 0 10 20\"",
            ">&lt;a &amp; &quot;b&quot;&gt;</text>",
            "<circle cx=\"1.5\" cy=\"2.33\" r=\"2\" fill=\"#222222\"/>",
            "<polyline points=\"0,0 1.5,2\" fill=\"none\" stroke=\"#e8e8e8\" stroke-width=\"1\"/>",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }
}
