//! The `dynamoe` program; what it does is in `dynamoe::cli`.

use std::process::ExitCode;

/// The git revision that the program was built from; empty outside of a repository.
const REVISION: &str = git_version::git_version!(
    args = ["--always", "--abbrev=40", "--exclude=*", "--dirty=-modified"],
    fallback = ""
);

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    dynamoe::cli::main((!REVISION.is_empty()).then_some(REVISION))
}
