//! Expert usage as a heat map.

use super::common;
use crate::lab::plot::{frame, heatmap};
use crate::train::metrics::EpochRecord;

const TITLE: &str = "Expert usage";

/// The most rows; of more layers an evenly spaced selection is shown.
const MOST_ROWS: usize = 60;

/// Each expert's share of its layer's assignments in the last epoch.
pub fn draw(history: &[EpochRecord]) -> String {
    let Some(last) = history.last() else { return frame::empty(TITLE, common::NO_EPOCH) };
    if last.layers.iter().all(|layer| layer.usage.is_empty()) {
        return frame::empty(TITLE, "This network has no layer with experts.");
    }
    let subtitle =
        format!("Share of assignments on the test split after epoch {}, in each layer", last.epoch);
    let labels = heatmap::Labels { title: TITLE, subtitle: &subtitle, row: "layer", column: "expert" };
    let layers = common::spread(last.layers.len(), MOST_ROWS).into_iter();
    let rows: Vec<_> = layers.map(|l| ((l + 1).to_string(), &last.layers[l].usage[..])).collect();
    heatmap::draw(&labels, &rows)
}
