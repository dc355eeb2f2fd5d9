//! Published networks.

use std::path::Path;

use crate::{json, number, refusal, success};

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
    // The text that its settings name is not one of numbers.
    assert!(refusal(folder, &["eval", "run"]).contains("is not one of the 11 token ids"));
    assert!(refusal(folder, &["sample", "run", "--prompt", "1 x"]).contains("knows no \"x\""));
    assert!(refusal(folder, &["resume", "run"]).contains("this network was imported"));
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
