//! What is on disk: which sets are there, and whether their files are the published bytes.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::entry::{DataFile, Entry, Source};
use super::{catalog, data_dir, reader};
use crate::engine::{Error, Result};

/// What [`verify`] found about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Its bytes, packed or unpacked, are the published ones.
    Ok,
    /// It can be read, but its bytes are not the published ones; holds their MD5 sum.
    OtherBytes(String),
    /// It can be read, and there is no known sum to compare with; holds its MD5 sum.
    NoKnownSum(String),
    /// It is not there.
    Missing,
    /// It is there but cannot be used; holds what is wrong and what to do.
    Corrupt(String),
}

impl FileState {
    /// Whether the set cannot be used because of this file.
    pub fn is_bad(&self) -> bool {
        matches!(self, FileState::Missing | FileState::Corrupt(_))
    }
}

impl fmt::Display for FileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileState::Ok => write!(f, "ok"),
            FileState::OtherBytes(md5) => write!(f, "readable, but not the published bytes (MD5 {md5})"),
            FileState::NoKnownSum(md5) => {
                write!(f, "readable; no sum is known for it (MD5 {md5})")
            }
            FileState::Missing => write!(f, "missing"),
            FileState::Corrupt(what) => write!(f, "corrupt: {what}"),
        }
    }
}

/// One file of a set and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Where it is or should be.
    pub path: PathBuf,
    /// Its state.
    pub state: FileState,
}

/// Checks every file of a set, in full. A set with a file that [`FileState::is_bad`] cannot be used.
///
/// # Errors
/// [`Error::Config`] for an unknown name; [`Error::Io`] for a file that the system cannot read; [`Error::Data`] when
/// each file is readable but they do not match each other.
pub fn verify(name: &str, data_dir: Option<&Path>) -> Result<Vec<FileReport>> {
    let entry = catalog::entry(name)?;
    if let Source::Bundled(file) = entry.source {
        return Ok(vec![report(file.name.into(), file.check().map(|()| FileState::Ok))?]);
    }
    let folder = self::data_dir(data_dir).join(name);
    let reports: Vec<_> =
        entry.files(&folder).iter().map(|file| verify_file(file, &folder)).collect::<Result<_>>()?;
    let all_usable = reports.iter().all(|report| !report.state.is_bad());
    if all_usable && reports.iter().any(|report| report.state != FileState::Ok) {
        entry.check(&folder)?;
    }
    Ok(reports)
}

fn verify_file(file: &DataFile, folder: &Path) -> Result<FileReport> {
    let Some(path) = file.find(folder) else {
        return Ok(FileReport { path: folder.join(file.name), state: FileState::Missing });
    };
    if is_published(file, &path)? {
        return Ok(FileReport { path, state: FileState::Ok });
    }
    let state = (file.check)(&path).and_then(|()| {
        let sum = md5_of(&path)?;
        Ok(if file.md5.is_some() { FileState::OtherBytes(sum) } else { FileState::NoKnownSum(sum) })
    });
    report(path, state)
}

/// A report on `path`. Damage is part of the report; all other errors stay errors.
fn report(path: PathBuf, state: Result<FileState>) -> Result<FileReport> {
    match state {
        Ok(state) => Ok(FileReport { path, state }),
        Err(Error::Data { path: place, what }) => {
            // Damage inside an archive names the member.
            let member = place.strip_prefix(&path).ok().filter(|member| !member.as_os_str().is_empty());
            let member = member.map(|member| format!("{}: ", member.display())).unwrap_or_default();
            Ok(FileReport { path, state: FileState::Corrupt(format!("{member}{what}")) })
        }
        Err(error) => Err(error),
    }
}

