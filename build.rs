//! Tells the crate what it is built for and with, for the manifests of its runs.

use std::process::Command;

fn main() {
    let get = |name| std::env::var(name).expect("cargo sets it");
    let output = Command::new(get("RUSTC")).arg("--version").output();
    let rustc = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    println!("cargo::rustc-env=DYNAMOE_TARGET={}", get("TARGET"));
    println!("cargo::rustc-env=DYNAMOE_RUSTC={}", rustc.trim());
    println!("cargo::rerun-if-changed=build.rs");
}
