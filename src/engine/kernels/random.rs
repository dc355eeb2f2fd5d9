//! Counter-based random numbers: addressed, not consumed.
//!
//! A draw is a function of seed, purpose, layer, step and element index. It does not depend on earlier draws, so the
//! batch size, the number of threads or a resume cannot change it. The generator is Philox4x32-10 (Salmon et al., 2011).
//! Normal draws use this crate's quantile function, since `rand_distr`'s ziggurat calls the platform's `exp` and `ln`.

use rand_distr::{Distribution, Uniform};
use rand_philox::{Philox, splitmix64, u32_to_unit_f32};

use super::{math, par, scalar::Scalar, simd::fast};

/// What a stream of random numbers is used for; different purposes never share a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial parameters; `layer` counts parameters.
    Init = 1,
    /// The order of training examples; `step` counts epochs.
    Shuffle = 2,
    /// Noise on the gates.
    Gate = 3,
    /// Dropped activations.
    Dropout = 4,
    /// Inputs and output gradients of gradient checks, synthetic data of benchmarks.
    Check = 5,
    /// Factors on the tokens of the switch router.
    Jitter = 6,
    /// Whether a token gets a second expert (GShard).
    Coin = 7,
    /// Noise with a learned deviation on logits (noisy top-k).
    Spread = 8,
    /// Gumbel noise on a draw (learned k).
    Gumbel = 9,
    /// The next token of generated text; `step` counts tokens.
    Sample = 10,
}

/// One addressed stream: random elements 0, 1, 2 and so on.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    seed: u64,
    step: u64,
}

/// A normal number from a random word.
#[inline(always)]
fn normal<F: Scalar>(word: u32, scale: f32) -> F {
    F::of_f32(scale * math::normal_quantile(2.0 * u32_to_unit_f32(word) - 1.0))
}

/// Elements of a task.
const CHUNK: usize = 1024;

impl Stream {
    /// The stream of one purpose, layer and step of a run.
    pub fn new(seed: u64, purpose: Purpose, layer: u64, step: u64) -> Stream {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let seed = splitmix64(seed.wrapping_add(GOLDEN.wrapping_mul(purpose as u64)));
        Stream { seed: splitmix64(seed.wrapping_add(GOLDEN.wrapping_mul(layer + 1))), step }
    }

    /// The generator at element 0.
    pub fn generator(&self) -> Philox {
        Philox::from_u64_seed_stream(self.seed, self.step)
    }

    /// Words `first ..` of the stream; `first` is a multiple of four.
    fn words(&self, first: usize, out: &mut [u32]) {
        debug_assert_eq!(first % 4, 0);
        let mut generator = self.generator();
        generator.seek((u128::from(self.step) << 64) | (first / 4) as u128);
        generator.fill_u32(out);
    }

    /// `out[i] = f(random word first + i)` for at most [`CHUNK`] elements; `first` is a multiple of four.
    fn fill_chunk<T>(&self, first: usize, out: &mut [T], f: impl Fn(u32) -> T) {
        let mut words = [0u32; CHUNK];
        let words = &mut words[..out.len()];
        self.words(first, words);
        fast::<f32, _>(
            #[inline(always)]
            || {
                for (o, &w) in out.iter_mut().zip(words.iter()) {
                    *o = f(w);
                }
            },
        );
    }

    /// `out[i] = f(random word i)`.
    fn fill<T: Send>(&self, out: &mut [T], f: impl Fn(u32) -> T + Sync) {
        par::chunks(out, CHUNK, |i, out| self.fill_chunk(i * CHUNK, out, &f));
    }

    /// Standard normal numbers times `scale`.
    pub fn normal<F: Scalar>(&self, out: &mut [F], scale: f32) {
        self.fill(
            out,
            #[inline(always)]
            |w| normal(w, scale),
        );
    }

    /// Elements `first ..` of [`Stream::normal`], on this thread; `first` is a multiple of four.
    pub fn normal_from<F: Scalar>(&self, first: usize, out: &mut [F], scale: f32) {
        for (i, out) in out.chunks_mut(CHUNK).enumerate() {
            self.fill_chunk(
                first + i * CHUNK,
                out,
                #[inline(always)]
                |w| normal(w, scale),
            );
        }
    }

