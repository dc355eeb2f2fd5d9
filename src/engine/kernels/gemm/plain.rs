//! The definition of the product as plain loops: the reference for tests.

use super::definition::{CHUNK, Start, begin};
use super::mat::Mat;
use crate::engine::kernels::scalar::Scalar;

/// `out = start + a b`, negative elements set to zero if `relu`.
pub fn plain<F: Scalar>(out: &mut [F], a: Mat<F>, b: Mat<F>, start: Start<F>, relu: bool) {
    begin(out, start);
    let (inner, width) = (a.cols(), b.cols());
    for (i, row) in out.chunks_exact_mut(width).enumerate() {
        for (j, out) in row.iter_mut().enumerate() {
            for first in (0..inner).step_by(CHUNK) {
                let mut sum = F::zero();
                for p in first..(first + CHUNK).min(inner) {
                    sum = a.at(i, p).mul_add(b.at(p, j), sum);
                }
                *out += sum;
            }
            *out = if relu { out.relu() } else { *out };
        }
    }
}
