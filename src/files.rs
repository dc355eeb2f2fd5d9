//! Writing files so that a crash or a full disk never leaves half of one.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` to a temporary name beside `path`, syncs, and renames: `path` holds either its old
/// content or all of the new. A link is followed; a device or a pipe is written to as it is.
///
/// # Errors
/// The system's, with the path; the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if fs::metadata(&target).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        let opened = OpenOptions::new().write(true).open(&target);
        return opened.and_then(|mut file| file.write_all(bytes)).map_err(Error::io("write", path));
    }
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let mut file = File::create_new(&temporary).map_err(Error::io("write", path))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&temporary, &target)).map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path)(e)
    })
}

/// Makes a folder and those above it.
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
