//! Schedules and routers at equal cost: matched networks and the Pareto fronts.

use super::document::Block;
use crate::lab::plot::axis::Axis;
use crate::lab::plot::color;
use crate::lab::plot::frame::{self, Key, Labels};
use crate::lab::reproduce::cell::Match;
use crate::lab::reproduce::experiment_results::{CellResults, ExperimentResults};
use crate::lab::reproduce::quantity::{Quantity, shown};

/// Networks that could not be matched, and accuracy against cost with the Pareto front.
pub fn blocks(results: &ExperimentResults) -> Vec<Block> {
    let fronts = [
        ("flops", Quantity::ActiveFlops, "active kFLOPs per image"),
        ("time", Quantity::TrainSeconds, "training time [CPU s]"),
    ];
    let fronts = fronts.into_iter().flat_map(|(name, cost, x)| front(results, name, cost, x));
    unequal(results).into_iter().chain(fronts).collect()
}

/// The relative difference up to which a network counts as matched.
const TOLERANCE: f64 = 0.05;

/// The networks whose cost differs from the reference although they are matched to it.
fn unequal(results: &ExperimentResults) -> Option<Block> {
    let reference = results.cells.iter().find(|row| row.cell.label == "descending")?;
    let far = |row: &CellResults| {
        let quantity = match row.cell.matched {
            Match::None => return None,
            Match::Parameters => Quantity::Parameters,
            Match::Flops => Quantity::ActiveFlops,
        };
        let (mine, target) = (row.mean(quantity)?, reference.mean(quantity)?.mean);
        let is_far = (mine.mean / target - 1.0).abs() > TOLERANCE;
        let digits = quantity.digits();
        let mine = shown(&mine, digits);
        is_far
            .then(|| format!("{} ({} {mine}, reference {target:.digits$})", row.cell.label, quantity.head()))
    };
    let far: Vec<String> = results.cells.iter().filter_map(far).collect();
    let text = format!(
        "Not matched to the reference within {:.0}%, because no hidden width matches or because the number of active \
         experts changed with the width: {}.",
        100.0 * TOLERANCE,
        far.join("; ")
    );
    (!far.is_empty()).then_some(Block::Text(text))
}

fn front(results: &ExperimentResults, name: &str, cost: Quantity, x: &str) -> [Block; 2] {
    let point = |row: &CellResults| Some((row.mean(cost)?.mean, row.mean(Quantity::Accuracy)?.mean));
    let points: Vec<(&CellResults, (f64, f64))> =
        results.cells.iter().filter_map(|row| Some((row, point(row)?))).collect();
    let groups = [
        (Match::None, "not matched", color::GRAY),
        (Match::Flops, "at equal active FLOPs", color::TRAIN),
        (Match::Parameters, "at equal parameters", color::TEST),
    ];
    let mut front: Vec<(&CellResults, (f64, f64))> = Vec::new();
    let mut sorted = points.clone();
    sorted.sort_by(|a, b| a.1.0.total_cmp(&b.1.0).then(b.1.1.total_cmp(&a.1.1)));
    for (row, point) in sorted {
        if front.last().is_none_or(|(_, last)| point.1 > last.1) {
            front.push((row, point));
        }
    }
    let mut keys: Vec<Key> =
        groups.iter().map(|&(_, name, color)| Key { name: name.into(), color, width: 4.0 }).collect();
    keys.push(Key { name: "Pareto front".into(), color: color::INK, width: 1.0 });
    let title = "Accuracy against cost";
    let labels =
        Labels { title, subtitle: "Mean over seeds; each dot is one network", x, y: "test accuracy [%]" };
    let (xs, ys) = (points.iter().map(|p| p.1.0), points.iter().map(|p| p.1.1));
    let svg = frame::chart(&labels, &keys, Axis::log_if_wide(xs), Axis::around(ys), |frame| {
        frame.line(&front.iter().map(|p| p.1).collect::<Vec<_>>(), color::INK, 1.0, false);
        for (matched, _, color) in groups {
            for (_, point) in points.iter().filter(|(row, _)| row.cell.matched == matched) {
                frame.line(&[*point], color, 3.0, true);
            }
        }
    });
    let list =
        front.iter().map(|(row, (cost, accuracy))| format!("{} ({accuracy:.2}%, {cost:.1})", row.cell.label));
    let list = list.collect::<Vec<_>>().join("; ");
    let figure = Block::Figure {
        name: format!("{}-{name}", results.experiment.name),
        caption: format!("Accuracy against {x}"),
        svg,
    };
    let text = format!("The Pareto front of accuracy and {x}, by the means over seeds: {list}.");
    [figure, Block::Text(text)]
}
