//! Checkpoints: one safetensors file with the parameters, the optimiser's memory and where the run stood.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::Progress;
use crate::arr::{self, Arr};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files;
use crate::nn::param::{Item, Module, for_each};
use crate::optim::Optimizer;

/// The name of the file in a checkpoint's folder.
pub const FILE: &str = "checkpoint.safetensors";

/// The file's one metadata key (several would come out in random order and change its bytes).
const KEY: &str = "dynamoe";

/// What stands beside the tensors, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// Version of this layout.
    version: u32,
    /// The run's settings.
    config: Config,
    /// Where the run stood.
    progress: Progress,
    /// Running numbers by name; `null` stands for one without a value yet.
    states: Vec<(String, Option<f64>)>,
}

/// Parameters as named arrays, running numbers, and progress.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: HashMap<String, Arr<f32>>,
    states: HashMap<String, f64>,
    /// The run's settings.
    pub config: Config,
    /// Where the run stood.
    pub progress: Progress,
}

/// Names under which an optimiser's moments are stored.
fn moment(which: &str, name: &str) -> String {
    format!("optimizer.{which}.{name}")
}

/// Version of the layout.
const VERSION: u32 = 1;

/// Saves `model`, and `optimizer` if given, into `folder`.
///
/// # Errors
/// The system's; an older checkpoint stays as it was.
pub fn save(
    folder: &Path,
    config: &Config,
    model: &mut impl Module<f32>,
    optimizer: Option<&Optimizer<f32>>,
    progress: &Progress,
) -> Result<()> {
    files::create_dir(folder)?;
    let (mut tensors, mut states) = (Vec::new(), Vec::new());
    for_each(model, |name, item| match item {
        Item::Param(param) => tensors.push((name.to_string(), param.value.clone())),
        Item::State(state) => states.push((name.to_string(), (!state.is_nan()).then_some(*state))),
    });
    if let Some(optimizer) = optimizer {
        let names: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
        for (which, moments) in [("first", &optimizer.first), ("second", &optimizer.second)] {
            tensors.extend(names.iter().zip(moments).map(|(name, m)| (moment(which, name), m.clone())));
        }
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, a)| {
            (name, a.shape().to_vec(), arr::data(&a).iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).expect("four bytes for each element");
        (name, view)
    });
    let header = Header { version: VERSION, config: config.clone(), progress: progress.clone(), states };
    let header = serde_json::to_string(&header).expect("plain data");
    let file = safetensors::serialize(views, Some(HashMap::from([(KEY.to_string(), header)])))
        .expect("names are unique and the header is small");
    files::write(&folder.join(FILE), &file)
}

/// Reads the checkpoint in `folder`.
///
/// # Errors
/// A missing, truncated or foreign file, with its path.
pub fn load(folder: &Path) -> Result<Checkpoint> {
    let path = folder.join(FILE);
    let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::data(&path, "no such checkpoint; if the run has another, name it with --checkpoint")
        }
        _ => Error::io("read", &path)(e),
    })?;
    let broken = |what: String| {
        Error::data(
            &path,
            format!("not a usable checkpoint ({what}); train again, or use another checkpoint"),
        )
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
    let header = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(KEY))
        .ok_or_else(|| broken("not written by dynamoe".into()))?;
    let header: Header = serde_json::from_str(header).map_err(|e| broken(e.to_string()))?;
    let (version, input) = (header.version, header.progress.input);
    if version != VERSION {
        return Err(broken(format!("layout version {version}, this program reads {VERSION}")));
    }
    if !input.is_possible() {
        return Err(broken(format!("impossible images: {input:?}")));
    }
    let mut tensors = HashMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(broken(format!("{name} is not f32")));
        }
        let data =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        tensors.insert(name.to_string(), arr::from_vec(view.shape(), data));
    }
    let states = header.states.into_iter().map(|(name, v)| (name, v.unwrap_or(f64::NAN))).collect();
    Ok(Checkpoint { tensors, states, config: header.config, progress: header.progress })
}

impl Checkpoint {
    /// Puts the parameters and running numbers into `model`.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape, by name.
    pub fn restore(&self, model: &mut impl Module<f32>, folder: &Path) -> Result<()> {
        let (mut problem, mut used) = (None, 0);
        for_each(model, |name, item| {
            let fits = match item {
                Item::Param(param) => match self.tensors.get(name) {
                    Some(value) if value.shape() == param.value.shape() => {
                        param.value = value.clone();
                        used += 1;
                        true
                    }
                    _ => false,
                },
                Item::State(state) => self.states.get(name).map(|v| *state = *v).is_some(),
            };
            if !fits && problem.is_none() {
                problem = Some(name.to_string());
            }
        });
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

    /// Puts the moments into `optimizer`, an optimiser of the same `model`.
    ///
    /// # Errors
    /// As [`Checkpoint::restore`].
    pub fn restore_optimizer(
        &self,
        model: &mut impl Module<f32>,
        optimizer: &mut Optimizer<f32>,
        folder: &Path,
    ) -> Result<()> {
        let mut names = Vec::new();
        for_each(model, |name, item| {
            if matches!(item, Item::Param(_)) {
                names.push(name.to_string());
            }
        });
        for (which, moments) in [("first", &mut optimizer.first), ("second", &mut optimizer.second)] {
            for (name, value) in names.iter().zip(moments) {
                match self.tensors.get(&moment(which, name)) {
                    Some(saved) if saved.shape() == value.shape() => *value = saved.clone(),
                    _ => {
                        let what = format!(
                            "the optimiser's memory of {name} is missing; only checkpoints/last has it"
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
