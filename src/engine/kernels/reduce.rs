//! Reductions in one fixed order, whatever the SIMD level: sixteen lanes, then a tree.
//!
//! Element i is added to lane `i mod 16`, in rising order of i; then the lanes are added pairwise, 8 + 8 to 1 + 1.

use super::{par, pool::Buffer, scalar::Scalar, simd::fast};

/// The number of partial sums of a reduction.
pub const LANES: usize = 16;

/// A vector with `x`, shorter than one, at its start and `fill` in its other lanes: loops over it have no remainder.
#[inline(always)]
pub fn padded<T: Copy>(x: &[T], fill: T) -> [T; LANES] {
    let mut lanes = [fill; LANES];
    lanes[..x.len()].copy_from_slice(x);
    lanes
}

/// Rows of a block of a column sum.
const ROW_BLOCK: usize = 256;

/// Folds the lanes: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
#[inline(always)]
fn tree<F: Scalar>(mut lanes: [F; LANES], f: impl Fn(F, F) -> F) -> F {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `fold` over lanes: element i goes to lane i mod 16, in rising order. For use inside `fast`.
#[inline(always)]
pub fn lanes<F: Scalar>(x: &[F], start: F, fold: impl Fn(F, F) -> F, join: impl Fn(F, F) -> F) -> F {
    let mut acc = [start; LANES];
    let mut blocks = x.chunks_exact(LANES);
    for block in &mut blocks {
        for i in 0..LANES {
            acc[i] = fold(acc[i], block[i]);
        }
    }
    for (a, &v) in acc.iter_mut().zip(blocks.remainder()) {
        *a = fold(*a, v);
    }
    tree(acc, join)
}

/// Sum of `x`, for use inside `fast`.
#[inline(always)]
pub fn sum_lanes<F: Scalar>(x: &[F]) -> F {
    lanes(
        x,
        F::zero(),
        #[inline(always)]
        |a, v| a + v,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Sum of `x[i] * y[i]`, for use inside `fast`.
#[inline(always)]
pub fn dot_lanes<F: Scalar>(x: &[F], y: &[F]) -> F {
    let mut acc = [F::zero(); LANES];
    let (mut xs, mut ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for i in 0..LANES {
            acc[i] = x[i].mul_add(y[i], acc[i]);
        }
    }
    for ((a, &x), &y) in acc.iter_mut().zip(xs.remainder()).zip(ys.remainder()) {
        *a = x.mul_add(y, *a);
    }
    tree(
        acc,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Largest element of `x`, for use inside `fast`.
#[inline(always)]
pub fn max_lanes<F: Scalar>(x: &[F]) -> F {
    lanes(
        x,
        x[0],
        #[inline(always)]
        |a: F, b: F| b.larger(a),
        #[inline(always)]
        |a: F, b: F| b.larger(a),
    )
}

/// Sum of `x`.
pub fn sum<F: Scalar>(x: &[F]) -> F {
    fast::<F, _>(
        #[inline(always)]
        || sum_lanes(x),
    )
}

/// Sum of `x[i] * y[i]`.
pub fn dot<F: Scalar>(x: &[F], y: &[F]) -> F {
    assert_eq!(x.len(), y.len());
    fast::<F, _>(
        #[inline(always)]
        || dot_lanes(x, y),
    )
}

/// Sum of squares: blocks of 4,096 elements are summed in F, and the blocks in f64, in order.
pub fn sum_squares<F: Scalar>(x: &[F]) -> f64 {
    const BLOCK: usize = 4096;
    let mut parts = Buffer::<f64>::new(x.len().div_ceil(BLOCK));
    par::chunks(&mut parts, 2, |i, parts| {
        for (j, part) in parts.iter_mut().enumerate() {
            let start = (i * 2 + j) * BLOCK;
            let block = &x[start..(start + BLOCK).min(x.len())];
            *part = fast::<F, _>(
                #[inline(always)]
                || dot_lanes(block, block),
            )
            .f64();
        }
    });
    parts.iter().sum()
}

/// `out (n) += sum over the rows of x (rows, n)`: each block of 256 rows is summed from zero, and the sums are added in
/// order.
pub fn add_rows<F: Scalar>(out: &mut [F], x: &[F]) {
    const COLUMNS: usize = 64;
    let width = out.len();
    if width == 0 {
        return;
    }
    par::chunks(out, COLUMNS, |c, out| {
        let first = c * COLUMNS;
        for block in x.chunks(ROW_BLOCK * width) {
            let mut acc = [F::zero(); COLUMNS];
            let acc = &mut acc[..out.len()];
            fast::<F, _>(
                #[inline(always)]
                || {
                    for row in block.chunks_exact(width) {
                        for (a, &v) in acc.iter_mut().zip(&row[first..]) {
                            *a += v;
                        }
                    }
                    for (o, &a) in out.iter_mut().zip(acc.iter()) {
                        *o += a;
                    }
                },
            );
        }
    });
}

/// The index of the first element that is NaN or infinite.
pub fn first_non_finite<F: Scalar>(x: &[F]) -> Option<usize> {
    // A finite number times zero is zero. Any other is NaN, and so is a sum with it.
    const BLOCK: usize = 4096;
    let zero = F::zero();
    for (b, block) in x.chunks(BLOCK).enumerate() {
        let trace = fast::<F, _>(
            #[inline(always)]
            || {
                lanes(
                    block,
                    zero,
                    #[inline(always)]
                    |a, v| v.mul_add(zero, a),
                    #[inline(always)]
                    |a, b| a + b,
                )
            },
        );
        if trace != zero {
            return block.iter().position(|v| !v.is_finite()).map(|i| b * BLOCK + i);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::simd;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 % 1013) as f32 - 500.0) * 0.013_7).collect()
    }

    /// The definition, written as plainly as possible.
    fn plain_sum(x: &[f32]) -> f32 {
        let mut lane = [0.0f32; 16];
        for (i, v) in x.iter().enumerate() {
            lane[i % 16] += v;
        }
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lane[i] += lane[i + half];
            }
        }
        lane[0]
    }

    #[test]
    fn sums_are_the_definition_to_the_bit() {
        for len in [0, 1, 5, 16, 17, 100, 1000, 4097] {
            let x = numbers(len);
            let plain = plain_sum(&x).to_bits();
            simd::on_every_level(|level| assert_eq!(sum(&x).to_bits(), plain, "{level}, length {len}"));
        }
    }

    #[test]
    fn dots_are_the_definition_to_the_bit() {
        for len in [0, 1, 17, 100, 4097] {
            let (x, y) = (numbers(len), numbers(len + 9));
            let mut lane = [0.0f32; 16];
            for (i, v) in x.iter().enumerate() {
                lane[i % 16] = v.mul_add(y[i], lane[i % 16]);
            }
            let plain = plain_sum(&lane).to_bits();
            simd::on_every_level(|level| {
                assert_eq!(dot(&x, &y[..len]).to_bits(), plain, "{level}, length {len}")
            });
        }
    }

    #[test]
    fn dot_is_near_the_exact_value() {
        let x = numbers(1003);
        let exact: f64 = x.iter().map(|v| *v as f64 * *v as f64).sum();
        approx::assert_relative_eq!(dot(&x, &x) as f64, exact, max_relative = 1e-6);
        approx::assert_relative_eq!(sum_squares(&x), exact, max_relative = 1e-6);
    }

    #[test]
    fn column_sums_do_not_depend_on_level_or_threads() {
        let (rows, width) = (700, 130);
        let x = numbers(rows * width);
        let mut plain = vec![0.0f32; width];
        for block in x.chunks(256 * width) {
            for (j, o) in plain.iter_mut().enumerate() {
                *o += block.chunks(width).map(|row| row[j]).fold(0.0, |a, v| a + v);
            }
        }
        simd::on_every_level(|level| {
            for threads in [1, 2, 3, 8] {
                let mut out = vec![0.0f32; width];
                par::with_threads(threads, || add_rows(&mut out, &x));
                assert_eq!(out, plain, "{level}, {threads} threads");
            }
        });
    }

    #[test]
    fn the_first_non_finite_number_is_found() {
        let mut x = numbers(9000);
        assert_eq!(first_non_finite(&x), None);
        x[8999] = f32::NAN;
        assert_eq!(first_non_finite(&x), Some(8999));
        x[4100] = f32::NEG_INFINITY;
        assert_eq!(first_non_finite(&x), Some(4100));
        assert_eq!(max_lanes(&[1.0, 3.0, -2.0]), 3.0);
    }
}
