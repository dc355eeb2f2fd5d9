//! Tokenizers: text to numbers and back.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tiktoken_rs::{CoreBPE, r50k_base_singleton};

/// Which tokenizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "program", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// GPT-2's byte pairs
    #[default]
    Gpt2,
    /// One token per byte
    Bytes,
    /// One token per character of the training text
    Chars,
    /// Token ids, written as numbers: for imported networks
    Numbers,
}

/// Turns text into token ids and back. It is kept in checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tokenizer {
    /// GPT-2's byte pairs: 50,256 pieces and the end-of-text token.
    Gpt2,
    /// The 256 bytes of UTF-8.
    Bytes,
    /// The characters of the training text in ascending order; the next id stands for any other character.
    Chars(Vec<char>),
    /// This many ids, written as numbers.
    Numbers(usize),
}

/// How an id without text is shown.
const UNKNOWN: &str = "\u{FFFD}";

/// The longest run of white space that is passed to GPT-2's pattern: on a million characters it gives up.
const WHITE_SPACE: usize = 100_000;

impl Tokenizer {
    /// The tokenizer of this kind for the training text `documents`, whose characters only [`TokenizerKind::Chars`] asks for.
    pub fn new(kind: TokenizerKind, documents: &[String]) -> Tokenizer {
        match kind {
            TokenizerKind::Gpt2 => Tokenizer::Gpt2,
            TokenizerKind::Bytes => Tokenizer::Bytes,
            TokenizerKind::Chars => {
                let alphabet: BTreeSet<char> = documents.iter().flat_map(|text| text.chars()).collect();
                Tokenizer::Chars(alphabet.into_iter().collect())
            }
            TokenizerKind::Numbers => {
                let largest = documents.iter().flat_map(|text| numbers(text)).max();
                Tokenizer::Numbers(largest.map_or(1, |id| id as usize + 1))
            }
        }
    }

    /// Its name: `gpt2`, `bytes`, `chars` or `numbers`.
    pub fn name(&self) -> &'static str {
        match self {
            Tokenizer::Gpt2 => "gpt2",
            Tokenizer::Bytes => "bytes",
            Tokenizer::Chars(_) => "chars",
            Tokenizer::Numbers(_) => "numbers",
        }
    }

    /// The number of ids; every id is smaller.
    pub fn vocabulary(&self) -> usize {
        match self {
            Tokenizer::Gpt2 => 50_257,
            Tokenizer::Bytes => 256,
            Tokenizer::Chars(alphabet) => alphabet.len() + 1,
            Tokenizer::Numbers(count) => *count,
        }
    }

    /// The id that separates two texts, if there is one. No text is encoded as it, not even its name.
    pub fn end_of_text(&self) -> Option<u32> {
        matches!(self, Tokenizer::Gpt2).then_some(50_256)
    }

    /// Ids below this one stand for text; the others do not.
    pub fn readable(&self) -> usize {
        match self {
            Tokenizer::Chars(alphabet) => alphabet.len().max(1),
            other => other.vocabulary(),
        }
    }

    /// The first piece of a text without an id: a character outside the alphabet, or something that is not a number
    /// or too large.
    pub fn unknown<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Tokenizer::Gpt2 | Tokenizer::Bytes => None,
            Tokenizer::Chars(alphabet) => {
                let (at, c) = text.char_indices().find(|(_, c)| alphabet.binary_search(c).is_err())?;
                Some(&text[at..at + c.len_utf8()])
            }
            Tokenizer::Numbers(count) => {
                let pieces =
                    text.split(|c: char| c.is_whitespace() || c == ',').filter(|piece| !piece.is_empty());
                let is_id = |piece: &str| piece.parse::<u32>().is_ok_and(|id| (id as usize) < *count);
                pieces.into_iter().find(|piece| !is_id(piece))
            }
        }
    }

    /// The ids of a text. A piece without an id ([`Tokenizer::unknown`]) is left out; a character becomes the unknown
    /// id.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match self {
            Tokenizer::Gpt2 => gpt2_parts(text).flat_map(|part| gpt2().encode_ordinary(part)).collect(),
            Tokenizer::Bytes => text.bytes().map(u32::from).collect(),
            Tokenizer::Chars(alphabet) => {
                text.chars().map(|c| alphabet.binary_search(&c).unwrap_or(alphabet.len()) as u32).collect()
            }
            Tokenizer::Numbers(count) => numbers(text).filter(|&id| (id as usize) < *count).collect(),
        }
    }

    /// The text of ids; bytes that are not UTF-8 are replaced.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.piece(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of one token, which may be part of a character. An id without any is a replacement character.
    pub fn piece(&self, id: u32) -> Vec<u8> {
        let known = match self {
            Tokenizer::Gpt2 => gpt2().decode_bytes(&[id]).ok(),
            Tokenizer::Bytes => u8::try_from(id).ok().map(|byte| vec![byte]),
            Tokenizer::Chars(alphabet) => alphabet.get(id as usize).map(|c| c.to_string().into_bytes()),
            Tokenizer::Numbers(_) => Some(format!("{id} ").into_bytes()),
        };
        known.unwrap_or_else(|| UNKNOWN.into())
    }
}

/// The numbers in a text, with anything else between them.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok())
}

/// GPT-2's vocabulary, unpacked when it is first needed.
fn gpt2() -> &'static CoreBPE {
    r50k_base_singleton()
}

