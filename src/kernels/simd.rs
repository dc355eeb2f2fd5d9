//! One door to the processor's vector instructions.
//!
//! Kernels are plain loops over slices. Under [`fast`] they are compiled once for each instruction
//! set (the target's baseline, AVX2 with fused multiply-add, AVX-512) and the best one is picked at run
//! time. Rust never reorders or contracts floating-point operations, so the choice moves no bit.

use fearless_simd::Level;
#[cfg(target_arch = "x86_64")]
use fearless_simd::Simd;

use super::elem::Elem;

/// Runs `work` compiled for this processor.
///
/// Mark the closure `#[inline(always)]`, and every function it calls, or the instruction set is
/// lost on the way (the same bits, many times slower). Work on f64, which is there to check gradients, is
/// compiled once only.
#[inline(always)]
pub fn fast<E: Elem, R>(work: impl FnOnce() -> R) -> R {
    if const { !E::TRAINS } {
        return work();
    }
    match Level::new() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(avx512) => avx512.vectorize(work),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => avx2.vectorize(work),
        // What every processor of the target has: SSE2 on x86-64, NEON on AArch64.
        _ => work(),
    }
}

/// The instruction set that [`fast`] picks on this processor.
pub fn name() -> &'static str {
    match Level::new() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => "avx512",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => "avx2",
        _ if cfg!(target_arch = "x86_64") => "sse2",
        _ if cfg!(target_arch = "aarch64") => "neon",
        _ => "baseline",
    }
}

/// SHIM until the branch lands.
pub fn available() -> Vec<&'static str> {
    vec![name()]
}

/// SHIM until the branch lands.
pub fn force(_: &str) -> crate::Result<()> {
    Ok(())
}
