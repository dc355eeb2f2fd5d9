//! Causal self-attention with rotary positions, and a cache of keys and values for generation.

use std::sync::Arc;

use super::param::{Init, Param};
use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::kernels::attention::{self as kernel, Heads, Starts};
use crate::engine::kernels::{elem::Elem, pool::Buffer, softmax};
use crate::engine::ops::fused::{
    attention::{self, Attention},
    rotary::Rotary,
};
use crate::engine::ops::matmul::Matmul;
use crate::engine::tape::{Mode, Var};
use crate::module;

/// `attention(rotary(x q), rotary(x k), x v) o`, without biases.
#[derive(Clone, Debug)]
pub struct SelfAttention<F> {
    /// To queries, (d, H dh).
    pub q: Param<F>,
    /// To keys, (d, G dh).
    pub k: Param<F>,
    /// To values, (d, G dh).
    pub v: Param<F>,
    /// From the heads' outputs, (H dh, d).
    pub o: Param<F>,
    /// H, G and dh.
    pub heads: Heads,
    /// The base of the rotary angles.
    pub theta: f64,
}

/// The rotated keys and the values of a sequence so far, for one layer.
#[derive(Clone, Debug, Default)]
pub struct Cache<F> {
    keys: Vec<F>,
    values: Vec<F>,
    tokens: usize,
}

impl<F> Cache<F> {
    /// Number of tokens in it.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }
}

impl<F: Elem> SelfAttention<F> {
    /// For tokens of width `width`; weights uniform in `[-1/sqrt(inputs), 1/sqrt(inputs))`, theta 10,000.
    pub fn new(width: usize, heads: Heads, init: &mut Init) -> SelfAttention<F> {
        let (queries, keys) = (heads.count * heads.width, heads.groups * heads.width);
        SelfAttention {
            q: Param::uniform(&[width, queries], width, init),
            k: Param::uniform(&[width, keys], width, init),
            v: Param::uniform(&[width, keys], width, init),
            o: Param::uniform(&[queries, width], queries, init),
            heads,
            theta: 10_000.0,
        }
    }

