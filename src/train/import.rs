//! Transformers in the published layout of Huang et al. (top-p routing, `modeling_moe.py`), as networks of this program.
//!
//! A folder has `config.json` and one or more `.safetensors` files. Linear weights there are (out, in) and here (in, out);
//! an expert's `gate_proj` and `up_proj` are one matrix here; a layer without a router is a layer of one expert, to
//! which top-p gives the weight 1; the rotary pairs are the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::data::text::MAX_VOCABULARY;
use crate::data::text::Tokenizer;
use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result, require};
use crate::engine::tensors;
use crate::nn::Module;
use crate::nn::{Init, Model};
use crate::train::config::{Resolved, Sources};

/// The fields of `config.json` that matter here.
#[derive(Debug, Deserialize)]
struct Published {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    max_position_embeddings: usize,
    num_experts: usize,
    #[serde(default = "one")]
    expert_frequency: usize,
    top_p_threshold: f64,
    rms_norm_eps: f64,
    #[serde(default = "ten_thousand")]
    rope_theta: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    rope_scaling: serde_json::Value,
}

fn one() -> usize {
    1
}

fn ten_thousand() -> f64 {
    10_000.0
}

fn silu() -> String {
    "silu".into()
}

/// An imported network.
#[derive(Debug)]
pub struct Imported {
    /// Its settings.
    pub config: Resolved,
    /// The network.
    pub model: Model<f32>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// Reads the network in `folder`. The tokenizer follows from the size of the vocabulary: bytes, GPT-2's, or bare numbers
/// for any other size.
///
/// # Errors
/// Files that are missing or damaged, names and shapes that do not fit, features that are not supported.
pub fn read(folder: &Path) -> Result<Imported> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let published: Published = serde_json::from_str(&text)
        .map_err(|e| Error::data(&path, format!("not a configuration of such a network: {e}")))?;
    let tokenizer = match published.vocab_size {
        256 => Tokenizer::Bytes,
        50_257 => Tokenizer::Gpt2,
        other => Tokenizer::Numbers(other),
    };
    let in_file = |error: Error| match error {
        Error::Config { key, what } => Error::data(&path, format!("{key}: {what}")),
        other => other,
    };
    let config = configuration(&published, tokenizer.name(), &path).map_err(in_file)?;
    let spec = config.checked_spec(0, published.vocab_size).map_err(in_file)?;
    let mut model = Model::new(&spec, &mut Init::new(config.train.seed));
    fill(&mut model, arrays(folder)?, &published, folder)?;
    Ok(Imported { config, model, tokenizer })
}

fn configuration(published: &Published, tokenizer: &str, path: &Path) -> Result<Resolved> {
    let refuse = |what: String| Err(Error::data(path, what));
    if published.hidden_act != "silu" {
        return refuse(format!("hidden_act is {}; only silu is supported", published.hidden_act));
    }
    if !published.rope_scaling.is_null() {
        return refuse("rope_scaling is not supported".into());
    }
    let whole = |key: &str, value: usize, most: usize| {
        require(key, (1..=most).contains(&value), &value, &format!("1 to {most}"))
    };
    whole("num_hidden_layers", published.num_hidden_layers, 1000)?;
    whole("num_attention_heads", published.num_attention_heads, published.hidden_size.max(1))?;
    whole("vocab_size", published.vocab_size, MAX_VOCABULARY)?;
    let every = published.expert_frequency.max(1);
    let experts: Vec<usize> = (0..published.num_hidden_layers)
        .map(|l| if l.is_multiple_of(every) { published.num_experts } else { 1 })
        .collect();
    let heads = published.num_attention_heads;
    let settings = [
        "dataset=tinyshakespeare".into(),
        format!("tokenizer={tokenizer}"),
        "model=transformer".into(),
        "router=top-p".into(),
        "schedule=custom".into(),
        format!("experts={experts:?}"),
        format!("mass={:?}", published.top_p_threshold),
        format!("layers={}", published.num_hidden_layers),
        format!("width={}", published.hidden_size),
        format!("expert_hidden={}", published.intermediate_size),
        format!("heads={heads}"),
        format!("kv_heads={}", published.num_key_value_heads.unwrap_or(heads)),
        format!("sequence={}", published.max_position_embeddings),
        format!("rms_eps={:?}", published.rms_norm_eps),
        format!("rope_theta={:?}", published.rope_theta),
        format!("tie={}", published.tie_word_embeddings),
    ];
    Resolved::resolve(&Sources { set: settings.into(), ..Sources::default() })
}

