//! Work on a pool of threads.

use anyhow::Result;

use super::flags::Threads;
use crate::engine::error::Error;
use crate::engine::kernels::par;

/// The most threads that can be asked for.
const MOST: usize = 1024;

/// One thread per core.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Refuses a thread count out of range.
///
/// # Errors
/// Such a count, with the range.
pub fn check(count: usize) -> Result<()> {
    if (1..=MOST).contains(&count) {
        return Ok(());
    }
    Err(Error::config("threads", format!("{count} is out of range; it must be 1 to {MOST}")).into())
}

/// Runs `work` on `count` threads.
///
/// # Errors
/// A thread count out of range, and the errors of `work`.
pub fn run_on<R: Send>(count: usize, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    check(count)?;
    par::try_with_threads(count, work).unwrap_or_else(|| Err(par::refused(count).into()))
}

impl Threads {
    /// The thread count to use.
    ///
    /// # Errors
    /// A thread count out of range.
    pub fn count(&self) -> Result<usize> {
        let count = self.threads.unwrap_or_else(cores);
        check(count)?;
        Ok(count)
    }

    /// Runs `work` on these threads.
    ///
    /// # Errors
    /// A thread count out of range, and the errors of `work`.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        run_on(self.count()?, work)
    }
}
