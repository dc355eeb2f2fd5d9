//! The one place that knows which tasks there are: what a network takes and answers, its examples, and their names.
//!
//! A new task is a variant of [`Encoding`] and one of [`Examples`], with an arm in each `match` of this file.

use serde::{Deserialize, Serialize};

use super::batch::{Batch, Feed};
use super::images::{self, ImageEncoding, ImageSet, LabeledImages};
use super::text::{self, Sequences, TextEncoding, TextSet};
use crate::engine::{Error, Result};

/// How a task is spoken of, and what it asks of a network.
#[derive(Debug, PartialEq, Eq)]
pub struct Task {
    /// What its data sets contain: `images`, `text`.
    pub name: &'static str,
    /// Its examples: `images`, `sequences`.
    pub examples: &'static str,
    /// What a network answers for, once each: `images`, `tokens`.
    pub answers: &'static str,
    /// Whether the network predicts the next token, so that perplexity is a score. Otherwise it classifies.
    pub predicts_next: bool,
    /// Examples that go through the network at once where no gradient is needed.
    pub inference_batch: usize,
}

static IMAGES: Task = Task {
    name: "images",
    examples: "images",
    answers: "images",
    predicts_next: false,
    inference_batch: 500,
};
static TEXT: Task =
    Task { name: "text", examples: "sequences", answers: "tokens", predicts_next: true, inference_batch: 16 };

/// What a network takes and answers. It is kept in checkpoints, so that a network can be used without its data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Encoding {
    /// Images to classes.
    Images(ImageEncoding),
    /// Tokens to the next tokens.
    Text(TextEncoding),
}

impl Encoding {
    /// The task.
    pub fn task(&self) -> &'static Task {
        match self {
            Encoding::Images(_) => &IMAGES,
            Encoding::Text(_) => &TEXT,
        }
    }

    /// Whether all sizes are in range; a damaged checkpoint may contain any.
    pub fn is_valid(&self) -> bool {
        match self {
            Encoding::Images(images) => images.is_valid(),
            Encoding::Text(text) => text.is_valid(),
        }
    }

    /// Numbers in a row of the input; 0 where it is tokens.
    pub fn features(&self) -> usize {
        match self {
            Encoding::Images(images) => images.features(),
            Encoding::Text(_) => 0,
        }
    }

    /// Classes, or tokens of the vocabulary.
    pub fn classes(&self) -> usize {
        match self {
            Encoding::Images(images) => images.classes,
            Encoding::Text(text) => text.tokenizer.vocabulary(),
        }
    }
}

impl Default for Encoding {
    fn default() -> Encoding {
        Encoding::Images(ImageEncoding::default())
    }
}

/// A data set: how it is encoded, and its examples.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name in the catalog, or its path.
    pub name: String,
    /// What a network for it takes and answers.
    pub encoding: Encoding,
    /// The training set.
    pub train: Examples,
    /// The test set.
    pub test: Examples,
}

impl Dataset {
    /// A fingerprint of the stored data: 64 hex digits ([`images::digest`], [`text::digest`]).
    pub fn digest(&self) -> String {
        match (&self.encoding, &self.train, &self.test) {
            (Encoding::Images(encoding), Examples::Images(train), Examples::Images(test)) => {
                images::digest(&self.name, encoding.classes, &train.images, &test.images)
            }
            (Encoding::Text(encoding), Examples::Text(train), Examples::Text(test)) => {
                text::digest(&encoding.tokenizer, train, test)
            }
            _ => unreachable!("a data set has one task"),
        }
    }

    /// The same data for a network that takes `encoding`: images are standardized with its mean and deviation. Text
    /// must have been loaded with its tokenizer.
    ///
    /// # Errors
    /// [`Error::Config`] for another task; for values out of range, from a damaged file.
    pub fn encoded_as(self, encoding: &Encoding) -> Result<Dataset> {
        let (is, takes) = (self.encoding.task(), encoding.task());
        let refusal = format!("{} is {}; this network is for {}", self.name, is.name, takes.name);
        let (train, test) = match (encoding, self.train, self.test) {
            (Encoding::Images(encoding), Examples::Images(train), Examples::Images(test)) => {
                let standardize = encoding.standardize()?;
                let with =
                    |of: LabeledImages| Examples::Images(LabeledImages::new(of.images, standardize.clone()));
                (with(train), with(test))
            }
            (Encoding::Text(_), train @ Examples::Text(_), test @ Examples::Text(_)) => (train, test),
            _ => return Err(Error::config("dataset", refusal)),
        };
        Ok(Dataset { name: self.name, encoding: encoding.clone(), train, test })
    }
}

