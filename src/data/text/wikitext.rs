//! WikiText-2 (Merity et al.): articles of Wikipedia, one token a word, rare words as `<unk>`.
//!
//! What is judged on is always the validation file. What is learned from is the training file where it is there, else
//! the much smaller test file.

use std::path::{Path, PathBuf};

use super::path::read_text;
use super::split::{Split, cut_before};
use crate::data::catalog::Published;
use crate::engine::{Error, Result};

/// The large training file. No sum of it is known here.
const TRAIN: &str = "wiki.train.tokens";
/// What is learned from without it.
const TEST: Published =
    Published { name: "wiki.test.tokens", md5: "781c9418ab9414bd09e4aad825aae752", raw_md5: None };
const VALID: Published =
    Published { name: "wiki.valid.tokens", md5: "d756d22ab2310e7e60c094bea5c5a8eb", raw_md5: None };

/// The files to learn from and to be judged on, with their MD5 sums where known. They need not be there.
pub(super) fn files(folder: &Path) -> [(PathBuf, Option<&'static str>); 2] {
    let train = folder.join(TRAIN);
    let train = if train.is_file() { (train, None) } else { (folder.join(TEST.name), Some(TEST.md5)) };
    [train, (folder.join(VALID.name), Some(VALID.md5))]
}

/// What to do where a file is missing.
pub(super) const MISSING: &str = "this program cannot fetch WikiText-2: put wiki.test.tokens (or wiki.train.tokens) \
                                  and wiki.valid.tokens here, or point --data-dir at the folder that holds `wikitext-2/`";

/// The articles to learn from and to be judged on.
///
/// # Errors
/// [`Error::Data`] where a file is missing or holds no article.
pub(super) fn load(folder: &Path) -> Result<Split> {
    let [train, test] = files(folder).map(|(path, _)| match path.is_file() {
        true => read(&path),
        false => {
            let name = path.file_name().unwrap_or_default().display();
            Err(Error::data(folder, format!("{name} is missing; {MISSING}")))
        }
    });
    Ok((train?, test?))
}

/// The articles of the file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<String>> {
    let articles = articles(&read_text(path)?);
    match articles.is_empty() {
        true => Err(Error::data(path, "holds no text; get it anew")),
        false => Ok(articles),
    }
}

/// Cuts a file before its titles: ` = Title = ` alone between blank lines. (Sections have more equals signs; a line of
/// a formula may look like a title, but has text around it.)
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

    #[test]
    fn the_training_file_is_used_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let line = load(folder).unwrap_err().to_string();
        assert!(line.contains("wiki.test.tokens is missing; this program cannot fetch"), "{line}");
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
