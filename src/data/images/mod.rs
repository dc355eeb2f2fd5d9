//! Labeled images: what they are, how they are read, and how pixels become numbers.

pub mod idx;
pub mod standardize;
mod stored;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::reader::REPLACE;
use crate::engine::arr::{self, Arr};
use crate::engine::kernels::par;
use crate::engine::{Error, Result};
pub use standardize::Standardize;
pub use stored::Images;

/// How images are encoded, and their classes: what a checkpoint keeps of an image data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageEncoding {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Values per position.
    pub channels: usize,
    /// The value of a full pixel.
    pub scale: f32,
    /// The number of classes.
    pub classes: usize,
    /// Mean of the training pixels, in units of a full pixel.
    pub mean: f32,
    /// Standard deviation of the training pixels, in units of a full pixel.
    pub std: f32,
}

impl ImageEncoding {
    /// The encoding of a data set, fitted to its training images.
    pub fn fit(set: &ImageSet) -> (ImageEncoding, Standardize) {
        let standardize = Standardize::fit(&set.train);
        let Images { height, width, channels, scale, .. } = set.train;
        let (mean, std) = (standardize.mean(), standardize.std());
        (ImageEncoding { height, width, channels, scale, classes: set.classes, mean, std }, standardize)
    }

    /// The standardization of pixels.
    ///
    /// # Errors
    /// Values out of range, from a damaged file.
    pub fn standardize(&self) -> Result<Standardize> {
        Standardize::new(self.mean, self.std, self.scale)
    }

    /// The number of values in one image.
    pub fn features(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether all sizes are in range.
    pub fn is_valid(&self) -> bool {
        let in_range = |n: usize| (1..=1 << 12).contains(&n);
        in_range(self.height)
            && in_range(self.width)
            && (1..=16).contains(&self.channels)
            && in_range(self.classes)
    }
}

/// A named set of images, divided into a training and a test set.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSet {
    /// Its name in the catalog.
    pub name: &'static str,
    /// The number of classes.
    pub classes: usize,
    /// The training set.
    pub train: Images,
    /// The test set.
    pub test: Images,
}

/// Labeled images and the standardization that a network takes them with.
#[derive(Clone, Debug)]
pub struct LabeledImages {
    /// The images as stored.
    pub images: Images,
    standardize: Standardize,
}

impl LabeledImages {
    /// Images for a network with this standardization.
    pub fn new(images: Images, standardize: Standardize) -> LabeledImages {
        LabeledImages { images, standardize }
    }

    /// The images with these numbers, standardized, (T, features), and their classes.
    pub fn batch(&self, indices: &[u32]) -> (Arr<f32>, Vec<u32>) {
        (gather(&self.images, indices, &self.standardize), labels(&self.images, indices))
    }
}

/// The images with these numbers, standardized, as (T, features).
pub fn gather(images: &Images, indices: &[u32], standardize: &Standardize) -> Arr<f32> {
    let features = images.features();
    let mut x = arr::uninit(&[indices.len(), features]);
    const ROWS: usize = 16;
    par::chunks(arr::data_mut(&mut x), ROWS * features, |i, rows| {
        for (row, &index) in rows.chunks_exact_mut(features).zip(&indices[i * ROWS..]) {
            standardize.apply(&images.pixels[index as usize * features..][..features], row);
        }
    });
    x
}

/// The classes of the images with these numbers.
pub fn labels(images: &Images, indices: &[u32]) -> Vec<u32> {
    indices.iter().map(|&i| u32::from(images.labels[i as usize])).collect()
}

/// A fingerprint of everything in the set: 64 hex digits that are equal exactly when the sets are.
///
/// It is the BLAKE3 hash of, in this order: the set's name, the number of classes, then for `train` and
/// for `test` the split's name, the image count, height, width, channels and the bits of `scale`, the
/// pixels, and the labels. Numbers are written as 8 bytes, little-endian; each string of bytes comes
/// after its length, written the same way.
pub fn digest(name: &str, classes: usize, train: &Images, test: &Images) -> String {
    let mut hasher = blake3::Hasher::new();
    let number = |hasher: &mut blake3::Hasher, value: u64| {
        hasher.update(&value.to_le_bytes());
    };
    let bytes = |hasher: &mut blake3::Hasher, value: &[u8]| {
        number(hasher, value.len() as u64);
        hasher.update(value);
    };
    bytes(&mut hasher, name.as_bytes());
    number(&mut hasher, classes as u64);
    for (split, images) in [("train", train), ("test", test)] {
        bytes(&mut hasher, split.as_bytes());
        for value in [images.len(), images.height, images.width, images.channels] {
            number(&mut hasher, value as u64);
        }
        number(&mut hasher, images.scale.to_bits().into());
        bytes(&mut hasher, &images.pixels);
        bytes(&mut hasher, &images.labels);
    }
    hasher.finalize().to_hex().to_string()
}

/// Refuses a label that is not below `classes`, naming the example.
pub(super) fn require_labels(path: &Path, labels: &[u8], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(()),
        Some(at) => {
            let what = format!(
                "label {} at example {at} (counted from 0), but labels are 0 to {}; {REPLACE}",
                labels[at],
                classes - 1
            );
            Err(Error::data(path, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(set: &ImageSet) -> String {
        digest(set.name, set.classes, &set.train, &set.test)
    }

    fn tiny() -> ImageSet {
        let images = Images {
            pixels: vec![1, 2, 3, 4],
            labels: vec![0, 1],
            height: 1,
            width: 2,
            channels: 1,
            scale: 255.0,
        };
        ImageSet { name: "mnist", classes: 10, train: images.clone(), test: images }
    }

    #[test]
    fn images_know_their_size() {
        let images = tiny().train;
        assert_eq!((images.len(), images.features(), images.is_empty()), (2, 2, false));
    }

    #[test]
    fn the_digest_sees_every_change() {
        let original = digest_of(&tiny());
        assert_eq!(original.len(), 64);
        assert_eq!(original, digest_of(&tiny()));
        let changes: [fn(&mut ImageSet); 8] = [
            |d| d.name = "digits",
            |d| d.classes = 9,
            |d| d.train.pixels[0] = 9,
            |d| d.test.pixels[3] = 9,
            |d| d.train.labels[1] = 0,
            |d| (d.train.height, d.train.width) = (2, 1),
            |d| d.test.scale = 16.0,
            |d| std::mem::swap(&mut d.train.pixels, &mut d.test.labels),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut dataset = tiny();
            change(&mut dataset);
            assert_ne!(digest_of(&dataset), original, "change {index}");
        }
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let mut expected = Vec::new();
        let number = |value: u64| value.to_le_bytes().to_vec();
        expected.extend(number(5));
        expected.extend(b"mnist");
        expected.extend(number(10));
        for split in ["train", "test"] {
            expected.extend(number(split.len() as u64));
            expected.extend(split.as_bytes());
            for value in [2, 1, 2, 1, u64::from(255f32.to_bits()), 4] {
                expected.extend(number(value));
            }
            expected.extend([1, 2, 3, 4]);
            expected.extend(number(2));
            expected.extend([0, 1]);
        }
        assert_eq!(digest_of(&tiny()), blake3::hash(&expected).to_hex().to_string());
    }
}
