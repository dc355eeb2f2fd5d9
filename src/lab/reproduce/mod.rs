//! The papers' experiments, run again over several seeds and put beside the papers' figures.
//!
//! An [`Experiment`](experiments::Experiment) is data: cells (one configuration each), the figures and claims of
//! the papers, and what its table shows. [`run`] trains the cells that have no result yet;
//! [`report`] is made of the results alone.

pub mod cell;
pub mod claims;
pub mod experiments;
pub mod paper;
pub mod quantity;
pub mod report;
pub mod results;
pub mod run;
pub mod seeds;
pub mod view;
