//! Fashion-MNIST (Xiao, Rasul and Vollgraf): articles of clothing, in the format of MNIST.

use crate::data::entry::{Contents, DataFile, Entry, Source};
use crate::data::images::idx;

/// Its row of the catalog.
pub static ENTRY: Entry = Entry {
    name: "fashion-mnist",
    about: "articles of clothing",
    contents: Contents::Images {
        classes: 10,
        shape: [28, 28, 1],
        counts: (60_000, 10_000),
        read: |paths| idx::read(paths, 10),
    },
    batch: 256,
    epochs: 20,
    source: Source::Url("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"),
    layouts: &[&[
        DataFile {
            name: "train-images-idx3-ubyte.gz",
            md5: Some("8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            raw_md5: Some("f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            check: idx::check_images,
        },
        DataFile {
            name: "train-labels-idx1-ubyte.gz",
            md5: Some("25c81989df183df01b3e8a0aad5dffbe"),
            raw_md5: Some("9018921c3c673c538a1fc5bad174d6f9"),
            check: idx::check_labels,
        },
        DataFile {
            name: "t10k-images-idx3-ubyte.gz",
            md5: Some("bef4ecab320f06d8554ea6380940ec79"),
            raw_md5: Some("8181f5470baa50b63fa0f6fddb340f0a"),
            check: idx::check_images,
        },
        DataFile {
            name: "t10k-labels-idx1-ubyte.gz",
            md5: Some("bb300cfdad3c16e7a12a480ee83cd310"),
            raw_md5: Some("15d484375f8d13e6eb1aabb0c3f46965"),
            check: idx::check_labels,
        },
    ]],
};
