//! How settings are declared, read and written: the `settings!` macro, and `"auto"`.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::engine::error::Result;

/// One setting, for help and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in TOML.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// The valid values, in words.
    pub valid: &'static str,
}

/// Settings that can be read and written by name; implemented by `settings!`.
pub trait Keys: Copy + Default {
    /// All settings, in the order of the documentation.
    const KEYS: &'static [Key];

    /// Sets one setting; false if there is none of that name.
    ///
    /// # Errors
    /// A value of the wrong type or out of range.
    fn set(&mut self, key: &str, value: &toml::Value) -> Result<bool>;

    /// Names and values, in the order of [`Keys::KEYS`].
    fn values(&self) -> Vec<(&'static str, toml::Value)>;
}

/// A setting, or `"auto"` for the value that the router's source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"auto\" or a number, without fraction where it counts something")]
pub enum OrAuto<T> {
    /// The router's own value.
    Auto(Auto),
    /// This value.
    Set(T),
}

/// The word `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auto {
    /// `"auto"`.
    Auto,
}

impl<T> OrAuto<T> {
    /// `"auto"`.
    pub const AUTO: OrAuto<T> = OrAuto::Auto(Auto::Auto);

    /// The value set, or the router's `own`.
    pub fn or(self, own: T) -> T {
        match self {
            OrAuto::Auto(_) => own,
            OrAuto::Set(value) => value,
        }
    }
}

impl<T: Display> Display for OrAuto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrAuto::Auto(_) => f.write_str("auto"),
            OrAuto::Set(value) => value.fmt(f),
        }
    }
}

/// Whether a value is finite and above 0.
pub fn is_above_0(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// Whether a value is finite and 0 or more.
pub fn is_0_or_more(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// Declares the struct `Settings` of a router: documentation, name, type and default of each setting, the valid
/// values in words and the condition that a value must meet.
///
/// ```text
/// settings! {
///     /// The probability that the chosen experts must reach together.
///     mass: f64 = 0.4, "above 0, at most 1" if mass > 0.0 && mass <= 1.0;
/// }
/// ```
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr, $valid:literal $(if $ok:expr)?;)*) => {
        /// The settings of this router.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $key: $type,)*
        }

        impl Default for Settings {
            fn default() -> Settings {
                Settings { $($key: $default),* }
            }
        }

        impl $crate::nn::router::settings::Keys for Settings {
            const KEYS: &'static [$crate::nn::router::settings::Key] = &[$(
                $crate::nn::router::settings::Key {
                    name: stringify!($key),
                    doc: concat!($($doc),+).trim_ascii(),
                    valid: $valid,
                }
            ),*];

            #[allow(unused_variables, reason = "a router may have no settings")]
            fn set(&mut self, key: &str, value: &toml::Value) -> $crate::engine::error::Result<bool> {
                match key {
                    $(stringify!($key) => {
                        let read = value.clone().try_into::<$type>().ok();
                        match read.filter(|&$key| true $(&& $ok)?) {
                            Some(valid) => self.$key = valid,
                            None => $crate::engine::error::require(key, false, value, $valid)?,
                        }
                    })*
                    _ => return Ok(false),
                }
                #[allow(unreachable_code, reason = "a router may have no settings")]
                Ok(true)
            }

            fn values(&self) -> Vec<(&'static str, toml::Value)> {
                vec![$((
                    stringify!($key),
                    toml::Value::try_from(self.$key).expect("a setting is a TOML value"),
                )),*]
            }
        }
    };
}

pub(crate) use settings;
