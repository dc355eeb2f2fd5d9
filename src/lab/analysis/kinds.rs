//! How many experts tokens get by the kind of text they stand in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::stats::Mean;
use crate::data::text::tokenizer::Tokenizer;
use crate::engine::error::{Error, Result};
use crate::engine::tape::{Mode, Tape};
use crate::nn::{Feed, Model, Phase, Tokens};

/// Texts by their kind.
pub type Kinds = BTreeMap<String, Vec<String>>;

/// The bundled texts: prose, code, numbers, questions.
const BUNDLED: &str = include_str!("kinds.toml");

/// Reads texts by kind from a TOML file of lists, or takes the bundled ones.
///
/// # Errors
/// A file that is missing or is no such file.
pub fn read(path: Option<&Path>) -> Result<Kinds> {
    let Some(path) = path else { return Ok(toml::from_str(BUNDLED).expect("bundled texts are well formed")) };
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let kinds: Kinds = toml::from_str(&text).map_err(|e| {
        let what = format!("not texts by kind, such as prose = [\"..\", \"..\"] in TOML: {}", e.message());
        Error::data(path, what)
    })?;
    match kinds.values().any(|texts| texts.iter().all(|text| text.is_empty())) || kinds.is_empty() {
        true => Err(Error::data(path, "a kind without text")),
        false => Ok(kinds),
    }
}

/// What the tokens of one kind of text got.
#[derive(Clone, Debug, Serialize)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// Texts of it.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Experts of a token over all layers: mean over texts, of which each counts as one.
    pub k: Mean,
    /// Mean experts of a token in each layer.
    pub by_layer: Vec<f64>,
}

/// Counts the experts of every kind, the kinds with the most first.
///
/// # Errors
/// A network for images.
pub fn compare(model: &Model<f32>, tokenizer: &Tokenizer, kinds: &Kinds) -> Result<Vec<Kind>> {
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
        all.push(Kind { name: name.clone(), texts: each.len(), tokens, k, by_layer });
    }
    all.sort_by(|a, b| b.k.mean.total_cmp(&a.k.mean));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Init;
    use crate::train::config::{Config, Layers};

    #[test]
    fn every_kind_is_counted_and_the_literal_rule_gives_all_the_same() {
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
            let config = Config::resolve(&Layers { set, ..Layers::default() }).unwrap();
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
    fn files_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kinds.toml");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(Some(&path)).unwrap_err().to_string()
        };
        assert!(refusal("prose = 3").contains("not texts by kind"));
        assert!(refusal("").contains("a kind without text"));
        assert!(refusal("prose = [\"\"]").contains("a kind without text"));
        std::fs::write(&path, "a = [\"b\"]").unwrap();
        assert_eq!(read(Some(&path)).unwrap()["a"], ["b"]);
    }
}
