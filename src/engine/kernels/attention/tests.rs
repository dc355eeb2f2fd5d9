//! The kernel against plain loops, to the bit.

use super::*;
use crate::engine::kernels::gemm;
use crate::engine::kernels::random::{Purpose, Stream};
use crate::engine::kernels::scalar::Scalar;
use crate::engine::kernels::simd;

const HEADS: Heads = Heads { count: 6, groups: 2, width: 10 };
/// Numbers in a row of queries, and of keys.
const Q: usize = 60;
const K: usize = 20;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut out = vec![0.0; len];
    Stream::new(seed, Purpose::Check, 0, 0).normal(&mut out, 2.0);
    out
}

/// Queries, keys, values, and a gradient of the output.
fn inputs(rows: usize) -> [Vec<f32>; 4] {
    [(Q, 1), (K, 2), (K, 3), (Q, 4)].map(|(width, seed)| numbers(rows * width, seed))
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// Output and log-sums through the kernel.
fn run(q: &[f32], k: &[f32], v: &[f32], queries: &[usize], keys: &[usize]) -> [Vec<f32>; 2] {
    let (mut y, mut log_sums) = (vec![f32::NAN; q.len()], vec![f32::NAN; q.len() / HEADS.width]);
    forward([q, k, v], HEADS, Starts { queries, keys }, &mut y, &mut log_sums);
    [y, log_sums]
}

/// Output, log-sums and gradients as plain loops, with all scores of a sequence at once.
fn plain([q, k, v, gy]: &[Vec<f32>; 4], starts: &[usize]) -> Vec<Vec<f32>> {
    let Heads { count, groups, width } = HEADS;
    let (per_group, scale) = (HEADS.per_group(), HEADS.scale::<f32>());
    let mut out: Vec<Vec<f32>> =
        [q.len(), q.len() / width, q.len(), k.len(), k.len()].map(|len| vec![0.0; len]).into();
    for (sequence, group) in starts.windows(2).flat_map(|s| (0..groups).map(move |g| (s, g))) {
        let (first, n) = (sequence[0], sequence[1] - sequence[0]);
        let head = |i: usize| (first + i / per_group) * count + group * per_group + i % per_group;
        let rows = |x: &[f32], scale: f32| -> Vec<f32> {
            (0..n * per_group)
                .flat_map(|i| x[head(i) * width..][..width].iter().map(move |x| x * scale))
                .collect()
        };
        let key = |i: usize| ((first + i) * groups + group) * width;
        let keys = |x: &[f32]| -> Vec<f32> { (0..n).flat_map(|i| x[key(i)..][..width].to_vec()).collect() };
        let (queries, gy, k, v) = (rows(q, scale), rows(gy, 1.0), keys(k), keys(v));
        let product = |a: Mat<f32>, b: Mat<f32>| {
            let mut out = vec![0.0; a.rows() * b.cols()];
            gemm::plain(&mut out, a, b, Start::Zero, false);
            out
        };
        let (mut weights, mut g_scores) = (vec![0.0; n * per_group * n], vec![0.0; n * per_group * n]);
        for i in 0..n * per_group {
            let (seen, query, gy) = (i / per_group + 1, &queries[i * width..], &gy[i * width..][..width]);
            let scores = product(Mat::new(query, 1, width), Mat::new(&k, seen, width).t());
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = scores.iter().map(|s| Scalar::exp(s - max)).collect();
            let sum = reduce::sum(&powers);
            let log_sum = max + Scalar::ln(sum);
            let y: Vec<f32> = product(Mat::new(&powers, 1, seen), Mat::new(&v, seen, width))
                .iter()
                .map(|v| v / sum)
                .collect();
            let g_weights = product(Mat::new(gy, 1, width), Mat::new(&v, seen, width).t());
            for j in 0..seen {
                weights[i * n + j] = Scalar::exp(scores[j] - log_sum);
                g_scores[i * n + j] = weights[i * n + j] * (g_weights[j] - reduce::dot(gy, &y));
            }
            out[0][head(i) * width..][..width].copy_from_slice(&y);
            out[1][head(i)] = log_sum;
            let g = product(Mat::new(&g_scores[i * n..], 1, n), Mat::new(&k, n, width));
            for (j, g) in g.iter().enumerate() {
                out[2][head(i) * width + j] = g * scale;
            }
        }
        let (mut gk, mut gv) = (vec![0.0; n * width], vec![0.0; n * width]);
        let block = ROWS / per_group * per_group;
        for first in (0..n * per_group).step_by(block) {
            let rows = block.min(n * per_group - first);
            let part = |x, width| Mat::new(x, n * per_group, width).slice(first, rows);
            gemm::plain(&mut gk, part(&g_scores, n).t(), part(&queries, width), Start::Sum, false);
            gemm::plain(&mut gv, part(&weights, n).t(), part(&gy, width), Start::Sum, false);
        }
        for i in 0..n {
            out[3][key(i)..][..width].copy_from_slice(&gk[i * width..][..width]);
            out[4][key(i)..][..width].copy_from_slice(&gv[i * width..][..width]);
        }
    }
    out
}

#[test]
fn outputs_and_gradients_are_the_plain_loops_to_the_bit_at_every_level_and_thread_count() {
    // Some blocks each, one row, no row, more than a chunk of keys.
    let starts: &[usize] = if cfg!(miri) { &[0, 1, 1, 20] } else { &[0, 40, 41, 41, 58, 341, 400] };
    let inputs = inputs(starts[starts.len() - 1]);
    let expected = plain(&inputs, starts);
    let [q, k, v, gy] = &inputs;
    simd::on_every_level(|level| {
        for threads in [1, 2, 3, 8] {
            let got = par::with_threads(threads, || {
                let [y, log_sums] = run(q, k, v, starts, starts);
                let mut g = [q, k, v].map(|x| vec![f32::NAN; x.len()]);
                let saved = Forward { q, k, v, y: &y, log_sums: &log_sums };
                let [gq, gk, gv] = &mut g;
                backward(gy, saved, HEADS, starts, Gradients { q: gq, k: gk, v: gv });
                [vec![y, log_sums], g.into()].concat()
            });
            for ((got, expected), name) in got.iter().zip(&expected).zip(["y", "log_sums", "gq", "gk", "gv"])
            {
                assert!(bits(got) == bits(expected), "{name} at level {level}, {threads} threads");
            }
        }
    });
}

#[test]
fn a_row_has_the_same_bits_alone_in_a_block_and_in_a_batch() {
    let longest = if cfg!(miri) { 20 } else { 300 };
    let [q, k, v, _] = inputs(longest);
    simd::on_every_level(|level| {
        let [whole, log_sums] = run(&q, &k, &v, &[0, longest], &[0, longest]);
        for len in 1..=longest {
            let query = &q[(len - 1) * Q..len * Q];
            let [y, log_sum] = run(query, &k[..len * K], &v[..len * K], &[0, 1], &[0, len]);
            assert_eq!(bits(&y), bits(&whole[(len - 1) * Q..len * Q]), "{level}, {len} keys");
            assert_eq!(bits(&log_sum), bits(&log_sums[(len - 1) * HEADS.count..len * HEADS.count]));
        }
        // After another sequence and before a third; and as the last queries of a cache.
        let before = 7;
        let (q_all, k_all, v_all) = (
            [&q[..before * Q], &q, &q[..3 * Q]].concat(),
            [&k[..before * K], &k, &k[..3 * K]].concat(),
            [&v[K..(before + 1) * K], &v, &v[..3 * K]].concat(),
        );
        let starts = [0, before, before + longest, before + longest + 3];
        let [batch, _] = run(&q_all, &k_all, &v_all, &starts, &starts);
        assert_eq!(bits(&batch[before * Q..][..longest * Q]), bits(&whole), "{level}");
        for count in [2, 5, 17, longest] {
            let [last, _] = run(&q[(longest - count) * Q..], &k, &v, &[0, count], &[0, longest]);
            assert_eq!(bits(&last), bits(&whole[(longest - count) * Q..]), "{level}, {count} queries");
        }
    });
}

#[test]
#[should_panic(expected = "3 queries of a sequence of 2 keys")]
fn more_queries_than_keys_are_refused() {
    let [q, k, v, _] = inputs(3);
    run(&q, &k, &v, &[0, 3], &[0, 2]);
}
