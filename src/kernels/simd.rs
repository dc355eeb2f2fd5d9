//! One door to the processor's vector instructions.
//!
//! Kernels are plain loops over slices. Under [`fast`] they are compiled once for each instruction
//! set (SSE2, SSE4.2, AVX2 with fused multiply-add, AVX-512, NEON) and the best one is picked at run
//! time. Rust never reorders or contracts floating-point operations, so the choice moves no bit.

use fearless_simd::{Level, Simd, dispatch};

/// Runs `work` compiled for this processor.
///
/// Mark the closure `#[inline(always)]`, and every function it calls, or the instruction set is
/// lost on the way (the same bits, many times slower).
#[inline(always)]
pub fn fast<R>(work: impl FnOnce() -> R) -> R {
    dispatch!(Level::new(), simd => simd.vectorize(work))
}

/// The name of the instruction set that [`fast`] picks here.
pub fn level_name() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        match Level::new() {
            Level::Avx512(_) => "avx512",
            Level::Avx2(_) => "avx2+fma",
            Level::Sse4_2(_) => "sse4.2",
            _ => "sse2",
        }
    }
    #[cfg(target_arch = "aarch64")]
    return "neon";
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return "portable";
}
