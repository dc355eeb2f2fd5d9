//! The pictures of a training run.

mod accuracy;
mod active;
mod common;
mod loss;
mod usage;

use crate::engine::error::Result;
use crate::engine::files;
use crate::train::metrics::{EpochRecord, StepRecord};
use crate::train::run_folder::RunFolder;

/// Draws every picture into the run's folder `plots`.
///
/// # Errors
/// I/O errors, with the path.
pub fn write(run: &RunFolder, steps: &[StepRecord], history: &[EpochRecord]) -> Result<()> {
    let folder = run.path().join("plots");
    files::create_dir(&folder)?;
    all(steps, history).iter().try_for_each(|(name, svg)| files::write(&folder.join(name), svg.as_bytes()))
}

/// Every picture: file name and SVG text.
fn all(steps: &[StepRecord], history: &[EpochRecord]) -> Vec<(&'static str, String)> {
    vec![
        ("loss.svg", loss::draw(steps, history)),
        ("accuracy.svg", accuracy::draw(history)),
        ("active_experts.svg", active::draw(history)),
        ("expert_usage.svg", usage::draw(history)),
    ]
}

#[cfg(test)]
mod tests;
