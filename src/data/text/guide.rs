//! The bundled text: the project's own README and guide, each section a document.
//!
//! It is as long as these pages are: another version of the program has another text.

use super::split::{Split, cut_before, split};

/// The pages.
const PAGES: [&str; 2] =
    [include_str!("../../../README.md"), include_str!("../../../docs/reproducibility.md")];

/// The sections, every tenth for testing.
pub(super) fn load() -> Split {
    split(PAGES.into_iter().flat_map(sections).collect())
}

/// Cuts a page of Markdown before its headings.
fn sections(page: &str) -> Vec<String> {
    let mut in_code = false;
    cut_before(page, |lines, i| {
        in_code ^= lines[i].starts_with("```");
        !in_code && lines[i].starts_with('#')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_begin_at_headings_outside_of_code() {
        let page = "# A\n\ntext\n```sh\n# no heading\n```\n## B\nmore\n";
        assert_eq!(sections(page), ["# A\n\ntext\n```sh\n# no heading\n```\n", "## B\nmore\n"]);
    }

    #[test]
    fn all_pages_are_there() {
        let (train, test) = load();
        assert!(train.len() >= 9 * test.len() && !test.is_empty());
        assert!(train[0].starts_with("# dynamoe\n"));
        let length = |sections: &[String]| sections.iter().map(String::len).sum::<usize>();
        assert_eq!(length(&train) + length(&test), PAGES.iter().map(|page| page.len()).sum::<usize>());
        let pages = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
        let markdown =
            pages.filter(|page| page.as_ref().unwrap().path().extension().is_some_and(|e| e == "md"));
        assert_eq!(markdown.count() + 1, PAGES.len(), "every page of the guide, and the README");
    }
}
