//! Colors that color-blind readers can tell apart.

use plotters::style::RGBColor;

/// The background.
pub const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Text and axes.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// Secondary text.
pub const GRAY: RGBColor = RGBColor(100, 100, 100);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(232, 232, 232);
/// Edges of cells.
pub const EDGE: RGBColor = RGBColor(205, 205, 205);
/// Training (the blue of Okabe and Ito).
pub const TRAIN: RGBColor = RGBColor(0, 114, 178);
/// Single training steps.
pub const TRAIN_LIGHT: RGBColor = RGBColor(190, 220, 239);
/// Test (their vermilion).
pub const TEST: RGBColor = RGBColor(213, 94, 0);

/// Dark violet to green (viridis without its faint yellow end).
const ORDER: [RGBColor; 6] = [
    RGBColor(68, 1, 84),
    RGBColor(65, 68, 135),
    RGBColor(42, 120, 142),
    RGBColor(34, 168, 132),
    RGBColor(122, 209, 81),
    RGBColor(190, 200, 40),
];

/// Blue over white to brown: the middle is neutral.
const BALANCE: [RGBColor; 7] = [
    RGBColor(33, 82, 150),
    RGBColor(84, 143, 196),
    RGBColor(169, 206, 228),
    RGBColor(247, 247, 247),
    RGBColor(253, 197, 134),
    RGBColor(226, 124, 38),
    RGBColor(150, 62, 4),
];

/// The color of the `index`th of `count` things that stand in an order.
pub fn in_order(index: usize, count: usize) -> RGBColor {
    along(&ORDER, index as f64 / count.saturating_sub(1).max(1) as f64)
}

/// The color of a value from -1 to 1, neutral at 0; values beyond count as the ends.
pub fn balance(value: f64) -> RGBColor {
    along(&BALANCE, (value + 1.0) / 2.0)
}

/// Black or white, whichever reads better on `background`.
pub fn ink_on(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let light = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if light > 135.0 { INK } else { PAPER }
}

/// The color at `share` of the way along `stops`; NaN counts as the start.
fn along(stops: &[RGBColor], share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let (low, part) = (place as usize, place.fract());
    let (from, to) = (stops[low], stops[(low + 1).min(stops.len() - 1)]);
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_meet_their_ends_and_take_any_number() {
        assert_eq!((in_order(0, 4), in_order(3, 4)), (ORDER[0], ORDER[5]));
        assert_eq!((in_order(0, 0), in_order(9, 1)), (ORDER[0], ORDER[5]));
        assert_eq!((balance(-9.0), balance(0.0), balance(9.0)), (BALANCE[0], BALANCE[3], BALANCE[6]));
        balance(f64::NAN);
        assert_eq!((ink_on(BALANCE[0]), ink_on(BALANCE[3])), (PAPER, INK));
    }
}
