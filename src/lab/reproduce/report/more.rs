//! What the sections show beside their tables and claims.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Block;
use crate::data;
use crate::lab::analysis::stats::Mean;
use crate::lab::analysis::theory;
use crate::lab::plot::axis::Axis;
use crate::lab::plot::frame::{self, Key, Labels};
use crate::lab::plot::{color, intervals};
use crate::lab::reproduce::cell::Match;
use crate::lab::reproduce::claims::Stat;
use crate::lab::reproduce::paper;
use crate::lab::reproduce::quantity::{Quantity, shown};
use crate::lab::reproduce::results::{Store, Trained};
use crate::lab::reproduce::view::{Row, View};
use crate::train::config::PRESETS;

/// A picture of the accuracies with their intervals and the paper's figures.
pub fn accuracy(view: &View) -> Block {
    let line = |row: &Row| {
        let Mean { mean, half, .. } = row.mean(Quantity::Accuracy)?;
        let paper = row.paper(Quantity::Accuracy);
        Some(intervals::Line { name: row.cell.label.clone(), mean, half: half.unwrap_or(0.0), paper })
    };
    let lines: Vec<intervals::Line> = view.rows.iter().filter_map(line).collect();
    Block::Figure {
        name: format!("{}-accuracy", view.experiment.name),
        caption: format!("{}: accuracy with 95% intervals", view.experiment.title),
        svg: intervals::draw(view.experiment.title, "test accuracy [%]", &lines),
    }
}

/// Table 6: every layer of every cell beside the paper's figures.
pub fn layers(view: &View) -> Vec<Block> {
    let stats = [Stat::MeanActive, Stat::Utilization, Stat::UsageEntropy];
    let mut head = vec!["".into(), "layer".into(), "experts".into()];
    head.extend(stats.iter().flat_map(|stat| [stat.name().into(), "paper".into()]));
    let mut rows = Vec::new();
    for row in &view.rows {
        for (l, (experts, active, utilization, entropy)) in paper::TABLE6.into_iter().enumerate() {
            let mut cells = vec![row.cell.label.clone(), (l + 1).to_string()];
            let Some((_, first)) = row.trained().next() else { continue };
            let Some(layer) = first.layers.get(l) else { continue };
            // The paper's figures are those of a layer with so many experts.
            let paper = [active, utilization, entropy].map(|figure| match layer.experts == experts {
                true => figure.to_string(),
                false => "–".into(),
            });
            cells.push(layer.experts.to_string());
            for (stat, paper) in stats.iter().zip(paper) {
                let mean = row.mean_of(|t| t.layers.get(l).map_or(f64::NAN, |layer| stat.of(layer)));
                cells.extend([mean.map_or("–".into(), |mean| shown(&mean, 2)), paper]);
            }
            rows.push(cells);
        }
    }
    vec![Block::Table { head, rows }]
}

/// Which networks could not be made equal, and accuracy against cost with those that no other beats in both.
pub fn fairness(view: &View) -> Vec<Block> {
    let fronts = [
        ("flops", Quantity::ActiveFlops, "active kFLOPs per image"),
        ("time", Quantity::TrainSeconds, "training time [s of one processor]"),
    ];
    let fronts = fronts.into_iter().flat_map(|(name, cost, x)| front(view, name, cost, x));
    unequal(view).into_iter().chain(fronts).collect()
}

/// A network counts as equal to the reference up to this share.
const NEAR: f64 = 0.05;

