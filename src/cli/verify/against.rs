//! `dynamoe verify --against`: the records of two runs side by side.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use super::{describe_session, line};
use crate::cli::flags::Json;
use crate::cli::output::print;
use crate::train::manifest::Manifest;
use crate::train::verify::{Comparison, compare};

/// Compares the records of two runs. Runs that differ are an error that says where.
pub fn run(run: &Path, other: &Path, json: &Json) -> Result<()> {
    let json = json.json;
    let comparison = compare(run, other)?;
    if json {
        print(&(serde_json::to_string_pretty(&comparison)? + "\n"))?;
    }
    if comparison.is_same() {
        ensure!(
            comparison.compared > 0,
            "{} and {}: the two runs have no recorded digest in common",
            run.display(),
            other.display()
        );
        let Some(last) = comparison.last_same else { return Ok(()) };
        let text = format!(
            "{} recorded digests are the same, the last after step {}: {}",
            comparison.compared, last.step, last.digest
        );
        return if json { Ok(()) } else { line(true, &text) };
    }
    let machine = |folder: &Path| -> Result<String> {
        let sessions = Manifest::load(folder)?.sessions;
        Ok(sessions.iter().map(describe_session).collect::<Vec<_>>().join(", then "))
    };
    let (a, b) = (machine(run)?, machine(other)?);
    let machines = if a == b { format!("both by {a}") } else { format!("by {a}, and by {b}") };
    Err(anyhow!("{} and {} differ: {}; {machines}", run.display(), other.display(), describe(&comparison)))
}

/// Where two runs differ, in words.
fn describe(comparison: &Comparison) -> String {
    let Comparison { settings, same_data, last_same, first_differing, first_metric, trace, .. } = comparison;
    let mut parts = Vec::new();
    if !settings.is_empty() {
        parts.push(format!("other settings ({})", settings.join(", ")));
    }
    if !same_data {
        parts.push("other data".into());
    }
    if let Some(step) = first_differing {
        let same = last_same.as_ref().map_or("none before is the same".into(), |l| {
            format!("step {} is the last that is the same", l.step)
        });
        parts.push(format!("the digests differ after step {step}, {same}"));
    }
    if let Some(step) = first_metric {
        parts.push(format!("loss or gradient norm differ first in step {step}"));
    }
    match trace {
        Some((step, difference)) => {
            parts.push(format!("the traces of step {step} differ first in {difference}"))
        }
        None => {
            let step = first_metric.or(*first_differing).unwrap_or(1);
            let before = if step > 1 { format!(" and {}", step - 1) } else { String::new() };
            parts.push(format!(
                "to find the array, run `dynamoe verify RUN --trace {step}`{before} on both machines, and compare again"
            ));
        }
    }
    parts.join("; ")
}
