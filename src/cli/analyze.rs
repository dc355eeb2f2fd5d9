//! `dynamoe analyze`: which experts a trained network uses, for which images or tokens, and how many.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::flags::{Json, Machine, Saved};
use super::output::{self, grouped, print, table};
use crate::data::Encoding;
use crate::engine::error::Error;
use crate::engine::files;
use crate::lab::analysis::gradient_variance::{self, Comparison};
use crate::lab::analysis::kinds::{self, KindUsage};
use crate::lab::analysis::probes::{self, Probes};
use crate::lab::analysis::stats::Correlation;
use crate::lab::analysis::tokens::Classes;
use crate::lab::analysis::usage::{Difficulty, Group, Usage};
use crate::lab::analysis::{plots, tokens};
use crate::train::config::ModelSettings;
use crate::train::evaluate::evaluate;
use crate::train::learned;
use crate::train::learned::diversity::{self, Diversity};
use crate::train::metrics::{LayerRecord, mean_active};

/// The folder inside the run's folder for pictures and numbers.
const FOLDER: &str = "analysis";

/// Show which experts a trained network uses, for what, and how many
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    saved: Saved,
    /// Text: compare the experts of these texts, lists by kind in TOML [default: bundled ones]
    #[arg(long, value_name = "FILE")]
    kinds: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    json: Json,
}

/// What `--json` prints, and what `analysis.json` holds.
#[derive(Serialize)]
struct Report {
    #[serde(skip)]
    answers: &'static str,
    router: String,
    parameters: usize,
    active_flops_per_token: f64,
    #[serde(flatten)]
    usage: Usage,
    gradient_variance: Option<Comparison>,
    diversity: Vec<Diversity>,
    /// What attention does in each layer, if there is any.
    attention: Vec<Probes>,
    /// Which kinds of text get more experts; none for images.
    kinds: Vec<KindUsage>,
    /// The layers' scores by diversity and attention.
    scores: Vec<f64>,
    /// Experts that a learned schedule would give to each layer, with this network's total.
    recommended_experts: Vec<usize>,
}

/// Analyzes the run's network on its test images, or on the first thousands of its test tokens; prints what it found and
/// writes pictures into the run's folder.
pub fn run(args: Args) -> Result<()> {
    let Args { saved, kinds, machine, json } = args;
    let report = machine.threads.run(|| {
        let trained = saved.open()?;
        let kinds = match (&trained.input, kinds.as_deref()) {
            (Encoding::Images(_), Some(_)) => {
                return Err(Error::config("kinds", "is for networks for text; this one is for images").into());
            }
            (Encoding::Images(_), None) => None,
            (Encoding::Text(text), path) => Some((&text.tokenizer, kinds::read(path)?)),
        };
        let data = trained.data(None, machine.data.path())?;
        let [train, test] = [&data.train, &data.test];
        let (_, records) = evaluate(&trained.model, test)?;
        let classes = Classes::of(&trained.input);
        let seen = tokens::observe(&trained.model, test, &classes)?;
        let seed = trained.config.train.seed;
        let gradient_variance = gradient_variance::compare(&trained.model, train, seed)?;
        let diversity = diversity::profile(&trained.model, train, seed)?;
        let attention = probes::probe(&trained.model, test)?;
        let scores = probes::joint_scores(&diversity, &attention);
        let kinds = match kinds {
            Some((tokenizer, texts)) => kinds::compare(&trained.model, tokenizer, &texts)?,
            None => Vec::new(),
        };
        let spec = trained.model.spec();
        let ModelSettings { experts_min, experts_max, .. } = trained.config.model;
        // A custom list may exceed the bounds of the schedules.
        let min = spec.experts.iter().fold(experts_min, |least, &e| least.min(e));
        let max = spec.experts.iter().fold(experts_max, |most, &e| most.max(e));
        let budget = spec.experts.iter().sum();
        Ok(Report {
            answers: trained.input.task().answers,
            router: spec.router_name(),
            parameters: spec.parameters(),
            active_flops_per_token: spec.active_flops(&mean_active(&records)),
            usage: Usage::new(&seen, &records, classes.names),
            gradient_variance,
            recommended_experts: learned::allocate(&scores, min, max, budget),
            diversity,
            attention,
            kinds,
            scores,
        })
    })?;
    let folder = saved.run.join(FOLDER);
    files::create_dir(&folder)?;
    for (name, svg) in plots::all(&report.usage) {
        files::write(&folder.join(name), svg.as_bytes())?;
    }
    if !report.attention.is_empty() {
        files::write(&folder.join("attention.svg"), plots::attention(&report.attention).as_bytes())?;
    }
    let text = serde_json::to_string_pretty(&report)? + "\n";
    files::write(&folder.join("analysis.json"), text.as_bytes())?;
    if json.json {
        return print(&text);
    }
    print(&format!("{}\npictures and numbers are in {}\n", describe(&report), folder.display()))
}

