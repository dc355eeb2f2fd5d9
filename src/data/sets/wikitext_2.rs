//! WikiText-2 (Merity et al.): articles of Wikipedia, one token a word, rare words as `<unk>`.
//!
//! The test set is always the validation file. The training set is the training file if it is there, else the much
//! smaller test file.

use std::path::Path;

use crate::data::entry::{Contents, DataFile, Entry, Source};
use crate::data::text::files::read_text;
use crate::data::text::split::cut_before;
use crate::engine::{Error, Result};

/// Its row of the catalog.
pub static ENTRY: Entry = Entry {
    name: "wikitext-2",
    about: "articles of Wikipedia; wiki.train.tokens, else wiki.test.tokens, is the training set",
    contents: Contents::Text { tokenizer: None, read: |paths| Ok((read(&paths[0])?, read(&paths[1])?)) },
    batch: 32,
    epochs: 5,
    source: Source::ByHand(
        "it cannot be fetched: put wiki.train.tokens (or wiki.test.tokens) and wiki.valid.tokens into its folder",
    ),
    layouts: &[
        &[file("wiki.train.tokens", None), VALID],
        &[file("wiki.test.tokens", Some("781c9418ab9414bd09e4aad825aae752")), VALID],
    ],
};

const VALID: DataFile = file("wiki.valid.tokens", Some("d756d22ab2310e7e60c094bea5c5a8eb"));

const fn file(name: &'static str, md5: Option<&'static str>) -> DataFile {
    DataFile { name, md5, raw_md5: None, check: |path| read(path).map(drop) }
}

/// The articles of the file at `path`.
fn read(path: &Path) -> Result<Vec<String>> {
    let articles = articles(&read_text(path)?);
    match articles.is_empty() {
        true => Err(Error::data(path, "holds no text; replace it")),
        false => Ok(articles),
    }
}

/// Cuts a file before its titles: ` = Title = ` between blank lines. (Headings of sections have more equals signs; a
/// line of a formula may look like a title, but has text around it.)
fn articles(text: &str) -> Vec<String> {
    cut_before(text, |lines, i| {
        let line = lines[i].trim_end_matches(['\r', '\n']);
        let blank = |line: Option<&&str>| line.is_none_or(|line| line.trim().is_empty());
        let title = line.starts_with(" = ") && !line.starts_with(" = = ") && line.ends_with(" = ");
        title && blank(i.checked_sub(1).and_then(|i| lines.get(i))) && blank(lines.get(i + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TEXT: &str = " \n = A title = \n \n Text .\n \n = = Section = = \n \n As in\n = 1 / s = \n which is .\n \n = B = \n \n More .\n";

    #[test]
    fn articles_begin_at_titles_only() {
        let [a, b] = &articles(TEXT)[..] else { panic!("two articles") };
        assert!(a.starts_with(" = A title = \n") && a.contains("Section") && a.contains("which is ."), "{a}");
        assert_eq!(b, " = B = \n \n More .\n");
        assert_eq!(articles(&TEXT.replace('\n', "\r\n")).len(), 2);
    }

    fn load(folder: &Path) -> Result<crate::data::entry::Split<Vec<String>>> {
        let Contents::Text { read, .. } = ENTRY.contents else { unreachable!() };
        read(&ENTRY.paths(folder)?)
    }

    #[test]
    fn the_training_file_is_used_if_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let line = load(folder).unwrap_err().to_string();
        assert!(line.contains("wiki.train.tokens is missing here; it cannot be fetched: put"), "{line}");
        fs::write(folder.join("wiki.test.tokens"), TEXT).unwrap();
        let line = load(folder).unwrap_err().to_string();
        assert!(line.contains("wiki.valid.tokens is missing"), "{line}");
        fs::write(folder.join("wiki.valid.tokens"), " = C = \n").unwrap();
        let (train, test) = load(folder).unwrap();
        assert_eq!((train.len(), test.concat()), (2, " = C = \n".to_string()));
        fs::write(folder.join("wiki.train.tokens"), " = D = \n").unwrap();
        assert_eq!(load(folder).unwrap().0, [" = D = \n"]);
        fs::write(folder.join("wiki.train.tokens"), "").unwrap();
        assert!(load(folder).unwrap_err().to_string().contains("wiki.train.tokens: holds no text"));
    }
}
