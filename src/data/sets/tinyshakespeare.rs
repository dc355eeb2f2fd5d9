//! Tiny Shakespeare: 40,000 lines of Shakespeare's plays, compiled into the program.
//!
//! The split is nanoGPT's: the first 90% of the characters are the training set, the rest is the test set, one document
//! each.

use crate::data::bundled::Bundled;
use crate::data::entry::{Contents, Entry, Source, Split};
use crate::data::text::TokenizerKind;
use crate::engine::Result;

/// Its row of the catalog.
pub static ENTRY: Entry = Entry {
    name: "tinyshakespeare",
    about: "40,000 lines of Shakespeare's plays; the last 10% of the text are the test set",
    contents: Contents::Text { tokenizer: Some(TokenizerKind::Chars), read: |_| split() },
    batch: 32,
    epochs: 5,
    source: Source::Bundled(FILE),
    layouts: &[],
};

/// `datasets/tinyshakespeare/README.md` says where it is from.
const FILE: Bundled = Bundled {
    name: "tinyshakespeare/input.txt.gz (bundled)",
    bytes: include_bytes!("../../../datasets/tinyshakespeare/input.txt.gz"),
    md5: "b4dd344b839ba09c5efdd2acab7e3a2b",
};

fn split() -> Result<Split<Vec<String>>> {
    let mut train = FILE.text()?;
    // Every character is one byte.
    let test = train.split_off(train.len() * 9 / 10);
    Ok((vec![train], vec![test]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_is_the_one_of_nanogpt() {
        FILE.check().unwrap();
        let (train, test) = split().unwrap();
        let [train, test] = [&train[0], &test[0]];
        assert_eq!((train.len(), test.len()), (1_003_854, 111_540));
        assert!(train.is_ascii() && train.starts_with("First Citizen:\nBefore we proceed"));
        assert!(test.starts_with("?\n\nGREMIO:\nGood morrow, "));
    }
}
