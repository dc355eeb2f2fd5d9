//! The table of experiments. To add one, write a function that returns it and a line in
//! [`all`].

mod studies;
mod tables;
mod text;

use super::cell::{Cell, Scale};
use super::claims::Claim;
use super::quantity::Quantity;
use super::report::document::Block;
use super::view::View;
use crate::engine::error::{Error, Result, nearest};
use crate::nn::router;
use crate::nn::schedule::Schedule;

/// What is trained, what is shown of it, and what is claimed of it.
pub struct Experiment {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it is about, in a sentence or two.
    pub about: &'static str,
    /// Its cells; those that are made equal to the reference come after the cells they are made of.
    pub cells: Vec<Cell>,
    /// The columns of its table.
    pub columns: Vec<Column>,
    /// What is claimed.
    pub claims: Vec<Claim>,
    /// What else its section shows.
    pub more: fn(&View) -> Vec<Block>,
}

/// A column of an experiment's table.
#[derive(Clone, Debug)]
pub enum Column {
    /// The mean of a quantity with its interval, and what the paper reports where it does.
    Mean(Quantity),
    /// The mean ratio of a quantity to that of another cell under the same seed.
    Ratio(Quantity, &'static str),
}

/// What `all` leaves out, since it takes hours.
pub const LONG: [&str; 4] = ["sizes", "table5", "table5-web", "transformer"];

/// All experiments.
pub fn all(scale: Scale) -> Vec<Experiment> {
    [
        tables::table2,
        tables::table3,
        tables::table4,
        tables::table6,
        tables::table7,
        studies::routers,
        studies::balance,
        studies::fairness,
        studies::theory,
        studies::sizes,
        text::table5,
        text::table5_web,
        text::transformer,
    ]
    .map(|experiment| experiment(scale))
    .into()
}

/// The experiments with these names; `all` stands for all but the [`LONG`] ones.
///
/// # Errors
/// A name that no experiment has, with the nearest one.
pub fn named(names: &[String], scale: Scale) -> Result<Vec<Experiment>> {
    let known = all(scale);
    let mut of_all = known.iter().map(|e| e.name);
    for name in names {
        if name != "all" && !of_all.clone().any(|known| known == name) {
            let list = of_all.clone().collect::<Vec<_>>().join(", ");
            let near = nearest(name, of_all.by_ref().chain(["all"])).unwrap_or_default();
            let what = format!("no experiment `{name}`; the nearest is `{near}`, there are {list}, all");
            return Err(Error::config("experiment", what));
        }
    }
    let asked = |e: &Experiment| names.iter().any(|n| n == e.name || (n == "all" && !LONG.contains(&e.name)));
    Ok(known.into_iter().filter(asked).collect())
}

/// The dense baselines: name, settings.
const DENSE: [(&str, &[&str]); 2] =
    [("MLP, equal parameters", &["model=mlp"]), ("MLP, equal FLOPs", &["model=mlp", "match_by=flops"])];

/// A cell of size Small.
fn small(scale: Scale, label: impl Into<String>, dataset: &str, settings: &[&str]) -> Cell {
    let dataset = format!("dataset={dataset}");
    Cell::new(scale, "small", label, &[&[dataset.as_str()], settings].concat())
}

/// The name of a schedule in settings.
fn name(schedule: Schedule) -> &'static str {
    Schedule::ALL.iter().find(|(s, _)| *s == schedule).map_or("", |(_, name)| name)
}

/// A cell on MNIST with a schedule.
fn scheduled(scale: Scale, schedule: Schedule) -> Cell {
    small(scale, name(schedule), "mnist", &[&format!("schedule={}", name(schedule))])
}

/// The cells' labels.
fn labels<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Vec<String> {
    cells.into_iter().map(|cell| cell.label.clone()).collect()
}

/// The readings of the first paper's rule, and the second paper's rule with the mass that fits its averages best.
fn readings(scale: Scale) -> Vec<Cell> {
    let mut cells = vec![
        small(scale, "percentile (token): the literal rule", "mnist", &[]),
        small(scale, "percentile (batch)", "mnist", &["percentile_scope=batch"]),
    ];
    if router::NAMES.contains(&"top-p") {
        cells.push(small(scale, "top-p, mass 0.7", "mnist", &["router=top-p", "mass=0.7"]));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_cell_is_a_configuration_and_labels_are_told_apart() {
        for scale in [Scale::Full, Scale::Quick] {
            for experiment in all(scale) {
                let labels: BTreeSet<&str> = experiment.cells.iter().map(|c| c.label.as_str()).collect();
                assert_eq!(labels.len(), experiment.cells.len(), "{}", experiment.name);
                let spec = |c: &Cell| c.config.spec(1, 1);
                assert!(experiment.cells.iter().all(|c| spec(c).experts.len() == c.config.layers));
            }
        }
    }

    #[test]
    fn experiments_go_by_name() {
        let names = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(|s| s.to_string()).collect();
            named(&asked, Scale::Full).map(|found| found.iter().map(|e| e.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["table7", "table2"]).unwrap(), ["table2", "table7"]);
        assert_eq!(names(&["all"]).unwrap().len(), all(Scale::Full).len() - LONG.len());
        assert_eq!(names(&[&["all"], &LONG[..]].concat()).unwrap().len(), all(Scale::Full).len());
        let line = names(&["tabel2"]).unwrap_err().to_string();
        assert!(line.contains("no experiment `tabel2`; the nearest is `table2`"), "{line}");
    }

    #[test]
    fn the_same_network_in_several_tables_is_one_cell() {
        let all = all(Scale::Full);
        let config = |name: &str, label: &str| {
            let experiment = all.iter().find(|e| e.name == name).unwrap();
            experiment.cells.iter().find(|c| c.label == label).unwrap().config.clone()
        };
        let descending = config("table2", "descending");
        for (name, label) in [
            ("table3", "E8-1"),
            ("table4", "mnist: descending"),
            ("table6", "percentile (token): the literal rule"),
            ("table7", "tau 0.7"),
            ("table7", "learning rate 0.001"),
            ("routers", "percentile (token)"),
            ("balance", "percentile (token), no balance loss"),
        ] {
            assert_eq!(config(name, label), descending, "{name} {label}");
        }
    }
}
