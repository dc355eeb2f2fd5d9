//! Runs that were killed, and their checkpoints.

use crate::{json, refusal, success};

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
