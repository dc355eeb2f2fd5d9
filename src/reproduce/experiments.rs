//! The table of experiments. To add one, write a function that returns it and a line in [`all`].

use super::cell::{Cell, Match, Scale};
use super::claims::{Claim, End, Stat, Test};
use super::paper;
use super::quantity::Quantity;
use super::report::document::Block;
use super::report::more;
use super::view::View;
use crate::error::{Error, Result, nearest};
use crate::nn::router::Kind;
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

use Column::{Mean, Ratio};
use Quantity::{
    Accuracy, ActiveFlops, BestAccuracy, Dropped, Efficiency, EpochsTo95, MeanActive, Parameters,
    TrainSeconds, UsageEntropy,
};

/// What `all` leaves out since it takes hours.
pub const LONG: [&str; 1] = ["sizes"];

/// All experiments.
pub fn all(scale: Scale) -> Vec<Experiment> {
    [table2, table3, table4, table6, table7, routers, balance, fairness, theory, sizes]
        .map(|e| e(scale))
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

/// Every router with its default settings, the percentile in both scopes: label, settings.
fn every_router() -> Vec<(String, Vec<String>)> {
    let of = |&kind: &Kind| {
        let router = format!("router={}", kind.name());
        match kind {
            Kind::Percentile => vec![
                ("percentile (token)".into(), vec![router.clone()]),
                ("percentile (batch)".into(), vec![router, "percentile_scope=batch".into()]),
            ],
            _ => vec![(kind.name().into(), vec![router])],
        }
    };
    Kind::ALL.iter().flat_map(of).collect()
}

/// The label of plain top-2 among the routers.
const TOP_2: &str = "top-k";

/// A cell on MNIST for every router.
fn routed(scale: Scale) -> Vec<Cell> {
    let cell = |(label, settings): (String, Vec<String>)| {
        small(scale, label, "mnist", &settings.iter().map(String::as_str).collect::<Vec<_>>())
    };
    every_router().into_iter().map(cell).collect()
}

fn labels<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Vec<String> {
    cells.into_iter().map(|cell| cell.label.clone()).collect()
}

fn table2(scale: Scale) -> Experiment {
    let (accuracy, epochs) = paper::TABLE2_MLP;
    let dense = DENSE.map(|(label, settings)| {
        small(scale, label, "mnist", settings).paper(Accuracy, accuracy).paper(EpochsTo95, epochs)
    });
    let schedules = paper::TABLE2.map(|(schedule, accuracy, epochs)| {
        scheduled(scale, schedule).paper(Accuracy, accuracy).paper(EpochsTo95, epochs)
    });
    let among = labels(&schedules);
    let mut claims = vec![
        Claim::extreme("Descending is the most accurate schedule", Accuracy, End::Most, "descending", &among),
        Claim::extreme("Ascending is the worst schedule", Accuracy, End::Least, "ascending", &among),
        Claim::larger("Descending beats uniform on MNIST", Accuracy, "descending", "uniform"),
        Claim::larger("Descending beats ascending on MNIST", Accuracy, "descending", "ascending"),
    ];
    for (dense, _) in DENSE {
        for (schedule, head) in [("descending", "Descending"), ("uniform", "Uniform")] {
            let says = format!("{head} beats the dense baseline ({dense})");
            claims.push(Claim::larger(says, Accuracy, schedule, dense));
        }
    }
    let quickest = "Descending needs the fewest epochs to 95% of its final accuracy";
    claims.push(Claim::extreme(quickest, EpochsTo95, End::Least, "descending", &among));
    claims.push(Claim {
        says: "Our accuracies do not contradict the paper's".into(),
        test: Test::Figures(Accuracy),
    });
    claims.push(Claim {
        says: "Our epochs to 95% do not contradict the paper's".into(),
        test: Test::Figures(EpochsTo95),
    });
    Experiment {
        name: "table2",
        title: "Table 2: schedules on MNIST",
        about: "Size Small, experts from 8 to 1, 20 epochs. The paper does not say what its dense baseline has in \
                common with the others, so there are two.",
        cells: dense.into_iter().chain(schedules).collect(),
        columns: [Accuracy, BestAccuracy, EpochsTo95, Parameters, ActiveFlops].map(Mean).into(),
        claims,
        more: |view| vec![more::accuracy(view)],
    }
}

fn table3(scale: Scale) -> Experiment {
    let cells = paper::TABLE3.map(|(most, fewest, accuracy)| {
        let settings = [format!("experts_max={most}"), format!("experts_min={fewest}")];
        let settings = settings.each_ref().map(String::as_str);
        small(scale, format!("E{most}-{fewest}"), "mnist", &settings).paper(Accuracy, accuracy)
    });
    let among = labels(&cells);
    let claims = vec![
        Claim::extreme("E8-1 is the best", Accuracy, End::Most, "E8-1", &among),
        Claim::extreme("E2-1 is the worst", Accuracy, End::Least, "E2-1", &among),
        Claim::larger("E8-1 beats E16-1: more experts no longer help", Accuracy, "E8-1", "E16-1"),
        Claim::larger("E8-1 beats E8-4: the descent must be steep", Accuracy, "E8-1", "E8-4"),
        Claim { says: "Our accuracies do not contradict the paper's".into(), test: Test::Figures(Accuracy) },
    ];
    Experiment {
        name: "table3",
        title: "Table 3: how many experts",
        about: "Descending schedules on MNIST at size Small; Emost-fewest. Efficiency is the paper's: percent of \
                accuracy for each 10,000 parameters, here with the parameters counted.",
        cells: cells.into(),
        columns: [Accuracy, Parameters, Efficiency, ActiveFlops].map(Mean).into(),
        claims,
        more: |view| vec![more::accuracy(view)],
    }
}

fn table4(scale: Scale) -> Experiment {
    let (mut cells, mut claims) = (Vec::new(), Vec::new());
    for (dataset, mlp, uniform, descending) in paper::TABLE4 {
        let label = |name: &str| format!("{dataset}: {name}");
        for (name, settings) in DENSE {
            cells.push(small(scale, label(name), dataset, settings).paper(Accuracy, mlp));
            for schedule in ["descending", "uniform"] {
                let says = format!("On {dataset} {schedule} beats the dense baseline ({name})");
                claims.push(Claim::larger(says, Accuracy, &label(schedule), &label(name)));
            }
        }
        for (schedule, figure) in [("uniform", uniform), ("descending", descending)] {
            let settings = format!("schedule={schedule}");
            cells.push(small(scale, label(schedule), dataset, &[&settings]).paper(Accuracy, figure));
        }
        let says = format!("On {dataset} descending beats uniform");
        claims.push(Claim::larger(says, Accuracy, &label("descending"), &label("uniform")));
    }
    claims.push(Claim {
        says: "Our accuracies do not contradict the paper's".into(),
        test: Test::Figures(Accuracy),
    });
    Experiment {
        name: "table4",
        title: "Table 4: three data sets",
        about: "Size Small; 20 epochs on MNIST and Fashion-MNIST, 25 on CIFAR-10.",
        cells,
        columns: [Accuracy, BestAccuracy, Parameters, ActiveFlops].map(Mean).into(),
        claims,
        more: |view| vec![more::accuracy(view)],
    }
}

/// The readings of the first paper's rule, and the second paper's rule with the mass that fits its averages best.
fn readings(scale: Scale) -> Vec<Cell> {
    let mut cells = vec![
        small(scale, "percentile (token): the literal rule", "mnist", &[]),
        small(scale, "percentile (batch)", "mnist", &["percentile_scope=batch"]),
    ];
    if Kind::ALL.iter().any(|kind| kind.name() == "top-p") {
        cells.push(small(scale, "top-p, mass 0.7", "mnist", &["router=top-p", "mass=0.7"]));
    }
    cells
}

fn table6(scale: Scale) -> Experiment {
    let cells = readings(scale);
    let stats = [
        (Stat::MeanActive, paper::TABLE6.map(|row| (row.0, row.1))),
        (Stat::Utilisation, paper::TABLE6.map(|row| (row.0, row.2))),
        (Stat::UsageEntropy, paper::TABLE6.map(|row| (row.0, row.3))),
    ];
    let claim = |label: &str, (stat, paper): &(Stat, [(usize, f64); 4])| Claim {
        says: format!("{label}: {} without contradiction to the paper", stat.name()),
        test: Test::Layers(*stat, label.into(), (*paper).into()),
    };
    let claims =
        cells.iter().flat_map(|cell| stats.iter().map(move |stat| claim(&cell.label, stat))).collect();
    Experiment {
        name: "table6",
        title: "Table 6: how experts are used",
        about: "Descending on MNIST at size Small, on the test split after the last epoch: the rule read \
                literally, with one threshold for a batch, and top-p (Huang et al.).",
        cells,
        columns: [Accuracy, MeanActive, ActiveFlops].map(Mean).into(),
        claims,
        more: more::layers,
    }
}

fn table7(scale: Scale) -> Experiment {
    let (mut cells, mut claims) = (Vec::new(), Vec::new());
    for (setting, name, values, best) in paper::TABLE7 {
        let label = |value: &str| format!("{name} {value}");
        let cell = |value: &&str| small(scale, label(value), "mnist", &[&format!("{setting}={value}")]);
        let sweep: Vec<Cell> = values.iter().map(cell).collect();
        let says = format!("The best {name} is {best}");
        claims.push(Claim::extreme(says, Accuracy, End::Most, &label(best), &labels(&sweep)));
        cells.extend(sweep);
    }
    Experiment {
        name: "table7",
        title: "Table 7: one setting at a time",
        about: "Descending on MNIST at size Small; all other settings stay at temperature 0.5, noise 0.1, tau 0.7, \
                learning rate 0.001.",
        cells,
        columns: [Accuracy, BestAccuracy, MeanActive, ActiveFlops].map(Mean).into(),
        claims,
        more: |view| vec![more::accuracy(view)],
    }
}

fn routers(scale: Scale) -> Experiment {
    let cells = routed(scale);
    let others = cells.iter().filter(|cell| cell.label != TOP_2);
    let claim = |cell: &Cell| {
        Claim::larger(
            format!("{} is more accurate than plain top-2", cell.label),
            Accuracy,
            &cell.label,
            TOP_2,
        )
    };
    Experiment {
        name: "routers",
        title: "Every router",
        about: "Descending on MNIST at size Small, each router with the defaults of its source. Times are of \
                training on one thread, several networks side by side.",
        claims: others.map(claim).collect(),
        columns: vec![
            Mean(Accuracy),
            Mean(BestAccuracy),
            Mean(MeanActive),
            Mean(ActiveFlops),
            Ratio(ActiveFlops, TOP_2),
            Mean(TrainSeconds),
            Ratio(TrainSeconds, TOP_2),
            Mean(UsageEntropy),
            Mean(Dropped),
        ],
        cells,
        more: |view| vec![more::accuracy(view)],
    }
}

fn balance(scale: Scale) -> Experiment {
    let (mut cells, mut claims) = (Vec::new(), Vec::new());
    for (label, settings) in every_router() {
        let with = |weight: &str| format!("{label}, balance {weight}");
        for weight in ["auto", "0", "0.01"] {
            let weight_setting = format!("balance_loss={weight}");
            let mut settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            settings.push(&weight_setting);
            cells.push(small(scale, with(weight), "mnist", &settings));
        }
        let says = format!("{label} is more accurate with a balance loss of 0.01 than with none");
        claims.push(Claim::larger(says, Accuracy, &with("0.01"), &with("0")));
        let says = format!("{label} uses its experts more evenly with a balance loss of 0.01 than with none");
        claims.push(Claim::larger(says, UsageEntropy, &with("0.01"), &with("0")));
    }
    Experiment {
        name: "balance",
        title: "With and without balance losses",
        about: "The ablation that the first paper says is missing: every router with the balance loss of its \
                source (auto), with none, and with one of weight 0.01.",
        cells,
        columns: [Accuracy, UsageEntropy, MeanActive, Dropped].map(Mean).into(),
        claims,
        more: |_| Vec::new(),
    }
}

fn fairness(scale: Scale) -> Experiment {
    let schedules: Vec<Cell> = paper::TABLE2.map(|(schedule, ..)| scheduled(scale, schedule)).into();
    let routers = routed(scale);
    let dense = DENSE.map(|(label, settings)| small(scale, label, "mnist", settings));
    let as_they_are = || schedules.iter().chain(&routers);
    let (mut cells, mut claims) = (as_they_are().cloned().collect::<Vec<_>>(), Vec::new());
    for (matched, dense) in [(Match::Flops, &dense[1]), (Match::Parameters, &dense[0])] {
        let equal = |cells: &[Cell]| -> Vec<Cell> {
            cells.iter().map(|cell| cell.clone().matched(matched)).collect()
        };
        let (schedules, routers) = (equal(&schedules), equal(&routers));
        let what = if matched == Match::Flops { "equal active FLOPs" } else { "equal parameters" };
        let [descending, uniform] = ["descending", "uniform"].map(|name| {
            schedules
                .iter()
                .find(|cell| cell.label.starts_with(name))
                .expect("among all schedules")
                .label
                .clone()
        });
        let best = |says: String, cells: &[Cell], label: &str| {
            Claim::extreme(says, Accuracy, End::Most, label, &labels(cells))
        };
        claims.push(best(format!("At {what} descending is the best schedule"), &schedules, &descending));
        claims.push(best(
            format!("At {what} the literal percentile is the best router"),
            &routers,
            &routers[0].label,
        ));
        let says = format!("At {what} descending beats uniform");
        claims.push(Claim::larger(says, Accuracy, &descending, &uniform));
        let says = format!("At {what} descending beats the dense baseline");
        claims.push(Claim::larger(says, Accuracy, &descending, &dense.label));
        cells.extend(schedules.into_iter().chain(routers));
    }
    cells.extend(dense);
    Experiment {
        name: "fairness",
        title: "Schedules and routers at equal cost",
        about: "MNIST at size Small. The hidden width of the experts is set so that the active FLOPs, with the \
                number of active experts measured under the same seed, or the parameters come nearest to those of \
                the descending schedule with the literal percentile.",
        cells,
        columns: [Accuracy, ActiveFlops, Parameters, MeanActive, TrainSeconds].map(Mean).into(),
        claims,
        more: more::pareto,
    }
}

fn theory(scale: Scale) -> Experiment {
    let mut cells = readings(scale);
    cells.push(small(scale, "top-k, k 2", "mnist", &["router=top-k"]));
    Experiment {
        name: "theory",
        title: "Theory: patterns and FLOPs",
        about: "What theorem 1 and proposition 1 of the first paper count, and what trained networks reach on the \
                test split.",
        cells,
        columns: [MeanActive, ActiveFlops].map(Mean).into(),
        claims: Vec::new(),
        more: more::theory,
    }
}

fn sizes(scale: Scale) -> Experiment {
    let candidates: [(&str, &[&str]); 4] = [
        ("percentile (token), descending", &[]),
        ("percentile (batch), descending", &["percentile_scope=batch"]),
        ("top-k, uniform", &["router=top-k", "schedule=uniform"]),
        ("dense, descending", &["router=dense"]),
    ];
    let mut cells = Vec::new();
    for (dataset, ..) in paper::TABLE4 {
        for (size, ..) in crate::config::PRESETS {
            for (label, settings) in candidates {
                let dataset_setting = format!("dataset={dataset}");
                let settings = [&[dataset_setting.as_str()], settings].concat();
                cells.push(Cell::new(scale, size, format!("{dataset} {size}: {label}"), &settings));
            }
        }
    }
    Experiment {
        name: "sizes",
        title: "The best accuracy at each size",
        about: "A few routers and schedules at every size on every data set. It takes hours, so `all` leaves it out.",
        cells,
        columns: [Accuracy, BestAccuracy, Parameters, ActiveFlops, TrainSeconds].map(Mean).into(),
        claims: Vec::new(),
        more: more::best,
    }
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
                assert!(experiment.cells.iter().all(|c| !c.config.experts.is_empty()));
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
        assert_eq!(names(&["all", "sizes"]).unwrap().len(), all(Scale::Full).len());
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
            ("balance", "percentile (token), balance auto"),
        ] {
            assert_eq!(config(name, label), descending, "{name} {label}");
        }
    }
}
