//! The tokens of a text.

use assert_cmd::Command;

use crate::{json, refusal, success};

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
