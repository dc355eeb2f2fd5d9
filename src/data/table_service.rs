//! Fetches the texts of a published table, page by page, from a service in the layout of Hugging Face's dataset viewer:
//! `{"rows": [{"row_idx": 0, "row": {"text": ".."}}, ..], "num_rows_total": N}`.

use std::time::Duration;

use indicatif::ProgressBar;
use serde::Deserialize;
use ureq::Agent;
use ureq::http::header::RETRY_AFTER;

use crate::engine::{Error, Result};

/// Rows per page: the maximum of the service.
const PAGE: usize = 100;
/// Attempts per page. Unless the service says otherwise, the waits between them are 1, 2 and 4 s.
const TRIES: u32 = 4;
/// The longest wait that is accepted from a service.
const PATIENCE: Duration = Duration::from_secs(120);
/// The largest page that is read.
const MAX_BYTES: u64 = 64 << 20;

/// A table and how to reach it.
pub struct Table<'a> {
    pub agent: &'a Agent,
    /// Its address with the query, except offset and length.
    pub address: &'a str,
    /// Sleeps.
    pub wait: &'a dyn Fn(Duration),
    /// Counts rows.
    pub bar: &'a ProgressBar,
}

#[derive(Deserialize)]
struct Page {
    rows: Vec<Row>,
    num_rows_total: usize,
}

#[derive(Deserialize)]
struct Row {
    row_idx: usize,
    row: Cells,
    #[serde(default)]
    truncated_cells: Vec<String>,
}

#[derive(Deserialize)]
struct Cells {
    text: String,
}

/// Why a page could not be fetched.
struct Failure {
    /// What happened and what to do.
    what: String,
    /// The wait before another attempt, if one can help.
    again: Option<Duration>,
}

