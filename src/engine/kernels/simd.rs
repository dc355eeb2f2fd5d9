//! One door to the processor's vector instructions.
//!
//! Kernels are plain loops over slices. Under [`fast`] they are compiled once for each [`Level`] of instructions,
//! and the best that the processor has is picked at run time, or the one that the environment variable
//! [`VARIABLE`] names. Rust never reorders or contracts floating-point operations, so the choice moves no bit.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

#[cfg(target_arch = "aarch64")]
use fearless_simd::Neon;
use fearless_simd::Simd;
#[cfg(target_arch = "x86_64")]
use fearless_simd::{Avx2, Avx512};

use super::elem::Elem;
use crate::engine::{Error, Result};

/// The environment variable that names the level to use.
pub const VARIABLE: &str = "DYNAMOE_SIMD";

/// Instructions that kernels are compiled for, with the proof that this processor has them.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    /// AVX-512 as of Ice Lake.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// NEON, which has fused multiply-add.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// What every processor of the target has (SSE2 on x86-64); products do without fused multiply-add.
    Portable,
}

impl Level {
    /// The vectors to write out code with.
    pub fn vectors(self) -> fearless_simd::Level {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(simd) => simd.level(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(simd) => simd.level(),
            #[cfg(target_arch = "aarch64")]
            Level::Neon(simd) => simd.level(),
            Level::Portable => fearless_simd::Level::baseline(),
        }
    }
}

/// What this processor has, best first, and the number of the one in force.
struct Levels {
    all: Vec<(&'static str, Level)>,
    in_force: AtomicUsize,
}

static LEVELS: LazyLock<Levels> = LazyLock::new(|| {
    let best = fearless_simd::Level::new();
    let table = [
        #[cfg(target_arch = "x86_64")]
        ("avx512", best.as_avx512().map(Level::Avx512)),
        #[cfg(target_arch = "x86_64")]
        ("avx2", best.as_avx2().map(Level::Avx2)),
        #[cfg(target_arch = "aarch64")]
        ("neon", best.as_neon().map(Level::Neon)),
        ("portable", Some(Level::Portable)),
    ];
    let all: Vec<_> = table.into_iter().filter_map(|(name, level)| Some((name, level?))).collect();
    // A kernel is no place to complain of a name that does not exist: `check_environment` is.
    let asked = asked().and_then(|name| all.iter().position(|level| level.0 == name));
    Levels { all, in_force: AtomicUsize::new(asked.unwrap_or(0)) }
});

/// What the environment asks for, if anything.
fn asked() -> Option<String> {
    std::env::var_os(VARIABLE).map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

/// The number of the level called `name`.
fn find(name: &str) -> Result<usize> {
    LEVELS.all.iter().position(|level| level.0 == name).ok_or_else(|| {
        let has = available().join(", ");
        Error::config(VARIABLE, format!("`{name}` is none of what this processor has: {has}"))
    })
}

/// The level in force.
#[inline]
pub fn level() -> Level {
    LEVELS.all[LEVELS.in_force.load(Relaxed)].1
}

/// The name of the level in force.
pub fn name() -> &'static str {
    LEVELS.all[LEVELS.in_force.load(Relaxed)].0
}

/// The names of this processor's levels, best first; the last is always `portable`.
pub fn available() -> Vec<&'static str> {
    LEVELS.all.iter().map(|level| level.0).collect()
}

/// The name of a level of this processor, as [`available`] has it.
///
/// # Errors
/// If this processor has no level of that name.
pub fn by_name(name: &str) -> Result<&'static str> {
    find(name).map(|level| LEVELS.all[level].0).map_err(|e| match e {
        Error::Config { what, .. } => Error::config("simd", what),
        other => other,
    })
}

/// The level that was in force, which comes back at the end, also after a panic; and the turn to choose another.
struct Turn {
    before: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits for others who have chosen a level.
    fn take() -> Turn {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { before: LEVELS.in_force.load(Relaxed), _turn: turn }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        LEVELS.in_force.store(self.before, Relaxed);
    }
}

/// Does `work` with a level in force, for the whole process, and puts the one before back. Others who choose a level
/// wait; it must not be called from within `work`.
///
/// # Errors
/// If this processor has no level of that name.
pub fn with_level<R>(name: &str, work: impl FnOnce() -> R) -> Result<R> {
    let level = find(name)?;
    let _turn = Turn::take();
    LEVELS.in_force.store(level, Relaxed);
    Ok(work())
}

/// Does `work(name)` on each of this processor's levels in turn, best first; see [`with_level`].
pub fn on_every_level(mut work: impl FnMut(&'static str)) {
    let _turn = Turn::take();
    for (i, (name, _)) in LEVELS.all.iter().enumerate() {
        LEVELS.in_force.store(i, Relaxed);
        work(name);
    }
}

/// Checks the variable [`VARIABLE`]. Without this, a level that does not exist counts as none named.
///
/// # Errors
/// If it names a level that this processor does not have.
pub fn check_environment() -> Result<()> {
    asked().map_or(Ok(()), |name| find(&name).map(drop))
}

/// Runs `work` compiled for the level in force.
///
/// Mark the closure `#[inline(always)]`, and every function it calls, or the instruction set is
/// lost on the way (the same bits, many times slower). Work on f64, which is there to check gradients, is
/// compiled once only.
#[inline(always)]
pub fn fast<F: Elem, R>(work: impl FnOnce() -> R) -> R {
    if const { !F::TRAINS } {
        return work();
    }
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(avx512) => avx512.vectorize(work),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => avx2.vectorize(work),
        // NEON is in every processor of its target.
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_takes_its_turn_and_the_one_before_comes_back() {
        let mut seen = Vec::new();
        on_every_level(|level| {
            assert_eq!(name(), level);
            assert_eq!(matches!(self::level(), Level::Portable), level == "portable");
            seen.push(level);
        });
        assert_eq!(seen, available());
        assert_eq!(seen.last(), Some(&"portable"));
    }

    #[test]
    fn a_level_is_chosen_by_name() {
        for level in available() {
            assert_eq!(with_level(level, name).unwrap(), level);
        }
        let error = with_level("mmx", name).unwrap_err().to_string();
        assert!(
            error.starts_with("setting DYNAMOE_SIMD: `mmx` is none of") && error.ends_with("portable"),
            "{error}"
        );
    }
}
