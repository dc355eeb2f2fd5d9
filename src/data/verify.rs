//! Says what is on disk: which sets are there, and whether their files are the publisher's bytes.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::data::catalog::{self, Entry, Format, Published};
use crate::data::{cifar, data_dir, digits, idx, load, reader};
use crate::engine::{Error, Result};

/// What [`verify`] found out about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Its bytes, packed or unpacked, are the publisher's.
    Ok,
    /// It can be read, but its bytes are not the publisher's; holds their MD5 sum.
    OtherBytes(String),
    /// It can be read; the publisher gives no sum to compare with. Holds its MD5 sum.
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
            FileState::OtherBytes(md5) => write!(f, "readable, but not the publisher's bytes (MD5 {md5})"),
            FileState::NoKnownSum(md5) => {
                write!(f, "readable; the publisher gives no sum for it (MD5 {md5})")
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
    /// What it is like.
    pub state: FileState,
}

/// Checks every file of a set, in full. A set with a file that [`FileState::is_bad`] cannot be used.
///
/// # Errors
/// [`Error::Config`] for an unknown name; [`Error::Io`] for a file that the system cannot read;
/// [`Error::Data`] when each file is readable but they do not fit together.
pub fn verify(name: &str, data_dir: Option<&Path>) -> Result<Vec<FileReport>> {
    let entry = catalog::entry(name)?;
    let folder = self::data_dir(data_dir).join(entry.name);
    let unpacked = folder.join(cifar::FOLDER);
    let archived = entry.files.iter().any(|file| file.find(&folder).is_some());
    let reports = match entry.format {
        Format::Bundled => {
            vec![report(digits::BUNDLED_NAME.into(), digits::check().map(|()| FileState::Ok))?]
        }
        Format::Cifar if !archived && unpacked.is_dir() => {
            cifar::BATCHES.iter().map(|name| verify_batch(unpacked.join(name))).collect::<Result<_>>()?
        }
        Format::Idx | Format::Cifar => {
            entry.files.iter().map(|file| verify_file(entry, file, &folder)).collect::<Result<_>>()?
        }
    };
    let all_usable = reports.iter().all(|report| !report.state.is_bad());
    if all_usable && reports.iter().any(|report| report.state != FileState::Ok) {
        load(name, data_dir)?;
    }
    Ok(reports)
}

fn verify_file(entry: &Entry, file: &Published, folder: &Path) -> Result<FileReport> {
    let Some(path) = file.find(folder) else {
        return Ok(FileReport { path: folder.join(file.name), state: FileState::Missing });
    };
    if is_published(file, &path)? {
        return Ok(FileReport { path, state: FileState::Ok });
    }
    let readable = match entry.format {
        Format::Cifar => cifar::read_archive(&path).map(drop),
        _ if file.name.contains("images") => idx::read_images(&path).map(drop),
        _ => idx::read_labels(&path).map(drop),
    };
    let state = readable.and_then(|()| Ok(FileState::OtherBytes(md5_of(&path)?)));
    report(path, state)
}

fn verify_batch(path: PathBuf) -> Result<FileReport> {
    if !path.is_file() {
        return Ok(FileReport { path, state: FileState::Missing });
    }
    let state = cifar::read_batch(&path).and_then(|_| Ok(FileState::NoKnownSum(md5_of(&path)?)));
    report(path, state)
}

/// A report on `path`; damage is part of the report, all other errors stay errors.
pub(super) fn report(path: PathBuf, state: Result<FileState>) -> Result<FileReport> {
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
pub(crate) fn is_published(file: &Published, path: &Path) -> Result<bool> {
    let stored = md5_of(path)?;
    if stored == file.md5 || Some(stored.as_str()) == file.raw_md5 {
        return Ok(true);
    }
    let Some(raw_md5) = file.raw_md5 else { return Ok(false) };
    // A gzip stream that cannot be unpacked is not the published one; the parser tells what is wrong.
    let unpacked = std::io::Read::take(reader::open(path)?, reader::MAX_BYTES);
    Ok(reader::md5(unpacked).is_ok_and(|sum| sum == raw_md5))
}

/// The MD5 sum of a file, in hex.
pub(super) fn md5_of(path: &Path) -> Result<String> {
    File::open(path).and_then(reader::md5).map_err(Error::io("read", path))
}

/// Where a set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside the program.
    Bundled,
    /// In this folder, with all its files.
    Folder(PathBuf),
    /// Not there, or not all of it.
    Missing,
}

