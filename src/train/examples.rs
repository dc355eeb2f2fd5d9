//! The data of a run, and the examples of a split as a network takes them.

use std::path::Path;
use std::sync::Arc;

use super::Input;
use crate::data::{self, Dataset, Images, Standardize, Text};
use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::kernels::par;
use crate::nn::{Feed, Tokens};
use crate::train::config::{Config, DataSettings};

/// What a network is shown, and what it is to answer: one target for each row of the feed.
pub type Batch = (Feed<f32>, Vec<u32>);

/// The examples of one split.
#[derive(Clone, Copy, Debug)]
pub enum Examples<'a> {
    /// Images, and how their pixels become numbers.
    Images(&'a Images, &'a Standardize),
    /// Text. An example is a sequence; its targets are the tokens that follow.
    Text(&'a Text),
}

/// The data set of a run; `data_dir` is the folder the user asked for, if any ([`data::data_dir`]).
///
/// # Errors
/// Files that are missing or damaged.
pub fn load(config: &Config, data_dir: Option<&Path>) -> Result<Dataset> {
    if !data::is_text(&config.data.dataset) {
        return Ok(Dataset::Images(data::load(&config.data.dataset, data_dir)?));
    }
    let DataSettings { dataset, tokenizer, sequence, pack } = &config.data;
    Ok(Dataset::Text(data::load_text(dataset, *tokenizer, *sequence, *pack, data_dir)?))
}

/// The data set of a network that is there already: text in the tokens it knows.
///
/// # Errors
/// Files that are missing or damaged, images for a network for text or the other way round.
pub fn load_as(config: &Config, input: &Input, data_dir: Option<&Path>) -> Result<Dataset> {
    let DataSettings { dataset, sequence, pack, .. } = &config.data;
    match (input, data::is_text(dataset)) {
        (Input::Text(text), true) => Ok(Dataset::Text(data::load_text_as(
            dataset,
            text.tokenizer.clone(),
            *sequence,
            *pack,
            data_dir,
        )?)),
        (Input::Images(_), false) => load(config, data_dir),
        (Input::Text(_), false) => {
            Err(Error::config("dataset", format!("{dataset} is images; this network is for text")))
        }
        (Input::Images(_), true) => {
            Err(Error::config("dataset", format!("{dataset} is text; this network is for images")))
        }
    }
}

impl<'a> Examples<'a> {
    /// What to learn from; images as `standardize` says.
    pub fn train(data: &'a Dataset, standardize: &'a Standardize) -> Examples<'a> {
        match data {
            Dataset::Images(set) => Examples::Images(&set.train, standardize),
            Dataset::Text(set) => Examples::Text(&set.train),
        }
    }

    /// What to be judged on.
    pub fn test(data: &'a Dataset, standardize: &'a Standardize) -> Examples<'a> {
        match data {
            Dataset::Images(set) => Examples::Images(&set.test, standardize),
            Dataset::Text(set) => Examples::Text(&set.test),
        }
    }

    /// How many there are: images, or sequences.
    pub fn len(&self) -> usize {
        match self {
            Examples::Images(images, _) => images.len(),
            Examples::Text(text) => text.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many rows of a feed one example is: an image is one, a sequence as many as it has tokens.
    pub fn rows_of_one(&self) -> usize {
        match self {
            Examples::Images(..) => 1,
            Examples::Text(text) => text.predicted().div_ceil(text.len().max(1)).max(1),
        }
    }

    /// How many go through the network at once where no gradient is asked for.
    pub fn at_once(&self) -> usize {
        match self {
            Examples::Images(..) => 500,
            Examples::Text(_) => 16,
        }
    }

    /// The examples with these numbers.
    pub fn batch(&self, indices: &[u32]) -> Batch {
        match self {
            Examples::Images(images, standardize) => {
                (Feed::Images(gather(images, indices, standardize)), labels(images, indices))
            }
            Examples::Text(text) => {
                let (mut ids, mut starts, mut targets) = (Vec::new(), vec![0], Vec::new());
                for &index in indices {
                    let sequence = text.sequence(index as usize);
                    ids.extend_from_slice(&sequence[..sequence.len() - 1]);
                    targets.extend_from_slice(&sequence[1..]);
                    starts.push(ids.len());
                }
                (Feed::Tokens(Tokens { ids: ids.into(), starts: Arc::from(starts) }), targets)
            }
        }
    }

    /// All examples in order, [`Examples::at_once`] at a time.
    pub fn batches(&self) -> impl Iterator<Item = Batch> {
        let (count, size) = (self.len() as u32, self.at_once());
        (0..count).step_by(size).map(move |first| {
            let part: Vec<u32> = (first..count.min(first + size as u32)).collect();
            self.batch(&part)
        })
    }
}

/// The images at `indices`, standardized, as (T, features).
pub fn gather(images: &Images, indices: &[u32], standardize: &Standardize) -> Arr<f32> {
    let features = images.features();
    let mut x = arr::fresh(&[indices.len(), features]);
    const ROWS: usize = 16;
    par::chunks(arr::data_mut(&mut x), ROWS * features, |i, rows| {
        for (row, &index) in rows.chunks_exact_mut(features).zip(&indices[i * ROWS..]) {
            standardize.apply(&images.pixels[index as usize * features..][..features], row);
        }
    });
    x
}

/// The classes of the images at `indices`.
pub fn labels(images: &Images, indices: &[u32]) -> Vec<u32> {
    indices.iter().map(|&i| u32::from(images.labels[i as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_text_predicts_the_token_after_each() {
        let text = Text { ids: vec![1, 2, 3, 3, 4, 7, 8, 9], starts: vec![0, 3, 5, 8] };
        let (feed, targets) = Examples::Text(&text).batch(&[2, 0]);
        let Feed::Tokens(Tokens { ids, starts }) = feed else { panic!("it is text") };
        assert_eq!((&ids[..], &starts[..]), (&[7, 8, 1, 2][..], &[0, 2, 4][..]));
        assert_eq!(targets, [8, 9, 2, 3]);
    }
}
