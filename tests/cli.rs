//! The program as a user runs it: what it writes, what it prints, how it refuses.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

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

const SHORT: [&str; 6] = ["train", "--preset", "tiny", "--max-steps", "60", "--json"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

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
    assert!(refusal(folder, &["predict", "run", "--index", "355"]).contains("index: 355 is not below 355"));
    let checkpoint = folder.join("run/checkpoints/last/checkpoint.safetensors");
    let bytes = std::fs::read(&checkpoint).unwrap();
    std::fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(folder, &["eval", "run"]).contains("not a usable checkpoint"));
    std::fs::write(&checkpoint, &bytes).unwrap();
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    std::fs::write(folder.join("run/config.toml"), config.replace("tau = 0.7", "tau = 0.1")).unwrap();
    assert!(refusal(folder, &["eval", "run"]).contains("was edited after the training"));
    std::fs::write(folder.join("run/config.toml"), "widht = 3").unwrap();
    assert!(
        refusal(folder, &["eval", "run"]).contains("setting widht: no such setting; the nearest is `width`")
    );
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = ["train", "--preset", "tiny", "--max-steps", "400", "--json", "--out-dir"];
    let whole = json(&success(folder, &[&train[..], &["whole"]].concat()));
    for (number, pause_ms) in [0, 60, 150].into_iter().enumerate() {
        let run = format!("killed-{number}");
        let program = assert_cmd::cargo::cargo_bin("dynamoe");
        let mut command = std::process::Command::new(program);
        command.current_dir(folder).args([&train[..], &[&run]].concat());
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        while !folder.join(&run).join("checkpoints/last/checkpoint.safetensors").exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(pause_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.join(&run).join("summary.json").exists() {
            assert!(refusal(folder, &["resume", &run]).contains("this run is finished"));
            continue;
        }
        let resumed = json(&success(folder, &["resume", &run, "--threads", "3", "--json"]));
        assert_eq!(resumed["digests"], whole["digests"]);
        assert_eq!(resumed["final"], whole["final"]);
        let metrics = |run: &str| std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        assert!(metrics(&run) == metrics("whole"), "the same lines, none twice and none missing");
        assert!(refusal(folder, &["resume", &run]).contains("this run is finished"));
    }
}

#[test]
fn impossible_requests_get_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("file"), "x").unwrap();
    std::fs::write(folder.join("bad.toml"), "tau = 0.5\ntau =").unwrap();
    for (arguments, part) in [
        (&["train", "--set", "tua=1"][..], "the nearest is `tau`"),
        (&["train", "--set", "tau=1.5"], "tau: 1.5 is impossible"),
        (&["train", "--set", "layers=0"], "layers: 0 is impossible"),
        (&["train", "--preset", "smal"], "the nearest is `small`"),
        (&["train", "--dataset", "mnits"], "the nearest is `mnist`"),
        (&["train", "--dataset", "mnist"], "dynamoe data fetch mnist"),
        (&["train", "--config", "missing.toml"], "cannot read missing.toml"),
        (&["train", "--config", "bad.toml"], "bad.toml: line 2: not valid TOML"),
        (&["train", "--threads", "0"], "threads: 0 is impossible"),
        (&["train", "--out-dir", "file"], "cannot create folder file"),
        (&["eval", "missing"], "missing: not a run folder"),
        (&["inspect", "hge"], "the nearest preset is `large`"),
        (&["bench", "step", "--size", "smal"], "setting size: `smal` is none of"),
        (&["bench", "step", "--batch", "0"], "setting batch: 0 is impossible"),
        (&["bench", "step", "--norm", "psot"], "setting norm: "),
        (&["bench", "step", "--experts", "8,0"], "setting experts: [8, 0] is impossible"),
        (&["bench", "gemm", "--threads", "0"], "threads: 0 is impossible"),
        (&["bench", "accuracy", "--stride", "0"], "setting stride: 0 is impossible"),
        (&["bench", "scaling", "--threads-list", "1,0"], "threads: 0 is impossible"),
        (&["bench", "roofline", "--svg", "missing/a.svg"], "cannot write missing/a.svg"),
        (&["data", "verify", "mnist"], "missing or corrupt"),
        (&["data", "fetch", "imagenet"], "no data set `imagenet`"),
    ] {
        let line = refusal(folder, arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    for (arguments, part) in [
        (
            &["train", "--datset", "mnist"][..],
            "unexpected argument '--datset' found; tip: a similar argument exists: '--dataset'",
        ),
        (&["eval"], "required arguments were not provided: <RUN>"),
        (&["train", "--threads", "x"], "invalid value 'x' for '--threads <N>'"),
        (&["bench", "step", "--experts", "8,x"], "invalid value 'x' for '--experts <COUNTS>'"),
        (&["trian"], "unrecognized subcommand 'trian'"),
    ] {
        let output = dynamoe(folder, arguments);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.trim_end().lines().count()), (Some(2), 1), "{line}");
        assert!(line.starts_with("error: ") && line.contains(part), "{line}");
    }
    // Nothing was left behind by what was refused.
    assert!(!folder.join("runs").exists());
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
}

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

