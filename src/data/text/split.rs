//! Cuts text into documents, and documents into those to learn from and those to be judged on.

/// Documents to learn from, and documents to be judged on.
pub(super) type Split = (Vec<String>, Vec<String>);

/// One document in so many is for testing, and so much of the text where documents are too few.
const TEST_EVERY: usize = 10;

/// Cuts `text` before each line that begins a document: `begins` is told all lines and which one is meant, in order.
pub(super) fn cut_before(text: &str, mut begins: impl FnMut(&[&str], usize) -> bool) -> Vec<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut documents = vec![String::new()];
    for (i, line) in lines.iter().enumerate() {
        if begins(&lines, i) {
            documents.push(String::new());
        }
        documents.last_mut().expect("there is a first one").push_str(line);
    }
    documents.retain(|text| !text.trim().is_empty());
    documents
}

/// Every tenth document is for testing; of fewer than ten the last tenth of their text.
pub(super) fn split(documents: Vec<String>) -> Split {
    if documents.len() < TEST_EVERY {
        return split_text(documents);
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (i, document) in (1..).zip(documents) {
        if i % TEST_EVERY == 0 { &mut test } else { &mut train }.push(document);
    }
    (train, test)
}

/// Cuts off the last tenth of the bytes, at the end of the nearest line, or inside of it if the document has no other.
fn split_text(mut documents: Vec<String>) -> Split {
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
    fn every_tenth_document_is_for_testing() {
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
    fn few_documents_stay_apart() {
        let (train, test) = split(numbered(5));
        // A document of one line is cut inside.
        assert_eq!(train[..4], numbered(4));
        assert_eq!((train[4].as_str(), test), ("docume", vec!["nt 5\n".to_string()]));
    }

    #[test]
    fn documents_begin_where_told_and_blank_ones_are_none() {
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
