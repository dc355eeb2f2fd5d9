//! The one error type of the library: every message says what is wrong, where, and what to do.

use std::panic::Location;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Operands whose shapes do not fit an operation.
    #[error("{op}: {why}; shapes are {shapes} (at {at})")]
    Shape {
        /// The operation's name.
        op: &'static str,
        /// What does not fit.
        why: String,
        /// The shapes of all operands, in order.
        shapes: String,
        /// The caller's file and line.
        at: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("cannot {action} {path}: {reason}", path = path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{path}: {what}", path = path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// A setting that does not exist or cannot be.
    #[error("setting {key}: {what}")]
    Config {
        /// The setting's name.
        key: String,
        /// What is wrong with it and what is possible.
        what: String,
    },
    /// A download that did not succeed.
    #[error("download of {url}: {what}")]
    Download {
        /// The address.
        url: String,
        /// What happened and what to do.
        what: String,
    },
    /// A parameter that takes part in training but that the loss does not reach.
    #[error(
        "no gradient reached {parameter}: the loss does not depend on it; use it in the forward pass or leave it out of the model"
    )]
    MissingGradient {
        /// The parameter's full name.
        parameter: String,
    },
    /// NaN or infinity during training.
    #[error("step {step}: {what}; the last good state is in checkpoints/last: lower lr or set clip_norm")]
    NonFinite {
        /// The optimizer step, counted from 1.
        step: u64,
        /// The step's loss.
        loss: f64,
        /// Where it appeared: loss or parameter, and the op that first produced it.
        what: String,
    },
    /// The user asked to stop (Ctrl-C).
    #[error("interrupted; state saved in {saved}; resume with {next}", saved = saved.display())]
    Interrupted {
        /// The folder with the state.
        saved: PathBuf,
        /// The command that resumes.
        next: String,
    },
}

/// The candidate that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = name.to_lowercase();
    candidates.min_by_key(|candidate| strsim::damerau_levenshtein(&typed, candidate))
}

/// Refuses a setting that is not `ok`; it `must` be something else.
///
/// # Errors
/// The setting's name, its value and what it must be.
pub fn require(key: &str, ok: bool, value: &dyn std::fmt::Display, must: &str) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::config(key, format!("{value} is not valid; it must be {must}"))) }
}

impl Error {
    /// An [`Error::Io`] for `path`, for use in `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |reason| Error::Io { action, path, reason }
    }

    /// An [`Error::Data`] for `path`.
    pub fn data(path: &Path, what: impl Into<String>) -> Error {
        Error::Data { path: path.to_path_buf(), what: what.into() }
    }

    /// An [`Error::Config`] for `key`.
    pub fn config(key: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Config { key: key.into(), what: what.into() }
    }
}

/// A shape error with the place of the call that caused it; any other error as it is.
pub(crate) fn locate(error: Error, caller: &Location) -> Error {
    match error {
        Error::Shape { op, why, shapes, .. } => Error::Shape { op, why, shapes, at: caller.to_string() },
        other => other,
    }
}
