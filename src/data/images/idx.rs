//! IDX files, the format of MNIST and Fashion-MNIST: a magic number, the dimensions, then bytes.

use std::path::{Path, PathBuf};

use super::{Images, require_labels};
use crate::data::entry::Split;
use crate::data::reader::{self, REPLACE};
use crate::engine::{Error, Result};

/// The first four bytes of a file of images: unsigned bytes in three dimensions.
const IMAGES_MAGIC: u32 = 0x0803;
/// The first four bytes of a file of labels: unsigned bytes in one dimension.
const LABELS_MAGIC: u32 = 0x0801;

/// Reads a set of images in `classes` classes from four files: training images and labels, test images and labels.
///
/// # Errors
/// [`Error::Data`] or [`Error::Io`] for a file that is damaged or does not match the others.
///
/// # Panics
/// If there are not four paths.
pub fn read(paths: &[PathBuf], classes: usize) -> Result<Split<Images>> {
    let [train_images, train_labels, test_images, test_labels] = paths else {
        panic!("an IDX set has four files")
    };
    let train = read_split(train_images, train_labels, classes)?;
    let test = read_split(test_images, test_labels, classes)?;
    if (train.height, train.width) != (test.height, test.width) {
        let what = format!(
            "test images are {} x {}, but training images are {} x {}; {REPLACE}",
            test.height, test.width, train.height, train.width
        );
        return Err(Error::data(test_images, what));
    }
    Ok((train, test))
}

/// Checks that a file of images can be read.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if its magic number, dimensions or length are wrong.
pub fn check_images(path: &Path) -> Result<()> {
    read_images(path).map(drop)
}

/// Checks that a file of labels can be read.
///
/// # Errors
/// As [`check_images`].
pub fn check_labels(path: &Path) -> Result<()> {
    read_labels(path).map(drop)
}

fn read_split(images_path: &Path, labels_path: &Path, classes: usize) -> Result<Images> {
    let ([count, height, width], pixels) = read_images(images_path)?;
    let labels = read_labels(labels_path)?;
    if labels.len() != count {
        let what = format!("has {} labels for the {count} images of {}", labels.len(), images_path.display());
        return Err(Error::data(
            labels_path,
            format!("{what}; delete both and run `dynamoe data fetch` for this set"),
        ));
    }
    require_labels(labels_path, &labels, classes)?;
    Ok(Images { pixels, labels, height, width, channels: 1, scale: 255.0 })
}

/// Count, height and width of the images in a file, and their pixels: image after image, row by row.
fn read_images(path: &Path) -> Result<([usize; 3], Vec<u8>)> {
    read_array(path, IMAGES_MAGIC, "images")
}

/// The labels in a file, in any range.
fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let ([_], labels) = read_array(path, LABELS_MAGIC, "labels")?;
    Ok(labels)
}

