//! What the processor can do at best, measured and not assumed: multiply-adds and memory traffic.

use std::hint::black_box;
use std::time::{Duration, Instant};

use fearless_simd::{Simd, SimdBase, SimdFloat, dispatch, f32x16};

use crate::engine::kernels::simd::{self, SimdLevel, fast};
use crate::engine::kernels::{fused, par};

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The least time of one run.
    pub run: Duration,
    /// How many runs; the best counts.
    pub runs: usize,
}

/// Billions of floating-point operations per second of all threads of the current pool together, in a loop
/// of fused multiply-adds that touches nothing but registers. A multiply-add counts as two.
pub fn gflops(effort: Effort) -> f64 {
    let level = simd::level();
    let mut sums = vec![0.0; par::threads()];
    let rounds_per_s = best_rate(effort, |rounds| {
        par::chunks(&mut sums, 1, |_, sum| sum[0] = multiply_adds(level, rounds));
    });
    black_box(&sums);
    rounds_per_s * (sums.len() * chains(level) * LANES * 2) as f64 / 1e9
}

/// Billions of bytes per second that all threads together move between the processor and four arrays of
/// `elements` numbers each: an optimizer's pass, which reads four (value, gradient and two moments) and writes
/// three. Arrays that fit in a cache are measured there, as the pass over a small model runs there.
pub fn stream_gb_s(elements: usize, effort: Effort) -> f64 {
    // Each thread has its share of every array.
    let share = elements.div_ceil(par::threads());
    let arrays = |first: usize| {
        let len = share.min(elements - first);
        [1.0f32, 2e-3, 2e-3, 1e-3].map(|start| vec![start; len])
    };
    let mut shares: Vec<[Vec<f32>; 4]> = (0..elements).step_by(share.max(1)).map(arrays).collect();
    let passes_per_s = best_rate(effort, |passes| {
        par::chunks(&mut shares, 1, |_, share| (0..passes).for_each(|_| pass(&mut share[0])));
    });
    black_box(&shares);
    passes_per_s * (STREAM_BYTES * elements) as f64 / 1e9
}

/// Bytes that [`stream_gb_s`], and AdamW, move for each parameter: four numbers read and three written.
pub const STREAM_BYTES: usize = 7 * size_of::<f32>();

/// Numbers in a vector.
const LANES: usize = 16;

/// How often per second `work` can do its round; `work(n)` does n of them.
fn best_rate(effort: Effort, mut work: impl FnMut(usize)) -> f64 {
    let mut time = |rounds| {
        let start = Instant::now();
        work(rounds);
        start.elapsed().max(Duration::from_nanos(1))
    };
    let mut rounds = 1;
    while time(rounds) < effort.run {
        rounds *= 2;
    }
    let best = (0..effort.runs.max(1)).map(|_| time(rounds)).min().expect("at least one run");
    rounds as f64 / best.as_secs_f64()
}

/// Independent chains of multiply-adds: enough to hide the latency of one behind the others, few enough for
/// the registers. A vector of 16 numbers fills one register of AVX-512 (of 32) but two of AVX2 (of 16).
const CHAINS: usize = 6;
/// The same with AVX-512.
#[cfg(target_arch = "x86_64")]
const CHAINS_AVX512: usize = 12;

/// The number of chains at a level.
fn chains(level: SimdLevel) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512(_) => CHAINS_AVX512,
        _ => CHAINS,
    }
}

/// `rounds` multiply-adds in each chain, as products do them at a level.
fn multiply_adds(level: SimdLevel, rounds: usize) -> f32 {
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512(simd) => simd.vectorize(
            #[inline(always)]
            || run_chains::<_, CHAINS_AVX512>(simd, rounds),
        ),
        SimdLevel::Portable => run_fused(rounds),
        level => dispatch!(level.vectors(), simd => run_chains::<_, CHAINS>(simd, rounds)),
    }
}

/// Each chain tends to 1, so that no number becomes so small that the processor slows down.
#[inline(always)]
fn run_chains<S: Simd, const COUNT: usize>(simd: S, rounds: usize) -> f32 {
    let half = f32x16::splat(simd, black_box(0.5));
    let mut sums: [f32x16<S>; COUNT] = std::array::from_fn(|i| f32x16::splat(simd, i as f32));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = sum.mul_add_precise(half, half);
        }
    }
    sums.into_iter().map(|sum| sum.as_slice().iter().sum::<f32>()).sum()
}

/// The same where there are no fused multiply-adds.
fn run_fused(rounds: usize) -> f32 {
    let half = black_box(0.5);
    let mut sums = [0.0; CHAINS * LANES];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = fused::mul_add(*sum, half, half);
        }
    }
    sums.iter().sum()
}

/// One pass over four arrays with little arithmetic. The numbers stay where they began, or nearly.
#[inline(never)]
fn pass([value, first, second, gradient]: &mut [Vec<f32>; 4]) {
    fast::<f32, _>(
        #[inline(always)]
        || {
            for (((p, m), v), &g) in value.iter_mut().zip(first).zip(second).zip(&*gradient) {
                *m = 0.5 * *m + g;
                *v = 0.5 * *v + g;
                *p -= 1e-9 * (*m + *v);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Effort = Effort { run: Duration::from_micros(50), runs: 2 };

    #[test]
    fn speeds_are_positive_at_any_number_of_threads() {
        for threads in [1, 3] {
            par::with_threads(threads, || {
                assert!(gflops(SHORT) > 0.0);
                assert!([1, 1000].into_iter().all(|elements| stream_gb_s(elements, SHORT) > 0.0));
            });
        }
    }

    #[test]
    fn every_chain_runs_and_tends_to_one() {
        simd::on_every_level(|name| {
            let level = simd::level();
            assert_eq!(multiply_adds(level, 100), (LANES * chains(level)) as f32, "{name}");
        });
    }
}
