//! Text as sequences of tokens.

pub mod files;
pub mod split;
pub mod tokenizer;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use tokenizer::{Tokenizer, TokenizerKind};

use super::batch::Tokens;
use super::entry::Split;
use crate::engine::error::require;
use crate::engine::{Error, Result};

/// Sequences of tokens, one after the other.
///
/// Each has one token more than it predicts: its inputs are all but its last, its targets all but its first. So
/// neighboring sequences of a document share a token, which is stored twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// The tokens of all sequences.
    pub ids: Vec<u32>,
    /// The index in `ids` of each sequence's first token, and the end of the last.
    pub starts: Vec<usize>,
}

impl Sequences {
    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of sequence `i`: two or more.
    pub fn sequence(&self, i: usize) -> &[u32] {
        &self.ids[self.starts[i]..self.starts[i + 1]]
    }

    /// The sequences with these numbers, and the token after each of theirs.
    pub fn batch(&self, indices: &[u32]) -> (Tokens, Vec<u32>) {
        let (mut ids, mut starts, mut targets) = (Vec::new(), vec![0], Vec::new());
        for &index in indices {
            let sequence = self.sequence(index as usize);
            ids.extend_from_slice(&sequence[..sequence.len() - 1]);
            targets.extend_from_slice(&sequence[1..]);
            starts.push(ids.len());
        }
        (Tokens { ids: ids.into(), starts: starts.into() }, targets)
    }

    /// The number of tokens that all sequences predict.
    pub fn predicted(&self) -> usize {
        self.ids.len() - self.len()
    }
}

/// Cuts documents into sequences that predict `length` tokens each (at least 1), the last of a document maybe fewer.
/// Every token of a document but its first is predicted exactly once; a document of fewer than two gives no sequence.
pub fn cut(documents: &[Vec<u32>], length: usize) -> Sequences {
    let mut text = Sequences { ids: Vec::new(), starts: vec![0] };
    for document in documents {
        for start in (0..document.len().saturating_sub(1)).step_by(length) {
            let end = document.len().min(start + length + 1);
            text.ids.extend(&document[start..end]);
            text.starts.push(text.ids.len());
        }
    }
    text
}

/// All documents as one, with `separator` between them.
pub fn join(documents: &[Vec<u32>], separator: Option<u32>) -> Vec<u32> {
    documents.join(separator.as_slice())
}

/// How text is encoded: what a checkpoint keeps of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextEncoding {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
}

/// The largest vocabulary of a network.
pub const MAX_VOCABULARY: usize = 1 << 24;

impl TextEncoding {
    /// Whether the size of the vocabulary is in range.
    pub fn is_valid(&self) -> bool {
        (1..=MAX_VOCABULARY).contains(&self.tokenizer.vocabulary())
    }
}

/// A text as sequences, divided into a training and a test set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextSet {
    /// Its name in the catalog, or its path.
    pub name: String,
    /// What its ids mean.
    pub tokenizer: Tokenizer,
    /// The training set.
    pub train: Sequences,
    /// The test set.
    pub test: Sequences,
}

impl TextSet {
    /// Encodes documents and cuts them into sequences that predict up to `length` tokens each (see
    /// [`crate::data::load_text`]).
    ///
    /// # Errors
    /// A `length` of 0; a split with nothing to predict; numbers that are not ids of a tokenizer of numbers.
    pub fn new(
        name: &str,
        (train, test): Split<Vec<String>>,
        tokenizer: Tokenizer,
        length: usize,
        pack: bool,
    ) -> Result<TextSet> {
        require("length", length > 0, &length, "at least 1")?;
        let fail = |what: String| Error::data(Path::new(name), what);
        if let Tokenizer::Numbers(count) = tokenizer
            && let Some(piece) = train.iter().chain(&test).find_map(|text| tokenizer.unknown(text))
        {
            return Err(fail(format!("{piece:?} is not one of the {count} token ids of this network")));
        }
        let sequences = |split: &str, documents: &[String]| {
            let mut documents: Vec<_> = documents.iter().map(|text| tokenizer.encode(text)).collect();
            if pack {
                documents = vec![join(&documents, tokenizer.end_of_text())];
            }
            let text = cut(&documents, length);
            match text.is_empty() {
                true => Err(fail(format!("holds too little text: nothing to predict in its {split} set"))),
                false => Ok(text),
            }
        };
        let (train, test) = (sequences("training", &train)?, sequences("test", &test)?);
        Ok(TextSet { name: name.into(), tokenizer, train, test })
    }
}

