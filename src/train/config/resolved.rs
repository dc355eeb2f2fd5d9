//! Configurations that can be trained: the number of experts of every layer is known.

use std::ops::Deref;

use super::{Config, Sources};
use crate::engine::error::{Error, Result};

/// A configuration whose schedule is known: no learned one without its list.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved(Config);

impl Resolved {
    /// Puts a configuration together that can be trained at once.
    ///
    /// # Errors
    /// Those of [`Config::resolve`], and a learned schedule that is not known yet.
    pub fn resolve(sources: &Sources) -> Result<Resolved> {
        Config::resolve(sources)?.try_into()
    }

    /// The settings, to change some of them.
    pub fn into_config(self) -> Config {
        self.0
    }
}

impl Deref for Resolved {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

/// By the rule of the schedule or the list of experts in the configuration.
impl TryFrom<Config> for Resolved {
    type Error = Error;

    /// # Errors
    /// A learned schedule that is not known yet; [`crate::train::learned::resolve`] learns it.
    fn try_from(config: Config) -> Result<Resolved> {
        if config.model.experts().is_none() {
            let what = "a learned schedule is known once training has begun; inspect the run's folder";
            return Err(Error::config("schedule", what));
        }
        Ok(Resolved(config))
    }
}
