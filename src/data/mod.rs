//! Data sets of labeled images and of text: what a set is, where it lives, and how to load it by name.

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
pub mod text;
pub mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};

pub use catalog::{CATALOG, is_text};
#[cfg(feature = "program")]
pub use fetch::{Fetched, fetch};
pub use images::Images;
pub use images::standardize::{self, Standardize};
pub use load::{load, load_text, load_text_as};
pub use text::{Text, TextSet};
pub use verify::{FileReport, FileState, Location, locate, verify};

/// A named set of images, divided into a training and a test set.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSet {
    /// Its name in the catalog.
    pub name: &'static str,
    /// The number of classes.
    pub classes: usize,
    /// The training set.
    pub train: Images,
    /// The test set.
    pub test: Images,
}

/// A data set of either kind.
#[derive(Clone, Debug)]
pub enum Dataset {
    /// Labeled images.
    Images(ImageSet),
    /// Text.
    Text(TextSet),
}

impl Dataset {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Dataset::Images(set) => set.name,
            Dataset::Text(set) => &set.name,
        }
    }

    /// A fingerprint of everything in the set ([`ImageSet::digest`], [`TextSet::digest`]).
    pub fn digest(&self) -> String {
        match self {
            Dataset::Images(set) => set.digest(),
            Dataset::Text(set) => set.digest(),
        }
    }

    /// How many examples the splits have: images, or sequences.
    pub fn counts(&self) -> (usize, usize) {
        match self {
            Dataset::Images(set) => (set.train.len(), set.test.len()),
            Dataset::Text(set) => (set.train.len(), set.test.len()),
        }
    }
}

impl From<ImageSet> for Dataset {
    fn from(set: ImageSet) -> Dataset {
        Dataset::Images(set)
    }
}

impl From<TextSet> for Dataset {
    fn from(set: TextSet) -> Dataset {
        Dataset::Text(set)
    }
}

impl ImageSet {
    /// A fingerprint of everything in the set: 64 hex digits that are equal exactly when the sets are.
    ///
    /// It is the BLAKE3 hash of, in this order: the set's name, the number of classes, then for `train` and
    /// for `test` the split's name, the image count, height, width, channels and the bits of `scale`, the
    /// pixels, and the labels. Numbers are written as 8 bytes, little-endian; each string of bytes comes
    /// after its length, written the same way.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let number = |hasher: &mut blake3::Hasher, value: u64| {
            hasher.update(&value.to_le_bytes());
        };
        let bytes = |hasher: &mut blake3::Hasher, value: &[u8]| {
            number(hasher, value.len() as u64);
            hasher.update(value);
        };
        bytes(&mut hasher, self.name.as_bytes());
        number(&mut hasher, self.classes as u64);
        for (split, images) in [("train", &self.train), ("test", &self.test)] {
            bytes(&mut hasher, split.as_bytes());
            for value in [images.len(), images.height, images.width, images.channels] {
                number(&mut hasher, value as u64);
            }
            number(&mut hasher, images.scale.to_bits().into());
            bytes(&mut hasher, &images.pixels);
            bytes(&mut hasher, &images.labels);
        }
        hasher.finalize().to_hex().to_string()
    }
}

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

    fn tiny() -> ImageSet {
        let images = Images {
            pixels: vec![1, 2, 3, 4],
            labels: vec![0, 1],
            height: 1,
            width: 2,
            channels: 1,
            scale: 255.0,
        };
        ImageSet { name: "mnist", classes: 10, train: images.clone(), test: images }
    }

    #[test]
    fn images_know_their_size() {
        let images = tiny().train;
        assert_eq!((images.len(), images.features(), images.is_empty()), (2, 2, false));
    }

    #[test]
    fn the_digest_sees_every_change() {
        let original = tiny().digest();
        assert_eq!(original.len(), 64);
        assert_eq!(original, tiny().digest());
        let changes: [fn(&mut ImageSet); 8] = [
            |d| d.name = "digits",
            |d| d.classes = 9,
            |d| d.train.pixels[0] = 9,
            |d| d.test.pixels[3] = 9,
            |d| d.train.labels[1] = 0,
            |d| (d.train.height, d.train.width) = (2, 1),
            |d| d.test.scale = 16.0,
            |d| std::mem::swap(&mut d.train.pixels, &mut d.test.labels),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut dataset = tiny();
            change(&mut dataset);
            assert_ne!(dataset.digest(), original, "change {index}");
        }
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let mut expected = Vec::new();
        let number = |value: u64| value.to_le_bytes().to_vec();
        expected.extend(number(5));
        expected.extend(b"mnist");
        expected.extend(number(10));
        for split in ["train", "test"] {
            expected.extend(number(split.len() as u64));
            expected.extend(split.as_bytes());
            for value in [2, 1, 2, 1, u64::from(255f32.to_bits()), 4] {
                expected.extend(number(value));
            }
            expected.extend([1, 2, 3, 4]);
            expected.extend(number(2));
            expected.extend([0, 1]);
        }
        assert_eq!(tiny().digest(), blake3::hash(&expected).to_hex().to_string());
    }

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
