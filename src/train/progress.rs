//! Where a run stands, and what its network takes: what a checkpoint keeps beside the arrays.

use serde::{Deserialize, Serialize};

use super::manifest::{Link, Session};
use super::metrics::{Best, EpochRecord, Seconds};
use crate::data::{Dataset, Images, Standardize, text::tokenizer::Tokenizer};
use crate::engine::error::Result;

/// What a network takes, kept with its parameters so that it can be used without the data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// Images.
    Images(ImageInput),
    /// Text.
    Text(TextInput),
}

/// What a network's images look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageInput {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Values per position.
    pub channels: usize,
    /// The value of a full pixel.
    pub scale: f32,
    /// Classes to tell apart.
    pub classes: usize,
    /// Mean of the training pixels.
    pub mean: f32,
    /// Standard deviation of the training pixels.
    pub std: f32,
}

/// The largest vocabulary of a network.
pub const MOST_TOKENS: usize = 1 << 24;

/// How a network's text is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextInput {
    /// Into tokens.
    pub tokenizer: Tokenizer,
}

impl Input {
    /// Of a data set.
    pub fn of(data: &Dataset) -> Input {
        match data {
            Dataset::Images(set) => {
                let standardize = Standardize::fit(&set.train);
                let Images { height, width, channels, scale, .. } = set.train;
                let (mean, std) = (standardize.mean(), standardize.std());
                Input::Images(ImageInput { height, width, channels, scale, classes: set.classes, mean, std })
            }
            Dataset::Text(set) => Input::Text(TextInput { tokenizer: set.tokenizer.clone() }),
        }
    }

    /// Whether this can be at all; a damaged checkpoint may say anything.
    pub fn is_possible(&self) -> bool {
        let sane = |n: usize| (1..=1 << 12).contains(&n);
        match self {
            Input::Images(i) => {
                sane(i.height) && sane(i.width) && (1..=16).contains(&i.channels) && sane(i.classes)
            }
            Input::Text(text) => (1..=MOST_TOKENS).contains(&text.tokenizer.vocabulary()),
        }
    }

    /// Numbers in an image; 0 for text.
    pub fn features(&self) -> usize {
        match self {
            Input::Images(images) => images.height * images.width * images.channels,
            Input::Text(_) => 0,
        }
    }

    /// Classes of images, or tokens of the vocabulary.
    pub fn classes(&self) -> usize {
        match self {
            Input::Images(images) => images.classes,
            Input::Text(text) => text.tokenizer.vocabulary(),
        }
    }

    /// From pixels to the numbers the network takes; of no account for text.
    ///
    /// # Errors
    /// Impossible values, from a damaged file.
    pub fn standardize(&self) -> Result<Standardize> {
        match self {
            Input::Images(images) => Standardize::new(images.mean, images.std, images.scale),
            Input::Text(_) => Standardize::new(0.0, 1.0, 1.0),
        }
    }
}

impl Default for Input {
    fn default() -> Input {
        Input::Images(ImageInput::default())
    }
}

/// Where a run stands; with the parameters and the optimizer's memory it is all that going on needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Sum of the losses of this epoch's steps, each times its answers.
    pub epoch_loss: f64,
    /// Right answers in this epoch.
    pub epoch_correct: usize,
    /// Answers that this epoch's steps asked for.
    pub epoch_seen: usize,
    /// Answers that all steps asked for.
    #[serde(default)]
    pub seen: u64,
    /// The best epoch so far.
    pub best: Best,
    /// The finished epochs.
    pub history: Vec<EpochRecord>,
    /// Wall-clock time so far.
    pub seconds: Seconds,
    /// [`Dataset::digest`] of the data.
    pub data_digest: String,
    /// The programs and machines that worked on it.
    pub sessions: Vec<Session>,
    /// Digests of the state so far.
    pub chain: Vec<Link>,
    /// What the network takes.
    pub input: Input,
}

impl Progress {
    /// Before the first step on `data`.
    pub fn new(data: &Dataset) -> Progress {
        Progress { input: Input::of(data), data_digest: data.digest(), ..Progress::default() }
    }

    /// The last epoch that was evaluated, counted from 1.
    pub fn judged_epochs(&self) -> usize {
        self.history.last().map_or(0, |record| record.epoch)
    }
}
