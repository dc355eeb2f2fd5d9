//! The catalog: every known data set, its published files, their addresses and their MD5 sums.

use std::path::{Path, PathBuf};

use crate::data::text::Named;
use crate::engine::error::nearest;
use crate::engine::{Error, Result};

/// What to do about a damaged file, as the end of an error line.
pub(crate) const REPLACE: &str = "delete it and run `dynamoe data fetch` for this set";

/// How a set is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Inside the program itself.
    Bundled,
    /// Four IDX files: images and labels, for training and for testing.
    Idx,
    /// The six binary batches of CIFAR-10, in one archive or unpacked.
    Cifar,
}

/// A file as its publisher gives it out.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Its name, at the publisher's and in the set's folder.
    pub name: &'static str,
    /// The MD5 sum of its bytes, in hex.
    pub md5: &'static str,
    /// The MD5 sum of its uncompressed bytes, where that is known.
    pub raw_md5: Option<&'static str>,
}

impl Published {
    /// Where this file lies in `folder`: under its own name, else under its name without `.gz`.
    pub fn find(&self, folder: &Path) -> Option<PathBuf> {
        [self.name, self.name.trim_end_matches(".gz")]
            .map(|name| folder.join(name))
            .into_iter()
            .find(|path| path.is_file())
    }
}

/// A data set of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name, on the command line and as a folder.
    pub name: &'static str,
    /// How it is stored.
    pub format: Format,
    /// The number of classes.
    pub classes: usize,
    /// Height, width and channels of an image.
    pub shape: [usize; 3],
    /// The number of images to learn from.
    pub train: usize,
    /// The number of images to be judged on.
    pub test: usize,
    /// The address that a file's name is appended to.
    pub base_url: &'static str,
    /// The published files; for IDX in the order train images, train labels, test images, test labels.
    pub files: &'static [Published],
}

/// All known sets.
pub static ENTRIES: [Entry; 4] = [
    Entry {
        name: "digits",
        format: Format::Bundled,
        classes: 10,
        shape: [8, 8, 1],
        train: 1442,
        test: 355,
        base_url: "",
        files: &[],
    },
    Entry {
        name: "mnist",
        format: Format::Idx,
        classes: 10,
        shape: [28, 28, 1],
        train: 60_000,
        test: 10_000,
        base_url: "https://ossci-datasets.s3.amazonaws.com/mnist/",
        files: &[
            Published {
                name: "train-images-idx3-ubyte.gz",
                md5: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                raw_md5: Some("6bbc9ace898e44ae57da46a324031adb"),
            },
            Published {
                name: "train-labels-idx1-ubyte.gz",
                md5: "d53e105ee54ea40749a09fcbcd1e9432",
                raw_md5: Some("a25bea736e30d166cdddb491f175f624"),
            },
            Published {
                name: "t10k-images-idx3-ubyte.gz",
                md5: "9fb629c4189551a2d022fa330f9573f3",
                raw_md5: Some("2646ac647ad5339dbf082846283269ea"),
            },
            Published {
                name: "t10k-labels-idx1-ubyte.gz",
                md5: "ec29112dd5afa0611ce80d1b7f02629c",
                raw_md5: Some("27ae3e4e09519cfbb04c329615203637"),
            },
        ],
    },
    Entry {
        name: "fashion-mnist",
        format: Format::Idx,
        classes: 10,
        shape: [28, 28, 1],
        train: 60_000,
        test: 10_000,
        base_url: "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        files: &[
            Published {
                name: "train-images-idx3-ubyte.gz",
                md5: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                raw_md5: Some("f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            },
            Published {
                name: "train-labels-idx1-ubyte.gz",
                md5: "25c81989df183df01b3e8a0aad5dffbe",
                raw_md5: Some("9018921c3c673c538a1fc5bad174d6f9"),
            },
            Published {
                name: "t10k-images-idx3-ubyte.gz",
                md5: "bef4ecab320f06d8554ea6380940ec79",
                raw_md5: Some("8181f5470baa50b63fa0f6fddb340f0a"),
            },
            Published {
                name: "t10k-labels-idx1-ubyte.gz",
                md5: "bb300cfdad3c16e7a12a480ee83cd310",
                raw_md5: Some("15d484375f8d13e6eb1aabb0c3f46965"),
            },
        ],
    },
    Entry {
        name: "cifar-10",
        format: Format::Cifar,
        classes: 10,
        shape: [32, 32, 3],
        train: 50_000,
        test: 10_000,
        base_url: "https://www.cs.toronto.edu/~kriz/",
        files: &[Published {
            name: "cifar-10-binary.tar.gz",
            md5: "c32a1d4ab5d03f1284b67883e8d87530",
            raw_md5: None,
        }],
    },
];

/// The entry called `name`.
///
/// # Errors
/// [`Error::Config`] for a text, and for an unknown name, with the nearest one and all there are.
pub fn entry(name: &str) -> Result<&'static Entry> {
    if let Some(entry) = ENTRIES.iter().find(|entry| entry.name == name) {
        return Ok(entry);
    }
    if Named::of(name).is_some() {
        return Err(Error::config("dataset", format!("`{name}` is a text, where images are needed")));
    }
    let names = || ENTRIES.iter().map(|entry| entry.name).chain(Named::ALL.map(Named::name));
    let nearest = nearest(name, names()).unwrap_or_default();
    let all = names().collect::<Vec<_>>().join(", ");
    Err(Error::config(
        "dataset",
        format!(
            "there is no data set `{name}`; the nearest is `{nearest}`; all are {all}, and the path of a text, with an \
             ending or a slash in it"
        ),
    ))
}

/// The error for files that are not there: `what` is missing in `folder`.
pub(crate) fn missing(entry: &Entry, folder: &Path, what: &str) -> Error {
    let name = entry.name;
    Error::data(
        folder,
        format!(
            "{what} is missing here; run `dynamoe data fetch {name}`, \
             or point --data-dir at the folder that holds `{name}/`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_encrypted_and_every_sum_an_md5() {
        for entry in &ENTRIES {
            assert_eq!(entry.files.is_empty(), entry.format == Format::Bundled, "{}", entry.name);
            for file in entry.files {
                assert!(entry.base_url.starts_with("https://") && entry.base_url.ends_with('/'));
                for sum in [Some(file.md5), file.raw_md5].into_iter().flatten() {
                    assert!(
                        sum.len() == 32 && sum.bytes().all(|b| b"0123456789abcdef".contains(&b)),
                        "{sum}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_published_name_is_found_before_the_unpacked_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = ENTRIES[1].files[0];
        assert_eq!(file.find(folder.path()), None);
        let raw = folder.path().join("train-images-idx3-ubyte");
        std::fs::write(&raw, "").unwrap();
        assert_eq!(file.find(folder.path()), Some(raw));
        let packed = folder.path().join("train-images-idx3-ubyte.gz");
        std::fs::write(&packed, "").unwrap();
        assert_eq!(file.find(folder.path()), Some(packed));
    }
}
