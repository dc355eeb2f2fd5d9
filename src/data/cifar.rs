//! CIFAR-10's binary version: six batches of records, in the publisher's archive or unpacked.

use std::io::Read;
use std::path::Path;

use crate::data::catalog::{Entry, REPLACE, missing};
use crate::data::{Images, check_labels, reader};
use crate::engine::{Error, Result};

/// The folder that unpacking the archive makes.
pub const FOLDER: &str = "cifar-10-batches-bin";

/// The batches: five to learn from and the last to be judged on.
pub const BATCHES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// Rows and columns of an image.
const SIDE: usize = 32;
/// Red, green, blue, each a plane of its own.
const CHANNELS: usize = 3;
/// A record: the label, then the pixels.
const RECORD: usize = 1 + CHANNELS * SIDE * SIDE;
/// The largest label and one.
const CLASSES: usize = 10;

/// Loads the training and test images from `folder`: from the archive when it is there, else from the
/// unpacked batches in [`FOLDER`].
///
/// # Errors
/// [`Error::Data`] or [`Error::Io`] for files that are missing or damaged.
pub fn load(entry: &Entry, folder: &Path) -> Result<(Images, Images)> {
    if let Some(archive) = entry.files.iter().find_map(|file| file.find(folder)) {
        return read_archive(&archive);
    }
    let unpacked = folder.join(FOLDER);
    if !unpacked.is_dir() {
        let archive = entry.files.first().map_or("", |file| file.name);
        return Err(missing(entry, folder, &format!("{archive} (or the folder {FOLDER})")));
    }
    let mut batches = Vec::with_capacity(BATCHES.len());
    for name in BATCHES {
        let path = unpacked.join(name);
        if !path.is_file() {
            return Err(missing(entry, &unpacked, name));
        }
        batches.push(read_batch(&path)?);
    }
    Ok(split(batches))
}

/// Reads one unpacked batch.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if its length or a label is not right.
pub fn read_batch(path: &Path) -> Result<Images> {
    let mut bytes = Vec::new();
    reader::open(path)?.read_up_to(reader::MAX_BYTES + 1, &mut bytes)?;
    parse(path, &bytes)
}

/// Reads all batches straight from the publisher's archive, gzipped or not, without unpacking it.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if it is no whole archive, lacks a batch, or
/// a batch is damaged.
pub fn read_archive(path: &Path) -> Result<(Images, Images)> {
    let fail = |what: String| Error::data(path, format!("{what}; {REPLACE}"));
    let damaged = |error: std::io::Error| {
        // The reason may quote bytes of the archive: keep what fits on a line.
        let why = error.to_string();
        let why: String = why.chars().filter(|c| matches!(c, ' '..='~')).take(80).collect();
        fail(format!("is not a whole tar.gz archive ({why})"))
    };
    let mut batches = [const { None }; BATCHES.len()];
    let mut archive = tar::Archive::new(reader::open(path)?);
    for member in archive.entries().map_err(damaged)? {
        let member = member.map_err(damaged)?;
        let member_path = member.path().map_err(damaged)?.into_owned();
        let Some(index) = BATCHES.iter().position(|name| member_path.ends_with(name)) else { continue };
        let mut bytes = Vec::new();
        member.take(reader::MAX_BYTES + 1).read_to_end(&mut bytes).map_err(damaged)?;
        let inside = path.join(&member_path);
        if batches[index].replace(parse(&inside, &bytes)?).is_some() {
            return Err(fail(format!("holds {} twice", BATCHES[index])));
        }
    }
    // Reading on to the end checks gzip's own sum.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(damaged)?;
    let mut found = Vec::with_capacity(BATCHES.len());
    for (batch, name) in batches.into_iter().zip(BATCHES) {
        found.push(batch.ok_or_else(|| fail(format!("holds no {name}")))?);
    }
    Ok(split(found))
}

/// Takes records apart into labels and pixels.
fn parse(path: &Path, bytes: &[u8]) -> Result<Images> {
    let (len, max) = (bytes.len(), reader::MAX_BYTES);
    if len as u64 > max {
        return Err(Error::data(path, format!("has more than {max} bytes, which no batch has; {REPLACE}")));
    }
    if len == 0 || len % RECORD != 0 {
        let what = format!("has {len} bytes, but a batch is one or more whole records of {RECORD}");
        return Err(Error::data(path, format!("{what}; {REPLACE}")));
    }
    let mut batch = empty();
    for record in bytes.chunks_exact(RECORD) {
        batch.labels.push(record[0]);
        batch.pixels.extend_from_slice(&record[1..]);
    }
    check_labels(path, &batch.labels, CLASSES)?;
    Ok(batch)
}

