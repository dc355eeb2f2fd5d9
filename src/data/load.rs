//! Loading data sets by name.

use std::path::Path;

use super::entry::{Contents, Split};
use super::text::{self, TextSet, Tokenizer, TokenizerKind};
use super::{ImageSet, catalog, data_dir};
use crate::engine::{Error, Result};

/// Loads a set of images by name. `data_dir` is the folder the user asked for, if any (see [`data_dir`]).
///
/// # Errors
/// [`Error::Config`] for an unknown name; [`Error::Data`] or [`Error::Io`] where files are missing,
/// unreadable or damaged.
pub fn load(name: &str, data_dir: Option<&Path>) -> Result<ImageSet> {
    let entry = catalog::entry(name)?;
    let Contents::Images { classes, read, .. } = entry.contents else {
        return Err(Error::config("dataset", format!("`{name}` is a text, where images are needed")));
    };
    let (train, test) = read(&entry.paths(&self::data_dir(data_dir).join(name))?)?;
    Ok(ImageSet { name: entry.name, classes, train, test })
}

/// Loads a text as sequences that predict up to `length` tokens each.
///
/// `name` is in the catalog, or it is the path of a `.txt` or `.md` file, of a `.jsonl` file (on each line a JSON object
/// with a field `text`, or a string), or of a folder of such files. Of ten or more documents every tenth is in the test
/// set; of fewer, the last tenth of their text. Texts of the catalog have their own splits.
///
/// Sequences never cross documents, unless `pack` joins all documents of a split, with the tokenizer's end-of-text token
/// between them if it has one. `data_dir` is the folder the user asked for, if any (see [`data_dir`]).
///
/// # Errors
/// [`Error::Config`] for an unknown name; [`Error::Data`] or [`Error::Io`] where files are missing, unreadable or
/// damaged, or hold too little text.
pub fn load_text(
    name: &str,
    tokenizer: TokenizerKind,
    length: usize,
    pack: bool,
    data_dir: Option<&Path>,
) -> Result<TextSet> {
    let documents = documents(name, data_dir)?;
    let tokenizer = Tokenizer::new(tokenizer, &documents.0);
    TextSet::new(name, documents, tokenizer, length, pack)
}

/// Like [`load_text`], with the tokenizer of an existing network.
///
/// # Errors
/// Those of [`load_text`].
pub fn load_text_as(
    name: &str,
    tokenizer: Tokenizer,
    length: usize,
    pack: bool,
    data_dir: Option<&Path>,
) -> Result<TextSet> {
    TextSet::new(name, documents(name, data_dir)?, tokenizer, length, pack)
}

/// The documents of the text called `name`.
fn documents(name: &str, data_dir: Option<&Path>) -> Result<Split<Vec<String>>> {
    if catalog::is_path(name) {
        let path = Path::new(name);
        if !path.exists() {
            let here = std::env::current_dir().unwrap_or_default();
            let what = format!("there is no file or folder `{name}` in {}", here.display());
            return Err(Error::config("dataset", what));
        }
        return text::files::load(path);
    }
    let entry = catalog::entry(name)?;
    match entry.contents {
        Contents::Text { read, .. } => read(&entry.paths(&self::data_dir(data_dir).join(name))?),
        Contents::Images { .. } => {
            Err(Error::config("dataset", format!("`{name}` is images, where text is needed")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set made of a file with this text.
    fn set(text: &str, tokenizer: TokenizerKind, length: usize, pack: bool) -> Result<TextSet> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.jsonl");
        std::fs::write(&path, text).unwrap();
        load_text(path.to_str().unwrap(), tokenizer, length, pack, None)
    }

    /// Ten documents of two characters, as lines of JSON.
    const PAIRS: &str = "\"ab\"\n\"cd\"\n\"ab\"\n\"cd\"\n\"ab\"\n\"cd\"\n\"ab\"\n\"cd\"\n\"ab\"\n\"xd\"\n";

    #[test]
    fn a_file_becomes_sequences() {
        let apart = set(PAIRS, TokenizerKind::Chars, 128, false).unwrap();
        assert_eq!(apart.tokenizer, Tokenizer::Chars(vec!['a', 'b', 'c', 'd']));
        assert_eq!((apart.train.len(), apart.train.sequence(1)), (9, &[2, 3][..]));
        // A character that is only in the test part is unknown.
        assert_eq!((apart.test.len(), apart.test.sequence(0)), (1, &[4, 3][..]));

        let packed = set(PAIRS, TokenizerKind::Bytes, 10, true).unwrap();
        assert_eq!((packed.train.len(), packed.train.sequence(0)), (2, &b"abcdabcdabc".map(u32::from)[..]));
        let packed = set(&PAIRS.repeat(2), TokenizerKind::Gpt2, 128, true).unwrap();
        assert_eq!((packed.train.len(), packed.train.sequence(0)[1..3].to_vec()), (1, vec![50_256, 10_210]));
    }

    #[test]
    fn tinyshakespeare_needs_no_file() {
        let nowhere = tempfile::tempdir().unwrap();
        for kind in [TokenizerKind::Bytes, TokenizerKind::Chars] {
            let set = load_text("tinyshakespeare", kind, 128, false, Some(nowhere.path())).unwrap();
            assert_eq!((set.train.predicted(), set.test.predicted()), (1_003_853, 111_539), "{kind:?}");
            assert!(set.train.ids.iter().all(|&id| (id as usize) < set.tokenizer.vocabulary()));
            assert!(set.tokenizer.decode(set.train.sequence(0)).starts_with("First Citizen:\n"));
        }
    }

    #[test]
    fn what_cannot_be_loaded_gets_one_line() {
        let nowhere = tempfile::tempdir().unwrap();
        let line = |name| {
            load_text(name, TokenizerKind::Bytes, 8, false, Some(nowhere.path())).unwrap_err().to_string()
        };
        for (name, told) in [
            ("nowhere.txt", "there is no file or folder `nowhere.txt` in /"),
            ("digits", "`digits` is images, where text is needed"),
            ("guide", "is no longer shipped"),
            ("wikitext-2", "it cannot be fetched: put"),
            ("recycling-the-web", "run `dynamoe data fetch recycling-the-web`, or point --data-dir"),
        ] {
            let line = line(name);
            assert!(line.contains(told) && !line.contains('\n'), "{line}");
        }
        let told =
            load_text("tinyshakespeare", TokenizerKind::Bytes, 0, false, None).unwrap_err().to_string();
        assert!(told.contains("length: 0 is "), "{told}");
        let told = set("\"a\"", TokenizerKind::Bytes, 8, false).unwrap_err().to_string();
        assert!(told.contains("too little text"), "{told}");
    }

    #[test]
    fn missing_images_get_one_line() {
        let empty = tempfile::tempdir().unwrap();
        for name in ["mnist", "fashion-mnist", "cifar-10"] {
            let line = load(name, Some(empty.path())).unwrap_err().to_string();
            assert!(
                line.contains(&format!("run `dynamoe data fetch {name}`, or point --data-dir")),
                "{line}"
            );
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
