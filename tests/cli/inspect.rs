//! What is shown without a run.

use crate::{json, success};

#[test]
fn gradients_and_presets_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let table = success(folder.path(), &["gradcheck"]);
    assert!(table.contains("experts") && table.contains(" ok") && !table.contains("WRONG"), "{table}");
    let small = json(&success(
        folder.path(),
        &["inspect", "small", "--set", "dataset=mnist", "--set", "norm=post", "--json"],
    ));
    assert_eq!((&small["parameters"], &small["paper_parameters"]), (&403_484.into(), &380_000.into()));
}
