//! What the pictures of a run share.

/// Shown in place of a chart before the first epoch has finished.
pub const NO_EPOCH: &str = "No epoch has finished yet.";

/// At most `most` numbers of `0..count`, evenly spaced, including both ends.
pub fn spread(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        (0..count).collect()
    } else {
        (0..most).map(|i| i * (count - 1) / (most - 1)).collect()
    }
}
