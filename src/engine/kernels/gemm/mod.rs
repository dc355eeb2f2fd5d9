//! Matrix products, defined to the bit.
//!
//! `C += A B`: the inner dimension is cut into chunks of 256; within a chunk each element of C is a chain
//! of fused multiply-adds from +0 in rising order; the chunks' sums are added to C in order. So an
//! element depends on its row of A and its column of B alone: not on its neighbors, the blocking or
//! the number of threads. Exactly this is what `tile.rs` computes for f32 where the processor has fused multiply-adds,
//! `portable.rs` elsewhere (slowly), and `matrixmultiply` for f64. No other form is offered.

mod mat;
mod packed;
mod panels;
mod portable;
mod tile;

use super::simd::{self, Level};
use super::{elem::Elem, par, pool};

pub use mat::Mat;
pub use packed::Packed;

/// Length of the inner chunks of the definition.
pub const CHUNK: usize = 256;

/// Rows of the highest tile.
const TILE: usize = 12;
/// Products are best cut into multiples of so many rows.
pub const GRAIN: usize = 4;

/// What the products are added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, F> {
    /// Nothing: what C held before is overwritten.
    Zero,
    /// One number for each column.
    Bias(&'a [F]),
    /// C itself.
    Sum,
}

/// The element types' product kernels.
pub trait Gemm: Sized {
    /// `out = start + a b`, negative elements set to zero if `relu`, on the current thread; `out` is row-major.
    fn gemm(out: &mut [Self], a: Mat<Self>, b: Mat<Self>, start: Start<Self>, relu: bool);

    /// Width of the panels that products read of a right-hand matrix with so many columns; 0 if they read it where it
    /// lies.
    fn panel_width(level: Level, columns: usize) -> usize;

    /// Copies `b` into such panels, on all threads.
    fn pack(level: Level, copy: &mut [Self], b: &Mat<Self>);
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

    fn panel_width(level: Level, columns: usize) -> usize {
        panels::width(level, columns)
    }

    fn pack(level: Level, copy: &mut [f32], b: &Mat<f32>) {
        panels::pack(level, copy, b);
    }
}

impl Gemm for f64 {
    fn gemm(out: &mut [f64], a: Mat<f64>, b: Mat<f64>, start: Start<f64>, relu: bool) {
        if check(out, &a, &b, &start) {
            library(out, a, b, start, relu);
        }
    }

    fn panel_width(_: Level, _: usize) -> usize {
        0
    }

    fn pack(_: Level, _: &mut [f64], _: &Mat<f64>) {}
}

/// Whether there is anything to do.
fn check<F>(out: &[F], a: &Mat<F>, b: &Mat<F>, start: &Start<F>) -> bool {
    assert_eq!(a.cols(), b.rows(), "inner dimensions differ");
    assert_eq!(out.len(), a.rows() * b.cols(), "the output has another size");
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), b.cols(), "one bias for each column");
    }
    !out.is_empty()
}

/// What C is before the products are added.
fn begin<F: Elem>(out: &mut [F], start: Start<F>) {
    match start {
        Start::Zero => out.fill(F::zero()),
        Start::Bias(bias) => out.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)),
        Start::Sum => (),
    }
}

