//! `dynamoe inspect`: what a network consists of and what a token costs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::flags::Json;
use super::output::{grouped, table};
use crate::data::entry::Contents;
use crate::data::text::{Tokenizer, TokenizerKind};
use crate::data::{self, Encoding, catalog};
use crate::engine::error::{Error, nearest};
use crate::engine::kernels::attention::Heads;
use crate::nn::router::{Rule, Sees};
use crate::nn::spec::{Attention, Spec, Text};
use crate::train::config::{Config, Sources, preset_names};
use crate::train::run_folder::RunFolder;
use crate::train::{checkpoint, examples};

/// Show layers, experts, parameters and active FLOPs of a preset, a configuration or a run
#[derive(clap::Args)]
pub struct Args {
    /// A run folder, a .toml file, or a preset: tiny, small, medium, large; transformer-1m, -3m, -10m, -30m
    target: Option<PathBuf>,
    /// Change one setting; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    json: Json,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Inspection {
    dataset: String,
    router: String,
    /// Which tokens of a batch a token's experts depend on in training.
    sees_in_training: Sees,
    /// The same at inference.
    sees_at_inference: Sees,
    layers: Vec<LayerInfo>,
    parameters: usize,
    active_flops_per_token: f64,
    /// The paper's own figure, where it gives one for this network.
    paper_parameters: Option<usize>,
}

/// One layer.
#[derive(Serialize)]
struct LayerInfo {
    experts: usize,
    active: f64,
    hidden: usize,
    parameters: usize,
    active_flops: f64,
}

/// The configuration that `target` names: a run folder, a file or a preset.
fn configuration(target: Option<&Path>, set: Vec<String>) -> Result<Config> {
    let Some(path) = target else { return Ok(Config::resolve(&Sources { set, ..Sources::default() })?) };
    let name = path.to_str().unwrap_or_default();
    let file = if path.is_dir() { path.join("config.toml") } else { path.to_path_buf() };
    if preset_names().any(|preset| preset == name) {
        return Ok(Config::resolve(&Sources { preset: Some(name), set, ..Sources::default() })?);
    }
    if !file.is_file() {
        let near = nearest(name, preset_names()).unwrap_or_default();
        let what =
            format!("neither a run folder, nor a .toml file, nor a preset; the nearest preset is `{near}`");
        return Err(Error::data(path, what).into());
    }
    Ok(Config::resolve(&Sources { file: Some(&file), set, ..Sources::default() })?)
}

/// What the network of the run `target` takes, if it is a run with a checkpoint.
fn input(target: &Path) -> Result<Option<Encoding>> {
    if !target.is_dir() {
        return Ok(None);
    }
    let (folder, _) = RunFolder::open(target)?;
    match folder.has_checkpoint() {
        true => Ok(Some(checkpoint::load(&folder.last())?.progress.input)),
        false => Ok(None),
    }
}

/// Numbers of an image and classes, or 0 and the size of the vocabulary.
fn sizes(config: &Config) -> Result<(usize, usize)> {
    if !data::is_text(&config.data.dataset) {
        let entry = catalog::entry(&config.data.dataset)?;
        if let Contents::Images { shape, classes, .. } = entry.contents {
            return Ok((shape.iter().product(), classes));
        }
    }
    Ok(match config.data.tokenizer {
        // The vocabulary depends on the text.
        TokenizerKind::Chars | TokenizerKind::Numbers => {
            (0, examples::load(config, None)?.encoding.classes())
        }
        kind => (0, Tokenizer::new(kind, &[]).vocabulary()),
    })
}

/// Prints layers, experts, parameters and active FLOPs per token.
pub fn run(args: Args) -> Result<()> {
    let Args { target, set, json } = args;
    let target = target.as_deref();
    // With changed settings it is no longer the network in the run's checkpoint.
    let trained = if set.is_empty() { target.map_or(Ok(None), input)? } else { None };
    let config = configuration(target, set)?;
    if config.model.experts().is_none() {
        let what = "a learned schedule is known once training has begun; inspect the run's folder";
        return Err(Error::config("schedule", what).into());
    }
    let (inputs, classes) = match trained {
        Some(input) => (input.features(), input.classes()),
        None => sizes(&config)?,
    };
    let spec = config.checked_spec(inputs, classes)?;
    json.print(&inspect(&config, &spec), |inspection| describe(&config, &spec, inspection))
}

fn inspect(config: &Config, spec: &Spec) -> Inspection {
    let with = |experts: Vec<usize>| Spec { experts, ..spec.clone() };
    let empty = with(Vec::new());
    let layer = |&experts: &usize| LayerInfo {
        experts,
        active: spec.nominal_k(experts),
        hidden: spec.hidden,
        // Norms are counted with the whole network.
        parameters: with(vec![experts]).parameters()
            - empty.parameters()
            - (with(vec![experts]).norm_parameters() - empty.norm_parameters()),
        active_flops: with(vec![experts]).nominal_flops() - empty.nominal_flops(),
    };
    // Gülmez states 380K for Small; other sizes are given without a count.
    let Rule { line: router, training: sees_in_training, inference: sees_at_inference, .. } = spec.rule();
    let is_small = (config.model.layers, config.model.width) == (4, 128)
        && spec.experts == [8, 6, 3, 1]
        && spec.text.is_none();
    Inspection {
        dataset: config.data.dataset.clone(),
        router,
        sees_in_training,
        sees_at_inference,
        layers: spec.experts.iter().map(layer).collect(),
        parameters: spec.parameters(),
        active_flops_per_token: spec.nominal_flops(),
        paper_parameters: is_small.then_some(380_000),
    }
}

fn describe(config: &Config, spec: &Spec, inspection: &Inspection) -> String {
    let mut rows = vec![
        ["layer", "experts", "active", "hidden", "parameters", "active FLOPs"].map(String::from).to_vec(),
    ];
    let rule = spec.rule();
    rows.extend(inspection.layers.iter().enumerate().map(|(i, l)| {
        let varies = rule.varies && l.experts > 1;
        let active = if varies { format!("about {:.1}", l.active) } else { l.active.to_string() };
        vec![
            (i + 1).to_string(),
            l.experts.to_string(),
            active,
            l.hidden.to_string(),
            grouped(l.parameters),
            grouped(l.active_flops as usize),
        ]
    }));
    let paper = inspection
        .paper_parameters
        .map_or(String::new(), |n| format!("   (the paper says about {})", grouped(n)));
    let (inputs, classes) = match spec.text {
        None => (format!("{} inputs", spec.inputs), "classes"),
        Some(Text { attention: None, .. }) => ("text".into(), "tokens in the vocabulary"),
        Some(Text { attention: Some(Attention { heads, .. }), .. }) => {
            let Heads { count, groups, width } = heads;
            let heads = format!("text, {count} heads of {width} for queries and {groups} for keys");
            (heads, "tokens in the vocabulary")
        }
    };
    format!(
        "{inputs} ({}), width {}, {} {classes}, norm {}\nrouter: {}\nlooks across the batch: {}\n\n{}\nparameters {}{paper}\nactive FLOPs per token {}\n",
        config.data.dataset,
        spec.width,
        spec.classes,
        format!("{:?}", spec.norm).to_lowercase(),
        inspection.router,
        rule.looks_across(),
        table(&rows),
        grouped(inspection.parameters),
        grouped(inspection.active_flops_per_token as usize),
    )
}
