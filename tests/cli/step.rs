//! Step files for other frameworks.

use crate::{SHORT, refusal, success};

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
    // With moments and buffers: a router whose biases decide continues from the file alone.
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
            .contains("the optimizer state of ")
    );
    assert!(!folder.join("x").exists());
}
