//! The f64 product, which only checks gradients: through `matrixmultiply`, to rounding errors the definition.

use super::definition::{Start, begin};
use super::mat::Mat;
use crate::engine::kernels::{pool::Buffer, scalar::Scalar};

/// `out = start + a b`, negative elements set to zero if `relu`. With alpha = beta = 1 `matrixmultiply` computes the
/// definition where the processor has fused multiply-adds. It has no gathers: gathered rows are first copied.
pub fn product(out: &mut [f64], a: Mat<f64>, b: Mat<f64>, start: Start<f64>, relu: bool) {
    let mut copies = [a, b].map(|m| Buffer::<f64>::new(if m.index.is_some() { m.rows * m.cols } else { 0 }));
    let [a, b] = {
        let [copy_a, copy_b] = &mut copies;
        [contiguous(a, copy_a), contiguous(b, copy_b)]
    };
    begin(out, start);
    let strides = |m: &Mat<f64>| if m.transposed { (1, m.stride as isize) } else { (m.stride as isize, 1) };
    let ((a_row, a_col), (b_row, b_col)) = (strides(&a), strides(&b));
    let (rows, inner, width) = (a.rows(), a.cols(), b.cols());
    // SAFETY: `contiguous` has verified that every element that the strides reach lies inside the slices; `out`
    // is a unique borrow of rows * width elements (`check`).
    unsafe {
        let (a, b, out) = (a.data.as_ptr(), b.data.as_ptr(), out.as_mut_ptr());
        let c_row = width as isize;
        matrixmultiply::dgemm(rows, inner, width, 1.0, a, a_row, a_col, b, b_row, b_col, 1.0, out, c_row, 1);
    }
    if relu {
        out.iter_mut().for_each(|v| *v = v.relu());
    }
}

/// The matrix without an index: its rows copied to `copy` if it has one.
fn contiguous<'a, F: Copy>(m: Mat<'a, F>, copy: &'a mut [F]) -> Mat<'a, F> {
    let end = if m.rows == 0 { 0 } else { (m.rows - 1) * m.stride + m.cols };
    if m.index.is_none() {
        assert!(end <= m.data.len(), "a view reaches past its data");
        return m;
    }
    for (i, row) in copy.chunks_exact_mut(m.cols.max(1)).enumerate() {
        row.copy_from_slice(m.stored(i));
    }
    Mat { data: copy, stride: m.cols, index: None, ..m }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "past its data")]
    fn a_view_past_its_data_is_refused() {
        let data = [1.0f64; 6];
        let wide = Mat { stride: 4, ..Mat::new(&data, 2, 3) };
        product(&mut [0.0; 4], wide, Mat::new(&data, 3, 2), Start::Sum, false);
    }
}
