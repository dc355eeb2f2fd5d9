//! Checkpoints: one safetensors file with parameters, optimizer state and progress of a run.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Progress;
use super::state::{State, moment};
use crate::engine::arr::Arr;
use crate::engine::error::{Error, Result};
use crate::engine::files;
use crate::engine::tensors::{self, Tensor};
use crate::nn::optim::Optimizer;
use crate::nn::{ItemMut, Module};
use crate::train::config::Config;

/// The name of the file in a checkpoint's folder.
pub const FILE: &str = "checkpoint.safetensors";

/// The file's header, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// Version of this layout.
    version: u32,
    /// The run's settings.
    config: Config,
    /// The run's progress.
    progress: Progress,
    /// The tensors' names in the order of the digest.
    names: Vec<String>,
    /// The state's digest, to detect any damaged bit.
    digest: String,
    /// Running statistics by name; `null` for one without a value yet.
    states: Vec<(String, Option<f64>)>,
}

/// Parameters as named arrays, running statistics, and progress.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: HashMap<String, Arr<f32>>,
    states: HashMap<String, f64>,
    /// The run's settings.
    pub config: Config,
    /// The run's progress.
    pub progress: Progress,
}

/// Version of the layout.
const VERSION: u32 = 2;

/// What every version of the header has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Saves `state`, whose digest this is, into `folder`.
///
/// # Errors
/// The system's; an older checkpoint stays as it was.
pub fn save(
    folder: &Path,
    config: &Config,
    state: State<f32>,
    digest: String,
    progress: &Progress,
) -> Result<()> {
    files::create_dir(folder)?;
    let State { tensors, numbers } = state;
    let states = numbers.into_iter().map(|(name, v)| (name, (!v.is_nan()).then_some(v))).collect();
    let names = tensors.iter().map(|(name, _)| name.clone()).collect();
    let (config, progress) = (config.clone(), progress.clone());
    let header = Header { version: VERSION, config, progress, names, digest, states };
    let header = serde_json::to_string(&header).expect("plain data");
    let tensors: Vec<_> = tensors.into_iter().map(|(name, array)| (name, Tensor::f32(&array))).collect();
    tensors::write(&folder.join(FILE), &tensors, header)
}

/// Reads the checkpoint in `folder`.
///
/// # Errors
/// A missing, truncated or foreign file, with its path.
pub fn load(folder: &Path) -> Result<Checkpoint> {
    let path = folder.join(FILE);
    if !path.exists() {
        let others = others(folder).join(", ");
        let what = if others.is_empty() {
            "no such checkpoint, and no other".into()
        } else {
            format!("no such checkpoint; there are: {others} (--checkpoint)")
        };
        return Err(Error::data(&path, what));
    }
    let advice = "use another checkpoint (--checkpoint), or train again";
    let broken = |what: String| Error::data(&path, format!("not a usable checkpoint ({what}); {advice}"));
    let tensors::Content { tensors, header } = tensors::read(&path, "checkpoint").map_err(|e| match e {
        Error::Data { path, what } => Error::Data { path, what: format!("{what}; {advice}") },
        other => other,
    })?;
    let header = &header.ok_or_else(|| broken("not written by dynamoe".into()))?;
    let Versioned { version } = serde_json::from_str(header).map_err(|e| broken(e.to_string()))?;
    if version != VERSION {
        return Err(broken(format!("layout version {version}, this program reads {VERSION}")));
    }
    let header: Header = serde_json::from_str(header).map_err(|e| broken(e.to_string()))?;
    let input = &header.progress.input;
    if !input.is_valid() {
        return Err(broken(format!("images or tokens out of range: {input:?}")));
    }
    let arrays = tensors.into_iter().map(|(name, tensor)| match tensor.to_f32() {
        Some(array) => Ok((name, array)),
        None => Err(broken(format!("{name} is not f32"))),
    });
    let tensors: HashMap<String, Arr<f32>> = arrays.collect::<Result<_>>()?;
    let array = |name: &String| Some((name.clone(), tensors.get(name)?.clone()));
    let state = State {
        tensors: header.names.iter().filter_map(array).collect(),
        numbers: header.states.iter().map(|(name, v)| (name.clone(), v.unwrap_or(f64::NAN))).collect(),
    };
    if state.digest() != header.digest {
        return Err(broken("its content is not what was saved".into()));
    }
    let states = header.states.into_iter().map(|(name, v)| (name, v.unwrap_or(f64::NAN))).collect();
    Ok(Checkpoint { tensors, states, config: header.config, progress: header.progress })
}

/// The names of the checkpoints beside `folder`.
fn others(folder: &Path) -> Vec<String> {
    let beside = folder.parent().into_iter().flat_map(std::fs::read_dir).flatten().flatten();
    let there = beside.filter(|entry| entry.path().join(FILE).exists());
    let mut names: Vec<String> = there.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

impl Checkpoint {
    /// Checks that the checkpoint was made with this configuration.
    ///
    /// # Errors
    /// Another configuration; `run` is the run's folder.
    pub fn check_config(&self, config: &Config, run: &Path) -> Result<()> {
        if self.config == *config {
            return Ok(());
        }
        let what = "is not what this checkpoint was made with: one of them was edited or replaced after the training \
                    began; put it back, or train again";
        Err(Error::data(&run.join("config.toml"), what))
    }

    /// Copies parameters and running statistics into `model`.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape, by name.
    pub fn restore(&self, model: &mut impl Module<f32>, folder: &Path) -> Result<()> {
        let (mut problem, mut used) = (None, 0);
        for (name, item) in model.items_mut() {
            let fits = match item {
                ItemMut::Param(param) => match self.tensors.get(&name) {
                    Some(value) if value.shape() == param.value.shape() => {
                        param.value = value.clone();
                        used += 1;
                        true
                    }
                    _ => false,
                },
                ItemMut::Buffer(buffer) => self.states.get(&name).map(|v| *buffer = *v).is_some(),
            };
            if !fits && problem.is_none() {
                problem = Some(name);
            }
        }
        let parameters = self.tensors.keys().filter(|name| !name.starts_with("optimizer.")).count();
        match problem {
            None if used == parameters => Ok(()),
            None => {
                let what =
                    format!("holds {parameters} parameters, but config.toml describes a network of {used}");
                Err(Error::data(&folder.join(FILE), what))
            }
            Some(name) => {
                let what = format!(
                    "{name} is missing or has another shape than config.toml says; was the run folder edited?"
                );
                Err(Error::data(&folder.join(FILE), what))
            }
        }
    }

    /// Copies the moments into `optimizer`, an optimizer of the same `model`.
    ///
    /// # Errors
    /// As [`Checkpoint::restore`].
    pub fn restore_optimizer(
        &self,
        model: &impl Module<f32>,
        optimizer: &mut Optimizer<f32>,
        folder: &Path,
    ) -> Result<()> {
        let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
        for (which, moments) in [("first", &mut optimizer.first), ("second", &mut optimizer.second)] {
            for (name, value) in names.iter().zip(moments) {
                match self.tensors.get(&moment(which, name)) {
                    Some(saved) if saved.shape() == value.shape() => *value = saved.clone(),
                    _ => {
                        let what = format!(
                            "the optimizer state of {name} is missing; last and step-N have it, best does not"
                        );
                        return Err(Error::data(&folder.join(FILE), what));
                    }
                }
            }
        }
        optimizer.steps = self.progress.step;
        Ok(())
    }
}
