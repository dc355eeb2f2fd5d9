//! Data sets of labeled images and of text: what a set is, where it lives, and how to load it by name.

pub mod batch;
mod bundled;
pub mod catalog;
#[cfg(feature = "program")]
mod download;
pub mod entry;
#[cfg(feature = "program")]
pub mod fetch;
pub mod images;
mod load;
mod reader;
mod sets;
#[cfg(feature = "program")]
mod table_service;
pub mod task;
pub mod text;
pub mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};

pub use batch::{Batch, Feed, Tokens};
pub use catalog::{CATALOG, is_text};
#[cfg(feature = "program")]
pub use fetch::{Fetched, fetch};
pub use images::{ImageEncoding, ImageSet, Images, Standardize};
pub use load::{load, load_text, load_text_as};
pub use task::{Dataset, Encoding, Examples, Task};
pub use text::{Sequences, TextEncoding, TextSet};
pub use verify::{FileReport, FileState, Location, locate, verify};

/// The folder that holds the sets, each in a folder of its own name: `flag` when given, else the
/// environment variable `DYNAMOE_DATA_DIR`, else `dynamoe` in the user's cache folder.
pub fn data_dir(flag: Option<&Path>) -> PathBuf {
    resolve_data_dir(flag, |name| std::env::var_os(name))
}

fn resolve_data_dir(flag: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let asked = || env("DYNAMOE_DATA_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    // Without a home folder there is no cache folder either.
    let cache = || choose_native_strategy().map_or_else(|_| std::env::temp_dir(), |base| base.cache_dir());
    flag.map(Path::to_path_buf).or_else(asked).unwrap_or_else(|| cache().join("dynamoe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_the_cache() {
        let none = |_: &str| None;
        let asked = |name: &str| (name == "DYNAMOE_DATA_DIR").then(|| OsString::from("asked"));
        let empty = |name: &str| (name == "DYNAMOE_DATA_DIR").then(OsString::new);
        assert_eq!(resolve_data_dir(Some(Path::new("flag")), asked), Path::new("flag"));
        assert_eq!(resolve_data_dir(None, asked), Path::new("asked"));
        let cache = resolve_data_dir(None, none);
        assert!(cache.is_absolute() && cache.ends_with("dynamoe"), "{cache:?}");
        assert_eq!(resolve_data_dir(None, empty), resolve_data_dir(None, none));
    }
}
