//! Colors that color-blind readers can distinguish.

/// Red, green and blue, as `#rrggbb` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(u8, u8, u8);

impl std::fmt::Display for Color {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// The background.
pub const PAPER: Color = Color(255, 255, 255);
/// Text and axes.
pub const INK: Color = Color(34, 34, 34);
/// Secondary text.
pub const GRAY: Color = Color(100, 100, 100);
/// Grid lines.
pub const GRID: Color = Color(232, 232, 232);
/// Edges of cells.
pub const EDGE: Color = Color(205, 205, 205);
/// Training (the blue of Okabe and Ito).
pub const TRAIN: Color = Color(0, 114, 178);
/// Single training steps.
pub const TRAIN_LIGHT: Color = Color(190, 220, 239);
/// Test (the vermilion of Okabe and Ito).
pub const TEST: Color = Color(213, 94, 0);

/// Dark violet to green (viridis without its pale yellow end).
const SEQUENTIAL: [Color; 6] = [
    Color(68, 1, 84),
    Color(65, 68, 135),
    Color(42, 120, 142),
    Color(34, 168, 132),
    Color(122, 209, 81),
    Color(190, 200, 40),
];

/// Blue, through white, to brown.
const DIVERGING: [Color; 7] = [
    Color(33, 82, 150),
    Color(84, 143, 196),
    Color(169, 206, 228),
    Color(247, 247, 247),
    Color(253, 197, 134),
    Color(226, 124, 38),
    Color(150, 62, 4),
];

/// The color of item `index` of `count` ordered items.
pub fn sequential(index: usize, count: usize) -> Color {
    along(&SEQUENTIAL, index as f64 / count.saturating_sub(1).max(1) as f64)
}

/// The color of a value from -1 to 1, neutral at 0; values outside are clamped.
pub fn diverging(value: f64) -> Color {
    along(&DIVERGING, (value + 1.0) / 2.0)
}

/// Dark or white text, whichever is easier to read on this background.
pub fn text_on(Color(r, g, b): Color) -> Color {
    let light = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if light > 135.0 { INK } else { PAPER }
}

/// The color at the fraction `share` along `stops`; NaN counts as 0.
fn along(stops: &[Color], share: f64) -> Color {
    let position = share.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let (low, part) = (position as usize, position.fract());
    let (from, to) = (stops[low], stops[(low + 1).min(stops.len() - 1)]);
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    Color(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_clamped_at_their_ends() {
        assert_eq!((sequential(0, 4), sequential(3, 4)), (SEQUENTIAL[0], SEQUENTIAL[5]));
        assert_eq!((sequential(0, 0), sequential(9, 1)), (SEQUENTIAL[0], SEQUENTIAL[5]));
        assert_eq!(
            (diverging(-9.0), diverging(0.0), diverging(9.0)),
            (DIVERGING[0], DIVERGING[3], DIVERGING[6])
        );
        diverging(f64::NAN);
        assert_eq!((text_on(DIVERGING[0]), text_on(DIVERGING[3])), (PAPER, INK));
    }
}
