//! Where a run stands and what its network takes: what a checkpoint keeps beside the arrays.

use serde::{Deserialize, Serialize};

use super::manifest::{Link, Session};
use super::metrics::{Best, EpochRecord, Seconds};
use crate::data::{Dataset, Encoding};

/// Where a run stands: with the parameters and the optimizer state, all that resuming needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Sum of the losses of this epoch's steps, each times its number of targets.
    pub epoch_loss: f64,
    /// Correct predictions in this epoch.
    pub epoch_correct: usize,
    /// Targets of this epoch's steps so far.
    pub epoch_seen: usize,
    /// Targets of all steps so far.
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
    pub input: Encoding,
}

impl Progress {
    /// Before the first step on `data`.
    pub fn new(data: &Dataset) -> Progress {
        Progress { input: data.encoding.clone(), data_digest: data.digest(), ..Progress::default() }
    }

    /// The last epoch that was evaluated, counted from 1.
    pub fn judged_epochs(&self) -> usize {
        self.history.last().map_or(0, |record| record.epoch)
    }
}
