//! Files that are compiled into the program, gzipped.

use std::io::Read;
use std::path::Path;

use super::reader;
use crate::engine::{Error, Result};

/// A bundled file.
#[derive(Clone, Copy)]
pub struct Bundled {
    /// Its name in error messages.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
    /// Their MD5 sum in hex.
    pub md5: &'static str,
}

impl Bundled {
    /// The text in it.
    ///
    /// # Errors
    /// [`Error::Data`] if the bytes are damaged.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        match flate2::read::MultiGzDecoder::new(self.bytes).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(self.damaged(format!("cannot be unpacked ({error})"))),
        }
    }

    /// Compares the bytes with their known sum.
    ///
    /// # Errors
    /// [`Error::Data`] if they differ.
    pub fn check(&self) -> Result<()> {
        let sum = reader::md5(self.bytes).expect("reading from memory cannot fail");
        match sum == self.md5 {
            true => Ok(()),
            false => Err(self.damaged(format!("the MD5 sum is {sum}, but should be {}", self.md5))),
        }
    }

    /// The error for a bundled file that `what` is wrong with.
    pub fn damaged(&self, what: String) -> Error {
        Error::data(Path::new(self.name), format!("{what}; build the program again from clean sources"))
    }
}

impl std::fmt::Debug for Bundled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
