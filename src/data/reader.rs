//! Reads files, gzipped or not, in bounded memory, and computes their MD5 sums.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use md5::{Digest, Md5};

use crate::engine::{Error, Result};

/// What to do about a damaged file, as the end of an error line.
pub(crate) const REPLACE: &str = "delete it and run `dynamoe data fetch` for this set";

/// The largest uncompressed size of a file: 1 GiB, several times the largest known file.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// The bytes of `path`, uncompressed when the file begins with gzip's magic bytes, whatever its name.
pub(crate) struct Source<'a> {
    path: &'a Path,
    gzip: bool,
    /// The uncompressed bytes read so far.
    pub(crate) got: u64,
    /// The uncompressed bytes the file must hold in all, once that is known; for error lines.
    pub(crate) needs: Option<u64>,
    inner: Box<dyn Read>,
}

/// Opens `path` for reading.
pub(crate) fn open(path: &Path) -> Result<Source<'_>> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
    let gzip = file.fill_buf().map_err(Error::io("read", path))?.starts_with(&[0x1f, 0x8b]);
    let inner: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Source { path, gzip, got: 0, needs: None, inner })
}

impl Source<'_> {
    /// Appends up to `count` bytes to `out`, fewer only at the end of the file. Memory grows with the bytes
    /// actually read, not with `count`.
    pub(crate) fn read_up_to(&mut self, count: u64, out: &mut Vec<u8>) -> Result<()> {
        match self.take(count).read_to_end(out) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Reads to the end and discards the bytes, so that gzip's own checksum is verified.
    pub(crate) fn drain(&mut self) -> Result<()> {
        match std::io::copy(&mut self.take(MAX_BYTES), &mut std::io::sink()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Converts a read error: a damaged gzip stream is an error of the file, anything else of the system.
    fn explain(&self, error: std::io::Error) -> Error {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let got = self.got;
        let what = match (error.kind(), self.needs) {
            (UnexpectedEof, Some(needs)) if got < needs => {
                format!("breaks off after {got} of {needs} uncompressed bytes")
            }
            (UnexpectedEof, Some(_)) => "does not end properly: bytes were cut off or added".into(),
            (UnexpectedEof, None) => format!("breaks off after {got} uncompressed bytes"),
            (InvalidData | InvalidInput, _) => format!("is damaged ({error})"),
            _ => return Error::io("read", self.path)(error),
        };
        match self.gzip {
            true => Error::data(self.path, format!("the gzip stream {what}; {REPLACE}")),
            false => Error::io("read", self.path)(error),
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(out)?;
        self.got += count as u64;
        Ok(count)
    }
}

/// The MD5 sum, in hex, of all that `source` holds.
pub(crate) fn md5(mut source: impl Read) -> std::io::Result<String> {
    let mut hasher = Md5::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match source.read(&mut chunk)? {
            0 => break,
            count => hasher.update(&chunk[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read_back(stored: &[u8]) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, stored).unwrap();
        let mut out = Vec::new();
        open(&path)?.read_up_to(MAX_BYTES, &mut out)?;
        Ok(out)
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        assert_eq!(read_back(b"plain").unwrap(), b"plain");
        assert_eq!(read_back(&gzip(b"packed")).unwrap(), b"packed");
        assert_eq!(read_back(b"").unwrap(), b"");
    }

    #[test]
    fn no_more_is_read_than_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, gzip(&[0; 100_000])).unwrap();
        let mut out = Vec::new();
        let mut source = open(&path).unwrap();
        source.read_up_to(10, &mut out).unwrap();
        assert_eq!((out.len(), source.got), (10, 10));
    }

    #[test]
    fn damaged_gzip_is_the_files_fault() {
        let whole = gzip(b"some bytes worth keeping");
        let mut wrong_sum = whole.clone();
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        let trailing = [whole.as_slice(), b"more"].concat();
        for (stored, told) in [
            (&whole[..whole.len() - 1], "breaks off after 24 "),
            (&wrong_sum, "damaged"),
            (&trailing, "gzip stream"),
        ] {
            let error = read_back(stored).unwrap_err();
            assert!(matches!(error, Error::Data { .. }), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[test]
    fn md5_is_the_known_function() {
        assert_eq!(md5(&b"hello world"[..]).unwrap(), "5eb63bbbe01eeed093cb22bb8f5acdc3");
    }
}
