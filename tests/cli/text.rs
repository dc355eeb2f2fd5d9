//! A network for text from training to samples.

use std::path::Path;

use serde_json::Value;

use crate::{dynamoe, json, number, refusal, success};

/// Writes texts long enough for ten documents.
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

    let report = json(&success(folder, &["analyze", "whole", "--json"]));
    assert!(number(&report, "/attention/1/entropy") > 0.0 && number(&report, "/attention/0/features") >= 1.0);
    assert_eq!(report["kinds"].as_array().unwrap().len(), 4);
    assert_eq!(report["class_names"][2], "number");
    for file in ["analysis.json", "attention.svg", "experts_by_class_1.svg"] {
        assert!(folder.join("whole/analysis").join(file).is_file(), "{file}");
    }
    std::fs::write(folder.join("kinds.toml"), "rhyme = [\"high and dry\"]").unwrap();
    let report = success(folder, &["analyze", "whole", "--kinds", "kinds.toml"]);
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
    assert!(refusal(folder, &["eval", "run"]).contains("there is no file or folder `text.txt` in "));
    assert!(refusal(folder, &["sample", "run", "--prompt", "- a Zebra"]).contains("knows no \"-\""));
}
