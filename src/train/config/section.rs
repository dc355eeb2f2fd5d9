//! How a section of a configuration is declared, read and written.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::error::{Error, Result};
use crate::nn::router::settings::Key;

pub use crate::nn::router::settings::is_0_or_more;

/// A table of settings; declared by `section!`.
pub trait Section {
    /// All settings, in the order of the documentation.
    const KEYS: &'static [Key];

    /// Sets one setting; false if there is none of that name.
    ///
    /// # Errors
    /// A value of the wrong type. Ranges are checked by [`Section::check`].
    fn set(&mut self, key: &str, value: &toml::Value) -> Result<bool>;

    /// Refuses values out of range.
    ///
    /// # Errors
    /// The setting, its value and the valid values.
    fn check(&self) -> Result<()>;

    /// Names and values, in the order of [`Section::KEYS`].
    fn values(&self) -> Vec<(&'static str, toml::Value)>;
}

/// A value of a setting's type.
pub fn read<T: DeserializeOwned>(key: &str, value: &toml::Value, valid: &str) -> Result<T> {
    value
        .clone()
        .try_into()
        .map_err(|_| Error::config(key, format!("{value} is not valid; it must be {valid}")))
}

/// A setting's value in TOML. TOML has no whole numbers from 2^63 on: such a value, out of range everywhere, is a string.
pub fn write<T: Serialize>(value: &T) -> toml::Value {
    toml::Value::try_from(value)
        .unwrap_or_else(|_| serde_json::to_string(value).expect("a setting is plain data").into())
}

/// Declares a section: for each setting its documentation, name, type and default, the valid values in words, and the
/// condition that a valid value meets.
macro_rules! section {
    ($(#[doc = $about:literal])+ $Section:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr, $valid:literal $(if $ok:expr)?;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Section {
            $($(#[doc = $doc])+ pub $key: $type,)*
        }

        impl Default for $Section {
            fn default() -> $Section {
                $Section { $($key: $default),* }
            }
        }

        impl Section for $Section {
            const KEYS: &'static [crate::nn::router::settings::Key] = &[$(
                crate::nn::router::settings::Key {
                    name: stringify!($key),
                    doc: concat!($($doc),+).trim_ascii(),
                    valid: $valid,
                }
            ),*];

            fn set(&mut self, key: &str, value: &toml::Value) -> crate::engine::error::Result<bool> {
                match key {
                    $(stringify!($key) => self.$key = super::section::read(key, value, $valid)?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn check(&self) -> crate::engine::error::Result<()> {
                $($({
                    let $key = &self.$key;
                    let value = super::section::write($key);
                    crate::engine::error::require(stringify!($key), $ok, &value, $valid)?;
                })?)*
                Ok(())
            }

            fn values(&self) -> Vec<(&'static str, toml::Value)> {
                vec![$((stringify!($key), super::section::write(&self.$key))),*]
            }
        }
    };
}

pub(crate) use section;
