//! The program as a user runs it: what it writes, what it prints, how it refuses. One file for each verb or two.

mod analyze;
mod bench;
mod completions;
mod data;
mod import;
mod inspect;
mod refusals;
mod reproduce;
mod resume;
mod step;
mod text;
mod tokenize;
mod train;
mod verify;

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// Runs the program in `folder`, with an empty data folder.
fn dynamoe(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("dynamoe").unwrap();
    command.current_dir(folder).env("DYNAMOE_DATA_DIR", folder.join("data")).args(arguments).output().unwrap()
}

/// Standard output of a run that must succeed.
fn success(folder: &Path, arguments: &[&str]) -> String {
    let output = dynamoe(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of a run that must fail.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = dynamoe(folder, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(error.starts_with("error: ") && error.trim_end().lines().count() == 1, "{arguments:?}: {error}");
    error
}

/// A training of a second.
const SHORT: [&str; 6] = ["train", "--preset", "tiny", "--max-steps", "60", "--json"];

/// Parsed JSON.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The number at `pointer`.
fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{pointer} is no number in {report}"))
}
