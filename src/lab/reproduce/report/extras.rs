//! What the sections show besides their tables and claims.

use super::document::Block;
use super::{fairness, theory};
use crate::lab::analysis::stats::Mean;
use crate::lab::plot::intervals;
use crate::lab::reproduce::claim::LayerQuantity;
use crate::lab::reproduce::experiment::Extra;
use crate::lab::reproduce::experiment_results::{CellResults, ExperimentResults};
use crate::lab::reproduce::paper;
use crate::lab::reproduce::quantity::{Quantity, shown};

/// The extra blocks of an experiment's section.
pub fn blocks(results: &ExperimentResults) -> Vec<Block> {
    match results.experiment.extra {
        Extra::None => Vec::new(),
        Extra::Accuracy => vec![accuracy(results)],
        Extra::Layers => layers(results),
        Extra::Fairness => fairness::blocks(results),
        Extra::Theory => theory::blocks(results),
    }
}

/// A picture of the accuracies with their intervals and the reported values.
fn accuracy(results: &ExperimentResults) -> Block {
    let line = |row: &CellResults| {
        let Mean { mean, half, .. } = row.mean(Quantity::Accuracy)?;
        let paper = row.paper(Quantity::Accuracy);
        Some(intervals::Line { name: row.cell.label.clone(), mean, half: half.unwrap_or(0.0), paper })
    };
    let lines: Vec<intervals::Line> = results.cells.iter().filter_map(line).collect();
    Block::Figure {
        name: format!("{}-accuracy", results.experiment.name),
        caption: format!("{}: accuracy with 95% intervals", results.experiment.title),
        svg: intervals::draw(results.experiment.title, "test accuracy [%]", &lines),
    }
}

/// Every layer of every cell, beside the values of table 6.
fn layers(results: &ExperimentResults) -> Vec<Block> {
    let quantities = [LayerQuantity::MeanActive, LayerQuantity::Utilization, LayerQuantity::UsageEntropy];
    let mut head = vec!["".into(), "layer".into(), "experts".into()];
    head.extend(quantities.iter().flat_map(|quantity| [quantity.name().into(), "paper".into()]));
    let mut rows = Vec::new();
    for row in &results.cells {
        for (l, (experts, active, utilization, entropy)) in paper::TABLE6.into_iter().enumerate() {
            let mut cells = vec![row.cell.label.clone(), (l + 1).to_string()];
            let Some((_, first)) = row.trained().next() else { continue };
            let Some(layer) = first.layers.get(l) else { continue };
            // The paper's values are for a layer with this number of experts.
            let paper = [active, utilization, entropy].map(|figure| match layer.experts == experts {
                true => figure.to_string(),
                false => "–".into(),
            });
            cells.push(layer.experts.to_string());
            for (quantity, paper) in quantities.iter().zip(paper) {
                let mean = row.mean_of(|t| t.layers.get(l).map_or(f64::NAN, |layer| quantity.of(layer)));
                cells.extend([mean.map_or("–".into(), |mean| shown(&mean, 2)), paper]);
            }
            rows.push(cells);
        }
    }
    vec![Block::Table { head, rows }]
}
