//! A heat map of shares, each against the uniform share of its row.

use super::canvas::{self, Canvas, Side, Text, text_width};
use super::{color, frame};

/// More columns than this share cells.
const MOST_COLUMNS: usize = 256;

/// Room for a printed share.
const PRINTED: (f64, f64) = (44.0, 17.0);

/// Shares from a fourth to four times the uniform share have their own colors.
const RANGE: f64 = 4.0;

/// Room beside the map, at least.
const LEFT: f64 = 76.0;
const TOP: f64 = 84.0;

/// What the map says.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// What is shown.
    pub title: &'a str,
    /// How to read it.
    pub subtitle: &'a str,
    /// What a row is.
    pub row: &'a str,
    /// What a column is.
    pub column: &'a str,
}

/// Draws rows of shares with their labels; a row need not have as many columns as another.
pub fn draw(words: &Words, rows: &[(String, &[f64])]) -> String {
    let columns = rows.iter().map(|row| row.1.len()).max().unwrap_or(0).max(1);
    let group = columns.div_ceil(MOST_COLUMNS);
    let cells = columns.div_ceil(group);
    let cell = ((640.0 / cells as f64).clamp(2.5, 70.0), (600.0 / rows.len() as f64).clamp(14.0, 40.0));
    let widest = rows.iter().map(|row| text_width(&row.0)).fold(0.0, f64::max);
    let left = LEFT.max(widest + 44.0);
    let size = (cell.0 * cells as f64, cell.1 * rows.len() as f64);
    let mut subtitle = words.subtitle.to_string();
    if group > 1 {
        subtitle += &format!("; a cell is {group} {}s", words.column);
    }
    // The scale is taller than the map of a few rows.
    let (scale_left, height) = (left + size.0 + 28.0, size.1.max(150.0));
    let width = (scale_left + 190.0).max(left + text_width(&subtitle));
    canvas::svg(width, TOP + height + 66.0, |canvas| {
        frame::heading(canvas, left, words.title, &subtitle);
        for (i, (label, shares)) in rows.iter().enumerate() {
            let top = TOP + cell.1 * i as f64;
            canvas.text(label, (left - 10.0, top + cell.1 / 2.0), Text::new(Side::Right));
            draw_row(canvas, shares, group, (left, top), cell);
        }
        let stride = ((text_width(&columns.to_string()) + 10.0) / cell.0).ceil().max(1.0) as usize;
        let stride = [1, 2, 5, 10, 20, 50, 100].into_iter().find(|&s| s >= stride).unwrap_or(200);
        // The first has a label, and then every `stride`th, unless that stands too near.
        for column in (0..cells).filter(|&c| c == 0 || (c + 1) % stride == 0 && (stride == 1 || c > 1)) {
            let at = (left + cell.0 * (column as f64 + 0.5), TOP + size.1 + 14.0);
            canvas.text(&(column * group + 1).to_string(), at, Text::new(Side::Middle));
        }
        let below = TOP + size.1 + 42.0;
        canvas.text(words.column, (left + size.0.max(60.0) / 2.0, below), Text::new(Side::Middle));
        let upright = Text { upright: true, ..Text::new(Side::Middle) };
        canvas.text(words.row, (22.0, TOP + size.1.max(40.0) / 2.0), upright);
        scale(canvas, (scale_left, TOP), height);
    })
}

/// One row: `group` neighbors share a cell.
fn draw_row(canvas: &mut Canvas, all: &[f64], group: usize, at: (f64, f64), cell: (f64, f64)) {
    // The edge shows through the gaps, and where a row of pale cells ends.
    let right = at.0 + cell.0 * all.len().div_ceil(group) as f64;
    canvas.rect((at.0 - 1.0, at.1 - 1.0), (right, at.1 + cell.1), color::EDGE);
    let gap = if cell.0 > 8.0 { 1.0 } else { 0.0 };
    for (i, shares) in all.chunks(group).enumerate() {
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let fill = color::balance(tone(mean * all.len() as f64));
        let left = at.0 + cell.0 * i as f64;
        // Narrow cells reach under the next, which leaves no seam.
        let end = if gap > 0.0 { left + cell.0 - gap } else { (left + cell.0 + 1.0).min(right) };
        canvas.rect((left, at.1), (end, at.1 + cell.1 - 1.0), fill);
        if cell.0 >= PRINTED.0 && cell.1 >= PRINTED.1 && mean.is_finite() {
            let look = Text { size: 12.0, color: color::ink_on(fill), ..Text::new(Side::Middle) };
            let middle = (left + (cell.0 - gap) / 2.0, at.1 + (cell.1 - 1.0) / 2.0);
            let decimals = usize::from((0.0005..0.9995).contains(&mean));
            canvas.text(&format!("{:.decimals$}%", 100.0 * mean), middle, look);
        }
    }
}

/// A ratio to the uniform share on a logarithmic scale from -1 to 1; none of it, or no number, is -1.
fn tone(ratio: f64) -> f64 {
    let ratio = if ratio > 0.0 { ratio.clamp(1.0 / RANGE, RANGE) } else { 1.0 / RANGE };
    libm::log2(ratio) / libm::log2(RANGE)
}

/// What the colors mean.
fn scale(canvas: &mut Canvas, (left, top): (f64, f64), height: f64) {
    let height = height.min(240.0) - 16.0;
    let (top, steps) = (top + 8.0, 64);
    for i in 0..steps {
        let place = |i: usize| top + height * i as f64 / steps as f64;
        let fill = color::balance(1.0 - 2.0 * (i as f64 + 0.5) / steps as f64);
        // Reaching under the next strip leaves no seam.
        canvas.rect((left, place(i)), (left + 18.0, place((i + 2).min(steps))), fill);
    }
    let labels = [
        (1.0, "4× or more"),
        (0.5, "2×"),
        (0.0, "1×  uniform (1/E)"),
        (-0.5, "1/2×"),
        (-1.0, "1/4× or less"),
    ];
    for (tone, label) in labels {
        let y = top + height * (1.0 - tone) / 2.0;
        canvas.path(&[(left + 18.0, y), (left + 23.0, y)], color::INK, 1.0);
        canvas.text(label, (left + 29.0, y), Text::new(Side::Left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_are_symmetric_in_the_logarithm() {
        assert_eq!([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 99.0].map(tone), [-1.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0]);
        assert_eq!(tone(f64::NAN), -1.0);
    }
}
