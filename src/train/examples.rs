//! The data set of a run.

use std::path::Path;

use crate::data::{self, Dataset, Encoding};
use crate::engine::error::{Error, Result};
use crate::train::config::{Config, DataSettings};

/// The data set of a run; `data_dir` is the folder the user asked for, if any ([`data::data_dir`]).
///
/// # Errors
/// Files that are missing or damaged.
pub fn load(config: &Config, data_dir: Option<&Path>) -> Result<Dataset> {
    let DataSettings { dataset, tokenizer, sequence, pack } = &config.data;
    match data::is_text(dataset) {
        true => Ok(data::load_text(dataset, *tokenizer, *sequence, *pack, data_dir)?.into()),
        false => Ok(data::load(dataset, data_dir)?.into()),
    }
}

/// The data set of a network that takes `encoding`.
///
/// # Errors
/// Files that are missing or damaged; a data set of another task.
pub fn load_as(config: &Config, encoding: &Encoding, data_dir: Option<&Path>) -> Result<Dataset> {
    let DataSettings { dataset, sequence, pack, .. } = &config.data;
    let data = match (encoding, data::is_text(dataset)) {
        (Encoding::Text(text), true) => {
            data::load_text_as(dataset, text.tokenizer.clone(), *sequence, *pack, data_dir)?.into()
        }
        (Encoding::Images(_), true) => {
            return Err(Error::config("dataset", format!("{dataset} is text; this network is for images")));
        }
        (_, false) => load(config, data_dir)?,
    };
    data.encoded_as(encoding)
}
