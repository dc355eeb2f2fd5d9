//! Recycling the Web (Nguyen et al.): 1,000 pages rewritten by a language model, `mlx-community/recycling_the_web-1k`.
//!
//! They are samples of `facebook/recycling_the_web`, which is CC BY-NC 4.0. Once fetched they lie in one file, a JSON
//! object a line.

use std::path::{Path, PathBuf};

use super::path::read_lines;
use super::split::{Split, split};
use crate::engine::{Error, Result};

#[cfg(feature = "program")]
pub(super) use fetching::fetch;

/// Where the samples lie in `folder`.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("recycling_the_web-1k.jsonl")
}

/// The samples, every tenth for testing.
///
/// # Errors
/// [`Error::Data`] where they are missing or damaged.
pub(super) fn load(folder: &Path) -> Result<Split> {
    let path = file(folder);
    if !path.is_file() {
        let what = "is missing; run `dynamoe data fetch recycling-the-web`, or point --data-dir at the folder that \
                    holds `recycling-the-web/`";
        return Err(Error::data(&path, what));
    }
    Ok(split(read(&path)?))
}

/// The samples of the file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<String>> {
    let samples = read_lines(path)?;
    match samples.iter().all(|text| text.trim().is_empty()) {
        true => Err(Error::data(path, format!("holds no text; {}", crate::data::catalog::REPLACE))),
        false => Ok(samples),
    }
}

#[cfg(feature = "program")]
mod fetching {
    use super::*;
    use crate::data::Fetched;
    use crate::data::download::{config, progress_bar};
    use crate::data::text::rows::Table;
    use std::time::Duration;
    use ureq::Agent;

    /// The publisher's dataset service.
    const BASE_URL: &str = "https://datasets-server.huggingface.co/";

    /// Fetches the samples over TLS, unless they are in `folder` already.
    pub(in crate::data::text) fn fetch(folder: &Path, progress: bool) -> Result<Fetched> {
        let agent = Agent::new_with_config(config().https_only(true).build());
        fetch_from(&agent, BASE_URL, &std::thread::sleep, folder, progress)
    }

    pub(super) fn fetch_from(
        agent: &Agent,
        base_url: &str,
        wait: &dyn Fn(Duration),
        folder: &Path,
        progress: bool,
    ) -> Result<Fetched> {
        let path = file(folder);
        if path.is_file() && read(&path).is_ok() {
            return Ok(Fetched { path, downloaded: false });
        }
        let table =
            format!("{base_url}rows?dataset=mlx-community%2Frecycling_the_web-1k&config=default&split=train");
        let bar = progress_bar("recycling-the-web", "{pos}/{len} samples", progress);
        let texts = Table { agent, address: &table, wait, bar: &bar }.texts();
        bar.finish_and_clear();
        let line = |text: String| serde_json::json!({ "text": text }).to_string() + "\n";
        let lines: String = texts?.into_iter().map(line).collect();
        crate::engine::files::create_dir(folder)?;
        crate::engine::files::write(&path, lines.as_bytes())?;
        Ok(Fetched { path, downloaded: true })
    }
}

#[cfg(all(test, feature = "program"))]
mod tests {
    use super::*;
    use crate::data::Fetched;
    use crate::data::text::rows::tests::{Answer, Service, agent};
    use std::fs;

    fn fetch_from(service: &Service, folder: &Path) -> Result<Fetched> {
        fetching::fetch_from(&agent(), service.base(), &|_| (), folder, false)
    }

    #[test]
    fn samples_are_fetched_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made/on/the/way");
        let line = load(&inner).unwrap_err().to_string();
        assert!(line.contains("dynamoe data fetch recycling-the-web"), "{line}");

        let service = Service::start(230, vec![]);
        let fetched = fetch_from(&service, &inner).unwrap();
        assert!(fetched.downloaded);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1, "no temporary file is left");
        let seen = service.seen();
        assert_eq!(seen.len(), 3);
        let query = "/rows?dataset=mlx-community%2Frecycling_the_web-1k&config=default&split=train&offset=0&length=100";
        assert_eq!(seen[0], query);

        let (train, test) = load(&inner).unwrap();
        assert_eq!((train.len(), test.len()), (207, 23));
        assert_eq!(test[0], "text of row 9, \"quoted\"\nä");

        let service = Service::start(230, vec![]);
        assert!(!fetch_from(&service, &inner).unwrap().downloaded);
        assert!(service.seen().is_empty());

        fs::write(&fetched.path, "{\"text\": \"cut o").unwrap();
        assert!(load(&inner).unwrap_err().to_string().contains("line 1: is no JSON"));
        assert!(fetch_from(&Service::start(10, vec![]), &inner).unwrap().downloaded);
        assert_eq!(load(&inner).unwrap().1.len(), 1);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let service =
            Service::start(230, vec![Answer::Rows, Answer::Status("500 Internal Server Error", "")]);
        assert!(fetch_from(&service, folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
