//! Opening a run's network.

use std::path::Path;

use anyhow::Result;

use super::flags::Saved;
use crate::data::{Dataset, Encoding};
use crate::nn::{Init, Model};
use crate::train::config::Resolved;
use crate::train::run_folder::RunFolder;
use crate::train::{checkpoint, examples};

/// A run's network with what it needs to be used.
pub struct Trained {
    /// The run's settings.
    pub config: Resolved,
    /// What the network takes.
    pub input: Encoding,
    /// The network.
    pub model: Model<f32>,
    /// Steps taken in training.
    pub steps: u64,
    /// [`Dataset::digest`] of the training data; empty for an imported network.
    data_digest: String,
}

impl Saved {
    /// Opens the run's network from the checkpoint.
    ///
    /// # Errors
    /// A folder that holds no run, a checkpoint that is missing or damaged.
    pub fn open(&self) -> Result<Trained> {
        let (folder, config) = RunFolder::open(&self.run)?;
        let folder = folder.checkpoint(&self.checkpoint.checkpoint);
        let saved = checkpoint::load(&folder)?;
        saved.check_config(&config, &self.run)?;
        let input = saved.progress.input.clone();
        let spec = config.checked_spec(input.features(), input.classes())?;
        let mut model = Model::new(&spec, &mut Init::new(config.train.seed));
        saved.restore(&mut model, &folder)?;
        let progress = saved.progress;
        Ok(Trained { config, input, model, steps: progress.step, data_digest: progress.data_digest })
    }
}

impl Trained {
    /// The run's data set, or the one called `dataset`; text in the network's own tokens. Says so on standard error if
    /// the run's own data has changed since the training.
    ///
    /// # Errors
    /// Files that are missing or damaged, images for a network for text or text for a network for images.
    pub fn data(&self, dataset: Option<&str>, data_dir: Option<&Path>) -> Result<Dataset> {
        let mut config = self.config.clone().into_config();
        if let Some(name) = dataset {
            config.data.dataset = name.into();
        }
        let data = examples::load_as(&config, &self.input, data_dir)?;
        let is_known = !self.data_digest.is_empty() && dataset.is_none();
        if is_known && data.digest() != self.data_digest {
            eprintln!("note: {} is no longer what this network was trained on", config.data.dataset);
        }
        Ok(data)
    }
}
