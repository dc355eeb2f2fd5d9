//! Text of the user's own: a file, or all files below a folder.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::split::split;
use crate::data::entry::Split;
use crate::data::reader::MAX_BYTES;
use crate::engine::{Error, Result};

/// How a file holds its documents.
enum Form {
    /// One document: `.txt`, `.md`.
    Plain,
    /// One a line: `.jsonl`.
    Lines,
}

impl Form {
    /// The form of a file of this name.
    fn of(path: &Path) -> Option<Form> {
        match path.extension()?.to_str()? {
            "txt" | "md" => Some(Form::Plain),
            "jsonl" => Some(Form::Lines),
            _ => None,
        }
    }
}

/// The documents of a file or folder, split.
///
/// # Errors
/// [`Error::Data`] for a file of another kind, one that is not UTF-8 or not JSON, and if there is no text at all.
pub(crate) fn load(path: &Path) -> Result<Split<Vec<String>>> {
    let mut files = Vec::new();
    if path.is_dir() {
        collect(path, &mut files)?;
        files.sort();
    } else {
        files.push(path.to_path_buf());
    }
    let documents = files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?.concat();
    match documents.iter().all(|text| text.trim().is_empty()) {
        true if files.is_empty() => Err(Error::data(path, "holds no .txt, .md or .jsonl file")),
        true => Err(Error::data(path, "holds no text")),
        false => Ok(split(documents)),
    }
}

/// Adds the text files below `folder`. Links to folders are not followed, since they may lead in circles.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, files)?;
        } else if path.is_file() && Form::of(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

/// The documents of one file.
fn read(path: &Path) -> Result<Vec<String>> {
    match Form::of(path) {
        Some(Form::Plain) => Ok(vec![read_text(path)?]),
        Some(Form::Lines) => read_lines(path),
        None => Err(Error::data(path, "is no .txt, .md or .jsonl file, nor a folder of them")),
    }
}

/// The documents of a file with one JSON value a line: an object with a field `text`, or a string.
pub(crate) fn read_lines(path: &Path) -> Result<Vec<String>> {
    let mut documents = Vec::new();
    for (number, line) in (1..).zip(read_text(path)?.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |what: String| Error::data(path, format!("line {number}: {what}"));
        let mut value: Value = serde_json::from_str(line).map_err(|error| {
            // The parser counts lines too, and knows of one.
            let what = error.to_string();
            fail(format!("is not JSON ({})", what.split(" at line").next().unwrap_or_default()))
        })?;
        let text = if value.is_object() { value["text"].take() } else { value };
        match text {
            Value::String(text) => documents.push(text),
            _ => return Err(fail("is neither an object with a field `text` nor a string".into())),
        }
    }
    Ok(documents)
}

/// A file of UTF-8.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is larger than 1 GiB or not UTF-8, with the place.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::data(path, "is larger than 1 GiB; cut it into several files in a folder"));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::data(path, format!("is not UTF-8 (at byte {at}); convert it first"))
    })?;
    // Some editors begin a file with a mark of its byte order.
    if text.starts_with('\u{FEFF}') {
        text.remove(0);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// All documents of the file `name` with these bytes, in order.
    fn documents(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
        let folder = folder(&[(name, bytes)]);
        let path = folder.path().join(name);
        read(&path)
    }

    #[test]
    fn lines_of_json_are_objects_or_strings() {
        let lines = b"{\"text\": \"a\\nb\", \"id\": 1}\n\n\"plain \\u00e4\"\r\n{\"text\":\"\"}";
        assert_eq!(documents("a.jsonl", lines).unwrap(), ["a\nb", "plain ä", ""]);
        assert_eq!(documents("a.txt", "\u{FEFF}text\r\n".as_bytes()).unwrap(), ["text\r\n"]);
        assert_eq!(documents("a.jsonl", "\u{FEFF}\"text\"".as_bytes()).unwrap(), ["text"]);
    }

    #[test]
    fn a_folder_is_read_in_sorted_order() {
        let names = ["b/2.md", "a.txt", "c/d/e.txt", "b.txt", "z.rs"];
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, name.as_bytes())).collect();
        files.push(("b/1.jsonl", b"\"x\"\n\"y\""));
        let folder = folder(&files);
        let (train, test) = load(folder.path()).unwrap();
        // Fewer than ten: the last tenth, 2 of 27 bytes, is for testing.
        assert_eq!(train, ["a.txt", "x", "y", "b/2.md", "b.txt", "c/d/e.t"]);
        assert_eq!(test, ["xt"]);
    }

    #[test]
    fn ten_lines_of_json_are_ten_documents() {
        let lines: String = (1..=10).map(|i| format!("\"document {i}\"\n")).collect();
        let folder = folder(&[("a.jsonl", lines.as_bytes())]);
        let (train, test) = load(&folder.path().join("a.jsonl")).unwrap();
        assert_eq!((train.len(), test), (9, vec!["document 10".to_string()]));
    }

    #[test]
    fn bad_files_get_one_line() {
        let cases: [(&str, &[u8], &str); 8] = [
            ("a.txt", b"abc\xff", "a.txt: is not UTF-8 (at byte 3)"),
            ("a.txt", b"", "a.txt: holds no text"),
            ("a.md", b" \n", "a.md: holds no text"),
            ("a.pdf", b"text", "a.pdf: is no .txt, .md or .jsonl file"),
            ("a.jsonl", b"\"a\"\n{\"txt\": \"b\"}\n", "line 2: is neither an object with a field `text`"),
            ("a.jsonl", b"{\"text\": 3}", "line 1: is neither"),
            ("a.jsonl", b"\"a\"\n\n{\"text\": \n", "line 3: is not JSON (EOF while parsing a value)"),
            ("a.jsonl", b"{\"text\": \"\"}", "holds no text"),
        ];
        for (name, bytes, told) in cases {
            let folder = folder(&[(name, bytes)]);
            let line = load(&folder.path().join(name)).unwrap_err().to_string();
            assert!(line.contains(told) && !line.contains('\n'), "{line}");
        }
        let folder = folder(&[("a.rs", b"")]);
        let line = load(folder.path()).unwrap_err().to_string();
        assert!(line.contains("holds no .txt, .md or .jsonl file"), "{line}");
        let line = load(&folder.path().join("missing.txt")).unwrap_err().to_string();
        assert!(line.starts_with("cannot read ") && line.contains("missing.txt"), "{line}");
    }
}