/// The definition as plain loops: the reference for tests.
pub fn plain<F: Elem>(out: &mut [F], a: Mat<F>, b: Mat<F>, start: Start<F>, relu: bool) {
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

/// The same through `matrixmultiply`, whose product with alpha = beta = 1 is the definition where the processor
/// has fused multiply-adds. It knows no gathers: gathered rows are copied together first.
fn library(out: &mut [f64], a: Mat<f64>, b: Mat<f64>, start: Start<f64>, relu: bool) {
    let mut copies =
        [a, b].map(|m| pool::Buffer::<f64>::new(if m.index.is_some() { m.rows * m.cols } else { 0 }));
    let [a, b] = {
        let [copy_a, copy_b] = &mut copies;
        [together(a, copy_a), together(b, copy_b)]
    };
    begin(out, start);
    let strides = |m: &Mat<f64>| if m.transposed { (1, m.stride as isize) } else { (m.stride as isize, 1) };
    let ((a_row, a_col), (b_row, b_col)) = (strides(&a), strides(&b));
    let (rows, inner, width) = (a.rows(), a.cols(), b.cols());
    // SAFETY: `together` has verified that every element that the strides reach lies inside the slices; `out`
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

/// The matrix without an index, its rows copied together into `copy` if it has one.
fn together<'a, F: Copy>(m: Mat<'a, F>, copy: &'a mut [F]) -> Mat<'a, F> {
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

/// `out = start + a b`, rows of `out`, or the columns of a single row, shared out among the threads. The split moves no
/// bit.
pub fn threaded<F: Elem>(out: &mut [F], a: Mat<F>, b: Mat<F>, start: Start<F>, relu: bool) {
    let (rows, width) = (a.rows(), b.cols());
    let work = rows * a.cols() * width;
    if rows == 1 {
        return row(out, a, b, start, relu);
    }
    if work < par::SMALL || rows <= TILE || par::threads() == 1 {
        return F::gemm(out, a, b, start, relu);
    }
    // No more tasks than threads: each of them packs B.
    let tasks = par::threads().min(work / par::SMALL + 1);
    let rows = rows.div_ceil(tasks).next_multiple_of(GRAIN);
    par::chunks(out, rows * width, |i, out| {
        F::gemm(out, a.slice(i * rows, out.len() / width), b, start, relu);
    });
}

/// The same for one row.
fn row<F: Elem>(out: &mut [F], a: Mat<F>, b: Mat<F>, start: Start<F>, relu: bool) {
    /// Columns that are read together.
    const TOGETHER: usize = 64;
    let tasks = (b.rows() * b.cols() / par::SMALL).clamp(1, par::threads());
    let columns = b.cols().div_ceil(tasks).max(1).next_multiple_of(TOGETHER);
    par::chunks(out, columns, |i, out| {
        let (first, count) = (i * columns, out.len());
        let start = match start {
            Start::Bias(bias) => Start::Bias(&bias[first..][..count]),
            start => start,
        };
        F::gemm(out, a, b.columns(first, count), start, relu);
    });
}

/// `out = a b`, on all threads.
pub fn product<F: Elem>(out: &mut [F], a: Mat<F>, b: Mat<F>) {
    threaded(out, a, b, Start::Zero, false);
}

/// `out = a b + bias` with one bias per column, and then `max(out, 0)` if `relu`; on all threads.
pub fn affine<F: Elem>(out: &mut [F], a: Mat<F>, b: Mat<F>, bias: &[F], relu: bool) {
    threaded(out, a, b, Start::Bias(bias), relu);
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

    /// A matrix of made-up numbers in each of the forms that a view can have.
    struct Made {
        data: Vec<f32>,
        index: Vec<u32>,
        rows: usize,
        cols: usize,
        transposed: bool,
        gathered: bool,
    }

    impl Made {
        fn new(rows: usize, cols: usize, transposed: bool, gathered: bool, seed: usize) -> Made {
            let (rows, cols) = if transposed { (cols, rows) } else { (rows, cols) };
            let index = (0..rows).map(|i| ((i * 13 + seed) % (rows + 3)) as u32).collect();
            Made { data: numbers((rows + 3) * cols, seed), index, rows, cols, transposed, gathered }
        }

        fn mat(&self) -> Mat<'_, f32> {
            self.view(&self.data)
        }

        fn view<'a, F>(&'a self, data: &'a [F]) -> Mat<'a, F> {
            let mat = if self.gathered {
                Mat::gather(data, self.cols, &self.index)
            } else {
                Mat::new(data, self.rows, self.cols)
            };
            if self.transposed { mat.t() } else { mat }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 150 }))]
        #[test]
        fn products_are_the_definition_to_the_bit(
            m in 1usize..40, k in 0usize..600, n in 1usize..70,
            forms in proptest::array::uniform4(proptest::bool::ANY), start in 0usize..3, relu: bool, threads in 1usize..9,
        ) {
            let [ta, tb, ga, gb] = forms;
            let (a, b) = (Made::new(m, k, ta, ga, 1), Made::new(k, n, tb, gb, 2));
            let bias = numbers(n, 5);
            let start = [Start::Zero, Start::Bias(&bias), Start::Sum][start];
            let before = numbers(m * n, 3);
            let mut expected = before.clone();
            plain(&mut expected, a.mat(), b.mat(), start, relu);
            simd::on_every_level(|level| {
                let mut got = before.clone();
                par::with_threads(threads, || threaded(&mut got, a.mat(), b.mat(), start, relu));
                assert_eq!(bits(&got), bits(&expected), "{level}");
                let (packed, mut got) = (Packed::new(vec![b.mat(); 3], |i| i > 0), before.clone());
                f32::gemm(&mut got, a.mat(), packed.get(2), start, relu);
                assert_eq!(bits(&got), bits(&expected), "{level}, packed before");
            });
            // f64 through the library, from the same numbers: near the f32 result.
            let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
            let (wide_a, wide_b, wide_bias) = (wide(&a.data), wide(&b.data), wide(&bias));
            let (a, b) = (a.view(&wide_a), b.view(&wide_b));
            let start = match start {
                Start::Zero => Start::Zero,
                Start::Bias(_) => Start::Bias(&wide_bias),
                Start::Sum => Start::Sum,
            };
            let (mut exact, mut defined) = (wide(&before), wide(&before));
            f64::gemm(&mut exact, a, b, start, relu);
            plain(&mut defined, a, b, start, relu);
            for ((exact, defined), single) in exact.iter().zip(&defined).zip(&expected) {
                prop_assert!((exact - defined).abs() < 1e-12 * defined.abs().max(1.0));
                prop_assert!((exact - f64::from(*single)).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn wide_products_are_the_definition_to_the_bit() {
        for (m, k, n) in [(29, 19, 1_050), (1, if cfg!(miri) { 65 } else { 300 }, 1_050)] {
            let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
            let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
            let mut expected = vec![0.0; m * n];
            plain(&mut expected, a, b, Start::Bias(&bias), true);
            simd::on_every_level(|level| {
                for threads in [1, 2, 3, 8] {
                    let mut got = vec![f32::NAN; m * n];
                    par::with_threads(threads, || affine(&mut got, a, b, &bias, true));
                    assert_eq!(bits(&got), bits(&expected), "{level}, {threads} threads");
                    par::with_threads(threads, || {
                        let packed = Packed::new(vec![b], |_| true);
                        affine(&mut got, a, packed.get(0), &bias, true);
                    });
                    assert_eq!(bits(&got), bits(&expected), "{level}, {threads} threads, packed before");
                }
            });
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
        let (m, k, n) = if cfg!(miri) { (30, 257, 10) } else { (200, 257, 64) };
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
        let data = [1.0f64; 6];
        let wide = Mat { stride: 4, ..Mat::new(&data, 2, 3) };
        f64::gemm(&mut [0.0; 4], wide, Mat::new(&data, 3, 2), Start::Sum, false);
    }

    #[test]
    fn empty_products() {
        let none: [f32; 0] = [];
        product(&mut [], Mat::new(&none, 0, 5), Mat::new(&[1.0; 10], 5, 2));
        product(&mut [], Mat::new(&[1.0; 5], 1, 5), Mat::new(&none, 5, 0));
        let mut out = [7.0; 4];
        product(&mut out, Mat::new(&none, 2, 0), Mat::new(&none, 0, 2));
        assert_eq!(out, [0.0; 4]);
        let mut out = [7.0f64; 4];
        f64::gemm(&mut out, Mat::gather(&[], 0, &[0, 0]), Mat::new(&[], 0, 2), Start::Zero, false);
        assert_eq!(out, [0.0; 4]);
    }
}
