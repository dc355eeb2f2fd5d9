//! What the first paper leaves out: other routers, balance losses, equal cost, other sizes.

use super::Column::{Mean, Ratio};
use super::{DENSE, Experiment, labels, readings, scheduled, small};
use crate::config::PRESETS;
use crate::nn::router::Kind;
use crate::reproduce::cell::{Cell, Match, Scale};
use crate::reproduce::claims::{Claim, End};
use crate::reproduce::paper;
use crate::reproduce::quantity::Quantity::{
    Accuracy, ActiveFlops, BestAccuracy, Dropped, MeanActive, Parameters, TrainSeconds, UsageEntropy,
};
use crate::reproduce::report::more;

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

/// Every router with and without balance losses.
pub fn balance(scale: Scale) -> Experiment {
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

/// Schedules and routers at equal cost.
pub fn fairness(scale: Scale) -> Experiment {
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
        more: more::fairness,
    }
}

/// Patterns and FLOPs.
pub fn theory(scale: Scale) -> Experiment {
    let mut cells = readings(scale);
    cells.push(small(scale, "top-k, k 2", "mnist", &["router=top-k"]));
    Experiment {
        name: "theory",
        title: "Theory: patterns, FLOPs, variance of gradients",
        about: "What theorems 1 and 2 and proposition 1 of the first paper say, and what trained networks show on the \
                test split and on micro-batches.",
        cells,
        columns: [MeanActive, ActiveFlops].map(Mean).into(),
        claims: Vec::new(),
        more: more::theory,
    }
}

/// A few networks at every size.
pub fn sizes(scale: Scale) -> Experiment {
    let candidates: [(&str, &[&str]); 4] = [
        ("percentile (token), descending", &[]),
        ("percentile (batch), descending", &["percentile_scope=batch"]),
        ("top-k, uniform", &["router=top-k", "schedule=uniform"]),
        ("dense, descending", &["router=dense"]),
    ];
    let mut cells = Vec::new();
    for (dataset, ..) in paper::TABLE4 {
        for (size, ..) in PRESETS {
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
        more: |_| Vec::new(),
    }
}
