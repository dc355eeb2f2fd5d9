//! What the catalog says about one data set: its contents, its files, and where they come from.

use std::path::{Path, PathBuf};

use super::bundled::Bundled;
use super::images::Images;
use super::text::tokenizer::TokenizerKind;
use crate::engine::{Error, Result};

/// A data set of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name on the command line, and the name of its folder.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// What its examples are, and how to read them.
    pub contents: Contents,
    /// Default number of examples in a batch.
    pub batch: usize,
    /// Default number of passes over the training set.
    pub epochs: usize,
    /// Where its files come from.
    pub source: Source,
    /// The files it consists of. A set may come in several layouts, such as packed and unpacked: the first layout that
    /// is in the folder counts. A bundled set has none.
    pub layouts: &'static [&'static [DataFile]],
}

/// A training set and a test set.
pub type Split<T> = (T, T);

/// What the examples of a set are, and how to read them from the paths of a layout's files.
#[derive(Clone, Copy, Debug)]
pub enum Contents {
    /// Labeled images.
    Images {
        /// The number of classes.
        classes: usize,
        /// Height, width and channels of an image.
        shape: [usize; 3],
        /// The number of training and of test images.
        counts: Split<usize>,
        /// Reads them.
        read: fn(&[PathBuf]) -> Result<Split<Images>>,
    },
    /// Documents of text.
    Text {
        /// The tokenizer that this text is usually read with, if there is one.
        tokenizer: Option<TokenizerKind>,
        /// Reads the documents.
        read: fn(&[PathBuf]) -> Result<Split<Vec<String>>>,
    },
}

/// Where the files of a set come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The program itself.
    Bundled(Bundled),
    /// The files of the first layout, each at this address with its name appended.
    Url(&'static str),
    /// The rows of a table at this address, saved as the one file of the first layout.
    Table(&'static str),
    /// The user, who is told this.
    ByHand(&'static str),
}

/// A file of a data set.
#[derive(Clone, Copy, Debug)]
pub struct DataFile {
    /// Its name at the publisher, and its path in the folder of the set.
    pub name: &'static str,
    /// The MD5 sum of the published bytes in hex, where it is known.
    pub md5: Option<&'static str>,
    /// The MD5 sum of the uncompressed bytes, where it is known.
    pub raw_md5: Option<&'static str>,
    /// Checks that the file can be read.
    pub check: fn(&Path) -> Result<()>,
}

impl DataFile {
    /// Where this file lies in `folder`: under its own name, else under its name without `.gz`.
    pub fn find(&self, folder: &Path) -> Option<PathBuf> {
        [self.name, self.name.trim_end_matches(".gz")]
            .map(|name| folder.join(name))
            .into_iter()
            .find(|path| path.is_file())
    }
}

impl Entry {
    /// The files of the layout that is in `folder`, or of the first layout if none is.
    pub fn files(&self, folder: &Path) -> &'static [DataFile] {
        let begins = |layout: &&&[DataFile]| layout[0].find(folder).is_some();
        self.layouts.iter().find(begins).or(self.layouts.first()).copied().unwrap_or_default()
    }

    /// The paths of these files in `folder`.
    ///
    /// # Errors
    /// [`Error::Data`] for the first file that is missing, with what to do.
    pub fn paths(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let path = |file: &DataFile| {
            file.find(folder).ok_or_else(|| {
                let what = format!(
                    "{} is missing here; {}, or point --data-dir at the folder that holds `{}/`",
                    file.name,
                    self.remedy(),
                    self.name
                );
                Error::data(folder, what)
            })
        };
        self.files(folder).iter().map(path).collect()
    }

    /// Reads the set from `folder`, to check that its files match each other.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Io`] for files that are missing or damaged.
    pub fn check(&self, folder: &Path) -> Result<()> {
        let paths = self.paths(folder)?;
        match self.contents {
            Contents::Images { read, .. } => read(&paths).map(drop),
            Contents::Text { read, .. } => read(&paths).map(drop),
        }
    }

    /// What to do about missing or damaged files.
    pub fn remedy(&self) -> String {
        match self.source {
            Source::ByHand(what) => what.into(),
            _ => format!("run `dynamoe data fetch {}`", self.name),
        }
    }

    /// What the set contains, in one line.
    pub fn describe(&self) -> String {
        match self.contents {
            Contents::Images { classes, shape: [height, width, channels], counts: (train, test), .. } => {
                format!(
                    "{}: {train} training and {test} test images, {height}x{width}x{channels}, {classes} classes",
                    self.about
                )
            }
            Contents::Text { .. } => self.about.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &'static str) -> DataFile {
        DataFile { name, md5: None, raw_md5: None, check: |_| Ok(()) }
    }

    #[test]
    fn the_published_name_is_found_before_the_unpacked_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = file("images.gz");
        assert_eq!(file.find(folder.path()), None);
        for name in ["images", "images.gz"] {
            std::fs::write(folder.path().join(name), "").unwrap();
            assert_eq!(file.find(folder.path()), Some(folder.path().join(name)));
        }
    }
}
