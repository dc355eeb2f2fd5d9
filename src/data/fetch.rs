//! Downloads data sets from their publishers: resumed where it broke off, checked, and put in place whole.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use crate::data::catalog::{self, Entry, Published};
use crate::data::verify::is_published;
use crate::data::{data_dir, reader};
use crate::{Error, Result};

/// How long to wait for a connection or for the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file that [`fetch`] made sure of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it was downloaded now, or was already there with the right sum.
    pub downloaded: bool,
}

/// Downloads the files of the set `name` into its folder under `data_dir` (see [`data_dir`]), over TLS. A
/// file already there with the publisher's bytes is kept. `progress` shows a bar per file when stderr is a
/// terminal. The bundled digits need nothing.
///
/// # Errors
/// [`Error::Config`] for an unknown name; [`Error::Download`] when the publisher or the network fails, or
/// the bytes are not the known ones; [`Error::Io`] when the disk does. What arrived before a break stays in
/// `FILE.part`, from which the next call resumes.
pub fn fetch(name: &str, data_dir: Option<&Path>, progress: bool) -> Result<Vec<Fetched>> {
    let entry = catalog::entry(name)?;
    let agent = Agent::new_with_config(config().https_only(true).build());
    fetch_entry(&agent, entry, entry.base_url, &self::data_dir(data_dir).join(entry.name), progress)
}

/// How to speak to any publisher.
pub(super) fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("dynamoe/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
}

/// Fetches all files of `entry` from `base_url` into `folder`.
fn fetch_entry(
    agent: &Agent,
    entry: &Entry,
    base_url: &str,
    folder: &Path,
    progress: bool,
) -> Result<Vec<Fetched>> {
    let mut fetched = Vec::with_capacity(entry.files.len());
    for file in entry.files {
        if let Some(path) = file.find(folder)
            && is_published(file, &path)?
        {
            fetched.push(Fetched { path, downloaded: false });
            continue;
        }
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let bar = progress_bar(file.name, "{bytes}/{total_bytes} {bytes_per_sec}", progress);
        let path = fetch_file(agent, file, base_url, folder, &bar);
        bar.finish_and_clear();
        fetched.push(Fetched { path: path?, downloaded: true });
    }
    Ok(fetched)
}

/// A bar on stderr, which shows `counts` in indicatif's notation.
pub(super) fn progress_bar(name: &'static str, counts: &str, visible: bool) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    // indicatif itself stays silent when stderr is no terminal.
    let template = format!("{{msg}} [{{bar:30}}] {counts}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(name)
}

/// Downloads one file to `FILE.part`, checks its sum, and renames it; the path it then has.
fn fetch_file(
    agent: &Agent,
    file: &Published,
    base_url: &str,
    folder: &Path,
    bar: &ProgressBar,
) -> Result<PathBuf> {
    let url = format!("{base_url}{}", file.name);
    let path = folder.join(file.name);
    let part_path = folder.join(format!("{}.part", file.name));
    let part = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part_path)
        .map_err(Error::io("create", &part_path))?;
    match part.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let what =
                format!("another process is downloading it to {}; wait for that one", part_path.display());
            return Err(Error::Download { url, what });
        }
        // A file system without locks does no harm: the sum is checked in any case.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }

    let mut download = Download { agent, url, part, part_path, bar };
    let mut sum = download.sum()?;
    if sum != file.md5 {
        download.receive()?;
        sum = download.sum()?;
    }
    if sum != file.md5 {
        fs::remove_file(&download.part_path).map_err(Error::io("remove", &download.part_path))?;
        let what =
            format!("MD5 is {sum}, but the publisher's is {}; the file was removed, try again", file.md5);
        return Err(download.fail(what));
    }
    download.part.sync_all().map_err(Error::io("write", &download.part_path))?;
    fs::rename(&download.part_path, &path).map_err(Error::io("create", &path))?;
    Ok(path)
}

/// One file on its way: from `url` into `part`.
struct Download<'a> {
    agent: &'a Agent,
    url: String,
    part: File,
    part_path: PathBuf,
    bar: &'a ProgressBar,
}

