//! `dynamoe schedule`.
use std::path::Path;
/// Draws the schedules.
pub fn run(_: usize, _: usize, _: usize, _: Option<&[usize]>, _: Option<&Path>) -> anyhow::Result<()> {
    Ok(())
}
