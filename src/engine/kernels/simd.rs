//! The SIMD level: which vector instructions the kernels use.
//!
//! Kernels are plain loops over slices. [`fast`] compiles such a loop once per [`SimdLevel`] and picks the best level
//! of this processor at run time, or the one named by the environment variable [`VARIABLE`]. Rust never reorders or
//! contracts floating-point operations, so every level gives the same bits.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

#[cfg(target_arch = "aarch64")]
use fearless_simd::Neon;
use fearless_simd::Simd;
#[cfg(target_arch = "x86_64")]
use fearless_simd::{Avx2, Avx512};

use super::scalar::Scalar;
use crate::engine::error::{Error, Result};

/// The environment variable that names the level to use.
pub const VARIABLE: &str = "DYNAMOE_SIMD";

/// A set of vector instructions, with the proof that this processor has them.
#[derive(Clone, Copy, Debug)]
pub enum SimdLevel {
    /// AVX-512 as of Ice Lake.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// NEON, which includes fused multiply-add.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// What every processor of the target has (SSE2 on x86-64); products emulate the fused multiply-add.
    Portable,
}

impl SimdLevel {
    /// The same level for explicit vector code (`fearless_simd::dispatch!`).
    pub fn vectors(self) -> fearless_simd::Level {
        match self {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512(simd) => simd.level(),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2(simd) => simd.level(),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon(simd) => simd.level(),
            SimdLevel::Portable => fearless_simd::Level::baseline(),
        }
    }
}

/// The levels of this processor, best first, and the index of the current one.
struct Levels {
    all: Vec<(&'static str, SimdLevel)>,
    current: AtomicUsize,
}

static LEVELS: LazyLock<Levels> = LazyLock::new(|| {
    let best = fearless_simd::Level::new();
    let table = [
        #[cfg(target_arch = "x86_64")]
        ("avx512", best.as_avx512().map(SimdLevel::Avx512)),
        #[cfg(target_arch = "x86_64")]
        ("avx2", best.as_avx2().map(SimdLevel::Avx2)),
        #[cfg(target_arch = "aarch64")]
        ("neon", best.as_neon().map(SimdLevel::Neon)),
        ("portable", Some(SimdLevel::Portable)),
    ];
    let all: Vec<_> = table.into_iter().filter_map(|(name, level)| Some((name, level?))).collect();
    // A kernel cannot report an unknown name; `check_environment` does.
    let requested = requested().and_then(|name| all.iter().position(|level| level.0 == name));
    Levels { all, current: AtomicUsize::new(requested.unwrap_or(0)) }
});

/// The level that the environment requests, if any.
fn requested() -> Option<String> {
    std::env::var_os(VARIABLE).map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

/// The index of the level called `name`; `setting` is blamed if there is none.
fn find(name: &str, setting: &str) -> Result<usize> {
    LEVELS.all.iter().position(|level| level.0 == name).ok_or_else(|| {
        let levels = available().join(", ");
        Error::config(setting, format!("`{name}` is not available on this processor; use one of {levels}"))
    })
}

/// The current level.
#[inline]
pub fn level() -> SimdLevel {
    LEVELS.all[LEVELS.current.load(Relaxed)].1
}

/// The name of the current level.
pub fn name() -> &'static str {
    LEVELS.all[LEVELS.current.load(Relaxed)].0
}

/// The names of this processor's levels, best first; the last is always `portable`.
pub fn available() -> Vec<&'static str> {
    LEVELS.all.iter().map(|level| level.0).collect()
}

/// The entry of [`available`] that equals `name`.
///
/// # Errors
/// If this processor has no level of that name.
pub fn by_name(name: &str) -> Result<&'static str> {
    find(name, "simd").map(|level| LEVELS.all[level].0)
}

/// Exclusive permission to change the current level; restores the previous one when dropped, also after a panic.
struct Guard {
    previous: usize,
    _lock: MutexGuard<'static, ()>,
}

impl Guard {
    fn lock() -> Guard {
        static LOCK: Mutex<()> = Mutex::new(());
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { previous: LEVELS.current.load(Relaxed), _lock: lock }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        LEVELS.current.store(self.previous, Relaxed);
    }
}

/// Runs `work` at the level called `name`, for the whole process, and then restores the previous level. Concurrent
/// calls wait for each other, so `work` must not call this function itself.
///
/// # Errors
/// If this processor has no level of that name.
pub fn with_level<R>(name: &str, work: impl FnOnce() -> R) -> Result<R> {
    let level = find(name, VARIABLE)?;
    let _guard = Guard::lock();
    LEVELS.current.store(level, Relaxed);
    Ok(work())
}

/// Runs `work(name)` at each of this processor's levels, best first; see [`with_level`].
pub fn on_every_level(mut work: impl FnMut(&'static str)) {
    let _guard = Guard::lock();
    for (i, (name, _)) in LEVELS.all.iter().enumerate() {
        LEVELS.current.store(i, Relaxed);
        work(name);
    }
}

/// Checks the environment variable [`VARIABLE`]. Without this check, an unknown level is ignored.
///
/// # Errors
/// If it names a level that this processor does not have.
pub fn check_environment() -> Result<()> {
    requested().map_or(Ok(()), |name| find(&name, VARIABLE).map(drop))
}

/// Runs `work` compiled for the current level.
///
/// Mark the closure and every function that it calls `#[inline(always)]`: code that is not inlined keeps the
/// instruction set of the target (the same bits, many times slower). Loops over f64, which only checks gradients, are
/// compiled once.
#[inline(always)]
pub fn fast<F: Scalar, R>(work: impl FnOnce() -> R) -> R {
    if const { !F::TRAINS } {
        return work();
    }
    match level() {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512(avx512) => avx512.vectorize(work),
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2(avx2) => avx2.vectorize(work),
        // Every processor of the target has NEON.
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_runs_and_the_previous_one_is_restored() {
        let current = || {
            let _guard = Guard::lock();
            name()
        };
        let before = current();
        let mut seen = Vec::new();
        on_every_level(|level| {
            assert_eq!(name(), level);
            assert_eq!(matches!(self::level(), SimdLevel::Portable), level == "portable");
            seen.push(level);
        });
        assert_eq!(seen, available());
        assert_eq!(seen.last(), Some(&"portable"));
        assert_eq!(current(), before);
    }

    #[test]
    fn a_level_is_chosen_by_name() {
        for level in available() {
            assert_eq!(with_level(level, name).unwrap(), level);
        }
        let error = with_level("mmx", name).unwrap_err().to_string();
        assert!(
            error.starts_with("setting DYNAMOE_SIMD: `mmx` is not available") && error.ends_with("portable"),
            "{error}"
        );
    }
}
