//! The commands behind the command line, as plain functions.
pub mod data;
pub mod schedule;
