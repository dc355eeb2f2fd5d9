//! Every example runs, and what it prints is true.
//!
//! `cargo test` builds the examples first. `cargo test --test examples` alone does not: run `cargo build
//! --examples` before it.

use std::process::Command;

/// What an example prints.
fn run(name: &str) -> String {
    let this = std::env::current_exe().expect("a test has a path");
    let profile = this.ancestors().nth(2).expect("tests lie in <profile>/deps");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&path).output().unwrap_or_else(|e| {
        panic!("cannot run {name} ({e}); `cargo test` or `cargo build --examples` builds it")
    });
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} failed: {stderr}\n{stdout}");
    stdout.into_owned()
}

/// The number that follows `label`, at its last place in `text`.
fn number(text: &str, label: &str) -> f64 {
    let (_, after) = text.rsplit_once(label).unwrap_or_else(|| panic!("no `{label}` in:\n{text}"));
    let end = |c: char| !(c.is_ascii_digit() || "+-.e".contains(c));
    let word = after.trim_start().split(end).next().unwrap_or_default();
    word.trim_end_matches('.').parse().unwrap_or_else(|_| panic!("no number after `{label}` in:\n{text}"))
}

#[test]
fn scalar() {
    let text = run("01_scalar");
    let [hand, tape, difference] =
        ["by hand:", "by tape:", "by difference:"].map(|label| number(&text, label));
    assert!((hand - tape).abs() < 1e-11 && (hand - difference).abs() < 1e-8, "{text}");
    assert!(text.contains("mul         [0, 0]"), "the table of nodes:\n{text}");
}

#[test]
fn your_own_op() {
    let text = run("02_your_own_op");
    assert!(text.contains("Softplus   passed") && text.contains("WrongCube  FAILED"), "{text}");
}

#[test]
fn linear_regression() {
    let text = run("03_linear_regression");
    let found = text.lines().find(|line| line.starts_with("found:")).expect("a line with the result");
    for (label, truth) in [("y = ", 2.0), ("x1 ", -3.0), ("x2 ", 1.0)] {
        assert!((number(found, label) - truth).abs() < 0.05, "{found}");
    }
}

#[test]
fn mlp_digits() {
    let text = run("04_mlp_digits");
    assert!(number(&text, "test accuracy ") > 95.0, "{text}");
}

#[test]
fn softmax_and_gates() {
    let text = run("05_softmax_and_gates");
    assert!(number(&text, "plain sum:         largest error ") < 1e-6, "{text}");
    assert!(number(&text, "random multiples:    largest error ") > 1e-2, "{text}");
}

#[test]
fn one_moe_layer() {
    let text = run("06_one_moe_layer");
    for label in ["dense: outputs differ by ", "mode: outputs differ by ", "tokens differ by "] {
        assert!(number(&text, label) < 1e-12, "{text}");
    }
    let experts = || text.lines().filter(|line| line.starts_with("expert "));
    assert_eq!(experts().count(), 8, "{text}");
    for line in experts() {
        assert_eq!(line.contains(": 0.000000,"), line.ends_with(" 0"), "{line}");
    }
    assert!(experts().any(|line| line.ends_with(" 0")), "{text}");
}

#[test]
fn schedules() {
    let text = run("07_schedules");
    assert!(text.contains("descending    [8, 6, 3, 1]"), "{text}");
    assert!(text.contains("[3.0, 2.0, 1.0, 1.0]     402716        437248"), "{text}");
    assert!(text.contains("token scope: [0, 0, 0, 1000, 0, 0, 0, 0, 0]"), "{text}");
}

#[test]
fn dynamoe() {
    let text = run("08_dynamoe");
    assert!(number(&text, "test accuracy ") > 90.0, "{text}");
    let digests: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("digest ")).collect();
    assert!(digests.len() == 2 && digests[0] == digests[1], "{text}");
}
