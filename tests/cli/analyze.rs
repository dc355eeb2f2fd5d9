//! Analysis of a run with a learned schedule.

use crate::{SHORT, json, number, refusal, success};

#[test]
fn a_learned_schedule_is_analyzed_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let set = ["--set", "schedule=learned", "--set", "layers=3", "--set", "percentile_scope=batch"];
    success(folder, &[&SHORT[..], &set, &["--out-dir", "run"]].concat());
    let config = std::fs::read_to_string(folder.join("run/config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    let experts: Vec<i64> =
        config["model"]["experts"].as_array().unwrap().iter().map(|e| e.as_integer().unwrap()).collect();
    assert_eq!(
        (config["model"]["schedule"].as_str(), experts.len(), experts.iter().sum::<i64>()),
        (Some("learned"), 3, 12)
    );
    assert!(success(folder, &["verify", "run"]).contains("60 steps"));

    let report = json(&success(folder, &["analyze", "run", "--json"]));
    assert_eq!((&report["images"], report["layers"].as_array().unwrap().len()), (&355.into(), 3));
    let k = number(&report, "/layers/0/record/mean_active");
    let difficulty = &report["difficulty"]["tenths"];
    let mean =
        (0..10).map(|i| number(difficulty, &format!("/{i}/images")) * number(difficulty, &format!("/{i}/k")));
    let layers: f64 = (0..3).map(|l| number(&report, &format!("/layers/{l}/record/mean_active"))).sum();
    assert!(k > 0.5 && (mean.sum::<f64>() / 355.0 - layers).abs() < 1e-9, "{report}");
    assert!(number(&report, "/gradient_variance/ratio") > 0.0);
    assert!(number(&report, "/diversity/2/spectral_entropy") > 0.0);
    let recommended = report["recommended_experts"].as_array().unwrap();
    assert_eq!(recommended.iter().map(|e| e.as_i64().unwrap()).sum::<i64>(), 12);
    for file in ["analysis.json", "experts_by_difficulty.svg", "experts_by_class_1.svg"] {
        assert!(folder.join("run/analysis").join(file).is_file(), "{file}");
    }
    assert!(success(folder, &["analyze", "run"]).contains("rank correlation of k with loss"));

    // The literal rule gives every image as many: said so, and nothing is correlated.
    success(folder, &[&SHORT[..], &["--out-dir", "constant"]].concat());
    let text = success(folder, &["analyze", "constant"]);
    assert!(text.contains("All images get the same number of experts"), "{text}");
    // The former spelling.
    assert!(refusal(folder, &["analyse", "missing"]).contains("missing: not a run folder"));
}
