//! Training from the command line to a prediction, and training that diverges.

use serde_json::Value;

use crate::{SHORT, json, refusal, success};

#[test]
fn a_run_from_training_to_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let summary = json(&success(folder, &[&SHORT[..], &["--out-dir", "run"]].concat()));
    assert_eq!(summary["dataset"]["train"], 1442);
    assert!(summary["final"]["test_accuracy"].as_f64().unwrap() > 0.8, "{summary}");
    assert_eq!(summary["layers"][0]["mean_active"], 3.0);
    for key in [
        "schema_version",
        "dataset",
        "model",
        "final",
        "best",
        "epochs_to_95",
        "layers",
        "digests",
        "seconds",
        "samples_per_second",
        "seed",
        "threads",
    ] {
        assert!(!summary[key].is_null(), "{key}");
    }
    assert_eq!(json(&std::fs::read_to_string(folder.join("run/summary.json")).unwrap()), summary);
    let metrics = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(json).collect();
    assert_eq!(lines.iter().filter(|l| l["kind"] == "step").count(), 60);
    assert_eq!(lines.iter().filter(|l| l["kind"] == "epoch").count(), 2);
    for file in
        ["config.toml", "checkpoints/last/checkpoint.safetensors", "checkpoints/best/checkpoint.safetensors"]
    {
        assert!(folder.join("run").join(file).is_file(), "{file}");
    }
    assert!(std::fs::read_dir(folder.join("run/plots")).unwrap().count() >= 4);

    let scores = json(&success(folder, &["eval", "run", "--json"]));
    assert_eq!(scores["test_accuracy"], summary["final"]["test_accuracy"]);
    assert_eq!(scores["test_loss"], summary["final"]["test_loss"]);
    assert_eq!(scores["layers"], summary["layers"]);

    let image = json(&success(folder, &["predict", "run", "--index", "3", "--json"]));
    assert_eq!(image["probabilities"].as_array().unwrap().len(), 10);
    assert_eq!(image["experts"][0].as_array().unwrap().len(), 3);
    assert!(success(folder, &["predict", "run", "--index", "3"]).contains("layer 2: experts"));
    assert!(success(folder, &["inspect", "run"]).contains("64 inputs (digits), width 64"));

    // The same run again gives the same bits, also from its own config.toml and on other threads.
    let again = success(
        folder,
        &["train", "--config", "run/config.toml", "--threads", "3", "--json", "--out-dir", "again"],
    );
    assert_eq!(json(&again)["digests"], summary["digests"]);
    let other = success(folder, &[&SHORT[..], &["--seed", "2", "--out-dir", "other"]].concat());
    assert_ne!(json(&other)["digests"], summary["digests"]);

    assert!(refusal(folder, &[&SHORT[..], &["--out-dir", "run"]].concat()).contains("already holds a run"));
    assert!(
        refusal(folder, &["predict", "run", "--index", "355"])
            .contains("index: 355 is out of range; the test split has 0 to 354")
    );
    let checkpoint = folder.join("run/checkpoints/last/checkpoint.safetensors");
    let bytes = std::fs::read(&checkpoint).unwrap();
    std::fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(folder, &["eval", "run"]).contains("not a usable checkpoint"));
    std::fs::write(&checkpoint, &bytes).unwrap();
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    std::fs::write(folder.join("run/config.toml"), config.replace("tau = 0.7", "tau = 0.1")).unwrap();
    assert!(refusal(folder, &["eval", "run"]).contains("is not what this checkpoint was made with"));
    std::fs::write(folder.join("run/config.toml"), "widht = 3").unwrap();
    assert!(
        refusal(folder, &["eval", "run"]).contains("setting widht: no such setting; the nearest is `width`")
    );
}

#[test]
fn not_a_number_stops_a_run_and_keeps_the_last_good_state() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = refusal(folder, &["train", "--set", "optimizer=sgd", "--set", "lr=1e30", "--out-dir", "run"]);
    assert!(
        line.contains("step 2: loss NaN") && line.contains("op ") && line.contains("first bad gradient: "),
        "{line}"
    );
    assert!(!folder.join("run/summary.json").exists());
    assert!(success(folder, &["eval", "run"]).contains("after 0 steps"));
    // With one step an epoch it is the evaluation that meets it first.
    let steep = ["--set", "optimizer=sgd", "--set", "lr=1e30", "--set", "batch=2048"];
    let line = refusal(folder, &[&["train", "--out-dir", "steep"], &steep[..]].concat());
    assert!(line.contains("step 1: the loss on the test split is NaN; the last good state is in"), "{line}");
    assert!(success(folder, &["eval", "steep"]).contains("after 0 steps"));
    let line = refusal(folder, &[&["train", "--set", "schedule=learned"], &steep[..]].concat());
    assert!(line.contains("the brief training for the learned one failed"), "{line}");
    let line = refusal(folder, &["inspect", "small", "--set", "schedule=learned"]);
    assert!(line.contains("a learned schedule is known once training has begun"), "{line}");
}
