//! `dynamoe bench`: how fast this machine trains, and how near that is to what it could do.
//!
//! Every figure is measured in the run that prints it, on made-up data, and needs no file.

use std::io::{ErrorKind, IsTerminal};
use std::path::Path;

use anyhow::Result;

use crate::engine::error::Error;

pub mod accuracy;
pub mod gemm;
pub mod head;
pub mod measure;
pub mod network;
pub mod peak;
pub mod roofline;
pub mod routers;
pub mod scaling;
pub mod select;
pub mod step;
pub mod sweep;
pub mod text;
pub mod ulp;

/// Says on standard error what is being measured, if somebody is there to read it.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{what} ...");
    }
}

/// Refuses a picture in a folder that is not there, before anything is measured for it.
fn check_folder(svg: Option<&Path>) -> Result<()> {
    let Some(path) = svg else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(Error::io("write", path)(ErrorKind::NotFound.into()).into());
    }
    Ok(())
}
