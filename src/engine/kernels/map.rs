//! Elementwise loops over one to three slices, vectorized, and parallel if the slices are long.

use super::{par, scalar::Scalar, simd::fast};

/// Elements of a task: few enough for the first-level cache, enough to be worth a task.
const CHUNK: usize = 8 * 1024;

/// `out[i] = f(x[i])`.
#[inline(always)]
pub fn map<F: Scalar>(out: &mut [F], x: &[F], f: impl Fn(F) -> F + Sync) {
    assert_eq!(out.len(), x.len());
    par::chunks(out, CHUNK, |i, out| {
        let x = &x[i * CHUNK..][..out.len()];
        fast::<F, _>(
            #[inline(always)]
            || {
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = f(x);
                }
            },
        )
    });
}

/// `out[i] = f(x[i], y[i])`.
#[inline(always)]
pub fn zip<F: Scalar>(out: &mut [F], x: &[F], y: &[F], f: impl Fn(F, F) -> F + Sync) {
    assert!(out.len() == x.len() && out.len() == y.len());
    par::chunks(out, CHUNK, |i, out| {
        let (x, y) = (&x[i * CHUNK..][..out.len()], &y[i * CHUNK..][..out.len()]);
        fast::<F, _>(
            #[inline(always)]
            || {
                for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
                    *o = f(x, y);
                }
            },
        )
    });
}

/// `out[i] = f(x[i], y[i], z[i])`.
#[inline(always)]
pub fn zip3<F: Scalar>(out: &mut [F], x: &[F], y: &[F], z: &[F], f: impl Fn(F, F, F) -> F + Sync) {
    assert!(out.len() == x.len() && out.len() == y.len() && out.len() == z.len());
    par::chunks(out, CHUNK, |i, out| {
        let here = i * CHUNK..i * CHUNK + out.len();
        let (x, y, z) = (&x[here.clone()], &y[here.clone()], &z[here]);
        fast::<F, _>(
            #[inline(always)]
            || {
                for (((o, &x), &y), &z) in out.iter_mut().zip(x).zip(y).zip(z) {
                    *o = f(x, y, z);
                }
            },
        )
    });
}

/// `out[i] = f(out[i], x[i])`.
#[inline(always)]
pub fn update<F: Scalar>(out: &mut [F], x: &[F], f: impl Fn(F, F) -> F + Sync) {
    assert_eq!(out.len(), x.len());
    par::chunks(out, CHUNK, |i, out| {
        let x = &x[i * CHUNK..][..out.len()];
        fast::<F, _>(
            #[inline(always)]
            || {
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = f(*o, x);
                }
            },
        )
    });
}

/// `out[r, j] = f(out[r, j], row[j])`: `row` (n) is broadcast over the rows of `out` (rows, n).
#[inline(always)]
pub fn update_rows<F: Scalar>(out: &mut [F], row: &[F], f: impl Fn(F, F) -> F + Sync) {
    let rows = (CHUNK / row.len().max(1)).max(1);
    par::chunks(out, rows * row.len().max(1), |_, out| {
        fast::<F, _>(
            #[inline(always)]
            || {
                for out in out.chunks_exact_mut(row.len()) {
                    for (o, &x) in out.iter_mut().zip(row) {
                        *o = f(*o, x);
                    }
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::{math, simd};

    #[test]
    fn vector_code_gives_the_bits_of_one_number_at_a_time_at_every_level_and_thread_count() {
        let x: Vec<f32> = (0..40_001).map(|i| (i as f32 - 20_000.0) * 0.004_7).collect();
        let plain: Vec<u32> =
            x.iter().map(|&v| (math::exp(v) + math::tanh(v) - math::ln(v.abs())).to_bits()).collect();
        simd::on_every_level(|level| {
            for threads in [1, 2, 3, 8] {
                let mut out = vec![0.0; x.len()];
                par::with_threads(threads, || {
                    map(
                        &mut out,
                        &x,
                        #[inline(always)]
                        |v| math::exp(v) + math::tanh(v) - math::ln(v.abs()),
                    )
                });
                let got: Vec<u32> = out.iter().map(|v| v.to_bits()).collect();
                assert!(got == plain, "{level}, {threads} threads");
            }
        });
    }

    #[test]
    fn lengths_and_remainders() {
        for len in [0, 1, 15, 17, CHUNK, CHUNK + 3] {
            let x: Vec<f64> = (0..len).map(|i| i as f64).collect();
            let mut out = vec![0.0; len];
            zip3(&mut out, &x, &x, &x, |a, b, c| a + b * c);
            assert!(out.iter().enumerate().all(|(i, &v)| v == (i + i * i) as f64));
        }
    }
}