impl Download<'_> {
    fn fail(&self, what: impl Into<String>) -> Error {
        Error::Download { url: self.url.clone(), what: what.into() }
    }

    /// The MD5 sum of what has arrived.
    fn sum(&mut self) -> Result<String> {
        self.part
            .seek(SeekFrom::Start(0))
            .and_then(|_| reader::md5(&self.part))
            .map_err(Error::io("read", &self.part_path))
    }

    /// Receives what is missing. A part that does not fit what the server has is dropped, and all is
    /// received anew.
    fn receive(&mut self) -> Result<()> {
        let have = self.part.metadata().map_err(Error::io("read", &self.part_path))?.len();
        let response = self.request(have)?;
        match response.status().as_u16() {
            206 if have > 0 && starts_at(&response, have) => self.append(have, response),
            206 | 416 if have > 0 => match self.request(0)? {
                whole if whole.status() == 200 => self.append(0, whole),
                other => Err(self.refused(&other)),
            },
            200 => self.append(0, response),
            _ => Err(self.refused(&response)),
        }
    }

    /// Asks for everything from byte `start` on.
    fn request(&self, start: u64) -> Result<Response<Body>> {
        let mut request = self.agent.get(&self.url).header(header::ACCEPT_ENCODING, "identity");
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        request.call().map_err(|error| {
            self.fail(format!("no answer ({error}); check the network, then run the same command again"))
        })
    }

    fn refused(&self, response: &Response<Body>) -> Error {
        let folder = self.part_path.parent().unwrap_or(Path::new("")).display();
        self.fail(format!(
            "the server answered {}; try again later, or get the file from elsewhere and put it into {folder}",
            response.status()
        ))
    }

    /// Cuts the part to `start` bytes and appends the response's body.
    fn append(&mut self, start: u64, mut response: Response<Body>) -> Result<()> {
        let total = response.body().content_length().map(|rest| start + rest);
        self.bar.set_length(total.unwrap_or(start));
        self.bar.set_position(start);
        self.bar.reset_eta();
        self.part
            .set_len(start)
            .and_then(|()| self.part.seek(SeekFrom::Start(start)))
            .map_err(Error::io("write", &self.part_path))?;

        let mut have = start;
        let mut body = response.body_mut().as_reader();
        let mut chunk = vec![0; 1 << 16];
        let broke_off = loop {
            match body.read(&mut chunk) {
                Ok(0) => break None,
                Ok(count) => {
                    self.part.write_all(&chunk[..count]).map_err(Error::io("write", &self.part_path))?;
                    have += count as u64;
                    self.bar.set_position(have);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error.to_string()),
            }
        };
        if broke_off.is_none() && total.is_none_or(|total| total == have) {
            return Ok(());
        }
        let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
        let why = broke_off.map(|why| format!(" ({why})")).unwrap_or_default();
        Err(self.fail(format!("broke off after {have}{of} bytes{why}; run the same command again to resume")))
    }
}

/// Whether a partial response begins at byte `start`.
fn starts_at(response: &Response<Body>, start: u64) -> bool {
    response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim().starts_with(&format!("bytes {start}-")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::catalog::Format;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    const CONTENT: &[u8] = b"hello world";
    static FILES: [Published; 1] =
        [Published { name: "hello.txt", md5: "5eb63bbbe01eeed093cb22bb8f5acdc3", raw_md5: None }];
    static ENTRY: Entry = Entry {
        name: "hello",
        format: Format::Idx,
        classes: 1,
        shape: [1, 1, 1],
        train: 1,
        test: 1,
        base_url: "",
        files: &FILES,
    };

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

    /// A proper server: honours ranges, refuses those past the end.
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
        let agent = Agent::new_with_config(config().proxy(None).build());
        fetch_entry(&agent, &ENTRY, base, folder, false)
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
        assert!(line.contains(&format!("MD5 is {sum}, but the publisher's is {}", FILES[0].md5)), "{line}");
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
        assert!(fetch_entry(&agent, &ENTRY, &base, folder.path(), false).is_err());
        assert_eq!(seen.try_iter().count(), 0);
    }

    #[test]
    fn digits_need_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fetch("digits", Some(folder.path()), false).unwrap(), []);
        assert_eq!(files(folder.path()), []);
    }
}
