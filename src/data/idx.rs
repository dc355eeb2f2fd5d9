//! IDX files, the format of MNIST and Fashion-MNIST: a magic number, the dimensions, then bytes.

use std::path::Path;

use crate::data::catalog::{Entry, REPLACE, missing};
use crate::data::{Images, check_labels, reader};
use crate::engine::{Error, Result};

/// The first four bytes of a file of images: unsigned bytes in three dimensions.
const IMAGES_MAGIC: u32 = 0x0803;
/// The first four bytes of a file of labels: unsigned bytes in one dimension.
const LABELS_MAGIC: u32 = 0x0801;

/// The content of an IDX image file.
#[derive(Debug, PartialEq)]
pub struct IdxImages {
    /// `count * height * width` values, image after image, row by row.
    pub pixels: Vec<u8>,
    /// The number of images.
    pub count: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
}

/// Loads the training and test images of a set whose four files lie in `folder`.
///
/// # Errors
/// [`Error::Data`] or [`Error::Io`] for a file that is missing, damaged, or does not fit the others.
pub fn load(entry: &Entry, folder: &Path) -> Result<(Images, Images)> {
    let mut paths = Vec::with_capacity(4);
    for file in entry.files {
        paths.push(file.find(folder).ok_or_else(|| missing(entry, folder, file.name))?);
    }
    let mut splits = Vec::with_capacity(2);
    for pair in paths.chunks_exact(2) {
        splits.push(load_split(&pair[0], &pair[1], entry.classes)?);
    }
    let [train, test]: [Images; 2] = splits.try_into().map_err(|_| {
        Error::data(folder, "an IDX set is four files: train images and labels, test images and labels")
    })?;
    if (train.height, train.width) != (test.height, test.width) {
        let what = format!(
            "test images are {} x {}, but training images are {} x {}; {REPLACE}",
            test.height, test.width, train.height, train.width
        );
        return Err(Error::data(&paths[2], what));
    }
    Ok((train, test))
}

fn load_split(images_path: &Path, labels_path: &Path, classes: usize) -> Result<Images> {
    let IdxImages { pixels, count, height, width } = read_images(images_path)?;
    let labels = read_labels(labels_path)?;
    if labels.len() != count {
        let what = format!("has {} labels for the {count} images of {}", labels.len(), images_path.display());
        return Err(Error::data(
            labels_path,
            format!("{what}; delete both and run `dynamoe data fetch` for this set"),
        ));
    }
    check_labels(labels_path, &labels, classes)?;
    Ok(Images { pixels, labels, height, width, channels: 1, scale: 255.0 })
}

/// Reads an IDX image file, gzipped or not.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if its magic, its dimensions or its length are
/// not right.
pub fn read_images(path: &Path) -> Result<IdxImages> {
    let ([count, height, width], pixels) = read(path, IMAGES_MAGIC, "images")?;
    Ok(IdxImages { pixels, count, height, width })
}

/// Reads an IDX label file, gzipped or not. Whether the labels fit a set is not judged here.
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let ([_], labels) = read(path, LABELS_MAGIC, "labels")?;
    Ok(labels)
}

/// Reads a file of `N` dimensions: the dimensions and the bytes.
fn read<const N: usize>(path: &Path, magic: u32, kind: &str) -> Result<([usize; N], Vec<u8>)> {
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
            return Err(fail(format!(
                "its header says {shape}, which is more than a data set may hold (1 GiB)"
            )));
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
        return Err(fail(format!("goes on after the {needs} uncompressed bytes its header ({shape}) needs")));
    }
    Ok((dims, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

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

    fn mnist() -> &'static Entry {
        crate::data::catalog::entry("mnist").unwrap()
    }

    /// The line that loading prints after `name` in a good set was replaced.
    fn line_with(name: &str, bytes: &[u8]) -> String {
        let folder = good_set();
        fs::write(folder.path().join(name), bytes).unwrap();
        let line = load(mnist(), folder.path()).unwrap_err().to_string();
        assert!(line.contains(name), "{line}");
        assert!(line.contains("dynamoe data fetch"), "{line}");
        assert!(!line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn good_files_load_gzipped_or_not() {
        let folder = good_set();
        let (train, test) = load(mnist(), folder.path()).unwrap();
        assert_eq!((train.len(), train.height, train.width, train.channels), (3, 2, 2, 1));
        assert_eq!((train.pixels, train.labels), (vec![7; 12], vec![0, 9, 4]));
        assert_eq!((test.pixels, test.labels), (vec![1, 2, 3, 4, 5, 6, 7, 8], vec![1, 2]));
        assert_eq!(test.scale, 255.0);
    }

    #[test]
    fn gzip_is_told_by_content_not_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("plain-name");
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
    fn headers_that_cannot_be_are_refused() {
        let name = "t10k-images-idx3-ubyte";
        let line = line_with(name, &[]);
        assert!(line.contains("has 0 bytes, but the header alone needs 16"), "{line}");
        let line = line_with(name, &file(IMAGES_MAGIC, &[2], &[]));
        assert!(line.contains("has 8 bytes, but the header alone needs 16"), "{line}");
        let line = line_with(name, &file(IMAGES_MAGIC, &[2, 0, 2], &[]));
        assert!(line.contains("says 2 x 0 x 2, but every dimension"), "{line}");
        for dims in [[u32::MAX; 3], [u32::MAX, 28, 28], [1 << 31, 1 << 31, 4]] {
            let line = line_with(name, &file(IMAGES_MAGIC, &dims, &[1; 50]));
            assert!(line.contains("more than a data set may hold"), "{line}");
        }
    }

    #[test]
    fn the_length_must_be_the_headers() {
        let whole = file(IMAGES_MAGIC, &[2, 2, 2], &[5; 8]);
        let name = "t10k-images-idx3-ubyte";
        let line = line_with(name, &whole[..20]);
        assert!(line.contains("has 20 uncompressed bytes, but its header (2 x 2 x 2) needs 24"), "{line}");
        let line = line_with(name, &[&whole[..], b"x"].concat());
        assert!(line.contains("goes on after the 24 uncompressed bytes"), "{line}");
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
    fn files_must_fit_each_other() {
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
        let line = load(mnist(), folder.path()).unwrap_err().to_string();
        assert!(line.contains("train-labels-idx1-ubyte.gz is missing"), "{line}");
        assert!(line.contains("dynamoe data fetch mnist"), "{line}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_io_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read_images(folder.path()), Err(Error::Io { .. })));
    }
}