/// A fingerprint of the sequences and what they mean: 64 hex digits that are equal exactly when these are. The name
/// is not part of it, since the same text may lie under another path.
///
/// It is the BLAKE3 hash of these strings of bytes, each after its length (8 bytes, little-endian): the tokenizer's
/// name; for `chars` its alphabet in UTF-8, for `numbers` how many there are in decimal, else nothing; then for
/// `train` and for `test` the split's name, its `ids` (4 bytes each, little-endian) and its `starts` (8 bytes each,
/// little-endian).
pub fn digest(tokenizer: &Tokenizer, train: &Sequences, test: &Sequences) -> String {
    let alphabet = match tokenizer {
        Tokenizer::Chars(alphabet) => alphabet.iter().collect(),
        Tokenizer::Numbers(count) => count.to_string(),
        Tokenizer::Gpt2 | Tokenizer::Bytes => String::new(),
    };
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    add(tokenizer.name().as_bytes());
    add(alphabet.as_bytes());
    for (split, text) in [("train", train), ("test", test)] {
        add(split.as_bytes());
        add(&text.ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>());
        add(&text.starts.iter().flat_map(|&start| (start as u64).to_le_bytes()).collect::<Vec<_>>());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sequences of a text.
    fn sequences(text: &Sequences) -> Vec<&[u32]> {
        (0..text.len()).map(|i| text.sequence(i)).collect()
    }

    #[test]
    fn sequences_share_a_token_and_stay_inside_documents() {
        let text = cut(&[vec![1, 2, 3, 4, 5, 6], vec![7], vec![], vec![8, 9], vec![1, 2, 3]], 2);
        assert_eq!(sequences(&text), [&[1, 2, 3][..], &[3, 4, 5], &[5, 6], &[8, 9], &[1, 2, 3]]);
        assert_eq!((text.len(), text.predicted(), text.is_empty()), (5, 8, false));
        let none = cut(&[vec![7]], 2);
        assert_eq!((none.len(), none.predicted(), none.is_empty()), (0, 0, true));
    }

    #[test]
    fn documents_are_joined_around_the_separator() {
        let documents = [vec![1, 2], vec![], vec![3]];
        assert_eq!(join(&documents, Some(0)), [1, 2, 0, 0, 3]);
        assert_eq!(join(&documents, None), [1, 2, 3]);
        assert_eq!(join(&[], Some(0)), [0; 0]);
    }

    proptest! {
        #[test]
        fn every_token_but_the_first_is_predicted_once(
            sizes in proptest::collection::vec(0usize..40, 0..6), length in 1usize..12,
        ) {
            let documents: Vec<Vec<u32>> =
                sizes.iter().enumerate().map(|(i, &size)| (0..size).map(|j| (100 * i + j) as u32).collect()).collect();
            let text = cut(&documents, length);
            let targets: Vec<u32> = sequences(&text).iter().flat_map(|s| s[1..].to_vec()).collect();
            let expected: Vec<u32> = documents.iter().flat_map(|d| d.iter().skip(1).copied()).collect();
            prop_assert_eq!(&targets, &expected);
            prop_assert_eq!(text.predicted(), expected.len());
            for sequence in sequences(&text) {
                prop_assert!((2..=length + 1).contains(&sequence.len()));
                prop_assert!(sequence.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", sequence);
            }
        }
    }

    fn digest_of(set: &TextSet) -> String {
        digest(&set.tokenizer, &set.train, &set.test)
    }

    fn small() -> TextSet {
        let text = Sequences { ids: vec![1, 2, 2, 3], starts: vec![0, 2, 4] };
        let tokenizer = Tokenizer::Chars(vec!['a', 'ä']);
        TextSet { name: "here".into(), tokenizer, train: text.clone(), test: text }
    }

    #[test]
    fn the_digest_sees_every_change_but_the_name() {
        let original = digest_of(&small());
        let changes: [fn(&mut TextSet); 8] = [
            |t| t.tokenizer = Tokenizer::Gpt2,
            |t| t.tokenizer = Tokenizer::Numbers(4),
            |t| t.tokenizer = Tokenizer::Numbers(10),
            |t| t.tokenizer = Tokenizer::Bytes,
            |t| t.tokenizer = Tokenizer::Chars(vec!['a', 'b']),
            |t| t.train.ids[0] = 0,
            |t| t.test.ids[3] = 0,
            |t| t.test.starts[1] = 1,
        ];
        let mut digests: std::collections::BTreeSet<String> = [original.clone()].into();
        for change in changes {
            let mut set = small();
            change(&mut set);
            digests.insert(digest_of(&set));
        }
        assert_eq!(digests.len(), 9);
        assert_eq!(digest_of(&TextSet { name: "there".into(), ..small() }), original);
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let mut expected = Vec::new();
        let mut add = |bytes: &[u8]| {
            expected.extend((bytes.len() as u64).to_le_bytes());
            expected.extend(bytes);
        };
        add(b"chars");
        add("aä".as_bytes());
        for split in ["train", "test"] {
            add(split.as_bytes());
            add(&[1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
            add(&[[0u64, 2, 4].map(u64::to_le_bytes)].concat().concat());
        }
        assert_eq!(digest_of(&small()), blake3::hash(&expected).to_hex().to_string());
    }

    #[test]
    fn a_batch_predicts_the_token_after_each() {
        let text = Sequences { ids: vec![1, 2, 3, 3, 4, 7, 8, 9], starts: vec![0, 3, 5, 8] };
        let (Tokens { ids, starts }, targets) = text.batch(&[2, 0]);
        assert_eq!((&ids[..], &starts[..]), (&[7, 8, 1, 2][..], &[0, 2, 4][..]));
        assert_eq!(targets, [8, 9, 2, 3]);
    }
}