/// Joins the batches: all but the last to learn from, the last to be judged on.
fn split(mut batches: Vec<Images>) -> (Images, Images) {
    let test = batches.pop().unwrap_or_else(empty);
    let mut train = empty();
    for batch in batches {
        train.pixels.extend(batch.pixels);
        train.labels.extend(batch.labels);
    }
    (train, test)
}

fn empty() -> Images {
    Images { pixels: vec![], labels: vec![], height: SIDE, width: SIDE, channels: CHANNELS, scale: 255.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn cifar() -> &'static Entry {
        crate::data::catalog::entry("cifar-10").unwrap()
    }

    /// Two records: every pixel of batch `index` is `index`, the labels are `index` and 9.
    fn batch(index: u8) -> Vec<u8> {
        let mut bytes = vec![index; 2 * RECORD];
        bytes[RECORD] = 9;
        bytes
    }

    fn batches() -> Vec<(String, Vec<u8>)> {
        (0u8..).zip(BATCHES).map(|(index, name)| (format!("{FOLDER}/{name}"), batch(index))).collect()
    }

    fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(members: &[(String, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        for (name, bytes) in members {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn packed(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cifar-10-binary.tar.gz"), bytes).unwrap();
        folder
    }

    fn line(folder: &tempfile::TempDir) -> String {
        let line = load(cifar(), folder.path()).unwrap_err().to_string();
        assert!(line.contains("dynamoe data fetch") && !line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn archive_and_folder_hold_the_same() {
        let members = batches();
        let from_folder = load(cifar(), unpacked(&members).path()).unwrap();
        assert_eq!(from_folder, load(cifar(), packed(&gzip(&tar(&members))).path()).unwrap());
        let (train, test) = from_folder;
        assert_eq!(train.labels, [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]);
        assert_eq!((test.labels, test.pixels), (vec![5, 9], vec![5; 2 * 3072]));
        assert_eq!((train.height, train.width, train.channels, train.scale), (32, 32, 3, 255.0));
        assert_eq!(
            train.pixels.chunks(2 * 3072).map(|pixels| pixels[0]).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
    }

    #[test]
    fn the_order_in_the_archive_does_not_matter() {
        let mut members = batches();
        let straight = load(cifar(), packed(&tar(&members)).path()).unwrap();
        members.reverse();
        members.insert(0, (format!("{FOLDER}/readme.html"), b"read me".to_vec()));
        assert_eq!(load(cifar(), packed(&tar(&members)).path()).unwrap(), straight);
    }

    #[test]
    fn a_batch_is_whole_records_with_labels_to_nine() {
        let mut members = batches();
        members[2].1.pop();
        let told = line(&unpacked(&members));
        assert!(
            told.contains("data_batch_3.bin: has 6145 bytes") && told.contains("records of 3073"),
            "{told}"
        );
        members[2].1.clear();
        assert!(line(&packed(&tar(&members))).contains("data_batch_3.bin: has 0 bytes"));
        members = batches();
        members[5].1[RECORD] = 10;
        for folder in [unpacked(&members), packed(&gzip(&tar(&members)))] {
            let told = line(&folder);
            assert!(told.contains("test_batch.bin: label 10 at example 1"), "{told}");
        }
    }

    #[test]
    fn a_missing_batch_is_named() {
        let mut members = batches();
        members.remove(3);
        let told = line(&unpacked(&members));
        assert!(told.contains("data_batch_4.bin is missing"), "{told}");
        let told = line(&packed(&gzip(&tar(&members))));
        assert!(told.contains("holds no data_batch_4.bin"), "{told}");
    }

    #[test]
    fn a_batch_twice_is_refused() {
        let mut members = batches();
        members.push(members[0].clone());
        assert!(line(&packed(&tar(&members))).contains("holds data_batch_1.bin twice"));
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let whole = gzip(&tar(&batches()));
        let mut wrong_sum = whole.clone();
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        for bytes in
            [&whole[..whole.len() / 2], &whole[..whole.len() - 1], &wrong_sum, b"not an archive", &[7; 600]]
        {
            let told = line(&packed(bytes));
            assert!(
                told.contains("is not a whole tar.gz archive") || told.contains("holds no data_batch_1"),
                "{told}"
            );
        }
    }
}