/// Cuts `text` where GPT-2's pattern has a boundary in any case: before the last of many white-space characters in a
/// row, of which all others are one piece.
fn gpt2_parts(text: &str) -> impl Iterator<Item = &str> {
    let (mut cuts, mut run, mut last) = (vec![0], 0, 0);
    for (at, c) in text.char_indices() {
        if !c.is_whitespace() {
            if run > WHITE_SPACE {
                cuts.push(last);
            }
            run = 0;
        } else {
            (run, last) = (run + 1, at);
        }
    }
    cuts.push(text.len());
    (1..cuts.len()).map(move |i| &text[cuts[i - 1]..cuts[i]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chars(text: &str) -> Tokenizer {
        Tokenizer::new(TokenizerKind::Chars, &[text.to_string()])
    }

    #[test]
    fn numbers_are_ids() {
        let tokenizer = Tokenizer::new(TokenizerKind::Numbers, &["3 1, 41".into()]);
        assert_eq!((tokenizer.vocabulary(), tokenizer.name()), (42, "numbers"));
        assert_eq!(tokenizer.encode("41 7\n0 42"), [41, 7, 0]);
        assert_eq!(tokenizer.decode(&[41, 7]), "41 7 ");
        assert_eq!(
            ["41, 7\n0", "3 42 1", "3 x2"].map(|text| tokenizer.unknown(text)),
            [None, Some("42"), Some("x2")]
        );
    }

    #[test]
    fn gpt2_has_the_known_ids() {
        let encode = |text| Tokenizer::Gpt2.encode(text);
        assert_eq!(encode("Hello world"), [15496, 995]);
        assert_eq!(encode("Hello, world!"), [15496, 11, 995, 0]);
        assert_eq!(encode(" \n\n"), [220, 628]);
        assert!(encode("").is_empty());
        assert_eq!(Tokenizer::Gpt2.piece(995), b" world");
        assert_eq!(Tokenizer::Gpt2.decode(&[50_256]), "<|endoftext|>");
    }

    #[test]
    fn the_name_of_the_end_is_ordinary_text() {
        let ids = Tokenizer::Gpt2.encode("<|endoftext|>");
        assert!(ids.len() > 1 && !ids.contains(&50_256), "{ids:?}");
        assert_eq!(Tokenizer::Gpt2.decode(&ids), "<|endoftext|>");
    }

    #[test]
    fn every_id_has_its_own_piece() {
        for tokenizer in [Tokenizer::Gpt2, Tokenizer::Bytes, chars("hello")] {
            let size = tokenizer.vocabulary();
            let pieces: BTreeSet<_> = (0..size as u32).map(|id| tokenizer.piece(id)).collect();
            assert_eq!(pieces.len(), size, "{}", tokenizer.name());
            assert_eq!(tokenizer.piece(size as u32), UNKNOWN.as_bytes());
            assert!(tokenizer.end_of_text().is_none_or(|id| (id as usize) < size));
        }
    }

    #[test]
    fn characters_outside_the_alphabet_have_one_id() {
        let tokenizer = chars("banana");
        assert_eq!(tokenizer, Tokenizer::Chars(vec!['a', 'b', 'n']));
        assert_eq!(tokenizer.encode("ban on"), [1, 0, 2, 3, 3, 2]);
        assert_eq!(tokenizer.decode(&[1, 0, 2, 3]), "ban\u{FFFD}");
        assert_eq!(Tokenizer::new(TokenizerKind::Chars, &[]).encode("a"), [0]);
        assert_eq!(
            (tokenizer.unknown("ban"), tokenizer.unknown("bär"), tokenizer.readable()),
            (None, Some("ä"), 3)
        );
    }

    #[test]
    fn checkpoints_bring_it_back_exactly() {
        for tokenizer in [Tokenizer::Gpt2, Tokenizer::Bytes, chars("ä\n\"\\\u{0}🦀")] {
            let json = serde_json::to_string(&tokenizer).unwrap();
            assert_eq!(serde_json::from_str::<Tokenizer>(&json).unwrap(), tokenizer, "{json}");
            assert!(json.contains(tokenizer.name()));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(Tokenizer::Bytes.decode(&[0xc3, 0xa4, 0xc3]), "ä\u{FFFD}");
    }

    #[test]
    fn endless_white_space_and_words_are_no_obstacle() {
        for text in [" ".repeat(2_000_000) + "x", "\n".repeat(2_000_000), "x".repeat(300_000)] {
            assert!(Tokenizer::Gpt2.decode(&Tokenizer::Gpt2.encode(&text)) == text);
        }
        // Cut by hand or not, the ids are the same.
        let text = format!("word{}  more", " \t\n".repeat(WHITE_SPACE / 2));
        assert_eq!(gpt2_parts(&text).count(), 2);
        assert!(Tokenizer::Gpt2.encode(&text) == gpt2().encode_ordinary(&text));
    }

    /// Text of many kinds: letters, digits, white space, and anything else that is a character.
    fn any_text() -> impl Strategy<Value = String> {
        let char = prop_oneof![Just(' '), Just('\n'), proptest::char::range('!', '~'), any::<char>()];
        proptest::collection::vec(char, 0..200).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in any_text(), other in any_text()) {
            for tokenizer in [Tokenizer::Gpt2, Tokenizer::Bytes, chars(&text)] {
                let ids = tokenizer.encode(&text);
                prop_assert_eq!(tokenizer.decode(&ids), &text[..]);
                let pieces: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.piece(id)).collect();
                prop_assert_eq!(pieces, text.as_bytes());
                let ids = [ids, tokenizer.encode(&other)].concat();
                prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary()));
            }
        }
    }
}
