//! MNIST (LeCun, Cortes and Burges): handwritten digits.

use crate::data::entry::{Contents, DataFile, Entry, Source};
use crate::data::images::idx;

/// Its row of the catalog.
pub static ENTRY: Entry = Entry {
    name: "mnist",
    about: "handwritten digits",
    contents: Contents::Images {
        classes: 10,
        shape: [28, 28, 1],
        counts: (60_000, 10_000),
        read: |paths| idx::read(paths, 10),
    },
    batch: 256,
    epochs: 20,
    source: Source::Url("https://ossci-datasets.s3.amazonaws.com/mnist/"),
    layouts: &[&[
        DataFile {
            name: "train-images-idx3-ubyte.gz",
            md5: Some("f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            raw_md5: Some("6bbc9ace898e44ae57da46a324031adb"),
            check: idx::check_images,
        },
        DataFile {
            name: "train-labels-idx1-ubyte.gz",
            md5: Some("d53e105ee54ea40749a09fcbcd1e9432"),
            raw_md5: Some("a25bea736e30d166cdddb491f175f624"),
            check: idx::check_labels,
        },
        DataFile {
            name: "t10k-images-idx3-ubyte.gz",
            md5: Some("9fb629c4189551a2d022fa330f9573f3"),
            raw_md5: Some("2646ac647ad5339dbf082846283269ea"),
            check: idx::check_images,
        },
        DataFile {
            name: "t10k-labels-idx1-ubyte.gz",
            md5: Some("ec29112dd5afa0611ce80d1b7f02629c"),
            raw_md5: Some("27ae3e4e09519cfbb04c329615203637"),
            check: idx::check_labels,
        },
    ]],
};
