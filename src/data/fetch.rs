//! Fetches data sets from their publishers, as far as they are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;

use super::download::{config, download, progress_bar};
use super::entry::{DataFile, Entry, Source};
use super::table_service::Table;
use super::verify::is_published;
use super::{catalog, data_dir};
use crate::engine::{Error, Result, files};

/// A file that [`fetch`] made sure of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it was downloaded now; else it was already there.
    pub downloaded: bool,
}

/// Downloads the files of the set `name` into its folder under `data_dir` (see [`data_dir`]), over TLS. A file that is
/// already there with the published bytes is kept. `progress` shows a bar per file when stderr is a terminal. A bundled
/// set needs nothing.
///
/// # Errors
/// [`Error::Config`] for an unknown name; [`Error::Download`] when the publisher or the network fails, or the bytes are
/// not the known ones; [`Error::Io`] when the disk does; [`Error::Data`] for missing files that this program cannot
/// fetch. After an interruption the bytes that arrived stay in `FILE.part`, from which the next call resumes.
pub fn fetch(name: &str, data_dir: Option<&Path>, progress: bool) -> Result<Vec<Fetched>> {
    let entry = catalog::entry(name)?;
    let agent = Agent::new_with_config(config().https_only(true).build());
    let folder = self::data_dir(data_dir).join(name);
    match entry.source {
        Source::Bundled(_) => Ok(Vec::new()),
        Source::Url(address) => fetch_files(&agent, entry.layouts[0], address, &folder, progress),
        Source::Table(address) => {
            fetch_table(&agent, entry, address, &std::thread::sleep, &folder, progress).map(|file| vec![file])
        }
        Source::ByHand(_) => {
            let here = |path| Fetched { path, downloaded: false };
            Ok(entry.paths(&folder)?.into_iter().map(here).collect())
        }
    }
}

/// Fetches `files` from `address` into `folder`.
fn fetch_files(
    agent: &Agent,
    files: &[DataFile],
    address: &str,
    folder: &Path,
    progress: bool,
) -> Result<Vec<Fetched>> {
    let mut fetched = Vec::with_capacity(files.len());
    for file in files {
        if let Some(path) = file.find(folder)
            && is_published(file, &path)?
        {
            fetched.push(Fetched { path, downloaded: false });
            continue;
        }
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let bar = progress_bar(file.name, "{bytes}/{total_bytes} {bytes_per_sec}", progress);
        let path = download(agent, file, address, folder, &bar);
        bar.finish_and_clear();
        fetched.push(Fetched { path: path?, downloaded: true });
    }
    Ok(fetched)
}

