//! The experiments are run once and resume after a kill.

use std::path::Path;

use serde_json::Value;

use crate::{dynamoe, json, refusal, success};

/// The lines of `results.jsonl` without times, sorted.
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
    assert!(markdown.contains("| descending | ") && markdown.contains("This is a smoke test"), "{markdown}");
    assert!(std::fs::read_to_string(whole.join("report.html")).unwrap().contains("<svg "));
    assert!(std::fs::read_dir(whole.join("cells")).unwrap().next().is_none(), "nothing is left of the cells");

    // Again: nothing is run; with one seed more: only that one's.
    let text = success(folder, &["reproduce", "table2", "--quick", "--out-dir", "whole"]);
    assert!(text.contains("0 networks trained now") && text.contains("Descending beats uniform"), "{text}");
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
    assert!(refusal(folder, &["reproduce", "all", "--threads", "0"]).contains("threads: 0 is out of range"));
    let line = refusal(folder, &["reproduce", "table2", "--out-dir", "none"]);
    assert!(line.contains("dynamoe data fetch mnist"), "{line}");
    for (seeds, part) in [("5..1", "`5..1` is an empty range"), ("one", "`one` is not a seed")] {
        let output = dynamoe(folder, &["reproduce", "table2", "--seeds", seeds]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.trim_end().lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains(part), "{line}");
    }
}
