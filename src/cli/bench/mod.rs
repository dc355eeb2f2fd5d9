//! `dynamoe bench`: how fast this machine trains, and how near that is to what it could do.
//!
//! Every figure is measured in the run that prints it, on made-up data, and needs no file.

use std::io::IsTerminal;

pub mod gemm;
pub mod measure;
pub mod network;
pub mod roofline;
pub mod scaling;
pub mod select;
pub mod step;

/// Says on standard error what is being measured, if somebody is there to read it.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{what} ...");
    }
}
