//! `dynamoe gradcheck`: the gradient of every operation against finite differences.

use anyhow::{Result, bail};

use super::output::{print, table};
use crate::engine::gradcheck::Report;

/// Check the gradient of every operation against finite differences
#[derive(clap::Args)]
pub struct Args {}

/// Runs every check, prints a table, and fails if a gradient is wrong.
pub fn run(_: Args) -> Result<()> {
    let mut rows = vec![["operation", "derivatives", "largest error", ""].map(String::from).to_vec()];
    let mut wrong = Vec::new();
    for check in crate::engine::ops::checks() {
        let report = (check.run)()?;
        let verdict = if report.passed() { "ok" } else { "WRONG" };
        if !report.passed() {
            wrong.push(check.op);
        }
        let cells = [
            check.op.to_string(),
            report.derivatives.to_string(),
            format!("{:.1e}", report.worst),
            verdict.into(),
        ];
        rows.push(cells.to_vec());
    }
    let operations = rows.len() - 1;
    print(&table(&rows))?;
    if !wrong.is_empty() {
        bail!("wrong gradients: {}", wrong.join(", "));
    }
    let tolerance = Report::TOLERANCE;
    print(&format!(
        "{operations} operations agree with central differences in f64, random cotangents, tolerance {tolerance:.0e}\n"
    ))
}
