//! Matrix products, defined to the bit.
//!
//! `C += A B`: the inner dimension is cut into chunks of 256; within a chunk each element of C is a chain
//! of fused multiply-adds from +0 in rising order; the chunks' sums are added to C in order. So an
//! element depends on its row of A and its column of B alone: not on its neighbours, the blocking or
//! the number of threads. `matrixmultiply` computes exactly this with alpha = beta = 1 where the
//! processor has fused multiply-adds; elsewhere a plain loop does (slowly). No other form is offered.

use super::{elem::Elem, par};

/// Length of the inner chunks of the definition; also `matrixmultiply`'s own, which must not be changed.
pub const CHUNK: usize = 256;
const _: () = assert!(
    option_env!("MATMUL_SGEMM_KC").is_none(),
    "MATMUL_SGEMM_KC would change the bits of every product"
);

/// A strided view of a matrix: element (i, j) stands at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, E> {
    data: &'a [E],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, E> Mat<'a, E> {
    /// A row-major matrix that fills `data`.
    pub fn new(data: &'a [E], rows: usize, cols: usize) -> Mat<'a, E> {
        assert!(data.len() >= rows * cols, "{rows} x {cols} elements do not fit in {}", data.len());
        Mat { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose; moves no data.
    pub fn t(self) -> Mat<'a, E> {
        Mat {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// `count` rows from row `first`.
    pub fn rows(self, first: usize, count: usize) -> Mat<'a, E> {
        assert!(first + count <= self.rows);
        if count == 0 {
            return Mat { rows: 0, ..self };
        }
        Mat { data: &self.data[first * self.row_stride..], rows: count, ..self }
    }

    /// One past the last element's position.
    fn end(&self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride + 1
    }
}

/// The element types' product kernels.
pub trait Gemm: Sized {
    /// `out += a b` on the current thread; `out` is row-major.
    fn gemm(out: &mut [Self], a: Mat<Self>, b: Mat<Self>);
}

/// Whether this processor has fused multiply-adds that `matrixmultiply` uses.
fn fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    cfg!(target_arch = "aarch64")
}

macro_rules! gemm {
    ($t:ident, $kernel:path) => {
        impl Gemm for $t {
            fn gemm(out: &mut [$t], a: Mat<$t>, b: Mat<$t>) {
                check(out, &a, &b);
                if out.is_empty() || a.cols == 0 {
                    return;
                }
                if !fused() || cfg!(miri) {
                    return plain(out, a, b);
                }
                // SAFETY: `check` has verified that every element that the strides reach lies inside
                // the slices, and `out` is a unique borrow.
                unsafe {
                    $kernel(
                        a.rows,
                        a.cols,
                        b.cols,
                        1.0,
                        a.data.as_ptr(),
                        a.row_stride as isize,
                        a.col_stride as isize,
                        b.data.as_ptr(),
                        b.row_stride as isize,
                        b.col_stride as isize,
                        1.0,
                        out.as_mut_ptr(),
                        b.cols as isize,
                        1,
                    )
                }
            }
        }
    };
}

gemm!(f32, matrixmultiply::sgemm);
gemm!(f64, matrixmultiply::dgemm);

fn check<E>(out: &[E], a: &Mat<E>, b: &Mat<E>) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert_eq!(out.len(), a.rows * b.cols, "the output has another size");
    assert!(a.end() <= a.data.len() && b.end() <= b.data.len(), "a view reaches past its data");
}

/// The definition as plain loops: the reference, and the kernel of processors without fused multiply-adds.
pub fn plain<E: Elem>(out: &mut [E], a: Mat<E>, b: Mat<E>) {
    check(out, &a, &b);
    for i in 0..a.rows {
        for j in 0..b.cols {
            for first in (0..a.cols).step_by(CHUNK) {
                let mut sum = E::zero();
                for p in first..(first + CHUNK).min(a.cols) {
                    let x = a.data[i * a.row_stride + p * a.col_stride];
                    sum = x.mul_add(b.data[p * b.row_stride + j * b.col_stride], sum);
                }
                out[i * b.cols + j] += sum;
            }
        }
    }
}

/// `out += a b`, rows of `out` shared out among the threads. The split moves no bit.
pub fn add<E: Elem>(out: &mut [E], a: Mat<E>, b: Mat<E>) {
    /// Multiplications below which waking another thread costs more than it saves.
    const SMALL: usize = 1 << 17;
    /// Rows of a task are a multiple of this, the height of the kernels' tiles.
    const TILE: usize = 16;
    let work = a.rows * a.cols * b.cols;
    if work < SMALL || par::threads() == 1 {
        return E::gemm(out, a, b);
    }
    let tasks = par::threads().min(work / SMALL + 1);
    let rows = a.rows.div_ceil(tasks).next_multiple_of(TILE);
    par::chunks(out, rows * b.cols, |i, out| E::gemm(out, a.rows(i * rows, out.len() / b.cols), b));
}

/// `out = a b`.
pub fn product<E: Elem>(out: &mut [E], a: Mat<E>, b: Mat<E>) {
    out.fill(E::zero());
    add(out, a, b);
}

/// `out = a b + bias` with one bias per column: C starts as the bias.
pub fn affine<E: Elem>(out: &mut [E], a: Mat<E>, b: Mat<E>, bias: &[E]) {
    for row in out.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
    add(out, a, b);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| (((i + seed) * 7919 % 2003) as f32 - 1000.0) * 0.001_3).collect()
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|v| v.to_bits()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 60 }))]
        #[test]
        fn products_are_the_definition_to_the_bit(m in 1usize..40, k in 1usize..600, n in 1usize..40, ta: bool, tb: bool, threads in 1usize..9) {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let a = if ta { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
            let b = if tb { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
            let mut expected = numbers(m * n, 3);
            let mut got = expected.clone();
            plain(&mut expected, a, b);
            par::with_threads(threads, || add(&mut got, a, b));
            prop_assert_eq!(bits(&got), bits(&expected));
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let (m, k, n) = (37, 300, 29);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let mut all = vec![0.0; m * n];
        product(&mut all, Mat::new(&a, m, k), Mat::new(&b, k, n));
        for i in 0..m {
            let mut one = vec![0.0; n];
            product(&mut one, Mat::new(&a[i * k..], 1, k), Mat::new(&b, k, n));
            assert_eq!(bits(&one), bits(&all[i * n..][..n]));
        }
    }

    #[test]
    fn large_products_do_not_depend_on_threads() {
        let (m, k, n) = (200, 257, 64);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let run = |threads| {
            let mut out = vec![0.0; m * n];
            par::with_threads(threads, || product(&mut out, Mat::new(&a, m, k), Mat::new(&b, k, n)));
            bits(&out)
        };
        let one = run(1);
        assert!([2, 3, 8].into_iter().all(|threads| run(threads) == one));
    }

    #[test]
    #[should_panic(expected = "past its data")]
    fn a_view_past_its_data_is_refused() {
        let data = [1.0f32; 6];
        let wide = Mat { data: &data, rows: 2, cols: 3, row_stride: 4, col_stride: 1 };
        f32::gemm(&mut [0.0; 4], wide, Mat::new(&data, 3, 2));
    }

    #[test]
    fn empty_products() {
        let none: [f32; 0] = [];
        product(&mut [], Mat::new(&none, 0, 5), Mat::new(&[1.0; 10], 5, 2));
        let mut out = [7.0; 4];
        product(&mut out, Mat::new(&none, 2, 0), Mat::new(&none, 0, 2));
        assert_eq!(out, [0.0; 4]);
    }
}
