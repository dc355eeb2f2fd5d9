//! The first paper's theorems and proposition, compared with trained networks.

use std::collections::BTreeSet;

use super::document::Block;
use crate::lab::analysis::theory;
use crate::lab::reproduce::experiment_results::ExperimentResults;
use crate::lab::reproduce::quantity::shown;
use crate::lab::reproduce::results::Trained;

/// Theorem 1 and proposition 1, compared with the trained networks.
pub fn blocks(results: &ExperimentResults) -> Vec<Block> {
    let mut rows = Vec::new();
    for row in &results.cells {
        let spec = row.cell.config.spec(1, 1);
        let Some((_, first)) = row.trained().next() else { continue };
        for (l, layer) in first.layers.iter().enumerate() {
            let of = |value: &dyn Fn(&Trained) -> f64, digits| {
                row.mean_of(value).map_or("–".into(), |mean| shown(&mean, digits))
            };
            let most = row.trained().map(|(_, t)| largest_k(&t.layers[l].k_share)).max().unwrap_or(0);
            let k = |t: &Trained| t.layers[l].mean_active;
            let flops = |t: &Trained| {
                k(t) * 4.0 * (spec.width * spec.hidden) as f64 + 2.0 * (spec.width * layer.experts) as f64
            };
            rows.push(vec![
                row.cell.label.clone(),
                (l + 1).to_string(),
                layer.experts.to_string(),
                of(&k, 2),
                most.to_string(),
                format!("{:.0}", theory::binomial(layer.experts, most)),
                format!("{:.0}", theory::dynamic_patterns(layer.experts, most)),
                of(&|t| t.patterns[l] as f64, 1),
                of(&|t| flops(t) / 1e3, 1),
            ]);
        }
    }
    let head = ["", "layer", "E", "E[k]", "K", "C(E, K)", "sum C(E, 1..K)", "distinct patterns", "kFLOPs"];
    let note = "K is the largest number of active experts of any image of the test split. Theorem 1 compares the number \
                of possible activation patterns with varying k, `sum C(E, k)` for k = 1..K, with `C(E, K)` for a fixed k. \
                kFLOPs are those of proposition 1 for one image and layer, `E[k] 4 d d_ff + 2 d E`.";
    let patterns = [Block::Table { head: head.map(String::from).into(), rows }, Block::Text(note.into())];
    patterns.into_iter().chain(gradient_variances(results)).collect()
}

/// Theorem 2: the variance of the gates' gradients with varying and with fixed k, for each seed.
fn gradient_variances(results: &ExperimentResults) -> Vec<Block> {
    let (mut rows, mut counts, mut batches) = (Vec::new(), [0; 3], BTreeSet::new());
    for row in &results.cells {
        for (seed, trained) in row.trained() {
            let Some(found) = &trained.gradient_variance else { continue };
            let (low, high) = found.interval;
            let which = if high < 1.0 {
                0
            } else if low > 1.0 {
                2
            } else {
                1
            };
            counts[which] += 1;
            batches.insert(found.micro_batches);
            rows.push(vec![
                row.cell.label.clone(),
                seed.to_string(),
                found.mean_k.iter().map(|k| format!("{k:.2}")).collect::<Vec<_>>().join(", "),
                found.fixed_k.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
                format!("{:.3} ({low:.3} to {high:.3})", found.ratio),
                ["smaller", "no significant difference", "larger"][which].into(),
            ]);
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let head =
        ["", "seed", "E[k] by layer", "fixed k", "variance ratio, varying to fixed k", "with varying k"];
    let [smaller, same, larger] = counts;
    let batches = batches.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
    let note = format!(
        "Theorem 2 on the trained networks: the variance of the gates' gradients over {batches} micro-batches, with \
         the router's own number of experts and with the rounded mean of each layer, on frozen weights without noise; 95% \
         intervals by a paired bootstrap. With varying k it is smaller in {smaller} of {} networks, larger in {larger}, and \
         not significantly different in {same}. A layer fixed to one expert has a constant weight and no gradient.",
        rows.len()
    );
    vec![Block::Table { head: head.map(String::from).into(), rows }, Block::Text(note)]
}

/// The largest number of active experts of any token.
fn largest_k(k_share: &[f64]) -> usize {
    k_share.iter().rposition(|&share| share > 0.0).unwrap_or(0)
}