/// One line of [`list`].
#[derive(Clone, Debug)]
pub struct Listing {
    /// The catalog's entry: name, counts, classes and shape.
    pub entry: &'static Entry,
    /// Where the set is.
    pub place: Place,
}

/// Lists all known sets and where they are, without reading their files.
pub fn list(data_dir: Option<&Path>) -> Vec<Listing> {
    let data_dir = self::data_dir(data_dir);
    let place = |entry: &Entry| {
        let folder = data_dir.join(entry.name);
        let published = entry.files.iter().all(|file| file.find(&folder).is_some());
        let unpacked = || cifar::BATCHES.iter().all(|name| folder.join(cifar::FOLDER).join(name).is_file());
        match entry.format {
            Format::Bundled => Place::Bundled,
            Format::Cifar if !published && unpacked() => Place::Folder(folder.join(cifar::FOLDER)),
            _ if published => Place::Folder(folder),
            _ => Place::Missing,
        }
    };
    catalog::ENTRIES.iter().map(|entry| Listing { entry, place: place(entry) }).collect()
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
    fn the_bundled_digits_are_ok() {
        let reports = verify("digits", None).unwrap();
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].state, FileState::Ok);
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
        let md5 = leak(reader::md5(published.as_slice()).unwrap());
        let raw_md5 = Some(leak(reader::md5(&[b'a'; 5000][..]).unwrap()));
        let file = Published { name: "file", md5, raw_md5 };
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
    fn readable_files_of_other_bytes_are_told_apart() {
        let folder = small_mnist();
        let reports = verify("mnist", Some(folder.path())).unwrap();
        assert_eq!(reports.len(), 4);
        for report in reports {
            assert!(!report.state.is_bad());
            let line = report.state.to_string();
            assert!(line.starts_with("readable, but not the publisher's bytes (MD5 "), "{line}");
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
    fn files_that_do_not_fit_together_are_an_error() {
        let folder = small_mnist();
        fs::write(folder.path().join("mnist/train-labels-idx1-ubyte"), labels(3, &[1, 2, 3])).unwrap();
        let line = verify("mnist", Some(folder.path())).unwrap_err().to_string();
        assert!(line.contains("has 3 labels for the 2 images"), "{line}");
    }

    #[test]
    fn unpacked_batches_are_each_reported() {
        let folder = tempfile::tempdir().unwrap();
        let unpacked = folder.path().join("cifar-10").join(cifar::FOLDER);
        assert_eq!(verify("cifar-10", Some(folder.path())).unwrap()[0].state, FileState::Missing);
        fs::create_dir_all(&unpacked).unwrap();
        for name in cifar::BATCHES {
            fs::write(unpacked.join(name), vec![1; 3073]).unwrap();
        }
        let reports = verify("cifar-10", Some(folder.path())).unwrap();
        assert!(reports.iter().all(|report| matches!(report.state, FileState::NoKnownSum(_))), "{reports:?}");
        fs::write(unpacked.join("test_batch.bin"), vec![1; 3072]).unwrap();
        let reports = verify("cifar-10", Some(folder.path())).unwrap();
        assert!(reports[5].state.to_string().starts_with("corrupt: has 3072 bytes"), "{reports:?}");
    }

    #[test]
    fn the_list_says_where_each_set_is() {
        let folder = small_mnist();
        let places: Vec<_> = list(Some(folder.path())).into_iter().map(|listing| listing.place).collect();
        let mnist = Place::Folder(folder.path().join("mnist"));
        assert_eq!(places, [Place::Bundled, mnist, Place::Missing, Place::Missing]);
        fs::remove_file(folder.path().join("mnist/t10k-labels-idx1-ubyte")).unwrap();
        assert_eq!(list(Some(folder.path()))[1].place, Place::Missing);
    }
}
