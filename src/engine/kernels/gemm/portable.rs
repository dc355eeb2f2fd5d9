//! The f32 product on processors without fused multiply-adds: each step of the chains is a loop over a row of B, which
//! the compiler vectorizes.

use super::definition::{CHUNK, Start, begin};
use super::mat::Mat;
use crate::engine::kernels::{fused, pool, scalar::Scalar};

/// Rows of C computed together: each row of B is loaded once for all of them.
const ROWS: usize = 4;

/// `out = start + a b`, negative elements set to zero if `relu`.
pub fn product(out: &mut [f32], a: Mat<f32>, b: Mat<f32>, start: Start<f32>, relu: bool) {
    begin(out, start);
    let (inner, width) = (a.cols(), b.cols());
    let mut copy = pool::Buffer::<f32>::new(if b.transposed { inner * width } else { 0 });
    let b = row_major(b, &mut copy);
    let mut sums = pool::Buffer::<f32>::new(ROWS * width);
    for (block, out) in out.chunks_mut(ROWS * width).enumerate() {
        let sums = &mut sums[..out.len()];
        for first in (0..inner).step_by(CHUNK) {
            sums.fill(0.0);
            for p in first..(first + CHUNK).min(inner) {
                for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
                    let x = a.at(block * ROWS + i, p);
                    for (sum, &b) in sums.iter_mut().zip(b.stored(p)) {
                        *sum = fused::mul_add(x, b, *sum);
                    }
                }
            }
            for (out, &sum) in out.iter_mut().zip(&*sums) {
                *out += sum;
            }
        }
        if relu {
            out.iter_mut().for_each(|out| *out = out.relu());
        }
    }
}

/// The matrix, copied to `copy` if it is transposed, so that its rows are contiguous.
fn row_major<'a>(m: Mat<'a, f32>, copy: &'a mut [f32]) -> Mat<'a, f32> {
    if !m.transposed {
        return m;
    }
    let (rows, cols) = (m.rows(), m.cols());
    for j in 0..cols {
        for (p, &v) in m.stored(j).iter().enumerate() {
            copy[p * cols + j] = v;
        }
    }
    Mat::new(copy, rows, cols)
}
