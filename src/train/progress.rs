//! Where a run stands, and what its images look like: what a checkpoint keeps beside the arrays.

use serde::{Deserialize, Serialize};

use super::manifest::{Link, Session};
use super::metrics::{Best, EpochRecord, Seconds};
use crate::data::{Dataset, Images, Standardize};
use crate::error::Result;

/// What a network's images look like, kept with its parameters so that it can judge one without the data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Input {
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

impl Input {
    /// Of a data set.
    pub fn of(data: &Dataset) -> Input {
        let standardize = Standardize::fit(&data.train);
        let Images { height, width, channels, scale, .. } = data.train;
        let (mean, std) = (standardize.mean(), standardize.std());
        Input { height, width, channels, scale, classes: data.classes, mean, std }
    }

    /// Whether these can be images at all; a damaged checkpoint may say anything.
    pub fn is_possible(&self) -> bool {
        let sane = |n: usize| (1..=1 << 12).contains(&n);
        sane(self.height) && sane(self.width) && (1..=16).contains(&self.channels) && sane(self.classes)
    }

    /// Numbers in an image.
    pub fn features(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// From pixels to the numbers the network takes.
    ///
    /// # Errors
    /// Impossible values, from a damaged file.
    pub fn standardize(&self) -> Result<Standardize> {
        Standardize::new(self.mean, self.std, self.scale)
    }
}

/// Where a run stands; with the parameters and the optimiser's memory it is all that going on needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Sum of the losses of this epoch's steps, each times its images.
    pub epoch_loss: f64,
    /// Training images put in the right class in this epoch.
    pub epoch_correct: usize,
    /// Training images seen in this epoch.
    pub epoch_seen: usize,
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
    /// What the images look like.
    pub input: Input,
}

impl Progress {
    /// Before the first step on `data`.
    pub fn new(data: &Dataset) -> Progress {
        Progress { input: Input::of(data), data_digest: data.digest(), ..Progress::default() }
    }
}
