//! The catalog: one line for each known data set.

use std::path::Path;

use super::entry::{Contents, Entry};
use super::sets::*;
use super::text::tokenizer::TokenizerKind;
use crate::engine::error::nearest;
use crate::engine::{Error, Result};

/// All known data sets.
pub static CATALOG: [&Entry; 7] = [
    &digits::ENTRY,
    &mnist::ENTRY,
    &fashion_mnist::ENTRY,
    &cifar_10::ENTRY,
    &tinyshakespeare::ENTRY,
    &wikitext_2::ENTRY,
    &recycling_the_web::ENTRY,
];

/// Texts of earlier versions: name, and what became of it. Networks that were trained on them can still be used.
const RETIRED: [(&str, &str); 1] = [(
    "guide",
    "the set `guide` was this program's own pages up to version 0.1 and is no longer shipped; `sample` and `inspect` \
     still work with a network trained on it, and `eval --dataset` scores it on another text",
)];

/// The names of all data sets, separated by commas.
pub fn names() -> String {
    CATALOG.map(|entry| entry.name).join(", ")
}

/// The entry called `name`.
///
/// # Errors
/// [`Error::Config`] for an unknown name, with the nearest one and all there are, and for a retired set.
pub fn entry(name: &str) -> Result<&'static Entry> {
    if let Some(entry) = CATALOG.iter().find(|entry| entry.name == name) {
        return Ok(entry);
    }
    if let Some((_, what)) = RETIRED.iter().find(|retired| retired.0 == name) {
        return Err(Error::config("dataset", *what));
    }
    let names = || CATALOG.iter().map(|entry| entry.name);
    let nearest = nearest(name, names()).unwrap_or_default();
    let all = self::names();
    Err(Error::config(
        "dataset",
        format!(
            "there is no data set `{name}`; the nearest is `{nearest}`; known are {all}, and the path of a text, with \
             an extension or a slash in it"
        ),
    ))
}

/// Whether `name` is the path of a text rather than the name of a set: it has a slash or an extension.
pub fn is_path(name: &str) -> bool {
    name.contains(['/', '\\']) || Path::new(name).extension().is_some()
}

/// Whether the data set of this name is text: a text of the catalog, a retired one, or a path.
pub fn is_text(name: &str) -> bool {
    let text = |entry: &Entry| matches!(entry.contents, Contents::Text { .. });
    is_path(name) || is_retired(name) || entry(name).is_ok_and(text)
}

/// Checks that a configuration may name this data set. It may be retired: its networks can still be used.
///
/// # Errors
/// [`Error::Config`] for an unknown name.
pub fn check(name: &str) -> Result<()> {
    if is_path(name) || is_retired(name) { Ok(()) } else { entry(name).map(drop) }
}

/// What a run on a data set does unless it is told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Examples in a batch.
    pub batch: usize,
    /// Passes over the training set.
    pub epochs: usize,
    /// The tokenizer, if the data set is usually read with a certain one.
    pub tokenizer: Option<TokenizerKind>,
}

/// The defaults of the data set called `name`; any unknown name counts as the path of a text.
pub fn defaults(name: &str) -> Defaults {
    match entry(name) {
        Ok(&Entry { batch, epochs, contents, .. }) => {
            let tokenizer = match contents {
                Contents::Text { tokenizer, .. } => tokenizer,
                Contents::Images { .. } => None,
            };
            Defaults { batch, epochs, tokenizer }
        }
        Err(_) => Defaults { batch: 32, epochs: 5, tokenizer: None },
    }
}

fn is_retired(name: &str) -> bool {
    RETIRED.iter().any(|retired| retired.0 == name)
}

#[cfg(test)]
mod tests {
    use super::super::entry::Source;
    use super::*;

    #[test]
    fn every_address_is_encrypted_and_every_sum_an_md5() {
        for entry in CATALOG {
            assert_eq!(
                entry.layouts.is_empty(),
                matches!(entry.source, Source::Bundled(_)),
                "{}",
                entry.name
            );
            if let Source::Url(address) | Source::Table(address) = entry.source {
                assert!(address.starts_with("https://"), "{address}");
            }
            if let (Source::Url(_), Some(files)) = (entry.source, entry.layouts.first()) {
                assert!(files.iter().all(|file| file.md5.is_some()), "a download needs a sum to check");
            }
            for file in entry.layouts.iter().copied().flatten() {
                for sum in [file.md5, file.raw_md5].into_iter().flatten() {
                    assert!(
                        sum.len() == 32 && sum.bytes().all(|b| b"0123456789abcdef".contains(&b)),
                        "{sum}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        for (typed, nearest) in [
            ("mnits", "mnist"),
            ("cifar10", "cifar-10"),
            ("Fashion_MNIST", "fashion-mnist"),
            ("wikitext2", "wikitext-2"),
        ] {
            let line = entry(typed).unwrap_err().to_string();
            assert!(line.contains(&format!("nearest is `{nearest}`")), "{line}");
            assert!(line.contains("digits, mnist, fashion-mnist, cifar-10, tinyshakespeare"), "{line}");
        }
    }

    #[test]
    fn names_paths_and_retired_sets_are_images_or_text() {
        let text = ["tinyshakespeare", "wikitext-2", "a.txt", "texts/", "texts\\a", "guide"];
        assert!(text.iter().all(|name| is_text(name) && check(name).is_ok()));
        assert!(!is_text("digits") && check("digits").is_ok() && check("texts").is_err());
        let line = entry("guide").unwrap_err().to_string();
        assert!(line.contains("no longer shipped") && !line.contains('\n'), "{line}");
    }
}
