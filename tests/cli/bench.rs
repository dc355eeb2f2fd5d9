//! Measurements: every figure is there and positive.

use assert_cmd::Command;
use serde_json::Value;

use crate::{json, number, success};

#[test]
fn speed_is_measured_and_every_figure_is_positive() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let step = ["bench", "step", "--size", "tiny", "--batch", "8", "--input", "16", "--quick"];
    let report = json(&success(folder, &[&step[..], &["--threads", "2", "--json"]].concat()));
    for pointer in [
        "/train_step_ms/median",
        "/train_step_ms/min",
        "/eval_batch_ms/median",
        "/eval_one_us/median",
        "/peak_gflops",
        "/stream_gb_s",
        "/roofline_ms",
        "/roofline_fraction",
        "/active_flops",
        "/train_flops",
    ] {
        assert!(number(&report, pointer) > 0.0, "{pointer} in {report}");
    }
    for pointer in ["/train_step_ms/spread", "/eval_one_us/spread", "/parallel_regions_per_step"] {
        assert!(number(&report, pointer) >= 0.0, "{pointer} in {report}");
    }
    assert_eq!(report["allocations_per_step"].is_null(), !cfg!(feature = "count-allocations"));
    assert!(report.get("peak_rss_mb").is_some() && report["simd_level"].is_string());
    assert_eq!((number(&report, "/threads"), number(&report, "/batch")), (2.0, 8.0));
    assert_eq!((number(&report, "/parameters"), &report["experts"]), (40_307.0, &json("[8, 1]")));
    assert!(success(folder, &step).contains("the training step reaches"));

    let routers = json(&success(folder, &["bench", "routers", "--quick", "--json"]));
    assert_eq!(
        (&routers["routers"][1]["name"], number(&routers, "/routers/1/ratio")),
        (&"top-k".into(), 1.0)
    );
    assert_eq!(number(&routers, "/routers/1/mean_k/0"), 2.0);
    assert!(number(&routers, "/routers/8/train_step_ms/median") > 0.0);

    let gemm = json(&success(folder, &["bench", "gemm", "--quick", "--json"]));
    assert!(number(&gemm, "/products/0/gflops") > 0.0 && number(&gemm, "/products/0/share_of_peak") > 0.0);
    let small = ["--width", "8,12", "--tokens", "300", "--vocabulary", "500"];
    let head = json(&success(folder, &[&["bench", "head", "--quick", "--json"], &small[..]].concat()));
    assert_eq!(number(&head, "/widths/1/width"), 12.0);
    assert!(
        number(&head, "/widths/0/train/gflops") > 0.0 && number(&head, "/widths/0/evaluate/gflops") > 0.0
    );
    let select = json(&success(folder, &["bench", "select", "--quick", "--json"]));
    assert_eq!((number(&select, "/layers/0/experts"), number(&select, "/layers/0/k")), (8.0, 3.0));
    assert!(number(&select, "/layers/3/gate_and_select/ratio") > 0.0);
}

#[test]
fn errors_in_ulp_are_the_same_on_any_threads_and_small() {
    let folder = tempfile::tempdir().unwrap();
    let accuracy = ["bench", "accuracy", "--quick", "--json", "--threads"];
    let run = |threads| json(&success(folder.path(), &[&accuracy[..], &[threads]].concat()));
    let (mut one, mut three) = (run("1"), run("3"));
    assert_eq!((one["threads"].take(), three["threads"].take()), (1.into(), 3.into()));
    assert_eq!(one, three);
    assert_eq!(
        (&one["functions"][0]["function"], number(&one, "/functions/0/numbers")),
        (&"exp".into(), 4279.0)
    );
    assert!((0.1..1.5).contains(&number(&one, "/functions/0/ulps")), "{one}");
    assert!((0.1..5.0).contains(&number(&one, "/norms/0/ulps_of_largest")), "{one}");
    let table = success(folder.path(), &["bench", "accuracy", "--quick"]);
    assert!(table.contains("normal quantile") && table.contains("layer norm"), "{table}");
}

#[test]
fn bounds_and_scaling_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let draw = |verb, file| ["bench", verb, "--quick", "--json", "--svg", file];
    let roofline = json(&success(folder, &draw("roofline", "roofline.svg")));
    assert!(number(&roofline, "/sizes/1/roofline_fraction") > 0.0);
    let both = [&draw("scaling", "scaling.svg")[..], &["--threads-list", "2,1"]].concat();
    let scaling = json(&success(folder, &both));
    assert!(number(&scaling, "/tokens/exponent").is_finite());
    assert_eq!(number(&scaling, "/over_threads/points/1/value"), 2.0);
    for file in ["roofline.svg", "scaling.svg"] {
        assert!(std::fs::read_to_string(folder.join(file)).unwrap().starts_with("<svg"), "{file}");
    }
}

#[test]
fn the_environment_names_the_instructions() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |level| {
        let mut command = Command::cargo_bin("dynamoe").unwrap();
        command.current_dir(&folder).env("DYNAMOE_SIMD", level).args(["bench", "gemm", "--quick", "--json"]);
        command.output().unwrap()
    };
    let report: Value = serde_json::from_slice(&bench("portable").stdout).unwrap();
    assert_eq!(report["simd_level"], "portable");
    let refused = bench("mmx");
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), error.lines().count()), (Some(1), 1), "{error}");
    assert!(
        error.starts_with(
            "error: setting DYNAMOE_SIMD: `mmx` is not available on this processor; use one of "
        ),
        "{error}"
    );
}
