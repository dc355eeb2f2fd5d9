//! Every product, in every form and at every SIMD level, against the plain loops.

use super::*;
use crate::engine::kernels::simd;
use proptest::prelude::*;

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| (((i + seed) * 7919 % 2003) as f32 - 1000.0) * 0.001_3).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// A matrix of test numbers, in each form that a view can have.
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
        // The f64 product of the same numbers is close to the f32 result.
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
fn a_row_does_not_depend_on_the_other_rows() {
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
