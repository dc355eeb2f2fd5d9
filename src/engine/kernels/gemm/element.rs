//! The product of each element type, on one thread.

use super::definition::Start;
use super::mat::Mat;
use super::{double, panels, portable, tile};
use crate::engine::kernels::scalar::Scalar;
use crate::engine::kernels::simd::{self, SimdLevel};

/// A number with a matrix product.
pub trait Gemm: Scalar {
    /// `out = start + a b`, negative elements set to zero if `relu`, on the current thread; `out` is row-major.
    fn gemm(out: &mut [Self], a: Mat<Self>, b: Mat<Self>, start: Start<Self>, relu: bool);

    /// Width of the panels in which products read a right-hand matrix with `columns` columns; 0 if they read the matrix
    /// itself.
    fn panel_width(level: SimdLevel, columns: usize) -> usize;

    /// Copies `b` into such panels, on all threads.
    fn pack(level: SimdLevel, copy: &mut [Self], b: &Mat<Self>);
}

impl Gemm for f32 {
    fn gemm(out: &mut [f32], a: Mat<f32>, b: Mat<f32>, start: Start<f32>, relu: bool) {
        if !check(out, &a, &b, &start) {
            return;
        }
        if a.cols() == 0 || !tile::product(simd::level(), out, a, b, start, relu) {
            portable::product(out, a, b, start, relu);
        }
    }

    fn panel_width(level: SimdLevel, columns: usize) -> usize {
        panels::width(level, columns)
    }

    fn pack(level: SimdLevel, copy: &mut [f32], b: &Mat<f32>) {
        panels::pack(level, copy, b);
    }
}

impl Gemm for f64 {
    fn gemm(out: &mut [f64], a: Mat<f64>, b: Mat<f64>, start: Start<f64>, relu: bool) {
        if check(out, &a, &b, &start) {
            double::product(out, a, b, start, relu);
        }
    }

    fn panel_width(_: SimdLevel, _: usize) -> usize {
        0
    }

    fn pack(_: SimdLevel, _: &mut [f64], _: &Mat<f64>) {}
}

/// Checks the shapes; `false` if `out` is empty.
fn check<F>(out: &[F], a: &Mat<F>, b: &Mat<F>, start: &Start<F>) -> bool {
    assert_eq!(a.cols(), b.rows(), "inner dimensions differ");
    assert_eq!(out.len(), a.rows() * b.cols(), "the output has another size");
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), b.cols(), "one bias for each column");
    }
    !out.is_empty()
}
