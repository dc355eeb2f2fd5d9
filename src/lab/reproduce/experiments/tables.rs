//! The first paper's tables.

use super::cells::{DENSE, labels, readings, scheduled, small};
use crate::lab::reproduce::cell::{Cell, Scale};
use crate::lab::reproduce::claim::{Claim, Extreme, LayerQuantity, Test};
use crate::lab::reproduce::experiment::Column::Mean;
use crate::lab::reproduce::experiment::{Experiment, Extra};
use crate::lab::reproduce::paper;
use crate::lab::reproduce::quantity::Quantity::{
    Accuracy, ActiveFlops, BestAccuracy, Efficiency, EpochsTo95, MeanActive, Parameters,
};

/// Schedules on MNIST.
pub fn table2(scale: Scale) -> Experiment {
    let (accuracy, epochs) = paper::TABLE2_MLP;
    let dense = DENSE.map(|(label, settings)| {
        small(scale, label, "mnist", settings).paper(Accuracy, accuracy).paper(EpochsTo95, epochs)
    });
    let schedules = paper::TABLE2.map(|(schedule, accuracy, epochs)| {
        scheduled(scale, schedule).paper(Accuracy, accuracy).paper(EpochsTo95, epochs)
    });
    let among = labels(&schedules);
    let mut claims = vec![
        Claim::extreme(
            "Descending is the most accurate schedule",
            Accuracy,
            Extreme::Largest,
            "descending",
            &among,
        ),
        Claim::extreme("Ascending is the worst schedule", Accuracy, Extreme::Smallest, "ascending", &among),
        Claim::larger("Descending beats uniform on MNIST", Accuracy, "descending", "uniform"),
        Claim::larger("Descending beats ascending on MNIST", Accuracy, "descending", "ascending"),
    ];
    for (dense, _) in DENSE {
        for (schedule, head) in [("descending", "Descending"), ("uniform", "Uniform")] {
            let says = format!("{head} beats the dense baseline ({dense})");
            claims.push(Claim::larger(says, Accuracy, schedule, dense));
        }
    }
    let fewest = "Descending needs the fewest epochs to 95% of its final accuracy";
    claims.push(Claim::extreme(fewest, EpochsTo95, Extreme::Smallest, "descending", &among));
    claims
        .push(Claim { says: "Our accuracies agree with the paper's".into(), test: Test::Figures(Accuracy) });
    claims.push(Claim {
        says: "Our epochs to 95% agree with the paper's".into(),
        test: Test::Figures(EpochsTo95),
    });
    Experiment {
        name: "table2",
        title: "Table 2: schedules on MNIST",
        about: "Size Small, 8 to 1 experts, 20 epochs. The paper does not say whether its dense baseline matches the \
                others in parameters or in FLOPs, so there are two.",
        cells: dense.into_iter().chain(schedules).collect(),
        columns: [Accuracy, BestAccuracy, EpochsTo95, Parameters, ActiveFlops].map(Mean).into(),
        claims,
        extra: Extra::Accuracy,
    }
}

/// Numbers of experts.
pub fn table3(scale: Scale) -> Experiment {
    let cells = paper::TABLE3.map(|(most, fewest, accuracy)| {
        let settings = [format!("experts_max={most}"), format!("experts_min={fewest}")];
        let settings = settings.each_ref().map(String::as_str);
        small(scale, format!("E{most}-{fewest}"), "mnist", &settings).paper(Accuracy, accuracy)
    });
    let among = labels(&cells);
    let claims = vec![
        Claim::extreme("E8-1 is the best", Accuracy, Extreme::Largest, "E8-1", &among),
        Claim::extreme("E2-1 is the worst", Accuracy, Extreme::Smallest, "E2-1", &among),
        Claim::larger("E8-1 beats E16-1: more experts no longer help", Accuracy, "E8-1", "E16-1"),
        Claim::larger("E8-1 beats E8-4: the descent must be steep", Accuracy, "E8-1", "E8-4"),
        Claim { says: "Our accuracies agree with the paper's".into(), test: Test::Figures(Accuracy) },
    ];
    Experiment {
        name: "table3",
        title: "Table 3: how many experts",
        about: "Descending schedules on MNIST at size Small; EM-m has at most M and at least m experts per layer. Efficiency is the paper's: percent of \
                accuracy per 10,000 parameters, here with the parameters counted.",
        cells: cells.into(),
        columns: [Accuracy, Parameters, Efficiency, ActiveFlops].map(Mean).into(),
        claims,
        extra: Extra::Accuracy,
    }
}

/// Three data sets.
pub fn table4(scale: Scale) -> Experiment {
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
    claims
        .push(Claim { says: "Our accuracies agree with the paper's".into(), test: Test::Figures(Accuracy) });
    Experiment {
        name: "table4",
        title: "Table 4: three data sets",
        about: "Size Small; 20 epochs on MNIST and Fashion-MNIST, 25 on CIFAR-10.",
        cells,
        columns: [Accuracy, BestAccuracy, Parameters, ActiveFlops].map(Mean).into(),
        claims,
        extra: Extra::Accuracy,
    }
}

/// Expert usage.
pub fn table6(scale: Scale) -> Experiment {
    let cells = readings(scale);
    let quantities = [
        (LayerQuantity::MeanActive, paper::TABLE6.map(|row| (row.0, row.1))),
        (LayerQuantity::Utilization, paper::TABLE6.map(|row| (row.0, row.2))),
        (LayerQuantity::UsageEntropy, paper::TABLE6.map(|row| (row.0, row.3))),
    ];
    let claim = |label: &str, (quantity, paper): &(LayerQuantity, [(usize, f64); 4])| Claim {
        says: format!("{label}: {} as in the paper", quantity.name()),
        test: Test::Layers(*quantity, label.into(), (*paper).into()),
    };
    let claims = cells
        .iter()
        .flat_map(|cell| quantities.iter().map(move |quantity| claim(&cell.label, quantity)))
        .collect();
    Experiment {
        name: "table6",
        title: "Table 6: how experts are used",
        about: "Descending on MNIST at size Small, on the test split after the last epoch: the literal rule, one \
                threshold per batch, and top-p (Huang et al.).",
        cells,
        columns: [Accuracy, MeanActive, ActiveFlops].map(Mean).into(),
        claims,
        extra: Extra::Layers,
    }
}

/// Sweeps of single settings.
pub fn table7(scale: Scale) -> Experiment {
    let (mut cells, mut claims) = (Vec::new(), Vec::new());
    for (setting, name, values, best) in paper::TABLE7 {
        let label = |value: &str| format!("{name} {value}");
        let cell = |value: &&str| small(scale, label(value), "mnist", &[&format!("{setting}={value}")]);
        let sweep: Vec<Cell> = values.iter().map(cell).collect();
        let says = format!("The best {name} is {best}");
        claims.push(Claim::extreme(says, Accuracy, Extreme::Largest, &label(best), &labels(&sweep)));
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
        extra: Extra::Accuracy,
    }
}