/// The networks that are far from the reference in what they should have in common with it.
fn unequal(view: &View) -> Option<Block> {
    let reference = view.rows.iter().find(|row| row.cell.label == "descending")?;
    let far = |row: &Row| {
        let quantity = match row.cell.matched {
            Match::None => return None,
            Match::Parameters => Quantity::Parameters,
            Match::Flops => Quantity::ActiveFlops,
        };
        let (mine, target) = (row.mean(quantity)?, reference.mean(quantity)?.mean);
        let is_far = (mine.mean / target - 1.0).abs() > NEAR;
        let digits = quantity.digits();
        let mine = shown(&mine, digits);
        is_far.then(|| format!("{} ({} {mine} against {target:.digits$})", row.cell.label, quantity.head()))
    };
    let far: Vec<String> = view.rows.iter().filter_map(far).collect();
    let text = format!(
        "Not equal to the reference within {:.0}%, since no width of the experts makes them so or since the number \
         of active experts changed with it: {}.",
        100.0 * NEAR,
        far.join("; ")
    );
    (!far.is_empty()).then_some(Block::Text(text))
}

fn front(view: &View, name: &str, cost: Quantity, x: &str) -> [Block; 2] {
    let point = |row: &Row| Some((row.mean(cost)?.mean, row.mean(Quantity::Accuracy)?.mean));
    let points: Vec<(&Row, (f64, f64))> =
        view.rows.iter().filter_map(|row| Some((row, point(row)?))).collect();
    let groups = [
        (Match::None, "as they are", color::GRAY),
        (Match::Flops, "at equal active FLOPs", color::TRAIN),
        (Match::Parameters, "at equal parameters", color::TEST),
    ];
    let mut front: Vec<(&Row, (f64, f64))> = Vec::new();
    let mut sorted = points.clone();
    sorted.sort_by(|a, b| a.1.0.total_cmp(&b.1.0).then(b.1.1.total_cmp(&a.1.1)));
    for (row, point) in sorted {
        if front.last().is_none_or(|(_, last)| point.1 > last.1) {
            front.push((row, point));
        }
    }
    let mut keys: Vec<Key> =
        groups.iter().map(|&(_, name, color)| Key { name: name.into(), color, width: 4.0 }).collect();
    keys.push(Key { name: "no other is better in both".into(), color: color::INK, width: 1.0 });
    let title = "Accuracy against cost";
    let labels =
        Labels { title, subtitle: "Mean over seeds; each dot is a network", x, y: "test accuracy [%]" };
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
        name: format!("{}-{name}", view.experiment.name),
        caption: format!("Accuracy against {x}"),
        svg,
    };
    let text =
        format!("No other network is better both in accuracy and in {x}, by the means over seeds: {list}.");
    [figure, Block::Text(text)]
}

/// Theorem 1 and proposition 1 beside what was reached.
pub fn theory(view: &View) -> Vec<Block> {
    let mut rows = Vec::new();
    for row in &view.rows {
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
                format!("{:.0}", theory::choose(layer.experts, most)),
                format!("{:.0}", theory::dynamic_patterns(layer.experts, most)),
                of(&|t| t.patterns[l] as f64, 1),
                of(&|t| flops(t) / 1e3, 1),
            ]);
        }
    }
    let head = ["", "layer", "E", "E[k]", "K", "C(E, K)", "sum C(E, 1..K)", "patterns reached", "kFLOPs"];
    let note = "K is the largest number of experts that any image of the test split got. Theorem 1 sets the number \
                of patterns of a rule whose k varies, `sum C(E, k)` for k = 1..K, against `C(E, K)` of a fixed k. \
                kFLOPs are proposition 1's for one image and layer, `E[k] 4 d d_ff + 2 d E`.";
    let patterns = [Block::Table { head: head.map(String::from).into(), rows }, Block::Text(note.into())];
    patterns.into_iter().chain(gradient_variances(view)).collect()
}

