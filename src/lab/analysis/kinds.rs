//! Active experts by kind of text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::stats::Mean;
use crate::data::text::tokenizer::Tokenizer;
use crate::engine::error::{Error, Result};
use crate::engine::tape::{Mode, Tape};
use crate::nn::{Feed, Model, Phase, Tokens};

/// Texts by kind.
pub type Kinds = BTreeMap<String, Vec<String>>;

/// The bundled texts: prose, code, numbers, questions.
const BUNDLED: &str = include_str!("kinds.toml");

/// Reads texts by kind from a TOML file of lists, or takes the bundled ones.
///
/// # Errors
/// A file that is missing or has another format.
pub fn read(path: Option<&Path>) -> Result<Kinds> {
    let Some(path) = path else { return Ok(toml::from_str(BUNDLED).expect("bundled texts are well formed")) };
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let kinds: Kinds = toml::from_str(&text).map_err(|e| {
        let what =
            format!("expected lists of texts by kind, such as prose = [\"..\", \"..\"]: {}", e.message());
        Error::data(path, what)
    })?;
    match kinds.values().any(|texts| texts.iter().all(|text| text.is_empty())) || kinds.is_empty() {
        true => Err(Error::data(path, "a kind has no text; give every kind at least one")),
        false => Ok(kinds),
    }
}

/// The use of experts in one kind of text.
#[derive(Clone, Debug, Serialize)]
pub struct KindUsage {
    /// Name of the kind.
    pub name: String,
    /// Number of texts.
    pub texts: usize,
    /// Number of tokens.
    pub tokens: usize,
    /// Active experts per token, summed over layers: mean over texts, each with equal weight.
    pub k: Mean,
    /// Mean active experts per token in each layer.
    pub by_layer: Vec<f64>,
}

/// The active experts of every kind, in descending order.
///
/// # Errors
/// A model for images.
pub fn compare(model: &Model<f32>, tokenizer: &Tokenizer, kinds: &Kinds) -> Result<Vec<KindUsage>> {
    let mut all = Vec::new();
    for (name, texts) in kinds {
        let (mut each, mut tokens, mut sums) = (Vec::new(), 0, vec![0.0; model.spec().experts.len()]);
        for text in texts {
            let ids = tokenizer.encode(text);
            if ids.is_empty() {
                continue;
            }
            let tape = Tape::new(Mode::Infer);
            let starts: Arc<[usize]> = [0, ids.len()].into();
            let feed = Feed::Tokens(Tokens { ids: ids[..].into(), starts });
            let (_, layers) = model.hidden(&tape, &feed, Phase::Eval)?;
            let counts: Vec<f64> = layers.iter().map(|layer| layer.routes.len() as f64).collect();
            each.push(counts.iter().sum::<f64>() / ids.len() as f64);
            sums.iter_mut().zip(&counts).for_each(|(sum, count)| *sum += count);
            tokens += ids.len();
        }
        let Some(k) = Mean::of(&each) else { continue };
        let by_layer = sums.iter().map(|sum| sum / tokens as f64).collect();
        all.push(KindUsage { name: name.clone(), texts: each.len(), tokens, k, by_layer });
    }
    all.sort_by(|a, b| b.k.mean.total_cmp(&a.k.mean));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Init;
    use crate::train::config::{Config, Sources};

    #[test]
    fn every_kind_is_counted_and_the_literal_rule_gives_equal_counts() {
        let of = |router: &str| {
            let set = [
                "dataset=tinyshakespeare",
                "tokenizer=bytes",
                "model=transformer",
                "layers=2",
                "width=32",
                router,
            ];
            let set = set.map(String::from).to_vec();
            let config = Config::resolve(&Sources { set, ..Sources::default() }).unwrap();
            let model = Model::new(&config.spec(0, 256), &mut Init::new(1));
            compare(&model, &Tokenizer::Bytes, &read(None).unwrap()).unwrap()
        };
        let same = of("router=percentile");
        assert_eq!(same.len(), 4);
        assert!(same.iter().all(|kind| kind.k.mean == 4.0 && kind.by_layer == [3.0, 1.0]), "{same:?}");
        let varying = of("router=top-p");
        assert!(varying.windows(2).all(|pair| pair[0].k.mean >= pair[1].k.mean));
        assert!(varying[0].k.mean > varying[3].k.mean && varying.iter().all(|kind| kind.texts == 6));
    }

    #[test]
    fn invalid_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kinds.toml");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(Some(&path)).unwrap_err().to_string()
        };
        assert!(refusal("prose = 3").contains("expected lists of texts by kind"));
        assert!(refusal("").contains("a kind has no text; give every kind at least one"));
        assert!(refusal("prose = [\"\"]").contains("a kind has no text; give every kind at least one"));
        std::fs::write(&path, "a = [\"b\"]").unwrap();
        assert_eq!(read(Some(&path)).unwrap()["a"], ["b"]);
    }
}