/// Whether the bytes of `path`, packed or unpacked, are the published ones.
pub(crate) fn is_published(file: &DataFile, path: &Path) -> Result<bool> {
    if file.md5.is_none() {
        return Ok(false);
    }
    let stored = md5_of(path)?;
    if [file.md5, file.raw_md5].contains(&Some(&stored)) {
        return Ok(true);
    }
    let Some(raw_md5) = file.raw_md5 else { return Ok(false) };
    // A gzip stream that cannot be unpacked is not the published one; the parser says what is wrong.
    let unpacked = std::io::Read::take(reader::open(path)?, reader::MAX_BYTES);
    Ok(reader::md5(unpacked).is_ok_and(|sum| sum == raw_md5))
}

/// The MD5 sum of a file, in hex.
fn md5_of(path: &Path) -> Result<String> {
    File::open(path).and_then(reader::md5).map_err(Error::io("read", path))
}

/// Where a set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Inside the program.
    Bundled,
    /// In this folder, with all its files.
    Folder(PathBuf),
    /// Some or all files are missing.
    Missing,
}

/// Where a set is, without reading its files.
pub fn locate(entry: &Entry, data_dir: Option<&Path>) -> Location {
    let folder = self::data_dir(data_dir).join(entry.name);
    match entry.source {
        Source::Bundled(_) => Location::Bundled,
        _ if entry.paths(&folder).is_ok() => Location::Folder(folder),
        _ => Location::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn labels(count: u32, labels: &[u8]) -> Vec<u8> {
        [&0x0801u32.to_be_bytes()[..], &count.to_be_bytes(), labels].concat()
    }

    fn images(count: u32, pixels: &[u8]) -> Vec<u8> {
        let words = [0x0803, count, 1, 1].map(u32::to_be_bytes);
        [words.as_flattened(), pixels].concat()
    }

    /// A data folder with a small readable set under the name mnist.
    fn small_mnist() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| {
            fs::create_dir_all(folder.path().join("mnist")).unwrap();
            fs::write(folder.path().join("mnist").join(name), bytes).unwrap();
        };
        put("train-images-idx3-ubyte", images(2, &[1, 2]));
        put("train-labels-idx1-ubyte", labels(2, &[1, 2]));
        put("t10k-images-idx3-ubyte", images(1, &[1]));
        put("t10k-labels-idx1-ubyte", labels(1, &[1]));
        folder
    }

    #[test]
    fn bundled_sets_are_ok() {
        for name in ["digits", "tinyshakespeare"] {
            let reports = verify(name, None).unwrap();
            assert_eq!((reports.len(), &reports[0].state), (1, &FileState::Ok));
        }
    }

    #[test]
    fn published_bytes_are_known_packed_repacked_and_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let pack = |level| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            std::io::Write::write_all(&mut encoder, &[b'a'; 5000]).unwrap();
            encoder.finish().unwrap()
        };
        let leak = |sum: String| -> &'static str { Box::leak(sum.into_boxed_str()) };
        let (published, repacked) = (pack(9), pack(1));
        assert_ne!(published, repacked);
        let md5 = Some(leak(reader::md5(published.as_slice()).unwrap()));
        let raw_md5 = Some(leak(reader::md5(&[b'a'; 5000][..]).unwrap()));
        let file = DataFile { name: "file", md5, raw_md5, check: |_| Ok(()) };
        for bytes in [&published[..], &repacked, &[b'a'; 5000]] {
            fs::write(&path, bytes).unwrap();
            assert!(is_published(&file, &path).unwrap());
        }
        for bytes in [&published[..published.len() - 1], &[b'a'; 4999], &pack(0)[..20]] {
            fs::write(&path, bytes).unwrap();
            assert!(!is_published(&file, &path).unwrap());
        }
    }

    #[test]
    fn readable_files_with_other_bytes_are_reported() {
        let folder = small_mnist();
        let reports = verify("mnist", Some(folder.path())).unwrap();
        assert_eq!(reports.len(), 4);
        for report in reports {
            assert!(!report.state.is_bad());
            let line = report.state.to_string();
            assert!(line.starts_with("readable, but not the published bytes (MD5 "), "{line}");
        }
    }

    #[test]
    fn missing_and_corrupt_files_are_reported_file_by_file() {
        let folder = small_mnist();
        fs::remove_file(folder.path().join("mnist/t10k-labels-idx1-ubyte")).unwrap();
        fs::write(folder.path().join("mnist/train-labels-idx1-ubyte"), labels(3, &[1])).unwrap();
        let states: Vec<_> =
            verify("mnist", Some(folder.path())).unwrap().into_iter().map(|report| report.state).collect();
        assert!(!states[0].is_bad() && !states[2].is_bad());
        assert!(states[1].to_string().starts_with("corrupt: has 9 uncompressed bytes"), "{}", states[1]);
        assert_eq!(states[3], FileState::Missing);
    }

    #[test]
    fn files_that_do_not_match_are_an_error() {
        let folder = small_mnist();
        fs::write(folder.path().join("mnist/train-labels-idx1-ubyte"), labels(3, &[1, 2, 3])).unwrap();
        let line = verify("mnist", Some(folder.path())).unwrap_err().to_string();
        assert!(line.contains("has 3 labels for the 2 images"), "{line}");
    }

    #[test]
    fn unpacked_batches_are_each_reported() {
        let folder = tempfile::tempdir().unwrap();
        let batches = catalog::entry("cifar-10").unwrap().layouts[1];
        let put = |file: &DataFile, length| {
            let path = folder.path().join("cifar-10").join(file.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; length]).unwrap();
        };
        assert_eq!(verify("cifar-10", Some(folder.path())).unwrap()[0].state, FileState::Missing);
        batches.iter().for_each(|file| put(file, 3073));
        let reports = verify("cifar-10", Some(folder.path())).unwrap();
        assert!(reports.iter().all(|report| matches!(report.state, FileState::NoKnownSum(_))), "{reports:?}");
        put(&batches[5], 3072);
        let reports = verify("cifar-10", Some(folder.path())).unwrap();
        assert!(reports[5].state.to_string().starts_with("corrupt: has 3072 bytes"), "{reports:?}");
    }

    #[test]
    fn texts_are_found_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let states = |name| {
            let reports = verify(name, Some(data)).unwrap();
            reports.into_iter().map(|report| report.state).collect::<Vec<_>>()
        };
        assert_eq!(states("wikitext-2"), [FileState::Missing, FileState::Missing]);
        assert_eq!(states("recycling-the-web"), [FileState::Missing]);
        let put = |name: &str, text: &[u8]| {
            fs::create_dir_all(data.join(name).parent().unwrap()).unwrap();
            fs::write(data.join(name), text).unwrap();
        };
        put("wikitext-2/wiki.test.tokens", b" = A = \n");
        put("wikitext-2/wiki.valid.tokens", b"\xff");
        put("recycling-the-web/recycling_the_web-1k.jsonl", b"\"a\"");
        let wikitext = states("wikitext-2");
        assert!(matches!(wikitext[0], FileState::OtherBytes(_)), "{wikitext:?}");
        assert!(wikitext[1].to_string().starts_with("corrupt: is not UTF-8"), "{wikitext:?}");
        assert!(matches!(states("recycling-the-web")[0], FileState::NoKnownSum(_)));
        put("wikitext-2/wiki.train.tokens", b" = A = \n");
        assert!(matches!(states("wikitext-2")[0], FileState::NoKnownSum(_)));
    }

    #[test]
    fn a_set_is_located_without_reading_it() {
        let folder = small_mnist();
        let locate = |name| locate(catalog::entry(name).unwrap(), Some(folder.path()));
        assert_eq!((locate("digits"), locate("tinyshakespeare")), (Location::Bundled, Location::Bundled));
        assert_eq!(locate("mnist"), Location::Folder(folder.path().join("mnist")));
        assert_eq!((locate("cifar-10"), locate("wikitext-2")), (Location::Missing, Location::Missing));
        fs::remove_file(folder.path().join("mnist/t10k-labels-idx1-ubyte")).unwrap();
        assert_eq!(locate("mnist"), Location::Missing);
    }
}