/// The number at `pointer`.
fn number(report: &Value, pointer: &str) -> f64 {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{pointer} is no number in {report}"))
}

#[test]
fn speed_is_measured_and_every_figure_is_positive() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let step = ["bench", "step", "--size", "tiny", "--batch", "8", "--input", "16", "--quick"];
    let report = json(&success(folder, &[&step[..], &["--threads", "2", "--json"]].concat()));
    for pointer in [
        "/train_step_ms/median",
        "/train_step_ms/min",
        "/eval_batch_ms/median",
        "/eval_one_us/median",
        "/peak_gflops",
        "/stream_gb_s",
        "/roofline_ms",
        "/roofline_fraction",
        "/active_flops",
        "/train_flops",
        "/allocations_per_step",
    ] {
        assert!(number(&report, pointer) > 0.0, "{pointer} in {report}");
    }
    for pointer in ["/train_step_ms/spread", "/eval_one_us/spread", "/parallel_regions_per_step"] {
        assert!(number(&report, pointer) >= 0.0, "{pointer} in {report}");
    }
    assert!(report.get("peak_rss_mb").is_some() && report["profile"].is_string());
    assert_eq!((number(&report, "/threads"), number(&report, "/batch")), (2.0, 8.0));
    assert_eq!((number(&report, "/parameters"), &report["experts"]), (40_307.0, &json("[8, 1]")));
    assert!(success(folder, &step).contains("the training step reaches"));

    let gemm = json(&success(folder, &["bench", "gemm", "--quick", "--json"]));
    assert!(number(&gemm, "/products/0/gflops") > 0.0 && number(&gemm, "/products/0/share_of_peak") > 0.0);
    let select = json(&success(folder, &["bench", "select", "--quick", "--json"]));
    assert_eq!((number(&select, "/layers/0/experts"), number(&select, "/layers/0/k")), (8.0, 3.0));
    assert!(number(&select, "/layers/3/gate_and_select/ratio") > 0.0);
}

#[test]
fn errors_in_ulp_are_the_same_on_any_threads_and_small() {
    let folder = tempfile::tempdir().unwrap();
    let accuracy = ["bench", "accuracy", "--quick", "--json", "--threads"];
    let run = |threads| json(&success(folder.path(), &[&accuracy[..], &[threads]].concat()));
    let (mut one, mut three) = (run("1"), run("3"));
    assert_eq!((one["threads"].take(), three["threads"].take()), (1.into(), 3.into()));
    assert_eq!(one, three);
    assert_eq!(
        (&one["functions"][0]["function"], number(&one, "/functions/0/numbers")),
        (&"exp".into(), 4279.0)
    );
    assert!((0.1..1.5).contains(&number(&one, "/functions/0/ulps")), "{one}");
    assert!((0.1..5.0).contains(&number(&one, "/norms/0/ulps_of_largest")), "{one}");
    let table = success(folder.path(), &["bench", "accuracy", "--quick"]);
    assert!(table.contains("normal quantile") && table.contains("layer norm"), "{table}");
}

#[test]
fn bounds_and_scaling_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let draw = |verb, file| ["bench", verb, "--quick", "--json", "--svg", file];
    let roofline = json(&success(folder, &draw("roofline", "roofline.svg")));
    assert!(number(&roofline, "/sizes/1/roofline_fraction") > 0.0);
    let both = [&draw("scaling", "scaling.svg")[..], &["--threads-list", "2,1"]].concat();
    let scaling = json(&success(folder, &both));
    assert!(number(&scaling, "/tokens/exponent").is_finite());
    assert_eq!(number(&scaling, "/over_threads/points/1/value"), 2.0);
    for file in ["roofline.svg", "scaling.svg"] {
        assert!(std::fs::read_to_string(folder.join(file)).unwrap().starts_with("<svg"), "{file}");
    }
}