    /// Uniform numbers in (0, 1).
    pub fn unit<F: Scalar>(&self, out: &mut [F]) {
        self.fill(
            out,
            #[inline(always)]
            |w| F::of_f32(u32_to_unit_f32(w)),
        );
    }

    /// True with probability `p`.
    pub fn coin(&self, out: &mut [bool], p: f64) {
        let limit = (p * 4_294_967_296.0) as u64;
        self.fill(
            out,
            #[inline(always)]
            |w| u64::from(w) < limit,
        );
    }

    /// Uniform numbers in `[-bound, bound)`.
    ///
    /// # Panics
    /// If `bound` is not positive and finite.
    pub fn uniform(&self, out: &mut [f32], bound: f32) {
        let range = Uniform::new(-bound, bound).expect("a positive, finite bound");
        let mut generator = self.generator();
        out.fill_with(|| range.sample(&mut generator));
    }

    /// A random permutation of `0..len` (Fisher-Yates).
    pub fn permutation(&self, len: usize) -> Vec<u32> {
        let mut generator = self.generator();
        let mut order: Vec<u32> = (0..len as u32).collect();
        for i in (1..len).rev() {
            order.swap(i, generator.bounded(i as u32 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::simd;

    #[test]
    fn draws_are_addressed_and_known() {
        let stream = Stream::new(1, Purpose::Gate, 2, 3);
        let mut long = vec![0.0f32; 10_001];
        let mut short = vec![0.0; 5];
        simd::on_every_level(|level| {
            for threads in [1, 3, 8] {
                par::with_threads(threads, || stream.normal(&mut long, 1.0));
                stream.normal(&mut short, 1.0);
                assert_eq!(short, long[..5]);
                stream.normal_from(2_004, &mut short, 1.0);
                assert_eq!(short, long[2_004..2_009]);
            }
            let hash = blake3::hash(&long.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
            // The same on AArch64, where these tests run too.
            assert_eq!(&hash.to_hex()[..16], "1183fbd7757efe2e", "{level}");
        });
    }

    #[test]
    fn normal_draws_have_the_moments_of_a_normal() {
        let mut x = vec![0.0f64; 200_000];
        Stream::new(9, Purpose::Check, 0, 0).normal(&mut x, 1.0);
        let n = x.len() as f64;
        let moment = |p: i32| x.iter().map(|&v| libm::pow(v, p as f64)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.01 && (moment(4) - 3.0).abs() < 0.1);
    }

    #[test]
    fn a_permutation_holds_every_number_once_and_differs_by_step() {
        let order = |step| Stream::new(5, Purpose::Shuffle, 0, step).permutation(1000);
        let mut sorted = order(0);
        assert_ne!(sorted, order(1));
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &v)| i as u32 == v));
    }

    #[test]
    fn unit_draws_lie_evenly_inside_and_do_not_depend_on_how_many_there_are() {
        let stream = Stream::new(5, Purpose::Coin, 0, 0);
        let (mut x, mut few) = (vec![0.0f32; 100_000], [0.0; 7]);
        stream.unit(&mut x);
        stream.unit(&mut few);
        assert_eq!(few, x[..7]);
        assert!(x.iter().all(|&u| u > 0.0 && u < 1.0));
        let below = |limit: f32| x.iter().filter(|&&u| u < limit).count() as f64 / 1e5;
        assert!([0.01f32, 0.3, 0.9].into_iter().all(|limit| (below(limit) - f64::from(limit)).abs() < 0.01));
    }

    #[test]
    fn coins_fall_with_the_given_probability() {
        let mut coins = vec![false; 100_000];
        Stream::new(5, Purpose::Dropout, 0, 0).coin(&mut coins, 0.3);
        let share = coins.iter().filter(|&&c| c).count() as f64 / 1e5;
        assert!((share - 0.3).abs() < 0.01);
    }
}