    /// (T, d) to (T, d), for concatenated sequences: `starts` has the first row of each, and the end of the last.
    ///
    /// # Errors
    /// Shapes that do not match.
    #[track_caller]
    pub fn forward<'t>(&self, x: Var<'t, F>, starts: Arc<[usize]>) -> Result<Var<'t, F>> {
        let [q, k, v] = self.project(x, &starts, 0)?;
        let attention = Attention { starts, heads: self.heads };
        let tape = x.tape();
        tape.apply(Matmul, [tape.apply_fused(attention, [q, k, v])?, self.o.on(tape)])
    }

    /// For each sequence and head the matrix of weights: query by key, (H, n, n), rows that sum to 1. For
    /// inspection; [`Self::forward`] never stores it.
    ///
    /// # Errors
    /// Shapes that do not match.
    pub fn weights(&self, x: Var<'_, F>, starts: &Arc<[usize]>) -> Result<Vec<Arr<F>>> {
        let [q, k, _] = self.project(x, starts, 0)?.map(Var::value);
        let Heads { count, width, .. } = self.heads;
        let (q, k, scale) = (arr::data(&q), arr::data(&k), F::of(1.0 / (width as f64).sqrt()));
        let (q_row, k_row) = (count * width, self.heads.groups * width);
        let sequence = |ends: &[usize]| {
            let n = ends[1] - ends[0];
            let mut all = arr::zeros(&[count, n, n]);
            for (i, row) in arr::data_mut(&mut all).chunks_exact_mut(n.max(1)).enumerate() {
                let (head, at) = (i / n, i % n);
                let query = &q[(ends[0] + at) * q_row + head * width..][..width];
                let scores: Vec<F> = (0..=at)
                    .map(|j| {
                        let group = head / self.heads.per_group();
                        let key = &k[(ends[0] + j) * k_row + group * width..][..width];
                        scale * query.iter().zip(key).fold(F::zero(), |sum, (&a, &b)| sum + a * b)
                    })
                    .collect();
                softmax::softmax_row(&scores, &mut row[..=at]);
            }
            all
        };
        Ok(starts.windows(2).map(sequence).collect())
    }

    /// The next n tokens of one sequence, (n, d) to (n, d), on an inference tape: bit for bit what [`Self::forward`]
    /// gives for them in the whole sequence. Their keys and values are appended to the cache.
    ///
    /// # Errors
    /// Shapes that do not match, or a tape that records.
    #[track_caller]
    pub fn forward_cached<'t>(&self, x: Var<'t, F>, cache: &mut Cache<F>) -> Result<Var<'t, F>> {
        let tape = x.tape();
        if tape.mode() != Mode::Infer {
            return Err(Error::config("mode", "a cache holds no gradients: use a tape in Mode::Infer"));
        }
        attention::check_heads(self.heads, &[&x.shape()])?;
        let count = x.shape().first().copied().unwrap_or(0);
        let [q, k, v] = self.project(x, &[0, count].into(), cache.tokens)?.map(Var::value);
        cache.keys.extend_from_slice(arr::data(&k));
        cache.values.extend_from_slice(arr::data(&v));
        cache.tokens += count;
        let (mut y, mut log_sums) = (arr::uninit(q.shape()), Buffer::new(count * self.heads.count));
        let starts = Starts { queries: &[0, count], keys: &[0, cache.tokens] };
        let inputs = [arr::data(&q), &cache.keys, &cache.values];
        kernel::forward(inputs, self.heads, starts, arr::data_mut(&mut y), &mut log_sums);
        tape.apply(Matmul, [tape.constant(y), self.o.on(tape)])
    }

    /// Queries, keys and values; the position of each sequence's first row is `first`.
    #[track_caller]
    fn project<'t>(&self, x: Var<'t, F>, starts: &Arc<[usize]>, first: usize) -> Result<[Var<'t, F>; 3]> {
        let tape = x.tape();
        let rotary = Rotary { starts: starts.clone(), head: self.heads.width, theta: self.theta, first };
        let q = tape.apply(Matmul, [x, self.q.on(tape)])?;
        let k = tape.apply(Matmul, [x, self.k.on(tape)])?;
        let v = tape.apply(Matmul, [x, self.v.on(tape)])?;
        Ok([tape.apply_fused(rotary.clone(), [q])?, tape.apply_fused(rotary, [k])?, v])
    }
}

