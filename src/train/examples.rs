//! The examples of a split, as a network takes them.

use crate::arr::{self, Arr};
use crate::data::{Images, Standardize};
use crate::kernels::par;
use crate::nn::Feed;

/// What a network is shown, and what it is to answer: one target for each row of the feed.
pub type Batch = (Feed<f32>, Vec<u32>);

/// The examples of one split.
#[derive(Clone, Copy, Debug)]
pub enum Examples<'a> {
    /// Images, and how their pixels become numbers.
    Images(&'a Images, &'a Standardize),
}

impl Examples<'_> {
    /// How many there are: images, or sequences.
    pub fn len(&self) -> usize {
        match self {
            Examples::Images(images, _) => images.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many go through the network at once where no gradient is asked for.
    pub fn at_once(&self) -> usize {
        match self {
            Examples::Images(..) => 500,
        }
    }

    /// The examples with these numbers.
    pub fn batch(&self, indices: &[u32]) -> Batch {
        match self {
            Examples::Images(images, standardize) => {
                (Feed::Images(gather(images, indices, standardize)), labels(images, indices))
            }
        }
    }

    /// All examples in order, [`Examples::at_once`] at a time.
    pub fn batches(&self) -> impl Iterator<Item = Batch> {
        let (count, size) = (self.len() as u32, self.at_once());
        (0..count).step_by(size).map(move |first| {
            let part: Vec<u32> = (first..count.min(first + size as u32)).collect();
            self.batch(&part)
        })
    }
}

/// The images at `indices`, standardised, as (T, features).
pub fn gather(images: &Images, indices: &[u32], standardize: &Standardize) -> Arr<f32> {
    let features = images.features();
    let mut x = arr::fresh(&[indices.len(), features]);
    const ROWS: usize = 16;
    par::chunks(arr::data_mut(&mut x), ROWS * features, |i, rows| {
        for (row, &index) in rows.chunks_exact_mut(features).zip(&indices[i * ROWS..]) {
            standardize.apply(&images.pixels[index as usize * features..][..features], row);
        }
    });
    x
}

/// The classes of the images at `indices`.
pub fn labels(images: &Images, indices: &[u32]) -> Vec<u32> {
    indices.iter().map(|&i| u32::from(images.labels[i as usize])).collect()
}
