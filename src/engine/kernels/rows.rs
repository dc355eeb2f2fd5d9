//! Loops over the rows of row-major data, vectorized, and parallel if there is enough data.

use super::{par, scalar::Scalar, simd::fast};

/// Elements of a task; at least one row.
const CHUNK: usize = 4 * 1024;

/// Rows of a task. A short row costs more than its elements.
fn per_task(width: usize) -> usize {
    (CHUNK / width.max(64)).max(1)
}

/// `work(r, row)` for each row r of `out` (rows, width).
#[inline(always)]
pub fn each<F: Scalar>(out: &mut [F], width: usize, work: impl Fn(usize, &mut [F]) + Sync) {
    let width = width.max(1);
    let rows = per_task(width);
    par::chunks(out, rows * width, |i, out| {
        fast::<F, _>(
            #[inline(always)]
            || {
                for (r, row) in out.chunks_exact_mut(width).enumerate() {
                    work(i * rows + r, row);
                }
            },
        )
    });
}

/// [`each`] over two outputs with equally many rows, each with its own width.
#[inline(always)]
pub fn each2<F: Scalar>(
    (a, a_width): (&mut [F], usize),
    (b, b_width): (&mut [F], usize),
    work: impl Fn(usize, &mut [F], &mut [F]) + Sync,
) {
    let rows = per_task(a_width);
    par::rows(((a, a_width), (b, b_width)), rows, |first, (a, b)| {
        fast::<F, _>(
            #[inline(always)]
            || {
                for (r, (a, b)) in a.chunks_exact_mut(a_width).zip(b.chunks_exact_mut(b_width)).enumerate() {
                    work(first + r, a, b);
                }
            },
        )
    });
}

/// `out[r] = f(row r of x)`, with `out` (rows) and `x` (rows, width).
#[inline(always)]
pub fn fold<F: Scalar>(out: &mut [F], x: &[F], f: impl Fn(&[F]) -> F + Sync) {
    let width = x.len() / out.len().max(1);
    let rows = per_task(width);
    par::chunks(out, rows, |i, out| {
        fast::<F, _>(
            #[inline(always)]
            || {
                for (r, o) in out.iter_mut().enumerate() {
                    *o = f(&x[(i * rows + r) * width..][..width]);
                }
            },
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::reduce;

    #[test]
    fn every_row_is_visited_at_every_thread_count() {
        let (count, width) = (5_001, 7);
        let x: Vec<f64> = (0..count * width).map(|i| i as f64).collect();
        for threads in [1, 2, 3, 8] {
            let (mut doubled, mut sums) = (vec![0.0; x.len()], vec![0.0; count]);
            par::with_threads(threads, || {
                each(&mut doubled, width, |r, row| {
                    for (o, v) in row.iter_mut().zip(&x[r * width..]) {
                        *o = 2.0 * v;
                    }
                });
                fold(&mut sums, &x, reduce::sum_lanes);
            });
            assert!(doubled.iter().enumerate().all(|(i, &v)| v == 2.0 * i as f64));
            assert!(sums.iter().enumerate().all(|(r, &v)| v == (49 * r + 21) as f64));
        }
    }

    #[test]
    fn empty_rows() {
        each(&mut [0.0f32; 0], 0, |_, _| unreachable!());
        let mut out = [7.0f32; 2];
        fold(&mut out, &[], reduce::sum_lanes);
        assert_eq!(out, [0.0; 2]);
    }
}
