//! The papers' experiments, repeated over several seeds and compared with the reported values.
//!
//! An [`Experiment`](experiment::Experiment) is data: cells (one configuration each), claims, and the columns of its
//! table; [`experiments`] lists them all, with the values reported in [`paper`]. [`run`] trains the cells without a
//! result and stores [`results`]. [`experiment_results`] joins an experiment with its results, [`judge`] tests its claims,
//! and [`report`] writes what came out; the same results give the same report.

pub mod cell;
pub mod claim;
pub mod experiment;
pub mod experiment_results;
pub mod experiments;
#[cfg(test)]
mod fixtures;
pub mod judge;
pub mod paper;
pub mod quantity;
pub mod report;
pub mod results;
pub mod run;
pub mod seeds;