/// Fetches the texts of the table at `address` into the one file of `entry`: a JSON object with the field `text` a line.
fn fetch_table(
    agent: &Agent,
    entry: &Entry,
    address: &str,
    wait: &dyn Fn(Duration),
    folder: &Path,
    progress: bool,
) -> Result<Fetched> {
    let file = &entry.layouts[0][0];
    let path = folder.join(file.name);
    if path.is_file() && (file.check)(&path).is_ok() {
        return Ok(Fetched { path, downloaded: false });
    }
    let bar = progress_bar(entry.name, "{pos}/{len} texts", progress);
    let texts = Table { agent, address, wait, bar: &bar }.texts();
    bar.finish_and_clear();
    let line = |text: String| serde_json::json!({ "text": text }).to_string() + "\n";
    let lines: String = texts?.into_iter().map(line).collect();
    files::create_dir(folder)?;
    files::write(&path, lines.as_bytes())?;
    Ok(Fetched { path, downloaded: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::entry::Contents;
    use crate::data::reader;
    use crate::data::table_service::tests::{Answer, Service, agent};
    use std::fs::File;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    const CONTENT: &[u8] = b"hello world";
    const MD5: &str = "5eb63bbbe01eeed093cb22bb8f5acdc3";
    static FILES: [DataFile; 1] =
        [DataFile { name: "hello.txt", md5: Some(MD5), raw_md5: None, check: |_| Ok(()) }];

    /// A request as the server saw it: the path and the Range header.
    type Seen = (String, Option<String>);

    /// Starts a server that answers every request by `answer`; its base address and what it is asked.
    fn serve(answer: impl Fn(Option<&str>) -> Vec<u8> + Send + 'static) -> (String, Receiver<Seen>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(|stream| stream.ok()) {
                let head: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map_while(|line| line.ok().filter(|line| !line.is_empty()))
                    .collect();
                let path =
                    head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_string();
                let range = head.iter().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("range").then(|| value.to_string())
                });
                // Told before it is answered, so that a test that has its answer sees its request.
                let reply = answer(range.as_deref());
                let _ = sender.send((path, range));
                let _ = (&stream).write_all(&reply);
            }
        });
        (base, receiver)
    }

    fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    }

    /// A proper server: honors ranges, refuses those past the end.
    fn proper(range: Option<&str>) -> Vec<u8> {
        let Some(range) = range else { return response("200 OK", "", CONTENT) };
        let start: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
        match start {
            0..11 => {
                let header = format!("Content-Range: bytes {start}-10/11\r\n");
                response("206 Partial Content", &header, &CONTENT[start..])
            }
            _ => response("416 Range Not Satisfiable", "Content-Range: bytes */11\r\n", b""),
        }
    }

    fn get(base: &str, folder: &Path) -> Result<Vec<Fetched>> {
        fetch_files(&agent(), &FILES, base, folder, false)
    }

    /// The folder's files and their bytes, by name.
    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn whole() -> Vec<(String, Vec<u8>)> {
        vec![("hello.txt".into(), CONTENT.into())]
    }

    fn with_part(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hello.txt.part"), bytes).unwrap();
        folder
    }

    #[test]
    fn a_file_is_fetched_once() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made/on/the/way");
        let (base, seen) = serve(proper);
        assert!(get(&base, &inner).unwrap()[0].downloaded);
        assert_eq!(files(&inner), whole());
        assert!(!get(&base, &inner).unwrap()[0].downloaded);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [("/hello.txt".to_string(), None)]);
    }

    #[test]
    fn a_file_of_other_bytes_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hello.txt"), "other").unwrap();
        let (base, _seen) = serve(proper);
        get(&base, folder.path()).unwrap();
        assert_eq!(files(folder.path()), whole());
    }

    #[test]
    fn a_truncated_body_is_kept_and_then_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let (base, _seen) = serve(|_| {
            let mut bytes = response("200 OK", "", CONTENT);
            bytes.truncate(bytes.len() - 4);
            bytes
        });
        let line = get(&base, folder.path()).unwrap_err().to_string();
        assert!(line.contains("broke off after 7 of 11 bytes") && line.contains("to resume"), "{line}");
        assert_eq!(files(folder.path()), [("hello.txt.part".to_string(), b"hello w".to_vec())]);

        let (base, seen) = serve(proper);
        get(&base, folder.path()).unwrap();
        assert_eq!(files(folder.path()), whole());
        assert_eq!(seen.try_iter().next().unwrap().1.as_deref(), Some("bytes=7-"));
    }

    #[test]
    fn a_server_that_ignores_ranges_is_heard_from_the_start() {
        let folder = with_part(b"hello");
        let (base, seen) = serve(|_| proper(None));
        get(&base, folder.path()).unwrap();
        assert_eq!(files(folder.path()), whole());
        assert_eq!(seen.try_iter().map(|seen| seen.1).collect::<Vec<_>>(), [Some("bytes=5-".to_string())]);
    }

    #[test]
    fn a_part_that_does_not_fit_is_dropped() {
        let (base, seen) = serve(proper);
        let folder = with_part(b"longer than the file is");
        get(&base, folder.path()).unwrap();
        assert_eq!(files(folder.path()), whole());
        assert_eq!(
            seen.try_iter().map(|seen| seen.1).collect::<Vec<_>>(),
            [Some("bytes=23-".to_string()), None]
        );

        let (base, _seen) = serve(|range| match range {
            Some(_) => response("206 Partial Content", "Content-Range: bytes 0-10/11\r\n", CONTENT),
            None => proper(None),
        });
        let folder = with_part(b"hello");
        get(&base, folder.path()).unwrap();
        assert_eq!(files(folder.path()), whole());
    }

    #[test]
    fn a_whole_part_needs_no_server() {
        let folder = with_part(CONTENT);
        let (base, seen) = serve(proper);
        get(&base, folder.path()).unwrap();
        assert_eq!(files(folder.path()), whole());
        assert_eq!(seen.try_iter().count(), 0);
    }

    #[test]
    fn a_wrong_sum_removes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (base, _seen) = serve(|_| response("200 OK", "", b"hello there"));
        let line = get(&base, folder.path()).unwrap_err().to_string();
        let sum = reader::md5(&b"hello there"[..]).unwrap();
        assert!(line.contains(&format!("the MD5 sum is {sum}, but the publisher's is {MD5}")), "{line}");
        assert_eq!(files(folder.path()), []);
    }

    #[test]
    fn a_resumed_part_of_other_bytes_is_removed_too() {
        let folder = with_part(b"HELLO");
        let (base, _seen) = serve(proper);
        assert!(get(&base, folder.path()).unwrap_err().to_string().contains("the file was removed"));
        get(&base, folder.path()).unwrap();
        assert_eq!(files(folder.path()), whole());
    }

    #[test]
    fn a_refusal_is_told_and_keeps_the_part() {
        let folder = with_part(b"hello");
        let (base, _seen) = serve(|_| response("404 Not Found", "", b"no such file"));
        let line = get(&base, folder.path()).unwrap_err().to_string();
        assert!(line.contains("hello.txt: the server answered 404 Not Found"), "{line}");
        assert_eq!(files(folder.path()), [("hello.txt.part".to_string(), b"hello".to_vec())]);
    }

    #[test]
    fn no_server_is_a_clear_line() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let line = get(&base, folder.path()).unwrap_err().to_string();
        assert!(line.contains("no answer") && line.contains("check the network"), "{line}");
    }

    #[test]
    fn a_second_download_of_the_same_file_is_refused() {
        let folder = with_part(b"hello");
        let first = File::open(folder.path().join("hello.txt.part")).unwrap();
        first.lock().unwrap();
        let (base, _seen) = serve(proper);
        let line = get(&base, folder.path()).unwrap_err().to_string();
        assert!(line.contains("another process is downloading"), "{line}");
    }

    #[test]
    fn plain_http_is_refused_outside_tests() {
        let agent = Agent::new_with_config(config().https_only(true).proxy(None).build());
        let folder = tempfile::tempdir().unwrap();
        let (base, seen) = serve(proper);
        assert!(fetch_files(&agent, &FILES, &base, folder.path(), false).is_err());
        assert_eq!(seen.try_iter().count(), 0);
    }

    #[test]
    fn bundled_sets_need_nothing_and_others_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let fetch = |name| fetch(name, Some(folder.path()), false);
        assert_eq!(fetch("digits").unwrap(), []);
        assert_eq!(fetch("tinyshakespeare").unwrap(), []);
        let line = fetch("wikitext-2").unwrap_err().to_string();
        assert!(line.contains("wiki.train.tokens is missing here; it cannot be fetched: put"), "{line}");
        assert_eq!(files(folder.path()), []);
    }

    fn pages() -> &'static Entry {
        catalog::entry("recycling-the-web").unwrap()
    }

    fn get_table(service: &Service, folder: &Path) -> Result<Fetched> {
        let Source::Table(address) = pages().source else { unreachable!() };
        let query = address.rsplit('/').next().unwrap();
        fetch_table(&agent(), pages(), &format!("{}{query}", service.base()), &|_| (), folder, false)
    }

    fn read_table(folder: &Path) -> Result<crate::data::entry::Split<Vec<String>>> {
        let Contents::Text { read, .. } = pages().contents else { unreachable!() };
        read(&pages().paths(folder)?)
    }

    #[test]
    fn a_table_is_fetched_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("created/on/demand");
        let service = Service::start(230, vec![]);
        let fetched = get_table(&service, &inner).unwrap();
        assert!(fetched.downloaded);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1, "no temporary file is left");
        let seen = service.seen();
        assert_eq!(seen.len(), 3);
        let query = "/rows?dataset=mlx-community%2Frecycling_the_web-1k&config=default&split=train&offset=0&length=100";
        assert_eq!(seen[0], query);

        let (train, test) = read_table(&inner).unwrap();
        assert_eq!((train.len(), test.len()), (207, 23));
        assert_eq!(test[0], "text of row 9, \"quoted\"\nä");

        let service = Service::start(230, vec![]);
        assert!(!get_table(&service, &inner).unwrap().downloaded);
        assert!(service.seen().is_empty());

        fs::write(&fetched.path, "{\"text\": \"cut o").unwrap();
        assert!(read_table(&inner).unwrap_err().to_string().contains("line 1: is not JSON"));
        assert!(get_table(&Service::start(10, vec![]), &inner).unwrap().downloaded);
        assert_eq!(read_table(&inner).unwrap().1.len(), 1);
    }

    #[test]
    fn a_failed_table_leaves_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let service =
            Service::start(230, vec![Answer::Rows, Answer::Status("500 Internal Server Error", "")]);
        assert!(get_table(&service, folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
