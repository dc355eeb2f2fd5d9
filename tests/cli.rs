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
    assert!(refusal(folder, &["eval", "run"]).contains("is not what this checkpoint was made with"));
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
    let mut resumptions = 0;
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
        resumptions += 1;
        assert_eq!(resumed["digests"], whole["digests"]);
        assert_eq!(resumed["final"], whole["final"]);
        let chain = |run: &str| {
            json(&std::fs::read_to_string(folder.join(run).join("manifest.json")).unwrap())["chain"].clone()
        };
        assert_eq!(chain(&run), chain("whole"));
        let metrics = |run: &str| std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        assert!(metrics(&run) == metrics("whole"), "the same lines, none twice and none missing");
        assert!(refusal(folder, &["resume", &run]).contains("this run is finished"));
    }
    assert!(resumptions > 0, "no kill came in time");
}

#[test]
fn a_run_is_verified_and_a_fault_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let set = ["--set", "digest_every=20", "--set", "percentile_scope=batch", "--set", "norm=post"];
    success(folder, &[&SHORT[..], &set, &["--out-dir", "run"]].concat());
    let manifest = json(&std::fs::read_to_string(folder.join("run/manifest.json")).unwrap());
    let steps: Vec<u64> =
        manifest["chain"].as_array().unwrap().iter().map(|link| link["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 20, 40, 46, 60]);
    assert_eq!((&manifest["chain"][3]["epoch"], &manifest["chain"][1]["epoch"]), (&1.into(), &Value::Null));
    for key in ["version", "rustc", "target", "features", "profile", "threads"] {
        assert!(!manifest["sessions"][0][key].is_null(), "{key} in {manifest}");
    }

    let text = success(folder, &["verify", "run", "--threads", "1,2,8"]);
    assert_eq!(text.lines().filter(|line| line.starts_with("ok  ")).count(), 4, "{text}");
    assert!(text.contains("8 threads") && text.contains("in batches of 1, 7, 64, 256"), "{text}");
    let last = manifest["chain"][4]["digest"].as_str().unwrap();
    assert!(text.contains(&format!("60 steps, 5 recorded digests, state digest {last}")), "{text}");
    let part = json(&success(folder, &["verify", "run", "--steps", "20", "--batches", "9", "--json"]));
    assert_eq!((&part["conditions"][0]["steps"], &part["conditions"][0]["same"]), (&20.into(), &true.into()));
    assert_eq!(part["conditions"][0]["digest"], manifest["chain"][1]["digest"]);

    // One bit of one array of step 33: found with the number of the step, the array and the element's error.
    let line = refusal(folder, &["verify", "run", "--threads", "3", "--fault", "33:13:7:9"]);
    assert!(
        line.contains("the digest after step 40 is ") && line.contains("is in step 33, array 13 of "),
        "{line}"
    );
    assert!(line.contains("(forward, layers.0: experts): 1 of 2048 elements, by up to 512 ulp"), "{line}");

    // Two runs that should be the same and are not, as from two machines.
    success(folder, &[&SHORT[..], &set, &["--out-dir", "twin"]].concat());
    assert!(
        success(folder, &["verify", "run", "--against", "twin"]).contains("5 recorded digests are the same")
    );
    let path = folder.join("twin/manifest.json");
    let chain = manifest["chain"].as_array().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = [2, 3, 4]
        .into_iter()
        .fold(text, |text, i| text.replace(chain[i]["digest"].as_str().unwrap(), &"0".repeat(64)));
    std::fs::write(&path, changed).unwrap();
    let line = refusal(folder, &["verify", "run", "--against", "twin"]);
    assert!(
        line.contains("the digests differ after step 40, step 20 is the last that is the same"),
        "{line}"
    );
    assert!(line.contains("verify RUN --trace 40` and 39"), "{line}");
    success(folder, &["verify", "run", "--trace", "39"]);
    success(folder, &["verify", "twin", "--trace", "39", "--fault", "39:9:0:0"]);
    let line = refusal(folder, &["verify", "run", "--against", "twin"]);
    assert!(line.contains("the traces of step 39 part in array 9 of "), "{line}");
    // This machine's digests are the first run's, whatever the condition.
    let line = refusal(folder, &["verify", "twin"]);
    assert!(line.contains("gives the same here: the run was recorded by version "), "{line}");
    for (arguments, part) in [
        (&["verify", "run", "--trace", "61"][..], "there is no step 61; the run has 1 to 60"),
        (&["verify", "run", "--simd", "avx3"], "`avx3` is none of"),
        (&["verify", "run", "--threads", "0"], "threads: 0 is impossible"),
        (&["verify", "run", "--batches", "0"], "batches: 0 is impossible"),
        (&["verify", "missing"], "missing: not a run folder"),
    ] {
        let line = refusal(folder, arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    let mut shuffled = manifest.clone();
    shuffled["chain"].as_array_mut().unwrap().swap(1, 2);
    for (text, part) in [
        (shuffled.to_string(), "the steps of its digests do not rise"),
        (manifest.to_string().replace("\"step\":60", "\"step\":6000"), "digests beyond the run's 60 steps"),
        (r#"{"schema_version":9}"#.into(), "layout version 9"),
        ("{".into(), "not a usable manifest"),
    ] {
        std::fs::write(&path, text).unwrap();
        let line = refusal(folder, &["verify", "twin"]);
        assert!(line.contains(part), "{line}");
    }
    // A router that looks across the batch by design is not blamed for it.
    success(folder, &[&SHORT[..], &["--set", "router=switch", "--out-dir", "switch"]].concat());
    let text = success(folder, &["verify", "switch"]);
    assert!(text.contains("batches are not compared") && text.contains("first come, first served"), "{text}");
    let broken = ["train", "--set", "optimizer=sgd", "--set", "lr=1e30", "--out-dir", "broken"];
    assert!(refusal(folder, &broken).contains("step 2: loss NaN"));
    let line = refusal(folder, &["verify", "broken", "--trace", "5"]);
    assert!(line.contains("has no step 5 to trace: it breaks off before (step 2: "), "{line}");
    success(folder, &[&SHORT[..], &["--set", "digest_every=0", "--out-dir", "none"]].concat());
    assert!(refusal(folder, &["verify", "none"]).contains("this run recorded no digests"));
}

#[test]
fn checkpoints_are_kept_and_a_folder_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = ["train", "--preset", "tiny", "--epochs", "4", "--json", "--out-dir", "run"];
    let whole = json(&success(folder, &[&train[..], &["--keep-last", "3"]].concat()));
    let checkpoints = folder.join("run/checkpoints");
    let names = || {
        let names =
            std::fs::read_dir(&checkpoints).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(names(), ["best", "last", "step-138", "step-92"]);
    // The newest is lost: an older one leads to the same end.
    std::fs::remove_file(folder.join("run/summary.json")).unwrap();
    std::fs::write(checkpoints.join("last/checkpoint.safetensors"), "lost").unwrap();
    assert!(refusal(folder, &["resume", "run"]).contains("use another checkpoint (--checkpoint)"));
    let line = refusal(folder, &["resume", "run", "--checkpoint", "step-9"]);
    assert!(line.contains("no such checkpoint; there are: best, last, step-138, step-92"), "{line}");
    let lock = std::fs::File::open(folder.join("run/config.toml")).unwrap();
    lock.lock().unwrap();
    let line = refusal(folder, &["resume", "run", "--checkpoint", "step-92"]);
    assert!(line.contains("another process is training in this folder"), "{line}");
    drop(lock);
    // One bit of a checkpoint is not what was saved.
    let older = checkpoints.join("step-92/checkpoint.safetensors");
    let good = std::fs::read(&older).unwrap();
    let mut bad = good.clone();
    let end = bad.len() - 5;
    bad[end] ^= 1;
    std::fs::write(&older, &bad).unwrap();
    let line = refusal(folder, &["resume", "run", "--checkpoint", "step-92"]);
    assert!(line.contains("its content is not what was saved"), "{line}");
    std::fs::write(&older, &good).unwrap();
    // Without `last` it does not begin anew, and lines of metrics must not be missing.
    std::fs::remove_file(checkpoints.join("last/checkpoint.safetensors")).unwrap();
    assert!(
        refusal(folder, &["resume", "run"])
            .contains("no such checkpoint; there are: best, step-138, step-92")
    );
    let metrics = folder.join("run/metrics.jsonl");
    let lines = std::fs::read_to_string(&metrics).unwrap();
    std::fs::write(&metrics, lines.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
    let line = refusal(folder, &["resume", "run", "--checkpoint", "step-92"]);
    assert!(line.contains("does not have the lines of all steps up to the checkpoint's, 92"), "{line}");
    std::fs::write(&metrics, &lines).unwrap();
    let temporary = checkpoints.join("last/checkpoint.safetensors.4711.tmp");
    std::fs::write(&temporary, "half").unwrap();
    let resumed = json(&success(folder, &["resume", "run", "--checkpoint", "step-92", "--json"]));
    assert_eq!((&resumed["digests"], &resumed["final"]), (&whole["digests"], &whole["final"]));
    assert!(
        std::fs::read_to_string(&metrics).unwrap() == lines,
        "the same lines, none twice and none missing"
    );
    assert!(!temporary.exists(), "what a killed process left is cleared away");
    assert_eq!(names(), ["best", "last", "step-92"], "what came after where it went back to is gone");
}

#[test]
fn a_step_goes_out_and_comes_back_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let quiet = ["--preset", "tiny", "--set", "noise=0"];
    success(folder, &[&["step", "a.safetensors"], &quiet[..]].concat());
    let text = success(folder, &["step", "b.safetensors", "--preset", "tiny", "--from", "a.safetensors"]);
    assert!(text.contains("took 18 of 18 parameters and inputs and targets from a.safetensors"), "{text}");
    let read = |name: &str| dynamoe::engine::tensors::read(&folder.join(name), "file").unwrap().tensors;
    let (a, b) = (read("a.safetensors"), read("b.safetensors"));
    assert!(a == b, "the same step");
    for name in [
        "inputs",
        "targets",
        "outputs",
        "loss",
        "routing.0.chosen",
        "routing.1.weights",
        "head.w",
        "gradients.layers.0.experts.w1",
        "after.layers.0.router.gate.b",
    ] {
        assert!(a.contains_key(name), "{name}");
    }
    // With other parameters and another batch, as from elsewhere.
    let other = success(folder, &["step", "c.safetensors", "--preset", "tiny", "--seed", "2"]);
    assert!(other.contains("step 1 is in c.safetensors"));
    success(folder, &["step", "d.safetensors", "--preset", "tiny", "--from", "c.safetensors"]);
    let (c, d) = (read("c.safetensors"), read("d.safetensors"));
    assert!(c["inputs"] == d["inputs"] && c["head.w"] == d["head.w"] && c["head.w"] != a["head.w"]);
    assert!(c["routing.0.weights"] != d["routing.0.weights"], "the noise is left out");
    // With moments and running numbers: the steps of a router whose biases decide go on elsewhere.
    let biased = ["--preset", "tiny", "--set", "router=loss-free"];
    success(
        folder,
        &[&["train", "--max-steps", "20", "--quiet", "--out-dir", "biased"], &biased[..]].concat(),
    );
    success(folder, &["step", "f.safetensors", "--run", "biased"]);
    success(folder, &[&["step", "g.safetensors", "--from", "f.safetensors"], &biased[..]].concat());
    let (f, g) = (read("f.safetensors"), read("g.safetensors"));
    for name in ["steps", "routing.0.chosen", "outputs", "gradients.head.w", "optimizer.first.head.w"] {
        assert!(f[name] == g[name], "{name}");
    }
    // From a run's checkpoint: the step that comes next.
    success(folder, &[&SHORT[..], &["--out-dir", "run"]].concat());
    assert!(success(folder, &["step", "e.safetensors", "--run", "run"]).contains("step 61 is in"));

    let small = refusal(folder, &["step", "x", "--preset", "small", "--from", "a.safetensors"]);
    assert!(small.contains("input.w is [64, 64]; this network has [64, 128]"), "{small}");
    std::fs::write(
        folder.join("cut.safetensors"),
        &std::fs::read(folder.join("a.safetensors")).unwrap()[..999],
    )
    .unwrap();
    let cut = refusal(folder, &["step", "x", "--preset", "tiny", "--from", "cut.safetensors"]);
    assert!(cut.contains("not a usable step file"), "{cut}");
    assert!(
        refusal(folder, &["step", "x", "--run", "run", "--checkpoint", "best"])
            .contains("the optimizer's memory")
    );
    assert!(!folder.join("x").exists());
}

#[test]
fn a_learned_schedule_is_analyzed_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let set = ["--set", "schedule=learned", "--set", "layers=3", "--set", "percentile_scope=batch"];
    success(folder, &[&SHORT[..], &set, &["--out-dir", "run"]].concat());
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    let experts: Vec<i64> =
        config["experts"].as_array().unwrap().iter().map(|e| e.as_integer().unwrap()).collect();
    assert_eq!(
        (config["schedule"].as_str(), experts.len(), experts.iter().sum::<i64>()),
        (Some("learned"), 3, 12)
    );
    assert!(success(folder, &["verify", "run"]).contains("60 steps"));

    let report = json(&success(folder, &["analyse", "run", "--json"]));
    assert_eq!((&report["images"], report["layers"].as_array().unwrap().len()), (&355.into(), 3));
    let k = number(&report, "/layers/0/record/mean_active");
    let difficulty = &report["difficulty"]["tenths"];
    let mean =
        (0..10).map(|i| number(difficulty, &format!("/{i}/images")) * number(difficulty, &format!("/{i}/k")));
    let layers: f64 = (0..3).map(|l| number(&report, &format!("/layers/{l}/record/mean_active"))).sum();
    assert!(k > 0.5 && (mean.sum::<f64>() / 355.0 - layers).abs() < 1e-9, "{report}");
    assert!(number(&report, "/gradient_variance/ratio") > 0.0);
    assert!(number(&report, "/diversity/2/spectral_entropy") > 0.0);
    let recommended = report["recommended_experts"].as_array().unwrap();
    assert_eq!(recommended.iter().map(|e| e.as_i64().unwrap()).sum::<i64>(), 12);
    for file in ["analysis.json", "experts_by_difficulty.svg", "experts_by_class_1.svg"] {
        assert!(folder.join("run/analysis").join(file).is_file(), "{file}");
    }
    assert!(success(folder, &["analyse", "run"]).contains("rank correlation of k with loss"));

    // The literal rule gives every image as many: said so, and nothing is correlated.
    success(folder, &[&SHORT[..], &["--out-dir", "constant"]].concat());
    let text = success(folder, &["analyse", "constant"]);
    assert!(text.contains("All images get the same number of experts"), "{text}");
    assert!(refusal(folder, &["analyse", "missing"]).contains("missing: not a run folder"));
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
        (&["bench", "head", "--width", "64,0"], "setting width: 0 is impossible"),
        (&["bench", "head", "--vocabulary", "1048576", "--width", "256"], "must stay below 2^28"),
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
    // With one step an epoch it is the evaluation that meets it first.
    let steep = ["--set", "optimizer=sgd", "--set", "lr=1e30", "--set", "batch=2048"];
    let line = refusal(folder, &[&["train", "--out-dir", "steep"], &steep[..]].concat());
    assert!(line.contains("step 1: the loss on the test split is NaN; the last good state is in"), "{line}");
    assert!(success(folder, &["eval", "steep"]).contains("after 0 steps"));
    let line = refusal(folder, &[&["train", "--set", "schedule=learned"], &steep[..]].concat());
    assert!(line.contains("the brief training for it broke off"), "{line}");
    let line = refusal(folder, &["inspect", "small", "--set", "schedule=learned"]);
    assert!(line.contains("a learned one is known once a training has begun"), "{line}");
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

    let routers = json(&success(folder, &["bench", "routers", "--quick", "--json"]));
    assert_eq!(
        (&routers["routers"][1]["name"], number(&routers, "/routers/1/ratio")),
        (&"top-k".into(), 1.0)
    );
    assert_eq!(number(&routers, "/routers/1/mean_k/0"), 2.0);
    assert!(number(&routers, "/routers/8/train_step_ms/median") > 0.0);

    let gemm = json(&success(folder, &["bench", "gemm", "--quick", "--json"]));
    assert!(number(&gemm, "/products/0/gflops") > 0.0 && number(&gemm, "/products/0/share_of_peak") > 0.0);
    let small = ["--width", "8,12", "--tokens", "300", "--vocabulary", "500"];
    let head = json(&success(folder, &[&["bench", "head", "--quick", "--json"], &small[..]].concat()));
    assert_eq!(number(&head, "/widths/1/width"), 12.0);
    assert!(
        number(&head, "/widths/0/train/gflops") > 0.0 && number(&head, "/widths/0/evaluate/gflops") > 0.0
    );
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

#[test]
fn the_environment_names_the_instructions() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |level| {
        let mut command = Command::cargo_bin("dynamoe").unwrap();
        command.current_dir(&folder).env("DYNAMOE_SIMD", level).args(["bench", "gemm", "--quick", "--json"]);
        command.output().unwrap()
    };
    let report: Value = serde_json::from_slice(&bench("portable").stdout).unwrap();
    assert_eq!(report["profile"], "portable");
    let refused = bench("mmx");
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    assert!(error.starts_with("error: setting DYNAMOE_SIMD: `mmx` is none of "), "{error}");
}

/// The lines of `results.jsonl` without times, in order of their text.
fn results(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("results.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines: Vec<Value> = whole.lines().map(json).collect();
    for line in &mut lines {
        line["outcome"]["trained"]["seconds"] = Value::Null;
    }
    let mut lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn experiments_are_run_once_and_go_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let reproduce = ["reproduce", "table2", "--quick", "--json", "--out-dir"];
    let report = json(&success(folder, &[&reproduce[..], &["whole", "--threads", "3"]].concat()));
    // Nine networks, two seeds.
    assert_eq!(report["trained"], 18);
    let section = &report["experiments"][0];
    assert_eq!((&section["name"], &section["seeds"]), (&"table2".into(), &json("[1, 2]")));
    assert_eq!(section["table"]["table"]["rows"].as_array().unwrap().len(), 9);
    assert!(section["claims"][0]["verdict"].is_string(), "{section}");
    let whole = folder.join("whole");
    let before = std::fs::read_to_string(whole.join("results.jsonl")).unwrap();
    assert_eq!(before.lines().count(), 18);
    let markdown = std::fs::read_to_string(whole.join("report.md")).unwrap();
    assert!(markdown.contains("| descending | ") && markdown.contains("This is a trial"), "{markdown}");
    assert!(std::fs::read_to_string(whole.join("report.html")).unwrap().contains("<svg "));
    assert!(std::fs::read_dir(whole.join("cells")).unwrap().next().is_none(), "nothing is left of the cells");

    // Again: nothing is run; with one seed more: only that one's.
    let text = success(folder, &["reproduce", "table2", "--quick", "--out-dir", "whole"]);
    assert!(
        text.contains("0 networks were trained now") && text.contains("Descending beats uniform"),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(whole.join("results.jsonl")).unwrap(), before);
    let more = json(&success(folder, &[&reproduce[..], &["more", "--seeds", "2"]].concat()));
    assert_eq!(more["trained"], 9);
    let more =
        json(&success(folder, &[&reproduce[..], &["more", "--seeds", "1..2", "--threads", "1"]].concat()));
    assert_eq!(more["trained"], 9);
    assert_eq!(results(&folder.join("more")), results(&whole), "whatever the order and the threads");

    let killed = folder.join("killed");
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("dynamoe"));
    command.current_dir(folder).args([&reproduce[..], &["killed"]].concat());
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    while results(&killed).len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done = results(&killed).len() as u64;
    let rest = json(&success(folder, &[&reproduce[..], &["killed"]].concat()));
    assert_eq!(rest["trained"].as_u64().unwrap() + done, 18);
    assert_eq!(results(&killed), results(&whole), "none twice and none missing");

    let line = refusal(folder, &["reproduce", "tabel2"]);
    assert!(line.contains("no experiment `tabel2`; the nearest is `table2`"), "{line}");
    assert!(refusal(folder, &["reproduce", "all", "--threads", "0"]).contains("threads: 0 is impossible"));
    let line = refusal(folder, &["reproduce", "table2", "--out-dir", "none"]);
    assert!(line.contains("dynamoe data fetch mnist"), "{line}");
    for (seeds, part) in [("5..1", "`5..1` is empty"), ("one", "`one` is no seed")] {
        let output = dynamoe(folder, &["reproduce", "table2", "--seeds", seeds]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.trim_end().lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_text_is_shown_as_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = success(folder, &["tokenize", "Hello world"]);
    assert_eq!(text, "15496  \"Hello\"\n995    \" world\"\ntokens: 2   bytes: 11   bytes per token: 5.50\n");
    std::fs::write(folder.join("a.txt"), "ä\n").unwrap();
    let bytes = success(folder, &["tokenize", "--file", "a.txt", "--tokenizer", "bytes"]);
    assert_eq!(
        bytes,
        "195  \"\\xc3\"\n164  \"\\xa4\"\n10   \"\\n\"\ntokens: 3   bytes: 3   bytes per token: 1.00\n"
    );
    let mut command = Command::cargo_bin("dynamoe").unwrap();
    let output =
        command.args(["tokenize", "--tokenizer", "chars", "--json"]).write_stdin("abba").output().unwrap();
    let tokens = json(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(tokens["vocabulary"], 3);
    assert_eq!(tokens["tokens"][1], serde_json::json!({ "id": 1, "piece": "b" }));
    assert_eq!(success(folder, &["tokenize", ""]), "tokens: 0   bytes: 0\n");

    let mut command = Command::cargo_bin("dynamoe").unwrap();
    let output = command.arg("tokenize").write_stdin(&b"\xff"[..]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: cannot read standard input") && error.lines().count() == 1, "{error}");
    std::fs::write(folder.join("b.txt"), b"a\xff").unwrap();
    assert!(refusal(folder, &["tokenize", "--file", "b.txt"]).contains("is not UTF-8 (at byte 1)"));
    assert!(refusal(folder, &["tokenize", "--file", "c.txt"]).contains("cannot read c.txt"));
}

#[test]
fn texts_stand_beside_images() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let list = success(folder, &["data", "list"]);
    assert!(list.contains("wikitext-2") && list.contains("recycling-the-web"), "{list}");
    assert!(success(folder, &["data", "verify"]).contains("guide  README.md, guide (bundled)  ok"));
    assert!(success(folder, &["data", "fetch", "guide"]).contains("bundled: nothing to fetch"));
    assert!(refusal(folder, &["data", "fetch", "wikitext-2"]).contains("put wiki.test.tokens"));
    assert!(
        refusal(folder, &["data", "verify", "recycling-the-web"]).contains("run `dynamoe data fetch recyc")
    );
    assert!(refusal(folder, &["data", "fetch", "wikitext2"]).contains("the nearest is `wikitext-2`"));
    let line = refusal(folder, &["train", "--task", "images", "--dataset", "guide"]);
    assert!(line.contains("task: guide is text"), "{line}");
}

/// A text long enough for ten documents.
fn write_texts(folder: &Path) {
    std::fs::create_dir(folder.join("texts")).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text.txt");
    let text = std::fs::read_to_string(golden).unwrap();
    for (i, paragraph) in text.split("\n\n").chain(text.split("\n\n")).enumerate() {
        std::fs::write(folder.join(format!("texts/{i:02}.txt")), paragraph).unwrap();
    }
}

#[test]
fn a_text_is_learned_resumed_verified_continued_and_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_texts(folder);
    let train = [
        "train",
        "--task",
        "lm",
        "--preset",
        "transformer-1m",
        "--dataset",
        "./texts",
        "--set",
        "layers=2",
        "--set",
        "width=32",
        "--set",
        "router=top-p",
        "--set",
        "sequence=40",
        "--set",
        "batch=4",
        "--set",
        "accumulate=2",
        "--epochs",
        "4",
        "--json",
    ];
    let whole = json(&success(folder, &[&train[..], &["--out-dir", "whole"]].concat()));
    let perplexity = number(&whole, "/final/perplexity");
    let loss = number(&whole, "/final/test_loss");
    assert!((perplexity / libm::exp(loss) - 1.0).abs() < 1e-9);
    // Better than knowing nothing of the 256 bytes, and than the first epoch.
    let first = std::fs::read_to_string(folder.join("whole/metrics.jsonl")).unwrap();
    let first: Vec<Value> = first.lines().map(json).filter(|line| line["kind"] == "epoch").collect();
    assert!(perplexity < 200.0 && number(&first[0], "/test_loss") > loss, "{whole}");

    // Stopped and resumed, on other numbers of threads: the same bits.
    let part = [&train[..], &["--out-dir", "part", "--threads", "1"]].concat();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_dynamoe"))
        .current_dir(folder)
        .args(&part)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let checkpoint = folder.join("part/checkpoints/last/checkpoint.safetensors");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().ok();
    child.wait().unwrap();
    if !folder.join("part/summary.json").exists() {
        success(folder, &["resume", "part", "--threads", "8", "--quiet"]);
    }
    let part = json(&std::fs::read_to_string(folder.join("part/summary.json")).unwrap());
    assert_eq!(part["digests"], whole["digests"]);
    let verified = success(folder, &["verify", "whole", "--threads", "1,2,8", "--batches", "1,7"]);
    assert!(verified.contains("1 thread") && verified.contains("8 threads"), "{verified}");

    let scores = json(&success(folder, &["eval", "whole", "--json"]));
    assert_eq!(number(&scores, "/perplexity"), perplexity);
    assert!(number(&scores, "/bigram_perplexity") > 1.0);
    let sample = |more: &[&str]| {
        let common = ["sample", "whole", "--prompt", "The lamp", "--tokens", "60"];
        success(folder, &[&common[..], more].concat())
    };
    let text = sample(&[]);
    assert!(text.starts_with("The lamp") && text.len() > 40, "{text}");
    assert_eq!(sample(&["--no-cache", "--threads", "3"]), text);
    assert_ne!(sample(&["--seed", "2"]), text);
    let shown = json(&sample(&["--json", "--html", "page.html"]));
    assert_eq!(shown["tokens"].as_array().unwrap().len(), 8 + 60);
    assert_eq!(shown["tokens"][0]["experts"].as_array().unwrap().len(), 2);
    assert!(std::fs::read_to_string(folder.join("page.html")).unwrap().contains("experts\">T</span>"));
    assert!(sample(&["--show", "experts"]).contains("\u{1b}[30;48;2;"));

    let report = json(&success(folder, &["analyse", "whole", "--json"]));
    assert!(number(&report, "/attention/1/entropy") > 0.0 && number(&report, "/attention/0/features") >= 1.0);
    assert_eq!(report["kinds"].as_array().unwrap().len(), 4);
    assert_eq!(report["class_names"][2], "number");
    for file in ["analysis.json", "attention.svg", "experts_by_class_1.svg"] {
        assert!(folder.join("whole/analysis").join(file).is_file(), "{file}");
    }
    std::fs::write(folder.join("kinds.toml"), "rhyme = [\"high and dry\"]").unwrap();
    let report = success(folder, &["analyse", "whole", "--kinds", "kinds.toml"]);
    assert!(report.contains("rhyme") && report.contains("heads differ"), "{report}");

    let line = refusal(folder, &["step", "a", "--run", "whole"]);
    assert!(line.contains("accumulate: a step file holds one batch"), "{line}");
    let fresh =
        ["--dataset", "./texts", "--preset", "transformer-1m", "--set", "layers=1", "--set", "noise=0"];
    success(folder, &[&["step", "a.safetensors"], &fresh[..]].concat());
    success(folder, &[&["step", "b.safetensors", "--from", "a.safetensors"], &fresh[..]].concat());
    let read = |name: &str| dynamoe::engine::tensors::read(&folder.join(name), "file").unwrap().tensors;
    let (a, b) = (read("a.safetensors"), read("b.safetensors"));
    assert!(a == b && a["gradients.embedding.table"].shape == [256, 128] && a.contains_key("starts"));
}

#[test]
fn a_network_keeps_its_alphabet_when_its_text_changes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = "the cat sat on the mat and the dog lay on the rug\n\n".repeat(40);
    std::fs::write(folder.join("text.txt"), &text).unwrap();
    let set = ["--set", "tokenizer=chars", "--set", "sequence=16", "--max-steps", "20", "--quiet"];
    let run = ["--dataset", "text.txt", "--out-dir", "run"];
    success(folder, &[&["train", "--preset", "tiny"], &set[..], &run[..]].concat());
    let scores = |expected_note: bool| {
        let output = dynamoe(folder, &["eval", "run", "--json"]);
        let note =
            String::from_utf8(output.stderr).unwrap().contains("no longer what this network was trained on");
        assert_eq!(note, expected_note);
        number(&json(&String::from_utf8(output.stdout).unwrap()), "/perplexity")
    };
    let before = scores(false);
    // A character before all others would shift them all by one in an alphabet made anew.
    std::fs::write(folder.join("text.txt"), "#\n\n".to_string() + &text).unwrap();
    let after = scores(true);
    assert!((after / before - 1.0).abs() < 0.2, "{before} {after}");
    std::fs::remove_file(folder.join("text.txt")).unwrap();
    assert!(success(folder, &["inspect", "run"]).contains("18 tokens in the vocabulary"));
    assert!(refusal(folder, &["eval", "run"]).contains("there is no file or folder `text.txt`, seen from"));
    assert!(refusal(folder, &["sample", "run", "--prompt", "- a Zebra"]).contains("knows no \"-\""));
}

#[test]
fn a_published_network_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imported");
    let published = published.to_str().unwrap();
    let text = success(folder, &["import", published, "--out-dir", "run"]);
    assert!(text.contains("3 layers of [4, 1, 4] experts") && text.contains("11 tokens (numbers)"), "{text}");
    let text =
        success(folder, &["sample", "run", "--prompt", "3 1 4", "--tokens", "5", "--temperature", "0"]);
    assert!(text.starts_with("3 1 4 ") && text.split_whitespace().count() == 8, "{text}");
    let described = success(folder, &["inspect", "run"]);
    assert!(described.contains("11 tokens in the vocabulary") && described.contains("2,377"), "{described}");
    // The guide that its settings name is no text of numbers.
    assert!(refusal(folder, &["eval", "run"]).contains("none of the 11 numbers"));
    assert!(refusal(folder, &["sample", "run", "--prompt", "1 x"]).contains("knows no \"x\""));
    assert!(refusal(folder, &["resume", "run"]).contains("an imported network has no training"));
    std::fs::write(folder.join("numbers.txt"), "3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3 2 3 8 4\n".repeat(20))
        .unwrap();
    let scores = json(&success(folder, &["eval", "run", "--dataset", "numbers.txt", "--json"]));
    assert!(number(&scores, "/perplexity") > 1.0);
    assert!(refusal(folder, &["eval", "run", "--dataset", "digits"]).contains("this network is for text"));
    assert!(
        refusal(folder, &["import", "missing", "--out-dir", "other"])
            .contains("cannot read missing/config.json")
    );
    assert!(!folder.join("other").exists());
}