impl Table<'_> {
    /// The texts of all rows, in order.
    ///
    /// # Errors
    /// [`Error::Download`] with the page's address, if it cannot be fetched in several attempts or is not in the
    /// service's format.
    pub fn texts(&self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        let mut total = None;
        loop {
            let start = texts.len();
            let url = format!("{}&offset={start}&length={PAGE}", self.address);
            let page = self.page(&url)?;
            let fail = |what: &str| {
                let what = format!("{what}; run the same command again, or report it if this happens again");
                Error::Download { url: url.clone(), what }
            };
            if *total.get_or_insert(page.num_rows_total) != page.num_rows_total {
                return Err(fail("the table changed on the way"));
            }
            if page.rows.is_empty() {
                return Err(fail("the page has no rows"));
            }
            for row in page.rows {
                if row.row_idx != texts.len() {
                    return Err(fail(&format!(
                        "row {} came in the place of row {}",
                        row.row_idx,
                        texts.len()
                    )));
                }
                if !row.truncated_cells.is_empty() {
                    return Err(fail(&format!("row {} came cut short", row.row_idx)));
                }
                texts.push(row.row.text);
            }
            self.bar.set_length(page.num_rows_total as u64);
            self.bar.set_position(texts.len() as u64);
            if texts.len() >= page.num_rows_total {
                return Ok(texts);
            }
        }
    }

    /// One page, with further attempts where they can help.
    fn page(&self, url: &str) -> Result<Page> {
        let mut tries = 0;
        loop {
            let pause = Duration::from_secs(1 << tries);
            tries += 1;
            match self.page_once(url, pause) {
                Ok(page) => return Ok(page),
                Err(Failure { again: Some(pause), .. }) if tries < TRIES && pause <= PATIENCE => {
                    (self.wait)(pause)
                }
                Err(Failure { what, .. }) => return Err(Error::Download { url: url.into(), what }),
            }
        }
    }

    /// Requests a page once; `pause` is the wait before another attempt unless the service names one.
    fn page_once(&self, url: &str, pause: Duration) -> std::result::Result<Page, Failure> {
        let again = |what| Failure { what, again: Some(pause) };
        let cut = |error: &dyn std::fmt::Display| {
            again(format!("the answer broke off ({error}); run the same command again"))
        };
        let mut response = self.agent.get(url).call().map_err(|error| {
            again(format!("no answer ({error}); check the network, then run the same command again"))
        })?;
        match response.status().as_u16() {
            200 => {}
            429 => {
                let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let pause = asked.and_then(|s| s.trim().parse().ok()).map_or(pause, Duration::from_secs);
                let what = format!(
                    "the server answered {}; wait {} s, then run the same command again",
                    response.status(),
                    pause.as_secs()
                );
                return Err(Failure { what, again: Some(pause) });
            }
            _ => {
                let what = format!("the server answered {}; try again later", response.status());
                return Err(Failure { what, again: None });
            }
        }
        let body = response.body_mut().with_config().limit(MAX_BYTES).read_to_vec();
        let body = body.map_err(|error| cut(&error))?;
        serde_json::from_slice(&body).map_err(|error| match error.is_eof() {
            true => cut(&error),
            false => Failure { what: format!("the answer is not a page of texts ({error})"), again: None },
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::download::config;
    use std::cell::RefCell;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};

    /// How the service answers one request.
    #[derive(Clone)]
    pub enum Answer {
        /// Properly.
        Rows,
        /// With this status and these headers.
        Status(&'static str, &'static str),
        /// With so many bytes of the proper answer.
        Cut(usize),
        /// With this body.
        Body(&'static str),
    }

    /// A dataset service on this machine, with one table.
    pub struct Service {
        base: String,
        seen: Receiver<String>,
    }

    impl Service {
        /// Serves a table of `total` rows. The first requests get `answers`, those after them proper ones, and after
        /// 50 requests, or when the test ends, it stops.
        pub fn start(total: usize, answers: Vec<Answer>) -> Service {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let base = format!("http://{}/", listener.local_addr().unwrap());
            let (sender, seen) = channel();
            std::thread::spawn(move || {
                let answers = answers.into_iter().chain(std::iter::repeat(Answer::Rows)).take(50);
                for (answer, stream) in answers.zip(listener.incoming()) {
                    // What is told before it is answered is known to a test that has its answer.
                    let Ok(stream) = stream else { return };
                    let Some(path) = request(&stream) else { return };
                    let reply = reply(&answer, total, &path);
                    if sender.send(path).is_err() {
                        return;
                    }
                    let _ = (&stream).write_all(&reply);
                }
            });
            Service { base, seen }
        }

        pub fn base(&self) -> &str {
            &self.base
        }

        /// The paths asked for so far.
        pub fn seen(&self) -> Vec<String> {
            self.seen.try_iter().collect()
        }

        /// The offsets asked for so far.
        fn offsets(&self) -> Vec<usize> {
            self.seen().iter().map(|path| parameter(path, "offset")).collect()
        }
    }

    impl Drop for Service {
        /// Wakes the service up, by a connection without a request, so that it stops.
        fn drop(&mut self) {
            let _ = TcpStream::connect(self.base.trim_start_matches("http://").trim_end_matches('/'));
        }
    }

    /// The path of a request, if there is one.
    fn request(stream: &TcpStream) -> Option<String> {
        let lines =
            BufReader::new(stream).lines().map_while(|line| line.ok().filter(|line| !line.is_empty()));
        lines.collect::<Vec<_>>().first()?.split(' ').nth(1).map(String::from)
    }

    fn parameter(path: &str, name: &str) -> usize {
        let value = path.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.unwrap().parse().unwrap()
    }

    fn reply(answer: &Answer, total: usize, path: &str) -> Vec<u8> {
        let start = parameter(path, "offset");
        let row = |i: usize| {
            let row = serde_json::json!({ "text": format!("text of row {i}, \"quoted\"\nä"), "id": i });
            serde_json::json!({ "row_idx": i, "row": row, "truncated_cells": [] })
        };
        let rows: Vec<_> = (start..total.min(start + parameter(path, "length"))).map(row).collect();
        let page = serde_json::json!({
            "features": [], "rows": rows, "num_rows_total": total, "num_rows_per_page": 100, "partial": false
        });
        let (status, headers, body) = match answer {
            Answer::Rows | Answer::Cut(_) => ("200 OK", "", page.to_string()),
            Answer::Status(status, headers) => (*status, *headers, "no".to_string()),
            Answer::Body(body) => ("200 OK", "", body.to_string()),
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        let mut bytes = [head.as_bytes(), body.as_bytes()].concat();
        if let Answer::Cut(length) = answer {
            bytes.truncate(*length);
        }
        bytes
    }

    pub fn agent() -> Agent {
        Agent::new_with_config(config().proxy(None).build())
    }

    /// All texts of the service's table, and the waits in seconds.
    fn texts(service: &Service) -> (Result<Vec<String>>, Vec<u64>) {
        let waits = RefCell::new(Vec::new());
        let wait = |pause: Duration| waits.borrow_mut().push(pause.as_secs());
        let (agent, address, bar) =
            (agent(), format!("{}rows?dataset=d", service.base), ProgressBar::hidden());
        let texts = Table { agent: &agent, address: &address, wait: &wait, bar: &bar }.texts();
        (texts, waits.into_inner())
    }

    /// Checks that a table of 250 rows comes whole; the offsets asked for and the waits.
    fn comes_whole(answers: Vec<Answer>) -> (Vec<usize>, Vec<u64>) {
        let service = Service::start(250, answers);
        let (texts, waits) = texts(&service);
        let expected: Vec<_> = (0..250).map(|i| format!("text of row {i}, \"quoted\"\nä")).collect();
        assert_eq!(texts.unwrap(), expected);
        (service.offsets(), waits)
    }

    /// The line of a table of 250 rows that does not come, the offsets asked for, and the waits.
    fn fails(answers: Vec<Answer>) -> (String, Vec<usize>, Vec<u64>) {
        let service = Service::start(250, answers);
        let (texts, waits) = texts(&service);
        let line = texts.unwrap_err().to_string();
        assert!(line.starts_with("download of http://") && !line.contains('\n'), "{line}");
        (line, service.offsets(), waits)
    }

    #[test]
    fn a_table_comes_in_pages() {
        assert_eq!(comes_whole(vec![]), (vec![0, 100, 200], vec![]));
    }

    #[test]
    fn the_service_is_waited_for_as_it_asks() {
        let asked = Answer::Status("429 Too Many Requests", "Retry-After: 7\r\n");
        let unclear =
            Answer::Status("429 Too Many Requests", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n");
        let answers = vec![asked, Answer::Rows, unclear.clone(), unclear];
        assert_eq!(comes_whole(answers), (vec![0, 0, 100, 100, 100, 200], vec![7, 1, 2]));

        let hour = Answer::Status("429 Too Many Requests", "Retry-After: 3600\r\n");
        let (line, offsets, waits) = fails(vec![hour]);
        assert!(line.contains("429 Too Many Requests; wait 3600 s, then run"), "{line}");
        assert_eq!((offsets, waits), (vec![0], vec![]));
    }

    #[test]
    fn a_cut_connection_is_taken_up_at_its_page() {
        // In the body, in the head, and before any byte.
        let answers = vec![Answer::Rows, Answer::Cut(3000), Answer::Cut(20), Answer::Cut(0)];
        assert_eq!(comes_whole(answers), (vec![0, 100, 100, 100, 100, 200], vec![1, 2, 4]));

        let (line, offsets, waits) = fails(vec![Answer::Cut(3000); 9]);
        assert!(line.contains("broke off") && line.contains("run the same command again"), "{line}");
        assert_eq!((offsets, waits), (vec![0; 4], vec![1, 2, 4]));
    }

    #[test]
    fn anything_else_is_told_at_once() {
        let cases = [
            (Answer::Status("404 Not Found", ""), "the server answered 404 Not Found; try again later"),
            (Answer::Status("500 Internal Server Error", ""), "the server answered 500"),
            (Answer::Body("<html>"), "the answer is not a page of texts"),
            (
                Answer::Body(r#"{"rows": [{"row_idx": 100, "row": {"body": ""}}], "num_rows_total": 250}"#),
                "missing field `text`",
            ),
            (Answer::Body(r#"{"rows": [], "num_rows_total": 250}"#), "the page has no rows"),
            (Answer::Body(r#"{"rows": [], "num_rows_total": 249}"#), "the table changed on the way"),
            (
                Answer::Body(r#"{"rows": [{"row_idx": 7, "row": {"text": ""}}], "num_rows_total": 250}"#),
                "row 7 came in the place of row 100",
            ),
            (
                Answer::Body(
                    r#"{"rows": [{"row_idx": 100, "row": {"text": ""}, "truncated_cells": ["text"]}], "num_rows_total": 250}"#,
                ),
                "row 100 came cut short",
            ),
        ];
        for (answer, told) in cases {
            let (line, offsets, waits) = fails(vec![Answer::Rows, answer]);
            assert!(line.contains(told) && line.contains("offset=100"), "{line}");
            assert_eq!((offsets, waits), (vec![0, 100], vec![]));
        }
    }

    #[test]
    fn no_service_is_a_clear_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let (_, seen) = channel();
        let (texts, waits) = texts(&Service { base, seen });
        let line = texts.unwrap_err().to_string();
        assert!(line.contains("no answer") && line.contains("check the network"), "{line}");
        assert_eq!(waits, [1, 2, 4]);
    }
}