/// Reads a file of `N` dimensions, gzipped or not: the dimensions and the bytes.
fn read_array<const N: usize>(path: &Path, magic: u32, kind: &str) -> Result<([usize; N], Vec<u8>)> {
    let fail = |what: String| Error::data(path, format!("{what}; {REPLACE}"));
    let mut source = reader::open(path)?;

    let header_len = 4 * (1 + N);
    let mut header = Vec::with_capacity(header_len);
    source.read_up_to(header_len as u64, &mut header)?;
    let words: Vec<u32> = header.as_chunks().0.iter().map(|&word| u32::from_be_bytes(word)).collect();
    if let Some(&found) = words.first()
        && found != magic
    {
        let hint = match found {
            IMAGES_MAGIC => " (this looks like a file of images)",
            LABELS_MAGIC => " (this looks like a file of labels)",
            _ => "",
        };
        return Err(fail(format!(
            "begins with {found:#010x}, but an IDX file of {kind} begins with {magic:#010x}{hint}"
        )));
    }
    if header.len() < header_len {
        return Err(fail(format!("has {} bytes, but the header alone needs {header_len}", header.len())));
    }

    let dims: [usize; N] = std::array::from_fn(|axis| words[1 + axis] as usize);
    let shape = dims.map(|dim| dim.to_string()).join(" x ");
    let body = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim as u64));
    let body = match body {
        Some(0) => {
            return Err(fail(format!("its header says {shape}, but every dimension must be at least 1")));
        }
        Some(body) if body <= reader::MAX_BYTES => body,
        _ => {
            return Err(fail(format!("its header says {shape}, which is more than the limit of 1 GiB")));
        }
    };

    let needs = header_len as u64 + body;
    source.needs = Some(needs);
    let mut bytes = Vec::new();
    source.read_up_to(body + 1, &mut bytes)?;
    if source.got < needs {
        return Err(fail(format!(
            "has {} uncompressed bytes, but its header ({shape}) needs {needs}",
            source.got
        )));
    }
    if source.got > needs {
        source.drain()?;
        return Err(fail(format!(
            "has more than the {needs} uncompressed bytes that its header ({shape}) needs"
        )));
    }
    Ok((dims, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn file(magic: u32, dims: &[u32], body: &[u8]) -> Vec<u8> {
        let words = [&[magic], dims].concat();
        words.into_iter().flat_map(u32::to_be_bytes).chain(body.iter().copied()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A folder with a good set of three training images and two test images, 2 x 2 each.
    fn good_set() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
        put("train-images-idx3-ubyte.gz", gzip(&file(IMAGES_MAGIC, &[3, 2, 2], &[7; 12])));
        put("train-labels-idx1-ubyte", file(LABELS_MAGIC, &[3], &[0, 9, 4]));
        put("t10k-images-idx3-ubyte", file(IMAGES_MAGIC, &[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]));
        put("t10k-labels-idx1-ubyte.gz", gzip(&file(LABELS_MAGIC, &[2], &[1, 2])));
        folder
    }

    /// Reads the set in `folder`.
    fn load(folder: &Path) -> Result<Split<Images>> {
        read(&crate::data::sets::mnist::ENTRY.paths(folder)?, 10)
    }

    /// The line that loading prints after `name` in a good set was replaced.
    fn line_with(name: &str, bytes: &[u8]) -> String {
        let folder = good_set();
        fs::write(folder.path().join(name), bytes).unwrap();
        let line = load(folder.path()).unwrap_err().to_string();
        assert!(line.contains(name), "{line}");
        assert!(line.contains("dynamoe data fetch"), "{line}");
        assert!(!line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn good_files_load_gzipped_or_not() {
        let folder = good_set();
        let (train, test) = load(folder.path()).unwrap();
        assert_eq!((train.len(), train.height, train.width, train.channels), (3, 2, 2, 1));
        assert_eq!((train.pixels, train.labels), (vec![7; 12], vec![0, 9, 4]));
        assert_eq!((test.pixels, test.labels), (vec![1, 2, 3, 4, 5, 6, 7, 8], vec![1, 2]));
        assert_eq!(test.scale, 255.0);
    }

    #[test]
    fn gzip_is_recognized_by_content_not_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain-name");
        fs::write(&path, gzip(&file(LABELS_MAGIC, &[2], &[3, 4]))).unwrap();
        assert_eq!(read_labels(&path).unwrap(), [3, 4]);
    }

    #[test]
    fn a_wrong_magic_is_refused() {
        let swapped = file(LABELS_MAGIC, &[2], &[1, 2]);
        let line = line_with("t10k-images-idx3-ubyte", &swapped);
        assert!(line.contains("begins with 0x00000801") && line.contains("file of labels"), "{line}");
        let line = line_with("train-labels-idx1-ubyte", b"<!DOCTYPE html>");
        assert!(line.contains("begins with 0x3c21444f"), "{line}");
    }

    #[test]
    fn invalid_headers_are_refused() {
        let name = "t10k-images-idx3-ubyte";
        let line = line_with(name, &[]);
        assert!(line.contains("has 0 bytes, but the header alone needs 16"), "{line}");
        let line = line_with(name, &file(IMAGES_MAGIC, &[2], &[]));
        assert!(line.contains("has 8 bytes, but the header alone needs 16"), "{line}");
        let line = line_with(name, &file(IMAGES_MAGIC, &[2, 0, 2], &[]));
        assert!(line.contains("says 2 x 0 x 2, but every dimension"), "{line}");
        for dims in [[u32::MAX; 3], [u32::MAX, 28, 28], [1 << 31, 1 << 31, 4]] {
            let line = line_with(name, &file(IMAGES_MAGIC, &dims, &[1; 50]));
            assert!(line.contains("more than the limit of 1 GiB"), "{line}");
        }
    }

    #[test]
    fn the_length_must_match_the_header() {
        let whole = file(IMAGES_MAGIC, &[2, 2, 2], &[5; 8]);
        let name = "t10k-images-idx3-ubyte";
        let line = line_with(name, &whole[..20]);
        assert!(line.contains("has 20 uncompressed bytes, but its header (2 x 2 x 2) needs 24"), "{line}");
        let line = line_with(name, &[&whole[..], b"x"].concat());
        assert!(line.contains("has more than the 24 uncompressed bytes"), "{line}");
        let line = line_with(name, &gzip(&whole[..20]));
        assert!(line.contains("has 20 uncompressed bytes"), "{line}");
        let line = line_with(name, &[gzip(&whole), b"x".to_vec()].concat());
        assert!(line.contains("the gzip stream does not end properly"), "{line}");
        let mut flipped = gzip(&[&whole[..], b"x"].concat());
        let at = flipped.len() - 8;
        flipped[at] ^= 1;
        let line = line_with(name, &flipped);
        assert!(line.contains("the gzip stream is damaged"), "{line}");
        let noise: Vec<u8> = (0..4000u32).map(|i| (i * i * 31 % 253) as u8).collect();
        let packed = gzip(&file(IMAGES_MAGIC, &[10, 20, 20], &noise));
        let line = line_with(name, &packed[..packed.len() / 2]);
        assert!(line.contains("breaks off after") && line.contains("of 4016 uncompressed bytes"), "{line}");
    }

    #[test]
    fn files_must_match_each_other() {
        let line = line_with("train-labels-idx1-ubyte", &file(LABELS_MAGIC, &[2], &[0, 1]));
        assert!(line.contains("has 2 labels for the 3 images"), "{line}");
        let line = line_with("train-labels-idx1-ubyte", &file(LABELS_MAGIC, &[3], &[0, 10, 1]));
        assert!(line.contains("label 10 at example 1"), "{line}");
        let line = line_with("t10k-images-idx3-ubyte", &file(IMAGES_MAGIC, &[2, 1, 2], &[0; 4]));
        assert!(line.contains("test images are 1 x 2, but training images are 2 x 2"), "{line}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = good_set();
        fs::remove_file(folder.path().join("train-labels-idx1-ubyte")).unwrap();
        let line = load(folder.path()).unwrap_err().to_string();
        assert!(line.contains("train-labels-idx1-ubyte.gz is missing"), "{line}");
        assert!(line.contains("dynamoe data fetch mnist"), "{line}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_io_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read_images(folder.path()), Err(Error::Io { .. })));
    }
}