/// Theorem 2: the variance of the gates' gradients, with varying and with fixed k, for each seed.
fn gradient_variances(view: &View) -> Vec<Block> {
    let (mut rows, mut counts, mut batches) = (Vec::new(), [0; 3], BTreeSet::new());
    for row in &view.rows {
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
                ["smaller", "not told apart", "larger"][which].into(),
            ]);
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let head = ["", "seed", "E[k] by layer", "fixed k", "variance, varying over fixed k", "with varying k"];
    let [smaller, same, larger] = counts;
    let batches = batches.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
    let note = format!(
        "Theorem 2 on the trained networks: the variance of the gates' gradients over {batches} micro-batches, with \
         the rule's own number of experts and with the rounded mean of each layer, on frozen weights without noise; 95% \
         intervals by a paired bootstrap. With varying k it is smaller in {smaller} of {} networks, larger in {larger}, and \
         cannot be told apart in {same}. A layer fixed to one expert has a constant weight and no gradient at all.",
        rows.len()
    );
    vec![Block::Table { head: head.map(String::from).into(), rows }, Block::Text(note)]
}

/// The largest number of experts that any token got.
fn largest_k(k_share: &[f64]) -> usize {
    k_share.iter().rposition(|&share| share > 0.0).unwrap_or(0)
}

/// The best accuracy of all results on each data set at each size.
pub fn best(store: &Store) -> Vec<Block> {
    let mut groups: BTreeMap<(String, usize), BTreeMap<String, Vec<&Trained>>> = BTreeMap::new();
    for record in store.records() {
        let Some(trained) = record.trained() else { continue };
        let dataset = record.settings.get("dataset").and_then(|v| v.as_str()).unwrap_or("digits");
        if data::is_text(dataset) {
            continue;
        }
        let number = |key: &str, default: u64| {
            record.settings.get(key).and_then(serde_json::Value::as_u64).unwrap_or(default) as usize
        };
        let default = crate::train::config::Config::default();
        let shape = (number("layers", default.layers as u64), number("width", default.width as u64));
        let Some(size) = PRESETS.iter().position(|&(_, layers, width)| (layers, width) == shape) else {
            continue;
        };
        let implied = |key: &str, value: &serde_json::Value| {
            IMPLIED.contains(&key) || (key == "expert_hidden" && value.as_u64() == Some(shape.1 as u64 / 2))
        };
        let network = record.settings.iter().filter(|(key, value)| !implied(key, value));
        let network: Vec<String> =
            network.map(|(key, value)| format!("{key}={value}").replace('"', "")).collect();
        let networks = groups.entry((dataset.to_string(), size)).or_default();
        networks.entry(network.join(" ")).or_default().push(trained);
    }
    let mut rows = Vec::new();
    for ((dataset, size), networks) in &groups {
        let seeds = networks.values().map(Vec::len).max().unwrap_or(0);
        let mean = |of: &[&Trained], quantity: Quantity| {
            Mean::of(&of.iter().map(|t| quantity.of(t)).collect::<Vec<_>>())
        };
        // Only among those with as many seeds as any: a mean of few is more often extreme.
        let full = networks.iter().filter(|(_, of)| of.len() == seeds);
        let means = full.filter_map(|(name, of)| Some((name, mean(of, Quantity::Accuracy)?, of)));
        let Some((name, accuracy, of)) = means.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean)) else { continue };
        let name = if name.is_empty() { "the defaults".into() } else { format!("`{name}`") };
        let best = mean(of, Quantity::BestAccuracy).map_or("–".into(), |m| shown(&m, 2));
        let cells = [shown(&accuracy, 2), best, seeds.to_string(), networks.len().to_string()];
        let head = [format!("{dataset} {}", PRESETS[*size].0), name];
        rows.push(head.into_iter().chain(cells).collect());
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let head =
        ["", "settings that differ from the defaults", "accuracy %", "best epoch %", "seeds", "of networks"];
    let note = "Of all networks with results, these were the best on the test split by their mean; being the best of \
                so many flatters them.";
    vec![
        Block::Heading(2, "The best of all results".into()),
        Block::Table { head: head.map(String::from).into(), rows },
        Block::Text(note.into()),
    ]
}

/// Settings that follow from the data set, the size and the schedule.
const IMPLIED: [&str; 6] = ["dataset", "layers", "width", "experts", "batch", "epochs"];
