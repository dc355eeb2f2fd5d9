//! Charts of lines, one below the other.

use super::axis::Axis;
use super::canvas;
use super::frame::{self, Frame, Key, Words};

/// One chart.
pub struct Chart<'a> {
    /// What it says.
    pub words: Words<'a>,
    /// Its lines with their names; the later lie on top. A line has dots unless it is thin.
    pub lines: Vec<(Key, Vec<(f64, f64)>)>,
    /// Labels above points, in the color of the last line.
    pub labels: Vec<((f64, f64), String)>,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
}

impl Chart<'_> {
    fn keys(&self) -> Vec<Key> {
        self.lines.iter().map(|line| line.0.clone()).collect()
    }

    fn paint(&self, frame: &mut Frame) {
        for (key, points) in &self.lines {
            frame.line(points, key.color, key.width, key.width > 1.5);
        }
        let color = self.lines.last().map_or(super::color::INK, |line| line.0.color);
        for (point, label) in &self.labels {
            frame.label(*point, label, color);
        }
    }
}

/// The SVG text of all charts.
pub fn draw(charts: &[Chart]) -> String {
    let sizes: Vec<(f64, f64)> = charts.iter().map(|c| frame::size(&c.words, &c.keys())).collect();
    let width = sizes.iter().map(|size| size.0).fold(0.0, f64::max);
    canvas::svg(width, sizes.iter().map(|size| size.1).sum(), |canvas| {
        let mut top = 0.0;
        for (chart, (_, height)) in charts.iter().zip(&sizes) {
            canvas.moved((0.0, top), |canvas| {
                frame::draw(canvas, &chart.words, &chart.keys(), chart.x, chart.y, |frame| {
                    chart.paint(frame)
                });
            });
            top += height;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plot::{color, is_well_formed};

    #[test]
    fn charts_stand_below_each_other() {
        let chart = || Chart {
            words: Words { title: "a", subtitle: "b", x: "x", y: "y" },
            lines: vec![(
                Key { name: "line".into(), color: color::TRAIN, width: 2.0 },
                vec![(1.0, 2.0), (100.0, 300.0), (f64::NAN, 1.0)],
            )],
            labels: vec![((100.0, 300.0), "end".into())],
            x: Axis::log_if_wide([1.0, 100.0].into_iter()),
            y: Axis::around([0.0, 300.0].into_iter()),
        };
        let (one, two) = (draw(&[chart()]), draw(&[chart(), chart()]));
        assert!(is_well_formed(&one) && is_well_formed(&two) && two.matches(">end").count() <= 2);
        let height = |text: &str| -> f64 {
            text.split_once("height=\"").unwrap().1.split('"').next().unwrap().parse().unwrap()
        };
        assert_eq!(height(&two), 2.0 * height(&one));
        assert!(is_well_formed(&draw(&[Chart { lines: Vec::new(), labels: Vec::new(), ..chart() }])));
    }
}
