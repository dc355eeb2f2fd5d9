//! A heat map of shares, colored by their ratio to the uniform share of the row.

use super::svg::{self, Anchor, Svg, TextStyle, text_width};
use super::{color, frame};

/// Neighboring columns share a cell if there are more than this.
const MOST_COLUMNS: usize = 256;

/// The smallest cell in which its share is printed, in pixels.
const PRINTED: (f64, f64) = (44.0, 17.0);

/// The color scale covers ratios from 1/4 to 4.
const RANGE: f64 = 4.0;

/// Smallest margin to the left of the map.
const LEFT: f64 = 76.0;
const TOP: f64 = 84.0;

/// The texts around the map.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Title.
    pub title: &'a str,
    /// A line below the title: how to read the map.
    pub subtitle: &'a str,
    /// What a row stands for.
    pub row: &'a str,
    /// What a column stands for.
    pub column: &'a str,
}

/// Draws labeled rows of shares; rows may differ in length.
pub fn draw(labels: &Labels, rows: &[(String, &[f64])]) -> String {
    let columns = rows.iter().map(|row| row.1.len()).max().unwrap_or(0).max(1);
    let group = columns.div_ceil(MOST_COLUMNS);
    let cells = columns.div_ceil(group);
    let cell = ((640.0 / cells as f64).clamp(2.5, 70.0), (600.0 / rows.len() as f64).clamp(14.0, 40.0));
    let widest = rows.iter().map(|row| text_width(&row.0)).fold(0.0, f64::max);
    let left = LEFT.max(widest + 44.0);
    let size = (cell.0 * cells as f64, cell.1 * rows.len() as f64);
    let mut subtitle = labels.subtitle.to_string();
    if group > 1 {
        subtitle += &format!("; a cell is {group} {}s", labels.column);
    }
    // The scale is taller than the map of a few rows.
    let (scale_left, height) = (left + size.0 + 28.0, size.1.max(150.0));
    let width = (scale_left + 190.0).max(left + text_width(&subtitle));
    svg::document(width, TOP + height + 66.0, |svg| {
        frame::heading(svg, left, labels.title, &subtitle);
        for (i, (label, shares)) in rows.iter().enumerate() {
            let top = TOP + cell.1 * i as f64;
            svg.text(label, (left - 10.0, top + cell.1 / 2.0), TextStyle::new(Anchor::End));
            draw_row(svg, shares, group, (left, top), cell);
        }
        let stride = ((text_width(&columns.to_string()) + 10.0) / cell.0).ceil().max(1.0) as usize;
        let stride = [1, 2, 5, 10, 20, 50, 100].into_iter().find(|&s| s >= stride).unwrap_or(200);
        // Label the first column and every multiple of `stride`, unless the two are too close.
        for column in (0..cells).filter(|&c| c == 0 || (c + 1) % stride == 0 && (stride == 1 || c > 1)) {
            let at = (left + cell.0 * (column as f64 + 0.5), TOP + size.1 + 14.0);
            svg.text(&(column * group + 1).to_string(), at, TextStyle::new(Anchor::Middle));
        }
        let below = TOP + size.1 + 42.0;
        svg.text(labels.column, (left + size.0.max(60.0) / 2.0, below), TextStyle::new(Anchor::Middle));
        let vertical = TextStyle { vertical: true, ..TextStyle::new(Anchor::Middle) };
        svg.text(labels.row, (22.0, TOP + size.1.max(40.0) / 2.0), vertical);
        scale(svg, (scale_left, TOP), height);
    })
}

/// One row: `group` neighbors share a cell.
fn draw_row(svg: &mut Svg, all: &[f64], group: usize, at: (f64, f64), cell: (f64, f64)) {
    // The background shows through the gaps as cell borders.
    let right = at.0 + cell.0 * all.len().div_ceil(group) as f64;
    svg.rect((at.0 - 1.0, at.1 - 1.0), (right, at.1 + cell.1), color::EDGE);
    let gap = if cell.0 > 8.0 { 1.0 } else { 0.0 };
    for (i, shares) in all.chunks(group).enumerate() {
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let fill = color::diverging(tone(mean * all.len() as f64));
        let left = at.0 + cell.0 * i as f64;
        // Narrow cells overlap the next one, so that no seam shows.
        let end = if gap > 0.0 { left + cell.0 - gap } else { (left + cell.0 + 1.0).min(right) };
        svg.rect((left, at.1), (end, at.1 + cell.1 - 1.0), fill);
        if cell.0 >= PRINTED.0 && cell.1 >= PRINTED.1 && mean.is_finite() {
            let look =
                TextStyle { size: 12.0, color: color::text_on(fill), ..TextStyle::new(Anchor::Middle) };
            let middle = (left + (cell.0 - gap) / 2.0, at.1 + (cell.1 - 1.0) / 2.0);
            let decimals = usize::from((0.0005..0.9995).contains(&mean));
            svg.text(&format!("{:.decimals$}%", 100.0 * mean), middle, look);
        }
    }
}

/// A ratio to the uniform share on a logarithmic scale from -1 to 1; 0 and NaN give -1.
fn tone(ratio: f64) -> f64 {
    let ratio = if ratio > 0.0 { ratio.clamp(1.0 / RANGE, RANGE) } else { 1.0 / RANGE };
    libm::log2(ratio) / libm::log2(RANGE)
}

/// The legend of the colors.
fn scale(svg: &mut Svg, (left, top): (f64, f64), height: f64) {
    let height = height.min(240.0) - 16.0;
    let (top, steps) = (top + 8.0, 64);
    for i in 0..steps {
        let place = |i: usize| top + height * i as f64 / steps as f64;
        let fill = color::diverging(1.0 - 2.0 * (i as f64 + 0.5) / steps as f64);
        // Strips overlap the next one, so that no seam shows.
        svg.rect((left, place(i)), (left + 18.0, place((i + 2).min(steps))), fill);
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
        svg.path(&[(left + 18.0, y), (left + 23.0, y)], color::INK, 1.0);
        svg.text(label, (left + 29.0, y), TextStyle::new(Anchor::Start));
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
