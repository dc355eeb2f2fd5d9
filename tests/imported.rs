//! A network in the published layout of top-p routing gives the answers that an independent script computed.

use std::path::Path;

use dynamoe::engine::arr;
use dynamoe::nn::{Feed, Phase, Tokens};
use dynamoe::train::import::read;
use dynamoe::{Mode, Tape};
use serde::Deserialize;

/// What `tests/imported/make.py` computed.
#[derive(Deserialize)]
struct Expected {
    ids: Vec<u32>,
    /// Experts of each token in each layer that routes.
    k: Vec<Vec<usize>>,
    logits: Vec<Vec<f32>>,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imported")
}

#[test]
fn its_answers_are_those_of_the_script() {
    let expected = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let Expected { ids, k, logits } = serde_json::from_str(&expected).unwrap();
    let model = read(&folder()).unwrap().model;
    let tape = Tape::new(Mode::Infer);
    let feed = Feed::Tokens(Tokens { ids: ids[..].into(), starts: [0, ids.len()].into() });
    let (h, layers) = model.hidden(&tape, &feed, Phase::Eval).unwrap();
    let found = model.logits(h).unwrap().value();
    for (found, expected) in arr::data(&found).iter().zip(logits.iter().flatten()) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    for (layer, counts) in [0, 2].into_iter().zip(&k) {
        let found: Vec<usize> = (0..ids.len()).map(|t| layers[layer].routes.k(t)).collect();
        assert_eq!(&found, counts, "layer {layer}");
    }
    assert!(k.iter().flatten().any(|&k| k > 1) && layers[1].routes.len() == ids.len());
}

#[test]
fn what_does_not_fit_is_named() {
    let copy = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(folder().join(file), copy.path().join(file)).unwrap();
    }
    let refusal = || read(copy.path()).unwrap_err().to_string();
    let config = std::fs::read_to_string(copy.path().join("config.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from));
        std::fs::write(copy.path().join("config.json"), config.replace(from, to)).unwrap();
    };
    with("\"num_experts\": 4", "\"num_experts\": 5");
    assert!(
        refusal().contains("model.layers.0.mlp.router.weight is [4, 8]; by config.json it must be [5, 8]")
    );
    with("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    assert!(refusal().contains("model.layers.3.input_norm.weight is missing"), "{}", refusal());
    with("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    assert!(refusal().contains("is not part of the network that config.json describes"), "{}", refusal());
    with("\"silu\"", "\"gelu\"");
    assert!(refusal().contains("hidden_act is gelu"));
    with("\"num_attention_heads\": 2", "\"num_attention_heads\": 3");
    assert!(refusal().contains("heads: 3 is not valid"), "{}", refusal());
    with("\"vocab_size\": 11,", "");
    assert!(refusal().contains("missing field `vocab_size`"));
    std::fs::remove_file(copy.path().join("model.safetensors")).unwrap();
    std::fs::write(copy.path().join("config.json"), &config).unwrap();
    assert!(refusal().contains("has no .safetensors file"));
}