impl From<ImageSet> for Dataset {
    fn from(set: ImageSet) -> Dataset {
        let (encoding, standardize) = ImageEncoding::fit(&set);
        let examples = |images| Examples::Images(LabeledImages::new(images, standardize.clone()));
        Dataset {
            name: set.name.into(),
            encoding: Encoding::Images(encoding),
            train: examples(set.train),
            test: examples(set.test),
        }
    }
}

impl From<TextSet> for Dataset {
    fn from(set: TextSet) -> Dataset {
        Dataset {
            name: set.name,
            encoding: Encoding::Text(TextEncoding { tokenizer: set.tokenizer }),
            train: Examples::Text(set.train),
            test: Examples::Text(set.test),
        }
    }
}

/// The examples of one split.
#[derive(Clone, Debug)]
pub enum Examples {
    /// Labeled images.
    Images(LabeledImages),
    /// Sequences of tokens, whose targets are the tokens that follow.
    Text(Sequences),
}

impl Examples {
    /// The task.
    pub fn task(&self) -> &'static Task {
        match self {
            Examples::Images(_) => &IMAGES,
            Examples::Text(_) => &TEXT,
        }
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        match self {
            Examples::Images(images) => images.images.len(),
            Examples::Text(text) => text.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of targets in all examples.
    pub fn targets(&self) -> usize {
        match self {
            Examples::Images(images) => images.images.len(),
            Examples::Text(text) => text.predicted(),
        }
    }

    /// The mean number of rows of a feed that one example makes, rounded up.
    pub fn rows_of_one(&self) -> usize {
        self.targets().div_ceil(self.len().max(1)).max(1)
    }

    /// The examples with these numbers.
    pub fn batch(&self, indices: &[u32]) -> Batch {
        match self {
            Examples::Images(images) => {
                let (rows, labels) = images.batch(indices);
                (Feed::Rows(rows), labels)
            }
            Examples::Text(text) => {
                let (tokens, targets) = text.batch(indices);
                (Feed::Tokens(tokens), targets)
            }
        }
    }

    /// All examples in order, [`Task::inference_batch`] at a time.
    pub fn batches(&self) -> impl Iterator<Item = Batch> {
        let (count, size) = (self.len() as u32, self.task().inference_batch);
        (0..count).step_by(size).map(move |first| {
            let indices: Vec<u32> = (first..count.min(first + size as u32)).collect();
            self.batch(&indices)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_read_from_the_json_of_old_checkpoints() {
        let images = r#"{"height":8,"width":8,"channels":1,"scale":16.0,"classes":10,"mean":0.25,"std":0.5}"#;
        let text = r#"{"tokenizer":{"chars":["a","b"]}}"#;
        for (json, task, features, classes) in [(images, &IMAGES, 64, 10), (text, &TEXT, 0, 3)] {
            let encoding: Encoding = serde_json::from_str(json).unwrap();
            assert_eq!((encoding.task(), encoding.features(), encoding.classes()), (task, features, classes));
            assert!(encoding.is_valid());
            assert_eq!(serde_json::to_string(&encoding).unwrap(), json);
        }
    }

    #[test]
    fn images_take_the_mean_and_deviation_of_the_network() {
        let data = Dataset::from(crate::data::load("digits", None).unwrap());
        let Encoding::Images(fitted) = data.encoding else { unreachable!() };
        let other = Encoding::Images(ImageEncoding { mean: 0.0, std: 1.0, ..fitted });
        let rows = |data: &Dataset| match data.train.batch(&[0]).0 {
            Feed::Rows(rows) => crate::engine::arr::data(&rows).to_vec(),
            Feed::Tokens(_) => unreachable!(),
        };
        let before = rows(&data);
        let after = rows(&data.clone().encoded_as(&other).unwrap());
        for (before, after) in before.iter().zip(&after) {
            approx::assert_relative_eq!(before * fitted.std + fitted.mean, *after, epsilon = 1e-6);
        }
        let text = Encoding::Text(TextEncoding { tokenizer: text::Tokenizer::Bytes });
        let line = data.encoded_as(&text).unwrap_err().to_string();
        assert!(line.contains("digits is images; this network is for text"), "{line}");
    }
}
