//! Means with their 95% intervals, one row each.

use super::axis::Axis;
use super::svg::{self, Anchor, Svg, TextStyle, text_width};
use super::{color, frame};

/// One row.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name.
    pub name: String,
    /// The mean.
    pub mean: f64,
    /// Half the width of its interval.
    pub half: f64,
    /// The value that a paper reports.
    pub paper: Option<f64>,
}

const PLOT: f64 = 520.0;
const TOP: f64 = 74.0;
const ROW: f64 = 22.0;

/// The chart of `lines` from top to bottom; `unit` labels the axis.
pub fn draw(title: &str, unit: &str, lines: &[Line]) -> String {
    if lines.is_empty() {
        return frame::empty(title, "There are no results yet.");
    }
    let left = lines.iter().map(|l| text_width(&l.name)).fold(60.0, f64::max) + 24.0;
    let reach = |l: &Line| [l.mean - l.half, l.mean + l.half, l.paper.unwrap_or(l.mean)];
    let axis = Axis::around(lines.iter().flat_map(reach));
    let bottom = TOP + ROW * lines.len() as f64 + 6.0;
    let has_paper = lines.iter().any(|l| l.paper.is_some());
    let subtitle = match has_paper {
        true => "Mean over seeds and its 95% interval; squares: values reported in the paper",
        false => "Mean over seeds and its 95% interval",
    };
    let width = (left + PLOT + 40.0).max(24.0 + text_width(subtitle));
    svg::document(width, bottom + 58.0, |svg| {
        frame::heading(svg, 24.0, title, subtitle);
        let x = |value: f64| left + PLOT * axis.position(value);
        for (value, label) in axis.ticks(8) {
            svg.path(&[(x(value), TOP), (x(value), bottom)], color::GRID, 1.0);
            svg.text(&label, (x(value), bottom + 15.0), TextStyle::new(Anchor::Middle));
        }
        svg.path(&[(left, bottom), (left + PLOT, bottom)], color::INK, 1.0);
        svg.text(unit, (left + PLOT / 2.0, bottom + 40.0), TextStyle::new(Anchor::Middle));
        for (i, line) in lines.iter().enumerate() {
            draw_line(svg, line, left, TOP + ROW * (i as f64 + 0.5), x);
        }
    })
}

fn draw_line(svg: &mut Svg, line: &Line, left: f64, y: f64, x: impl Fn(f64) -> f64) {
    svg.text(&line.name, (left - 12.0, y), TextStyle::new(Anchor::End));
    if let Some(paper) = line.paper {
        let x = x(paper);
        svg.rect((x - 4.0, y - 4.0), (x + 4.0, y + 4.0), color::TEST);
    }
    if !line.mean.is_finite() {
        return;
    }
    svg.path(&[(x(line.mean - line.half), y), (x(line.mean + line.half), y)], color::TRAIN, 2.0);
    svg.dot((x(line.mean), y), 4.0, color::TRAIN);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::plot::assert_well_formed;

    #[test]
    fn any_means_can_be_drawn() {
        let line = |name: &str, mean, paper| Line { name: name.into(), mean, half: 0.5, paper };
        let text = draw("Title", "%", &[line("one", 98.0, Some(92.5)), line("two & three", 97.0, None)]);
        assert_well_formed(&text);
        assert!(text.contains("squares") && text.contains("two &amp; three"));
        assert!(!draw("Title", "%", &[line("one", 98.0, None)]).contains("squares"));
        assert_well_formed(&draw("Title", "%", &[]));
        assert_well_formed(&draw("Title", "%", &[line("x", f64::NAN, Some(1.0))]));
    }
}
