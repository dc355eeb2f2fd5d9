//! Recycling the Web (Nguyen et al.): 1,000 web pages rewritten by a language model,
//! `mlx-community/recycling_the_web-1k`.
//!
//! They are samples of `facebook/recycling_the_web`, which is CC BY-NC 4.0.

use std::path::Path;

use crate::data::entry::{Contents, DataFile, Entry, Source};
use crate::data::reader::REPLACE;
use crate::data::text::files::read_lines;
use crate::data::text::split::split;
use crate::engine::{Error, Result};

/// Its row of the catalog.
pub static ENTRY: Entry = Entry {
    name: "recycling-the-web",
    about: "1,000 rewritten web pages; every tenth is in the test set",
    contents: Contents::Text { tokenizer: None, read: |paths| Ok(split(read(&paths[0])?)) },
    batch: 32,
    epochs: 5,
    source: Source::Table(
        "https://datasets-server.huggingface.co/rows?dataset=mlx-community%2Frecycling_the_web-1k&config=default\
         &split=train",
    ),
    layouts: &[&[DataFile {
        name: "recycling_the_web-1k.jsonl",
        md5: None,
        raw_md5: None,
        check: |path| read(path).map(drop),
    }]],
};

/// The pages in the file at `path`.
fn read(path: &Path) -> Result<Vec<String>> {
    let pages = read_lines(path)?;
    match pages.iter().all(|text| text.trim().is_empty()) {
        true => Err(Error::data(path, format!("holds no text; {REPLACE}"))),
        false => Ok(pages),
    }
}