fn describe(report: &Report) -> String {
    let Report { router, parameters, active_flops_per_token, usage, gradient_variance, .. } = report;
    let records: Vec<LayerRecord> = usage.layers.iter().map(|layer| layer.record.clone()).collect();
    let things = report.answers;
    format!(
        "{} test {things}, accuracy {:.2}%\nrouter: {router}\n{} parameters, {} active FLOPs per token\n\n{}\n{}\n{}\n{}{}\n{}",
        grouped(usage.images),
        100.0 * usage.accuracy,
        grouped(*parameters),
        grouped(*active_flops_per_token as usize),
        output::layers(&records),
        k_shares(&records),
        patterns(usage),
        usage.difficulty.as_ref().map_or_else(
            || format!(
                "All {things} get the same number of experts: nothing to correlate with their difficulty.\n"
            ),
            |found| difficulty(found, &usage.class_names, things)
        ),
        gradient_variance.as_ref().map_or(String::new(), variance),
        diverse(report),
    )
}

/// The share of tokens with each number of experts, by layer.
fn k_shares(records: &[LayerRecord]) -> String {
    let line = |(l, record): (usize, &LayerRecord)| {
        let some = record.k_share.iter().enumerate().filter(|(_, share)| **share > 0.0);
        let list: Vec<String> = some.map(|(k, share)| format!("{k}: {:.1}%", 100.0 * share)).collect();
        format!("layer {}: share with k experts: {}\n", l + 1, list.join(", "))
    };
    records.iter().enumerate().map(line).collect()
}

/// Distinct sets of active experts against those possible, and the mutual information of class and set.
fn patterns(usage: &Usage) -> String {
    let head =
        ["layer", "distinct sets", "possible up to max k", "possible at mean k", "information with class"]
            .map(String::from);
    let whole = |count: f64| if count < 1e15 { grouped(count as usize) } else { format!("{count:.1e}") };
    let rows = usage.layers.iter().enumerate().map(|(l, layer)| {
        vec![
            (l + 1).to_string(),
            grouped(layer.patterns),
            whole(layer.dynamic_patterns),
            whole(layer.fixed_patterns),
            format!("{:.2} bits", layer.class_information_bits),
        ]
    });
    table(&std::iter::once(head.to_vec()).chain(rows).collect::<Vec<_>>())
}

fn difficulty(difficulty: &Difficulty, names: &[String], things: &str) -> String {
    let Difficulty { with_loss, with_margin, tenths, classes } = difficulty;
    let (easy, hard) = (tenths.first().map_or(0.0, |g| g.k), tenths.last().map_or(0.0, |g| g.k));
    let verdict = match with_loss {
        Some(c) if c.low > 0.0 => format!("harder {things} get more experts"),
        Some(c) if c.high < 0.0 => format!("harder {things} get fewer experts"),
        _ => format!("no significant relation between the number of experts and how hard {things} are"),
    };
    let class = |(name, group): (&String, &Group)| {
        vec![name.clone(), group.images.to_string(), format!("{:.4}", group.loss), format!("{:.2}", group.k)]
    };
    let seen = names.iter().zip(classes).filter(|(_, group)| group.images > 0);
    let head = ["class", things, "loss", "experts"].map(String::from).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(seen.map(class)).collect();
    format!(
        "{verdict}: rank correlation of k with loss {}, with the margin {}\n\
         the easiest tenth gets {easy:.2} experts over all layers, the hardest {hard:.2}\n\n{}",
        correlation(with_loss),
        correlation(with_margin),
        table(&rows)
    )
}

