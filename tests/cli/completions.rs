//! Completion scripts for shells.

use crate::success;

#[test]
fn every_shell_gets_a_script_with_all_verbs() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = success(folder.path(), &["completions", shell]);
        assert!(
            ["train", "analyze", "completions", "keep-last"].iter().all(|word| script.contains(word)),
            "{shell}"
        );
    }
}
