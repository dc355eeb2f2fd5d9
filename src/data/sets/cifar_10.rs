//! CIFAR-10 (Krizhevsky), binary version: six batches of records, in the publisher's archive or unpacked.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::data::entry::{Contents, DataFile, Entry, Source, Split};
use crate::data::images::{Images, require_labels};
use crate::data::reader::{self, REPLACE};
use crate::engine::{Error, Result};

/// Its row of the catalog.
pub static ENTRY: Entry = Entry {
    name: "cifar-10",
    about: "photographs of animals and vehicles",
    contents: Contents::Images {
        classes: CLASSES,
        shape: [SIDE, SIDE, CHANNELS],
        counts: (50_000, 10_000),
        read: |paths| match paths {
            [archive] => read_archive(archive),
            batches => read_batches(batches),
        },
    },
    batch: 256,
    epochs: 25,
    source: Source::Url("https://www.cs.toronto.edu/~kriz/"),
    layouts: &[
        &[DataFile {
            name: "cifar-10-binary.tar.gz",
            md5: Some("c32a1d4ab5d03f1284b67883e8d87530"),
            raw_md5: None,
            check: |path| read_archive(path).map(drop),
        }],
        &[
            batch_file("cifar-10-batches-bin/data_batch_1.bin"),
            batch_file("cifar-10-batches-bin/data_batch_2.bin"),
            batch_file("cifar-10-batches-bin/data_batch_3.bin"),
            batch_file("cifar-10-batches-bin/data_batch_4.bin"),
            batch_file("cifar-10-batches-bin/data_batch_5.bin"),
            batch_file("cifar-10-batches-bin/test_batch.bin"),
        ],
    ],
};

/// An unpacked batch.
const fn batch_file(name: &'static str) -> DataFile {
    DataFile { name, md5: None, raw_md5: None, check: |path| read_batch(path).map(drop) }
}

/// The batches: five for training, and the last for testing.
const BATCHES: [&str; 6] = [
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
const CLASSES: usize = 10;

/// Reads the unpacked batches.
fn read_batches(paths: &[PathBuf]) -> Result<Split<Images>> {
    Ok(split(paths.iter().map(|path| read_batch(path)).collect::<Result<_>>()?))
}

/// Reads one unpacked batch.
fn read_batch(path: &Path) -> Result<Images> {
    let mut bytes = Vec::new();
    reader::open(path)?.read_up_to(reader::MAX_BYTES + 1, &mut bytes)?;
    parse(path, &bytes)
}

/// Reads all batches from the publisher's archive, gzipped or not, without unpacking it.
fn read_archive(path: &Path) -> Result<Split<Images>> {
    let fail = |what: String| Error::data(path, format!("{what}; {REPLACE}"));
    let damaged = |error: std::io::Error| {
        // The reason may quote bytes of the archive: keep what fits on a line.
        let why = error.to_string();
        let why: String = why.chars().filter(|c| matches!(c, ' '..='~')).take(80).collect();
        fail(format!("is not a complete tar.gz archive ({why})"))
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
    // Reading to the end checks the sum in the gzip stream.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(damaged)?;
    let mut found = Vec::with_capacity(BATCHES.len());
    for (batch, name) in batches.into_iter().zip(BATCHES) {
        found.push(batch.ok_or_else(|| fail(format!("holds no {name}")))?);
    }
    Ok(split(found))
}

/// Splits records into labels and pixels.
fn parse(path: &Path, bytes: &[u8]) -> Result<Images> {
    let (len, max) = (bytes.len(), reader::MAX_BYTES);
    if len as u64 > max {
        return Err(Error::data(
            path,
            format!("has more than {max} bytes, which is more than any batch; {REPLACE}"),
        ));
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
    require_labels(path, &batch.labels, CLASSES)?;
    Ok(batch)
}

/// Joins the batches: all but the last are the training set, the last is the test set.
fn split(mut batches: Vec<Images>) -> Split<Images> {
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

    /// The folder inside the archive.
    const FOLDER: &str = "cifar-10-batches-bin";

    fn load(folder: &Path) -> Result<Split<Images>> {
        let Contents::Images { read, .. } = ENTRY.contents else { unreachable!() };
        read(&ENTRY.paths(folder)?)
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
        let line = load(folder.path()).unwrap_err().to_string();
        assert!(line.contains("dynamoe data fetch") && !line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn archive_and_folder_hold_the_same() {
        let members = batches();
        let from_folder = load(unpacked(&members).path()).unwrap();
        assert_eq!(from_folder, load(packed(&gzip(&tar(&members))).path()).unwrap());
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
        let straight = load(packed(&tar(&members)).path()).unwrap();
        members.reverse();
        members.insert(0, (format!("{FOLDER}/readme.html"), b"read me".to_vec()));
        assert_eq!(load(packed(&tar(&members)).path()).unwrap(), straight);
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
                told.contains("is not a complete tar.gz archive") || told.contains("holds no data_batch_1"),
                "{told}"
            );
        }
    }
}
