//! The list of experiments. To add one, write a function that returns it and add it to [`all`].

mod cells;
mod studies;
mod tables;
mod text;

use super::cell::Scale;
use super::experiment::Experiment;
use crate::engine::error::{Error, Result, nearest};

/// Experiments that take hours; `all` leaves them out.
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

/// The experiments with these names; `all` means all except the [`LONG`] ones.
///
/// # Errors
/// An unknown name, with the most similar one.
pub fn named(names: &[String], scale: Scale) -> Result<Vec<Experiment>> {
    let known = all(scale);
    let mut of_all = known.iter().map(|e| e.name);
    for name in names {
        if name != "all" && !of_all.clone().any(|known| known == name) {
            let list = of_all.clone().collect::<Vec<_>>().join(", ");
            let near = nearest(name, of_all.by_ref().chain(["all"])).unwrap_or_default();
            let what = format!("no experiment `{name}`; the nearest is `{near}`, known are {list}, all");
            return Err(Error::config("experiment", what));
        }
    }
    let asked = |e: &Experiment| names.iter().any(|n| n == e.name || (n == "all" && !LONG.contains(&e.name)));
    Ok(known.into_iter().filter(asked).collect())
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_cell_has_a_valid_configuration_and_a_unique_label() {
        for scale in [Scale::Full, Scale::Quick] {
            for experiment in all(scale) {
                let labels: BTreeSet<&str> = experiment.cells.iter().map(|c| c.label.as_str()).collect();
                assert_eq!(labels.len(), experiment.cells.len(), "{}", experiment.name);
                let spec = |c: &Cell| c.config.spec(1, 1);
                assert!(experiment.cells.iter().all(|c| spec(c).experts.len() == c.config.model.layers));
            }
        }
    }

    #[test]
    fn experiments_are_found_by_name() {
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
