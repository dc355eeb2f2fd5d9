//! Replays of a run, and runs that differ.

use serde_json::Value;

use crate::{SHORT, json, refusal, success};

#[test]
fn a_run_is_verified_and_differences_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let set = ["--set", "digest_every=20", "--set", "percentile_scope=batch", "--set", "norm=post"];
    success(folder, &[&SHORT[..], &set, &["--out-dir", "run"]].concat());
    let manifest = json(&std::fs::read_to_string(folder.join("run/manifest.json")).unwrap());
    let steps: Vec<u64> =
        manifest["chain"].as_array().unwrap().iter().map(|link| link["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 20, 40, 46, 60]);
    assert_eq!((&manifest["chain"][3]["epoch"], &manifest["chain"][1]["epoch"]), (&1.into(), &Value::Null));
    for key in ["version", "rustc", "target", "features", "simd_level", "threads"] {
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
    success(folder, &["verify", "twin", "--trace", "39"]);
    // One bit in the last array.
    let trace = folder.join("twin/traces/step-39.safetensors");
    let mut bytes = std::fs::read(&trace).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&trace, bytes).unwrap();
    let line = refusal(folder, &["verify", "run", "--against", "twin"]);
    assert!(line.contains("the traces of step 39 differ first in array "), "{line}");
    assert!(line.contains("1 of ") && line.contains(" elements, by up to "), "{line}");
    // This machine's digests are the first run's, whatever the condition.
    let line = refusal(folder, &["verify", "twin"]);
    assert!(line.contains("gives the same here: the run was recorded by version "), "{line}");
    for (arguments, part) in [
        (&["verify", "run", "--trace", "61"][..], "there is no step 61; the run has 1 to 60"),
        (
            &["verify", "run", "--simd", "avx3"],
            "setting simd: `avx3` is not available on this processor; use one of",
        ),
        (&["verify", "run", "--threads", "0"], "threads: 0 is out of range"),
        (&["verify", "run", "--batches", "0"], "batches: 0 is out of range"),
        (&["verify", "missing"], "missing: not a run folder"),
    ] {
        let line = refusal(folder, arguments);
        assert!(line.contains(part), "{arguments:?}: {line}");
    }
    let mut shuffled = manifest.clone();
    shuffled["chain"].as_array_mut().unwrap().swap(1, 2);
    for (text, part) in [
        (shuffled.to_string(), "the steps of its digests are not in order"),
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
    assert!(
        text.contains("batch sizes are not compared") && text.contains("first come, first served"),
        "{text}"
    );
    let broken = ["train", "--set", "optimizer=sgd", "--set", "lr=1e30", "--out-dir", "broken"];
    assert!(refusal(folder, &broken).contains("step 2: loss NaN"));
    let line = refusal(folder, &["verify", "broken", "--trace", "5"]);
    assert!(line.contains("has no step 5 to trace: training fails before it (step 2: "), "{line}");
    success(folder, &[&SHORT[..], &["--set", "digest_every=0", "--out-dir", "none"]].concat());
    assert!(refusal(folder, &["verify", "none"]).contains("this run recorded no digests"));
}
