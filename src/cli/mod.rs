//! The commands behind the command line, one file a verb, as plain functions.

pub mod analyse;
pub mod bench;
pub mod data;
pub mod eval;
pub mod gradcheck;
pub mod import;
pub mod inspect;
pub mod predict;
pub mod reproduce;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod step;
pub mod text;
pub mod tokenize;
pub mod train;
pub mod verify;
