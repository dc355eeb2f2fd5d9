//! Compares two recorded runs: settings, data, digests, metrics, traces.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::trace::{Difference, Trace};
use crate::engine::error::Result;
use crate::train::config::Config;
use crate::train::manifest::{Link, Manifest};
use crate::train::metrics::StepRecord;
use crate::train::run_folder::RunFolder;

/// What two runs have in common, and where they differ.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Comparison {
    /// Names of the settings that differ, except `digest_every`.
    pub settings: Vec<String>,
    /// Whether the data is the same.
    pub same_data: bool,
    /// Digests that both recorded.
    pub compared: usize,
    /// The last that is the same in both.
    pub last_same: Option<Link>,
    /// The step of the first that differs.
    pub first_differing: Option<u64>,
    /// The first step whose loss or gradient norm differs.
    pub first_metric: Option<u64>,
    /// The first difference in the traces of a step that both have.
    pub trace: Option<(u64, Difference)>,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        let Comparison { settings, same_data, first_differing, first_metric, trace, .. } = self;
        let digests = first_differing.is_none() && first_metric.is_none() && trace.is_none();
        settings.is_empty() && *same_data && digests
    }
}

/// The path of a step's trace in a run's folder.
pub fn trace_path(run: &Path, step: u64) -> PathBuf {
    run.join("traces").join(format!("step-{step}.safetensors"))
}

/// Compares the records of two runs.
///
/// # Errors
/// A folder that holds no run, or damaged files in it.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison> {
    let (folder_a, config_a) = RunFolder::open(a)?;
    let (folder_b, config_b) = RunFolder::open(b)?;
    let (manifest_a, manifest_b) = (Manifest::load(a)?, Manifest::load(b)?);
    let (links_a, links_b) = (&manifest_a.chain, &manifest_b.chain);
    let both: Vec<_> = common(links_a, links_b, |link| link.step).collect();
    let same = both.iter().take_while(|(a, b)| a.digest == b.digest).count();
    let (steps_a, steps_b) = (folder_a.steps()?, folder_b.steps()?);
    let numbers = |record: &StepRecord| (record.loss.to_bits(), record.gradient_norm.to_bits());
    let first_metric = common(&steps_a, &steps_b, |record| record.step)
        .find(|(a, b)| numbers(a) != numbers(b))
        .map(|(a, _)| a.step);
    Ok(Comparison {
        settings: differing_settings(&config_a, &config_b),
        same_data: manifest_a.data_digest == manifest_b.data_digest,
        compared: both.len(),
        last_same: same.checked_sub(1).map(|last| both[last].0.clone()),
        first_differing: both.get(same).map(|(a, _)| a.step),
        first_metric,
        trace: first_in_traces(a, b)?,
    })
}

/// The records of both lists, sorted by `step`, that have a step in common.
fn common<'a, T>(
    a: &'a [T],
    b: &'a [T],
    step: impl Fn(&T) -> u64 + Copy,
) -> impl Iterator<Item = (&'a T, &'a T)> {
    a.iter().filter_map(move |a| b.binary_search_by_key(&step(a), step).ok().map(|i| (a, &b[i])))
}

/// Names of the settings that differ and may change a result.
fn differing_settings(a: &Config, b: &Config) -> Vec<String> {
    let (a, b): (toml::Table, toml::Table) = (a.flat().into_iter().collect(), b.flat().into_iter().collect());
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differs = |key: &&String| a.get(*key) != b.get(*key) && *key != "digest_every";
    keys.into_iter().filter(differs).cloned().collect()
}

/// The first difference in the earliest step of which both have a trace.
fn first_in_traces(a: &Path, b: &Path) -> Result<Option<(u64, Difference)>> {
    let entries = std::fs::read_dir(a.join("traces")).into_iter().flatten().flatten();
    let step = |name: &str| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut steps: Vec<u64> = entries.filter_map(|entry| step(entry.file_name().to_str()?)).collect();
    steps.sort_unstable();
    for step in steps {
        let other = trace_path(b, step);
        if other.exists() {
            let difference = Trace::read(&trace_path(a, step))?.first_difference(&Trace::read(&other)?);
            if let Some(difference) = difference {
                return Ok(Some((step, difference)));
            }
        }
    }
    Ok(None)
}
