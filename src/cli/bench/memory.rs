//! What the process allocates and holds.

/// New and resized blocks of memory so far. None unless the program was built with the feature `count-allocations`:
/// counting costs every allocation a little.
#[cfg(feature = "count-allocations")]
pub fn allocations() -> Option<usize> {
    let stats = stats_alloc::INSTRUMENTED_SYSTEM.stats();
    Some(stats.allocations + stats.reallocations)
}

/// New and resized blocks of memory so far. None: this program was built without the feature `count-allocations`.
#[cfg(not(feature = "count-allocations"))]
pub fn allocations() -> Option<usize> {
    None
}

/// The peak memory of this process, in millions of bytes; none where the system does not report it.
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
