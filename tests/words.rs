//! Words that the project does not use: the left column has a plainer or more usual form on the right.

use std::path::{Path, PathBuf};

/// What not to write (lower case, at the beginning of a word), and what to write instead.
const WORDS: &[(&str, &str)] = &[
    ("be it so", "best effort: errors ignored here"),
    ("so be it", "best effort: errors ignored here"),
    ("running number", "buffer or running statistics"),
    ("optimizer's memory", "optimizer state"),
    ("judged epoch", "evaluated epoch"),
    ("to be judged on", "test set"),
    ("to learn from", "training set"),
    ("passed over", "ignored, unused"),
    ("of no account", "ignored, unused"),
    ("is impossible", "invalid value, out of range"),
    ("impossible setting", "invalid value, out of range"),
    ("is ruined", "non-finite: training diverged"),
    ("are to be there", "the number to create"),
    ("there are to be", "the number to create"),
    ("does not do for text", "is not causal"),
    ("carry no news", "can be ignored"),
    ("goes on from this", "never resumed"),
    ("nobody asks", "not required"),
    ("bit to turn around", "bit to flip"),
    ("has on its way", "rows in the batch"),
    ("share out", "distribute, partition, allocate"),
    ("shared out", "distribute, partition, allocate"),
    ("sharing out", "distribute, partition, allocate"),
    ("go on with", "resume, continue"),
    ("goes on", "resume, continue"),
    ("going on", "resume, continue"),
    ("told apart", "distinguishable"),
    ("arr::fresh", "arr::uninit"),
    ("bytes from outside", "untrusted input"),
    ("taken up", "load, import"),
    ("take over", "load, import"),
    ("sets reached of", "distinct activation patterns: 50 of 92 possible"),
    ("optimise", "optimize"),
    ("optimisa", "optimiza"),
    ("initialis", "initializ"),
    ("normalis", "normaliz"),
    ("utilis", "utiliz"),
    ("standardis", "standardiz"),
    ("generalis", "generaliz"),
    ("serialis", "serializ"),
    ("catalogue", "catalog"),
    ("neighbour", "neighbor"),
    ("colour", "color"),
    ("behaviour", "behavior"),
];

/// Files that must name the words: this one, and old keys and names that are still read.
const EXEMPT: &[&str] = &["tests/words.rs", "tests/golden/text.txt"];

/// The text files of `folder` that people write.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Reports are made by the program.
            if !path.ends_with("docs/results") {
                files(&path, found);
            }
        } else if path.extension().is_some_and(|e| ["rs", "md", "py", "toml"].iter().any(|known| e == *known))
        {
            found.push(path);
        }
    }
}

#[test]
fn no_file_uses_these_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root.join(name)).into();
    for folder in ["src", "tests", "examples", "benches", "docs"] {
        files(&root.join(folder), &mut paths);
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        if EXEMPT.contains(&&*name) {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let line = line.to_lowercase();
            // Old spellings that files and programs of 0.1 have are still read.
            if line.contains("alias") {
                continue;
            }
            for (word, better) in WORDS {
                let starts_word =
                    |&(at, _): &(usize, &str)| !line[..at].ends_with(|c: char| c.is_alphanumeric());
                if line.match_indices(word).any(|hit| starts_word(&hit)) {
                    found.push(format!("{name}:{}: `{word}`; write: {better}", number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}
