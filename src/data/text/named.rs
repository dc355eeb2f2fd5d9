//! The texts that have a name: where they are, whether their files are whole, and how to get them.

use std::path::{Path, PathBuf};

use super::split::Split;
use super::{guide, recycling, wikitext};
#[cfg(feature = "program")]
use crate::data::Fetched;
use crate::data::data_dir;
use crate::data::verify::{FileReport, FileState, Place, md5_of, report};
use crate::engine::Result;

/// A text with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The project's own README and guide, bundled.
    Guide,
    /// Articles of Wikipedia, from the data folder.
    WikiText2,
    /// Rewritten pages of the web, fetched.
    RecyclingTheWeb,
}

impl Named {
    /// All of them.
    pub const ALL: [Named; 3] = [Named::Guide, Named::WikiText2, Named::RecyclingTheWeb];

    /// The text called `name`.
    pub fn of(name: &str) -> Option<Named> {
        Named::ALL.into_iter().find(|text| text.name() == name)
    }

    /// Its name, on the command line and as a folder.
    pub fn name(self) -> &'static str {
        match self {
            Named::Guide => "guide",
            Named::WikiText2 => "wikitext-2",
            Named::RecyclingTheWeb => "recycling-the-web",
        }
    }

    fn folder(self, data_dir: Option<&Path>) -> PathBuf {
        self::data_dir(data_dir).join(self.name())
    }

    /// The documents to learn from and to be judged on.
    pub(super) fn load(self, data_dir: Option<&Path>) -> Result<Split> {
        let folder = self.folder(data_dir);
        match self {
            Named::Guide => Ok(guide::load()),
            Named::WikiText2 => wikitext::load(&folder),
            Named::RecyclingTheWeb => recycling::load(&folder),
        }
    }

    /// Its files in the data folder, with their MD5 sums where known. They need not be there.
    fn files(self, data_dir: Option<&Path>) -> Vec<(PathBuf, Option<&'static str>)> {
        let folder = self.folder(data_dir);
        match self {
            Named::Guide => vec![],
            Named::WikiText2 => wikitext::files(&folder).to_vec(),
            Named::RecyclingTheWeb => vec![(recycling::file(&folder), None)],
        }
    }

    /// Where it is, without reading its files.
    pub fn place(self, data_dir: Option<&Path>) -> Place {
        let files = self.files(data_dir);
        match self {
            Named::Guide => Place::Bundled,
            _ if files.iter().all(|(path, _)| path.is_file()) => Place::Folder(self.folder(data_dir)),
            _ => Place::Missing,
        }
    }

    /// What it is and which part is learned from.
    pub fn about(self, data_dir: Option<&Path>) -> String {
        let files = self.files(data_dir);
        let name = |i: usize| files[i].0.file_name().unwrap_or_default().display();
        match self {
            Named::Guide => "README and guide; every 10th section is for testing".into(),
            Named::WikiText2 => format!("learns from {}, is tested on {}", name(0), name(1)),
            Named::RecyclingTheWeb => "1,000 rewritten web pages; every 10th is for testing".into(),
        }
    }

    /// What to do about missing files, for what [`Named::fetch`] cannot fetch.
    pub fn by_hand(self) -> Option<&'static str> {
        (self == Named::WikiText2).then_some("put its files into that folder of the data folder")
    }

    /// Checks its files, in full.
    ///
    /// # Errors
    /// [`crate::engine::Error::Io`] for a file that the system cannot read.
    pub fn verify(self, data_dir: Option<&Path>) -> Result<Vec<FileReport>> {
        let read = match self {
            Named::Guide => {
                return Ok(vec![FileReport {
                    path: "README.md, guide (bundled)".into(),
                    state: FileState::Ok,
                }]);
            }
            Named::WikiText2 => wikitext::read,
            Named::RecyclingTheWeb => recycling::read,
        };
        let check = |(path, known): (PathBuf, Option<&str>)| {
            if !path.is_file() {
                return Ok(FileReport { path, state: FileState::Missing });
            }
            let state = read(&path).and_then(|_| {
                let sum = md5_of(&path)?;
                Ok(match known {
                    None => FileState::NoKnownSum(sum),
                    Some(known) if known == sum => FileState::Ok,
                    Some(_) => FileState::OtherBytes(sum),
                })
            });
            report(path, state)
        };
        self.files(data_dir).into_iter().map(check).collect()
    }

    /// Downloads what is missing, over TLS; see [`crate::data::fetch()`].
    ///
    /// # Errors
    /// [`crate::engine::Error::Download`] when the publisher or the network fails; [`crate::engine::Error::Data`] for WikiText-2 where
    /// it is missing, since its files have no address of their own.
    #[cfg(feature = "program")]
    pub fn fetch(self, data_dir: Option<&Path>, progress: bool) -> Result<Vec<Fetched>> {
        let folder = self.folder(data_dir);
        match (self, self.place(data_dir)) {
            (Named::RecyclingTheWeb, _) => Ok(vec![recycling::fetch(&folder, progress)?]),
            (_, Place::Missing) => Err(crate::engine::Error::data(&folder, wikitext::MISSING)),
            _ => {
                let here = |(path, _)| Fetched { path, downloaded: false };
                Ok(self.files(data_dir).into_iter().map(here).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn states(text: Named, data_dir: &Path) -> Vec<FileState> {
        text.verify(Some(data_dir)).unwrap().into_iter().map(|report| report.state).collect()
    }

    #[test]
    fn files_are_found_and_judged() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(states(Named::Guide, data), [FileState::Ok]);
        assert_eq!(states(Named::WikiText2, data), [FileState::Missing, FileState::Missing]);
        assert_eq!(states(Named::RecyclingTheWeb, data), [FileState::Missing]);
        assert_eq!(
            Named::ALL.map(|text| text.place(Some(data))),
            [Place::Bundled, Place::Missing, Place::Missing]
        );

        let put = |name: &str, text: &[u8]| {
            fs::create_dir_all(data.join(name).parent().unwrap()).unwrap();
            fs::write(data.join(name), text).unwrap();
        };
        put("wikitext-2/wiki.test.tokens", b" = A = \n");
        put("wikitext-2/wiki.valid.tokens", b"\xff");
        put("recycling-the-web/recycling_the_web-1k.jsonl", b"\"a\"");
        let wikitext = states(Named::WikiText2, data);
        assert!(matches!(wikitext[0], FileState::OtherBytes(_)), "{wikitext:?}");
        assert!(wikitext[1].to_string().starts_with("corrupt: is not UTF-8"), "{wikitext:?}");
        assert!(matches!(states(Named::RecyclingTheWeb, data)[0], FileState::NoKnownSum(_)));
        assert_eq!(Named::WikiText2.place(Some(data)), Place::Folder(data.join("wikitext-2")));

        assert!(Named::WikiText2.about(Some(data)).starts_with("learns from wiki.test.tokens"));
        put("wikitext-2/wiki.train.tokens", b" = A = \n");
        assert!(Named::WikiText2.about(Some(data)).starts_with("learns from wiki.train.tokens"));
        assert!(matches!(states(Named::WikiText2, data)[0], FileState::NoKnownSum(_)));
    }

    #[cfg(feature = "program")]
    #[test]
    fn what_cannot_be_fetched_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Named::Guide.fetch(Some(folder.path()), false).unwrap(), []);
        let line = Named::WikiText2.fetch(Some(folder.path()), false).unwrap_err().to_string();
        assert!(line.contains("wikitext-2: this program cannot fetch WikiText-2: put"), "{line}");
    }
}