/// The signals of each layer's diversity and attention, and the allocation of experts they recommend.
fn diverse(report: &Report) -> String {
    let Report { diversity, attention, kinds, scores, recommended_experts, .. } = report;
    let mut text = signals(diversity);
    if !attention.is_empty() {
        text += &format!("\n{}", attended(attention, scores));
    }
    text += &format!("expert allocation recommended by these signals: {recommended_experts:?}\n");
    if !kinds.is_empty() {
        text += &format!("\n{}", by_kind(kinds));
    }
    text
}

fn attended(attention: &[Probes], scores: &[f64]) -> String {
    let head = [
        "layer",
        "attention entropy",
        "distance",
        "on first token",
        "heads differ",
        "superposition",
        "joint score",
    ];
    let rows = attention.iter().zip(scores).enumerate().map(|(l, (p, score))| {
        vec![
            (l + 1).to_string(),
            format!("{:.3}", p.entropy),
            format!("{:.1} tokens", p.distance),
            format!("{:.3}", p.first_token),
            format!("{:.3} bits", p.specialization_bits),
            format!("{:.3}", p.superposition),
            format!("{score:+.2}"),
        ]
    });
    table(&std::iter::once(head.map(String::from).to_vec()).chain(rows).collect::<Vec<_>>())
}

fn by_kind(kinds: &[KindUsage]) -> String {
    let head = ["kind of text", "texts", "tokens", "experts of a token", "by layer"];
    let rows = kinds.iter().map(|kind| {
        let layers: Vec<String> = kind.by_layer.iter().map(|k| format!("{k:.2}")).collect();
        let (texts, tokens) = (kind.texts.to_string(), kind.tokens.to_string());
        vec![kind.name.clone(), texts, tokens, format!("{:.2}", kind.k), layers.join(" ")]
    });
    table(&std::iter::once(head.map(String::from).to_vec()).chain(rows).collect::<Vec<_>>())
}

/// The signals of each layer's diversity.
fn signals(layers: &[Diversity]) -> String {
    let head = ["layer", "spectral entropy", "curvature", "complexity", "noise to signal", "diversity"];
    let rows = layers.iter().enumerate().map(|(l, d)| {
        let Diversity { spectral_entropy, curvature, complexity, noise_to_signal, score } = d;
        vec![
            (l + 1).to_string(),
            format!("{spectral_entropy:.3}"),
            format!("{curvature:.3}"),
            format!("{complexity:.3}"),
            format!("{noise_to_signal:.1}"),
            format!("{score:+.2}"),
        ]
    });
    table(&std::iter::once(head.map(String::from).to_vec()).chain(rows).collect::<Vec<_>>())
}

fn variance(comparison: &Comparison) -> String {
    let Comparison { micro_batches, fixed_k, mean_k, ratio, interval: (low, high), .. } = comparison;
    let list = mean_k.iter().map(|k| format!("{k:.2}")).collect::<Vec<_>>().join(", ");
    let verdict = match (*low > 1.0, *high < 1.0) {
        (true, _) => "larger",
        (_, true) => "smaller",
        _ => "no significant difference",
    };
    format!(
        "\nvariance of the gates' gradients over {micro_batches} micro-batches, with {list} experts on average against \
         {fixed_k:?} fixed:\nratio {ratio:.3} ({low:.3} to {high:.3}), {verdict}\n"
    )
}

fn correlation(found: &Option<Correlation>) -> String {
    found.map_or("not defined".into(), |c| format!("{:.3} ({:.3} to {:.3})", c.r, c.low, c.high))
}
