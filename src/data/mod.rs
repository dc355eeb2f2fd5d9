//! Data sets of labeled images and of text: what a set is, where it lives, and how to load it by name.

pub mod catalog;
pub mod cifar;
pub mod digits;
#[cfg(feature = "program")]
mod download;
#[cfg(feature = "program")]
pub mod fetch;
pub mod idx;
mod reader;
pub mod standardize;
pub mod text;
pub mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[cfg(feature = "program")]
pub use fetch::{Fetched, fetch};
pub use standardize::Standardize;
pub use text::{Text, TextSet};
pub use verify::{FileReport, FileState, Listing, Place, list, verify};

use crate::engine::{Error, Result};
use catalog::Format;

/// Labeled images of one size, as stored: one byte a value, nothing scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// `len() * features()` values, image after image. Within an image the channels come one after the
    /// other, each row by row from the top left.
    pub pixels: Vec<u8>,
    /// One class number per image, below [`ImageSet::classes`].
    pub labels: Vec<u8>,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Values per position: 1 for gray, 3 for red, green, blue.
    pub channels: usize,
    /// The value of a full pixel: 255, or 16 for digits.
    pub scale: f32,
}

impl Images {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of values in one image: height x width x channels.
    pub fn features(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// A named set of images with its fixed train and test split.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSet {
    /// Its name, one of [`names`].
    pub name: &'static str,
    /// The number of classes.
    pub classes: usize,
    /// What to learn from.
    pub train: Images,
    /// What to be judged on.
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

/// Whether a data set of this name is text: one of [`text::Named`], or a path.
pub fn is_text(name: &str) -> bool {
    let is_path = name.contains(['/', '\\']) || Path::new(name).extension().is_some();
    text::Named::of(name).is_some() || is_path
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

/// The names of image sets, which [`load`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    catalog::ENTRIES.iter().map(|entry| entry.name)
}

/// Loads a set of images by name. `data_dir` is the folder the user asked for, if any (see [`data_dir`]).
///
/// # Errors
/// [`Error::Config`] for an unknown name; [`Error::Data`] or [`Error::Io`] where files are missing,
/// unreadable or damaged.
pub fn load(name: &str, data_dir: Option<&Path>) -> Result<ImageSet> {
    let entry = catalog::entry(name)?;
    let folder = self::data_dir(data_dir).join(entry.name);
    let (train, test) = match entry.format {
        Format::Bundled => digits::load()?,
        Format::Idx => idx::load(entry, &folder)?,
        Format::Cifar => cifar::load(entry, &folder)?,
    };
    Ok(ImageSet { name: entry.name, classes: entry.classes, train, test })
}

/// The folder that holds the sets, each in a folder of its own name: `flag` when given, else the
/// environment variable `DYNAMOE_DATA_DIR`, else `dynamoe` in the user's cache folder.
pub fn data_dir(flag: Option<&Path>) -> PathBuf {
    resolve_data_dir(flag, |name| std::env::var_os(name))
}

fn resolve_data_dir(flag: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let env = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = flag.map(Path::to_path_buf).or_else(|| env("DYNAMOE_DATA_DIR")) {
        return folder;
    }
    let home = || env("HOME").or_else(std::env::home_dir);
    let cache = if cfg!(windows) {
        env("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        // The XDG specification asks to ignore a relative path here.
        env("XDG_CACHE_HOME").filter(|path| path.is_absolute()).or_else(|| home().map(|h| h.join(".cache")))
    };
    cache.unwrap_or_else(std::env::temp_dir).join("dynamoe")
}

/// Refuses a label that is not below `classes`, naming the example.
fn check_labels(path: &Path, labels: &[u8], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(()),
        Some(at) => Err(Error::data(
            path,
            format!(
                "label {} at example {at} (counted from 0), but labels are 0 to {}; {}",
                labels[at],
                classes - 1,
                catalog::REPLACE
            ),
        )),
    }
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
    fn an_unknown_name_is_refused_with_the_nearest() {
        for (typed, nearest) in
            [("mnits", "mnist"), ("cifar10", "cifar-10"), ("Fashion_MNIST", "fashion-mnist")]
        {
            let line = load(typed, None).unwrap_err().to_string();
            assert!(line.contains(&format!("nearest is `{nearest}`")), "{line}");
            assert!(line.contains("digits, mnist, fashion-mnist, cifar-10"), "{line}");
        }
    }

    #[test]
    fn missing_files_name_the_way_out() {
        let empty = tempfile::tempdir().unwrap();
        for name in names().filter(|&name| name != "digits") {
            let line = load(name, Some(empty.path())).unwrap_err().to_string();
            assert!(line.contains(&format!("dynamoe data fetch {name}")), "{line}");
            assert!(line.contains("--data-dir"), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_the_cache() {
        let none = |_: &str| None;
        let asked = |name: &str| (name == "DYNAMOE_DATA_DIR").then(|| OsString::from("asked"));
        let empty = |name: &str| (name == "DYNAMOE_DATA_DIR").then(OsString::new);
        assert_eq!(resolve_data_dir(Some(Path::new("flag")), asked), Path::new("flag"));
        assert_eq!(resolve_data_dir(None, asked), Path::new("asked"));
        assert!(resolve_data_dir(None, none).ends_with("dynamoe"));
        assert_eq!(resolve_data_dir(None, empty), resolve_data_dir(None, none));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_follows_the_xdg_cache_folder() {
        let with = |xdg: &'static str| {
            move |name: &str| match name {
                "XDG_CACHE_HOME" => Some(OsString::from(xdg)),
                "HOME" => Some(OsString::from("/home/someone")),
                _ => None,
            }
        };
        assert_eq!(resolve_data_dir(None, with("/caches")), Path::new("/caches/dynamoe"));
        assert_eq!(resolve_data_dir(None, with("relative")), Path::new("/home/someone/.cache/dynamoe"));
    }
}
