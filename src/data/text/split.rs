//! Cuts text into documents, and divides documents into a training set and a test set.

use crate::data::entry::Split;

/// One document in this many is in the test set, or one part of the text where documents are too few.
const TEST_EVERY: usize = 10;

/// Cuts `text` before each line that begins a document. `begins` is given all lines and the index of one, in order.
pub(crate) fn cut_before(text: &str, mut begins: impl FnMut(&[&str], usize) -> bool) -> Vec<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut documents = vec![String::new()];
    for (i, line) in lines.iter().enumerate() {
        if begins(&lines, i) {
            documents.push(String::new());
        }
        documents.last_mut().expect("never empty").push_str(line);
    }
    documents.retain(|text| !text.trim().is_empty());
    documents
}

/// Every tenth document is in the test set; of fewer than ten, the last tenth of their text.
pub(crate) fn split(documents: Vec<String>) -> Split<Vec<String>> {
    if documents.len() < TEST_EVERY {
        return split_text(documents);
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (i, document) in (1..).zip(documents) {
        if i % TEST_EVERY == 0 { &mut test } else { &mut train }.push(document);
    }
    (train, test)
}

/// Cuts off the last tenth of the bytes, at the nearest end of a line, or inside the line if it is the only one.
fn split_text(mut documents: Vec<String>) -> Split<Vec<String>> {
    let bytes: usize = documents.iter().map(String::len).sum();
    let mut at = bytes - bytes / TEST_EVERY;
    let whole = documents.iter().take_while(|document| {
        let before = at >= document.len();
        at -= if before { document.len() } else { 0 };
        before
    });
    let mut test = documents.split_off(whole.count());
    if let Some(document) = test.first_mut() {
        let ends = document.match_indices('\n').map(|(at, _)| at + 1).filter(|&at| at < document.len());
        let inside = || (0..=at).rev().find(|&at| document.is_char_boundary(at)).unwrap_or(0);
        let rest = document.split_off(ends.min_by_key(|end| end.abs_diff(at)).unwrap_or_else(inside));
        documents.push(std::mem::replace(document, rest));
    }
    (documents, test)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered(count: usize) -> Vec<String> {
        (1..=count).map(|i| format!("document {i}\n")).collect()
    }

    #[test]
    fn every_tenth_document_is_in_the_test_set() {
        let (train, test) = split(numbered(21));
        assert_eq!((train.len(), test.len()), (19, 2));
        assert_eq!(test, ["document 10\n", "document 20\n"]);
        assert_eq!(split(numbered(10)).1, ["document 10\n"]);
    }

    #[test]
    fn the_last_tenth_of_a_text_begins_at_a_line() {
        let text: String = (10..30).map(|i| format!("line {i}\n")).collect();
        let (train, test) = split(vec![text.clone()]);
        assert_eq!(test, ["line 28\nline 29\n"]);
        assert_eq!(train.concat() + &test.concat(), text);
        assert_eq!(split(vec!["äääää".into()]), (vec!["ääää".into()], vec!["ä".into()]));
        assert_eq!(split(vec!["one\ntwo and more".into()]).1, ["two and more"]);
        assert_eq!(split(vec![]), (vec![], vec![]));
    }

    #[test]
    fn few_documents_stay_separate() {
        let (train, test) = split(numbered(5));
        // A document of one line is cut inside.
        assert_eq!(train[..4], numbered(4));
        assert_eq!((train[4].as_str(), test), ("docume", vec!["nt 5\n".to_string()]));
    }

    #[test]
    fn documents_begin_where_told_and_blank_ones_are_dropped() {
        let cut = |text| cut_before(text, |lines, i| lines[i].starts_with('#'));
        assert_eq!(cut("\n\n# a\ntext\n# b"), ["# a\ntext\n", "# b"]);
        assert_eq!(cut("before\n# a\n"), ["before\n", "# a\n"]);
        assert!(cut("").is_empty());
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(documents in proptest::collection::vec("[a-zä\n]{0,20}", 0..10)) {
            let whole = documents.concat();
            let (train, test) = split_text(documents);
            prop_assert_eq!(train.concat() + &test.concat(), whole);
        }
    }
}