module!(SelfAttention { q, k, v, o; heads, theta });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::engine::gradcheck::{gradcheck, random};
    use crate::engine::kernels::random::{Purpose, Stream};
    use crate::nn::Module;

    fn layer<F: Elem>(width: usize, heads: Heads) -> SelfAttention<F> {
        SelfAttention::new(width, heads, &mut Init::new(3))
    }

    #[test]
    fn its_weights_times_the_values_are_its_answer() {
        let layer = layer::<f64>(8, Heads { count: 4, groups: 2, width: 6 });
        let tape = Tape::new(Mode::Infer);
        let (x, starts): (_, Arc<[usize]>) = (tape.constant(random(&[7, 8], 1)), [0, 2, 7].into());
        let (weights, answer) =
            (layer.weights(x, &starts).unwrap(), layer.forward(x, starts.clone()).unwrap());
        let values = x.matmul(layer.v.on(&tape)).value();
        let mut plain = arr::zeros(&[7, 24]);
        for (s, weights) in weights.iter().enumerate() {
            let (first, n) = (starts[s], starts[s + 1] - starts[s]);
            for head in 0..4 {
                for (t, j) in (0..n).flat_map(|t| (0..n).map(move |j| (t, j))) {
                    for c in 0..6 {
                        plain[[first + t, head * 6 + c]] +=
                            weights[[head, t, j]] * values[[first + j, head / 2 * 6 + c]];
                    }
                }
            }
        }
        let plain = tape.constant(plain).matmul(layer.o.on(&tape));
        assert!(arr::data(&plain.sub(answer).value()).iter().all(|d| d.abs() < 1e-12));
    }

    #[test]
    fn parameters_have_names_and_shapes() {
        let layer = layer::<f32>(8, Heads { count: 4, groups: 2, width: 6 });
        let parameters = layer.parameters().into_iter();
        let seen: Vec<String> = parameters.map(|(name, p)| format!("{name} {:?}", p.value.shape())).collect();
        assert_eq!(seen, ["q [8, 24]", "k [8, 12]", "v [8, 12]", "o [24, 8]"]);
    }

    #[test]
    fn the_gradients_of_tokens_and_of_every_parameter_are_the_differences() {
        let mut layer = layer::<f64>(5, Heads { count: 4, groups: 2, width: 2 });
        let (x, cotangent, starts) = (random(&[9, 5], 1), random(&[9, 5], 2), Arc::from([0, 1, 4, 9]));
        let report = gradcheck([x.clone()], |[x]| layer.forward(x, Arc::clone(&starts))).unwrap();
        assert!(report.passed(), "{report:?}");

        let tape = Tape::new(Mode::Train);
        let y = layer.forward(tape.constant(x.clone()), starts.clone()).unwrap();
        let gradients = tape.backward_from(y, cotangent.clone());
        let value = |layer: &SelfAttention<f64>| {
            let tape = Tape::new(Mode::Infer);
            let y = layer.forward(tape.constant(x.clone()), starts.clone()).unwrap();
            y.mul(tape.constant(cotangent.clone())).sum().item()
        };
        for parameter in 0..4 {
            let id = layer.parameters()[parameter].1.id();
            for (i, &exact) in arr::data(gradients.parameter(id).unwrap().values).iter().enumerate() {
                let mut moved = |by: f64| {
                    arr::data_mut(&mut layer.parameters_mut()[parameter].1.value)[i] += by;
                    value(&layer)
                };
                let (up, down) = (moved(1e-5), moved(-2e-5));
                moved(1e-5);
                assert!(((up - down) / 2e-5 - exact).abs() < 1e-7, "parameter {parameter}, element {i}");
            }
        }
    }

    #[test]
    fn with_a_cache_tokens_have_the_bits_of_the_whole_sequence_however_they_arrive() {
        let (d, n, heads) = (24, 70, Heads { count: 6, groups: 2, width: 8 });
        let layer = layer::<f32>(d, heads);
        let mut numbers = vec![0.0; n * d];
        Stream::new(1, Purpose::Check, 0, 0).normal(&mut numbers, 1.0);
        let tape = Tape::new(Mode::Infer);
        let rows = |from: usize, to: usize| -> Arr<f32> {
            arr::from_vec(&[to - from, d], numbers[from * d..to * d].to_vec())
        };
        let whole = layer.forward(tape.constant(rows(0, n)), [0, n].into()).unwrap().value();
        let one_by_one: Vec<usize> = (0..=n).collect();
        for parts in [&[0, n][..], &[0, 40, 41, 42, 69, 70], &[0, 1, 64, 70], &one_by_one] {
            let mut cache = Cache::default();
            let parts = parts.windows(2).flat_map(|part| {
                assert_eq!(cache.len(), part[0]);
                let y = layer.forward_cached(tape.constant(rows(part[0], part[1])), &mut cache).unwrap();
                arr::data(&y.value()).to_vec()
            });
            assert!(parts.map(f32::to_bits).eq(arr::data(&whole).iter().map(|v| v.to_bits())));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_cache_stays_as_it_was() {
        let mut cache = Cache::default();
        let mut message = |mode, width, groups| {
            let layer = layer::<f32>(4, Heads { count: 2, groups, width: 2 });
            let tape = Tape::new(mode);
            let x = tape.constant(arr::zeros(&[1, width]));
            layer.forward_cached(x, &mut cache).err().unwrap().to_string()
        };
        assert!(message(Mode::Train, 4, 1).contains("use a tape in Mode::Infer"));
        assert!(message(Mode::Infer, 3, 1).starts_with("matmul: the left side has 3 columns"));
        assert!(message(Mode::Infer, 4, 3).contains("2 heads of 2 numbers cannot share 3 key heads evenly"));
        assert!(cache.is_empty());
    }
}
