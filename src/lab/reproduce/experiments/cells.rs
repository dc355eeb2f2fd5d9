//! Cells that several experiments share.

use crate::lab::reproduce::cell::{Cell, Scale};
use crate::nn::schedule::Schedule;

/// The dense baselines: label, settings.
pub const DENSE: [(&str, &[&str]); 2] =
    [("MLP, equal parameters", &["model=mlp"]), ("MLP, equal FLOPs", &["model=mlp", "match_by=flops"])];

/// A cell of size Small.
pub fn small(scale: Scale, label: impl Into<String>, dataset: &str, settings: &[&str]) -> Cell {
    let dataset = format!("dataset={dataset}");
    Cell::new(scale, "small", label, &[&[dataset.as_str()], settings].concat())
}

/// The name of a schedule in settings.
pub fn name(schedule: Schedule) -> &'static str {
    Schedule::ALL.iter().find(|(s, _)| *s == schedule).map_or("", |(_, name)| name)
}

/// A cell on MNIST with a schedule.
pub fn scheduled(scale: Scale, schedule: Schedule) -> Cell {
    small(scale, name(schedule), "mnist", &[&format!("schedule={}", name(schedule))])
}

/// The cells' labels.
pub fn labels<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Vec<String> {
    cells.into_iter().map(|cell| cell.label.clone()).collect()
}

/// The two readings of the first paper's rule, and top-p with the mass that fits the reported averages best.
pub fn readings(scale: Scale) -> Vec<Cell> {
    vec![
        small(scale, "percentile (token): the literal rule", "mnist", &[]),
        small(scale, "percentile (batch)", "mnist", &["percentile_scope=batch"]),
        small(scale, "top-p, mass 0.7", "mnist", &["router=top-p", "mass=0.7"]),
    ]
}
