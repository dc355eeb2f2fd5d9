//! Downloads one published file: resumes an interrupted download, checks the sum, and renames the complete file.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::entry::DataFile;
use super::reader;
use crate::engine::{Error, Result};

/// How long to wait for a connection or for the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The HTTP settings for all publishers.
pub fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("dynamoe/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
}

/// A bar on stderr, which shows `counts` in indicatif's notation.
pub fn progress_bar(name: &'static str, counts: &str, visible: bool) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    // indicatif itself stays silent when stderr is not a terminal.
    let template = format!("{{msg}} [{{bar:30}}] {counts}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_message(name)
}

/// Downloads one file to `FILE.part`, checks its sum and renames it. Returns the final path.
pub fn download(
    agent: &Agent,
    file: &DataFile,
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
    let published = file.md5.unwrap_or_default();
    let mut sum = download.sum()?;
    if sum != published {
        download.receive()?;
        sum = download.sum()?;
    }
    if sum != published {
        fs::remove_file(&download.part_path).map_err(Error::io("remove", &download.part_path))?;
        let what = format!(
            "the MD5 sum is {sum}, but the publisher's is {published}; the file was removed, try again"
        );
        return Err(download.fail(what));
    }
    download.part.sync_all().map_err(Error::io("write", &download.part_path))?;
    fs::rename(&download.part_path, &path).map_err(Error::io("create", &path))?;
    Ok(path)
}

/// A download in progress, from `url` into `part`.
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

    /// The MD5 sum of the bytes received so far.
    fn sum(&mut self) -> Result<String> {
        self.part
            .seek(SeekFrom::Start(0))
            .and_then(|_| reader::md5(&self.part))
            .map_err(Error::io("read", &self.part_path))
    }

    /// Receives the missing bytes. A part that does not match the server's file is discarded, and the download
    /// starts again.
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

    /// Requests everything from byte `start` to the end.
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
