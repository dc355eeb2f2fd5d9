//! The gates of a router in one pass over the tokens.
//!
//! ```text
//! probabilities = softmax(logits)         (T, E)
//! gates = probabilities + deviation * n   n: standard normal noise
//! mask  = the k largest gates of each token
//! ```

use super::random::Stream;
use super::softmax::softmax_row;
use super::{elem::Elem, par, simd::fast};

/// Tokens of one task.
const TOKENS: usize = 64;

/// Gaussian noise on the gates: the stream of a layer's step, for all tokens, and the standard deviation.
pub type Noise = (Stream, f32);

/// Outputs, each (T, E).
pub struct Gates<'a, F> {
    /// `softmax(logits)`.
    pub probabilities: &'a mut [F],
    /// The probabilities plus the noise.
    pub gates: &'a mut [F],
    /// The k largest gates of each token; of equal gates, the first.
    pub mask: &'a mut [bool],
}

/// Gates from `logits` (T, E), with `noise` if given, and the choice of `k` of the `experts` for each token; without `k`,
/// `mask` is not written.
pub fn gate<F: Elem>(logits: &[F], experts: usize, noise: Option<Noise>, k: Option<usize>, out: Gates<F>) {
    let Gates { probabilities, gates, mask } = out;
    let out = ((probabilities, experts), (gates, experts), (mask, experts));
    par::rows(out, TOKENS, |first, (probabilities, gates, mask)| {
        let start = first * experts;
        let logits = &logits[start..][..gates.len()];
        match noise {
            Some((stream, deviation)) => stream.normal_from(start, gates, deviation),
            None => gates.fill(F::zero()),
        }
        fast::<F, _>(
            #[inline(always)]
            || {
                for (p, x) in probabilities.chunks_exact_mut(experts).zip(logits.chunks_exact(experts)) {
                    softmax_row(x, p);
                }
                for (g, &p) in gates.iter_mut().zip(probabilities.iter()) {
                    *g = p + *g;
                }
            },
        );
        if let Some(k) = k {
            F::select(gates, experts, k, mask);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::random::Purpose;
    use crate::engine::kernels::{select, simd};

    #[test]
    fn one_pass_is_softmax_then_noise_then_choice_at_every_level_and_thread_count() {
        for experts in [1, 8, 20] {
            let len = 333 * experts;
            let mut logits = vec![0.0f32; len];
            Stream::new(1, Purpose::Check, 0, 0).normal(&mut logits, 2.0);
            let noise = Stream::new(2, Purpose::Gate, 3, 4);
            let k = select::token_scope_k(experts, 0.7);
            let (mut p, mut g, mut mask) = (vec![0.0; len], vec![0.0; len], vec![false; len]);
            noise.normal(&mut g, 0.1);
            for ((p, g), x) in p.chunks_mut(experts).zip(g.chunks_mut(experts)).zip(logits.chunks(experts)) {
                softmax_row(x, p);
                g.iter_mut().zip(p).for_each(|(g, p)| *g += *p);
            }
            select::top_k(&g, experts, k, &mut mask);
            simd::on_every_level(|level| {
                for threads in [1, 2, 8] {
                    let (mut p2, mut g2, mut mask2) =
                        (vec![f32::NAN; len], vec![f32::NAN; len], vec![false; len]);
                    let out = Gates { probabilities: &mut p2, gates: &mut g2, mask: &mut mask2 };
                    par::with_threads(threads, || gate(&logits, experts, Some((noise, 0.1)), Some(k), out));
                    let what = format!("{experts} experts, {level}, {threads} threads");
                    assert_eq!((&p, &g, &mask), (&p2, &g2, &mask2), "{what}");
                }
            });
        }
    }
}