/// All arrays of all files in `folder`.
fn arrays(folder: &Path) -> Result<BTreeMap<String, Arr<f32>>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    if files.is_empty() {
        return Err(Error::data(folder, "has no .safetensors file"));
    }
    let mut all = BTreeMap::new();
    for path in files {
        for (name, tensor) in tensors::read(&path, "network")?.tensors {
            let array = tensor.widened().ok_or_else(|| {
                Error::data(&path, format!("{name} holds {:?}, not F32, F16 or BF16", tensor.dtype))
            })?;
            all.insert(name, array);
        }
    }
    Ok(all)
}

/// Copies every array to its parameter.
fn fill(
    model: &mut Model<f32>,
    mut arrays: BTreeMap<String, Arr<f32>>,
    published: &Published,
    folder: &Path,
) -> Result<()> {
    let bad = |what: String| Error::data(folder, what);
    let mut take = |name: String, shape: &[usize]| -> Result<Arr<f32>> {
        let array = arrays.remove(&name).ok_or_else(|| bad(format!("{name} is missing")))?;
        match array.shape() == shape {
            true => Ok(array),
            false => Err(bad(format!("{name} is {:?}; by config.json it must be {shape:?}", array.shape()))),
        }
    };
    let last = published.num_hidden_layers.to_string();
    let mut problem = None;
    for (name, param) in model.parameters_mut() {
        if problem.is_some() {
            break;
        }
        let shape = param.value.shape().to_vec();
        let parts: Vec<&str> = name.split('.').collect();
        let value = match parts[..] {
            ["embedding", "table"] => take("model.embed_tokens.weight".into(), &shape),
            ["attention", l, "norm", "gain"] => take(format!("model.layers.{l}.input_norm.weight"), &shape),
            ["attention", l, which] => {
                let name = format!("model.layers.{l}.self_attn.{which}_proj.weight");
                take(name, &[shape[1], shape[0]]).map(|w| transposed(&w))
            }
            ["norms", l, "gain"] if l == last => take("model.norm.weight".into(), &shape),
            ["norms", l, "gain"] => take(format!("model.layers.{l}.post_attention_norm.weight"), &shape),
            // A layer of one expert has no router in the published layout.
            ["layers", l, "router", .., "w"] if shape[1] > 1 => {
                let name = format!("model.layers.{l}.mlp.router.weight");
                take(name, &[shape[1], shape[0]]).map(|w| transposed(&w))
            }
            ["layers", _, "router", ..] => Ok(arr::zeros(&shape)),
            ["layers", l, "experts", which] => experts(l, which, &shape, &mut take),
            ["head", "w"] => take("lm_head.weight".into(), &shape),
            _ => Err(bad(format!("{name} is not part of this layout"))),
        };
        match value {
            Ok(value) => param.value = value,
            Err(error) => problem = Some(error),
        }
    }
    problem.map_or(Ok(()), Err)?;
    // Angles are computed; a tied head may be written down nevertheless.
    let expected = |name: &str| {
        name.ends_with("rotary_emb.inv_freq") || (published.tie_word_embeddings && name == "lm_head.weight")
    };
    match arrays.keys().find(|name| !expected(name)) {
        Some(name) => Err(bad(format!("{name} is not part of the network that config.json describes"))),
        None => Ok(()),
    }
}

/// The experts of layer `l`: `w1` (E, d, 2h) from gate and up, `w2` (E, h, d) from down.
fn experts(
    l: &str,
    which: &str,
    shape: &[usize],
    take: &mut impl FnMut(String, &[usize]) -> Result<Arr<f32>>,
) -> Result<Arr<f32>> {
    let (count, rows, columns) = (shape[0], shape[1], shape[2]);
    let mut value = arr::zeros(shape);
    for (e, out) in arr::data_mut(&mut value).chunks_exact_mut(rows * columns).enumerate() {
        let name = |which: &str| match count {
            1 => format!("model.layers.{l}.mlp.mlp.{which}_proj.weight"),
            _ => format!("model.layers.{l}.mlp.experts.{e}.{which}_proj.weight"),
        };
        // Blocks of columns, each one weight of (columns, rows) there.
        let blocks: &[&str] = if which == "w1" { &["gate", "up"] } else { &["down"] };
        let width = columns / blocks.len();
        for (b, block) in blocks.iter().enumerate() {
            let w = transposed(&take(name(block), &[width, rows])?);
            for (out, row) in out.chunks_exact_mut(columns).zip(arr::data(&w).chunks_exact(width)) {
                out[b * width..][..width].copy_from_slice(row);
            }
        }
    }
    Ok(value)
}

fn transposed(w: &Arr<f32>) -> Arr<f32> {
    let (rows, columns) = (w.shape()[0], w.shape()[1]);
    let w = arr::data(w);
    let numbers = (0..columns).flat_map(|c| (0..rows).map(move |r| w[r * columns + c]));
    arr::from_vec(&[columns, rows], numbers.collect())
}
