//! Experiments beyond the first paper: other routers, balance losses, equal cost, other sizes.

use super::cells::{DENSE, labels, readings, scheduled, small};
use crate::lab::reproduce::cell::{Cell, Match, Scale};
use crate::lab::reproduce::claim::{Claim, Extreme};
use crate::lab::reproduce::experiment::Column::{Mean, Ratio};
use crate::lab::reproduce::experiment::{Experiment, Extra};
use crate::lab::reproduce::paper;
use crate::lab::reproduce::quantity::Quantity::{
    Accuracy, ActiveFlops, BestAccuracy, Dropped, MeanActive, Parameters, TrainSeconds, UsageEntropy,
};
use crate::nn::router;
use crate::nn::schedule::Schedule;

/// Every router with its default settings, the percentile in both scopes: label, settings.
fn every_router() -> Vec<(String, Vec<String>)> {
    let of = |&name: &&str| {
        let router = format!("router={name}");
        match name {
            "percentile" => vec![
                ("percentile (token)".into(), vec![router.clone()]),
                ("percentile (batch)".into(), vec![router, "percentile_scope=batch".into()]),
            ],
            _ => vec![(name.into(), vec![router])],
        }
    };
    router::NAMES.iter().flat_map(of).collect()
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

/// Every router.
pub fn routers(scale: Scale) -> Experiment {
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
        about: "Descending on MNIST at size Small, each router with the defaults of its source. Times are for training \
                on one core.",
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
        extra: Extra::Accuracy,
    }
}

/// Every router with and without balance losses.
pub fn balance(scale: Scale) -> Experiment {
    let (mut cells, mut claims) = (Vec::new(), Vec::new());
    for (label, settings) in every_router() {
        let cell = |with: &str, more: &[&str]| {
            let settings = settings.iter().map(String::as_str).chain(more.iter().copied());
            small(scale, format!("{label}, {with}"), "mnist", &settings.collect::<Vec<_>>())
        };
        let routing = cell("", &[]).config.router;
        let published = routing.published_losses().unwrap_or_default();
        let mut these = match routing.name() {
            // One expert, or all of them: nothing to balance.
            "single" | "dense" => continue,
            "noisy-top-k" => vec![
                cell("no balance loss", &["own_losses=0"]),
                cell("balance 0.01", &["own_losses=0", "balance_loss=0.01"]),
                cell("importance and load", &[]),
            ],
            _ if published.balance == 0.01 => {
                vec![cell("no balance loss", &["balance_loss=0"]), cell("balance 0.01", &[])]
            }
            _ => vec![cell("no balance loss", &[]), cell("balance 0.01", &["balance_loss=0.01"])],
        };
        let [without, with] = [0, 1].map(|i| these[i].label.clone());
        let says = format!("{label} is more accurate with a balance loss of 0.01 than with none");
        claims.push(Claim::larger(says, Accuracy, &with, &without));
        let says = format!("{label} uses its experts more evenly with a balance loss of 0.01 than with none");
        claims.push(Claim::larger(says, UsageEntropy, &with, &without));
        cells.append(&mut these);
    }
    Experiment {
        name: "balance",
        title: "With and without balance losses",
        about: "The ablation that the first paper leaves to future work: every router with a choice, without a balance \
                loss and with one of weight 0.01, the default of switch, gshard, top-p and learned-k; \
                noisy-top-k also with the losses of its source.",
        cells,
        columns: [Accuracy, UsageEntropy, MeanActive, Dropped].map(Mean).into(),
        claims,
        extra: Extra::None,
    }
}

/// Schedules and routers at equal cost.
pub fn fairness(scale: Scale) -> Experiment {
    let schedules = paper::TABLE2.iter().map(|(schedule, ..)| *schedule).chain([Schedule::Learned]);
    let schedules: Vec<Cell> = schedules.map(|schedule| scheduled(scale, schedule)).collect();
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
        let [descending, uniform, learned] = ["descending", "uniform", "learned"].map(|name| {
            schedules
                .iter()
                .find(|cell| cell.label.starts_with(name))
                .expect("among all schedules")
                .label
                .clone()
        });
        let best = |says: String, cells: &[Cell], label: &str| {
            Claim::extreme(says, Accuracy, Extreme::Largest, label, &labels(cells))
        };
        claims.push(best(format!("At {what} descending is the best schedule"), &schedules, &descending));
        claims.push(best(
            format!("At {what} the literal percentile is the best router"),
            &routers,
            &routers[0].label,
        ));
        let says = format!("At {what} descending beats uniform");
        claims.push(Claim::larger(says, Accuracy, &descending, &uniform));
        let says = format!("At {what} the schedule learned from diversity beats uniform");
        claims.push(Claim::larger(says, Accuracy, &learned, &uniform));
        let says = format!("At {what} descending beats the dense baseline");
        claims.push(Claim::larger(says, Accuracy, &descending, &dense.label));
        cells.extend(schedules.into_iter().chain(routers));
    }
    cells.extend(dense);
    Experiment {
        name: "fairness",
        title: "Schedules and routers at equal cost",
        about: "MNIST at size Small; `learned` is the schedule computed from the diversity of the layers after a short \
                training, with the same total number of experts as uniform. The hidden width of the experts is set so that the active FLOPs, with the \
                number of active experts measured under the same seed, or the parameters come nearest to those of \
                the descending schedule with the literal percentile.",
        cells,
        columns: [Accuracy, ActiveFlops, Parameters, MeanActive, TrainSeconds].map(Mean).into(),
        claims,
        extra: Extra::Fairness,
    }
}

/// Patterns and FLOPs.
pub fn theory(scale: Scale) -> Experiment {
    let mut cells = readings(scale);
    cells.push(small(scale, "top-k, k 2", "mnist", &["router=top-k"]));
    Experiment {
        name: "theory",
        title: "Theory: patterns, FLOPs, variance of gradients",
        about: "Theorems 1 and 2 and proposition 1 of the first paper, compared with trained networks on the test \
                split and on micro-batches.",
        cells,
        columns: [MeanActive, ActiveFlops].map(Mean).into(),
        claims: Vec::new(),
        extra: Extra::Theory,
    }
}

/// A few networks at every size.
pub fn sizes(scale: Scale) -> Experiment {
    let candidates: [(&str, &[&str]); 4] = [
        ("percentile (token), descending", &[]),
        ("top-k, uniform", &["router=top-k", "schedule=uniform"]),
        ("percentile (batch), descending", &["percentile_scope=batch"]),
        ("dense, descending", &["router=dense"]),
    ];
    // The larger ones take minutes to an hour each.
    let few: &[&str] = &["epochs=10"];
    let sizes = [("tiny", 4, &[][..]), ("small", 4, &[]), ("medium", 2, few), ("large", 1, few)];
    let mut cells = Vec::new();
    for (size, count, epochs) in sizes {
        for (dataset, ..) in paper::TABLE4 {
            for (label, settings) in &candidates[..count] {
                let dataset_setting = format!("dataset={dataset}");
                let settings = [&[dataset_setting.as_str()], *settings, epochs].concat();
                cells.push(Cell::new(scale, size, format!("{dataset} {size}: {label}"), &settings));
            }
        }
    }
    Experiment {
        name: "sizes",
        title: "The best accuracy at each size",
        about: "A few routers and schedules at every size on every data set; fewer of them, and 10 epochs, at the \
                larger sizes. It takes hours, so `all` leaves it out.",
        cells,
        columns: [Accuracy, BestAccuracy, Parameters, ActiveFlops, TrainSeconds].map(Mean).into(),
        claims: Vec::new(),
        extra: Extra::None,
    }
}
