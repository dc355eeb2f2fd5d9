//! Atomic files: a crash or a full disk never leaves half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::engine::error::{Error, Result};

/// Writes `bytes` to a temporary name beside `path`, syncs, and renames: `path` holds either its old
/// content or all of the new. A link is followed; a device or a pipe is written to directly.
///
/// # Errors
/// The system's, with the path; the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if fs::metadata(&target).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        let opened = OpenOptions::new().write(true).open(&target);
        return opened.and_then(|mut file| file.write_all(bytes)).map_err(Error::io("write", path));
    }
    through_temporary(&target, bytes, |from, to| fs::rename(from, to)).map_err(Error::io("write", path))
}

/// Creates a new file, completely or not at all.
///
/// # Errors
/// The system's, with the path: [`std::io::ErrorKind::AlreadyExists`] if the file exists.
pub fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let link = |from: &Path, to: &Path| match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(e),
        // A file system without hard links: check, then rename.
        Err(_) if to.exists() => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    };
    through_temporary(path, bytes, link).map_err(Error::io("write", path))
}

/// Writes `bytes` under a temporary name, which `place` then turns into `target`.
fn through_temporary(
    target: &Path,
    bytes: &[u8],
    place: impl FnOnce(&Path, &Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}{TEMPORARY}", std::process::id()));
    let temporary = target.with_file_name(name);
    // A file of this name was left by a killed process with the same id.
    let mut file = File::create(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| place(&temporary, target)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    // The rename is durable once the folder is synced. Best effort: not every system can sync a folder.
    if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// How temporary names end.
const TEMPORARY: &str = ".tmp";

/// Removes the temporary files in `folder` that processes were writing when they were killed: `NAME.NUMBER.tmp`.
pub fn remove_temporary(folder: &Path) {
    let ours = |name: &str| {
        let number = name.strip_suffix(TEMPORARY)?.rsplit_once('.')?.1;
        Some(!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(ours) == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a folder and its parents.
///
/// # Errors
/// The system's, with the path.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create folder", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_stay_links() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.svg"), folder.path().join("link"));
        write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn only_what_a_killed_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let ours = format!("a.json.{}.tmp", std::process::id());
        for name in ["notes.tmp", "a.b.tmp", "a.json.4711.tmp", &ours] {
            fs::write(path(name), b"half").unwrap();
        }
        // One with this process's own id is left alone.
        write(&path("a.json"), b"whole").unwrap();
        create(&path("b.json"), b"new").unwrap();
        assert!(create(&path("b.json"), b"other").is_err());
        remove_temporary(folder.path());
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.b.tmp", "a.json", "b.json", "notes.tmp"]);
        assert_eq!(fs::read(path("b.json")).unwrap(), b"new");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(folder.path(), b"").is_err(), "a folder is no file");
        let error = write(&folder.path().join("missing/a.json"), b"").err().unwrap().to_string();
        assert!(error.starts_with("cannot write ") && error.contains("missing/a.json"), "{error}");
    }
}
