//! Line charts, stacked vertically.

use super::axis::Axis;
use super::frame::{self, Frame, Key, Labels};
use super::svg;

/// One chart.
pub struct Chart<'a> {
    /// Title and axis labels.
    pub labels: Labels<'a>,
    /// The lines, drawn in this order. Lines wider than 1.5 pixels have dots at their points.
    pub lines: Vec<(Key, Vec<(f64, f64)>)>,
    /// Texts above points, in the color of the last line.
    pub annotations: Vec<((f64, f64), String)>,
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
        for (point, label) in &self.annotations {
            frame.label(*point, label, color);
        }
    }
}

/// One picture of all charts.
pub fn draw(charts: &[Chart]) -> String {
    let sizes: Vec<(f64, f64)> = charts.iter().map(|c| frame::size(&c.labels, &c.keys())).collect();
    let width = sizes.iter().map(|size| size.0).fold(0.0, f64::max);
    svg::document(width, sizes.iter().map(|size| size.1).sum(), |svg| {
        let mut top = 0.0;
        for (chart, (_, height)) in charts.iter().zip(&sizes) {
            svg.moved((0.0, top), |svg| {
                frame::draw(svg, &chart.labels, &chart.keys(), chart.x, chart.y, |frame| chart.paint(frame));
            });
            top += height;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plot::{assert_well_formed, color};

    #[test]
    fn charts_are_stacked() {
        let chart = || Chart {
            labels: Labels { title: "a", subtitle: "b", x: "x", y: "y" },
            lines: vec![(
                Key { name: "line".into(), color: color::TRAIN, width: 2.0 },
                vec![(1.0, 2.0), (100.0, 300.0), (f64::NAN, 1.0)],
            )],
            annotations: vec![((100.0, 300.0), "end".into())],
            x: Axis::log_if_wide([1.0, 100.0].into_iter()),
            y: Axis::around([0.0, 300.0].into_iter()),
        };
        let (one, two) = (draw(&[chart()]), draw(&[chart(), chart()]));
        assert_well_formed(&one);
        assert_well_formed(&two);
        assert_eq!(two.matches(">end</text>").count(), 2);
        let height = |text: &str| -> f64 {
            text.split_once("height=\"").unwrap().1.split('"').next().unwrap().parse().unwrap()
        };
        assert_eq!(height(&two), 2.0 * height(&one));
        assert_well_formed(&draw(&[Chart { lines: Vec::new(), annotations: Vec::new(), ..chart() }]));
    }
}
