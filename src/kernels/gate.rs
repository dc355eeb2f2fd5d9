//! Gating in one pass over the tokens: probabilities, noise, choice.

use super::random::Stream;
use super::softmax::softmax_row;
use super::{elem::Elem, par, simd::fast};

/// Tokens of one task.
const TOKENS: usize = 64;

/// Gaussian noise on the gates: one stream for all tokens of a layer's step, and the standard deviation.
pub type Noise = (Stream, f32);

/// Where the results go; each is (T, E).
pub struct Gates<'a, E> {
    /// `softmax(logits)`.
    pub probabilities: &'a mut [E],
    /// The probabilities and the noise.
    pub gates: &'a mut [E],
    /// The k largest gates of each token, of equal ones the first.
    pub mask: &'a mut [bool],
}

/// Gates of `logits` (T, `experts`), with noise if there is any, and the choice of `k` experts for each token;
/// without `k` nothing is chosen.
pub fn gate<E: Elem>(logits: &[E], experts: usize, noise: Option<Noise>, k: Option<usize>, out: Gates<E>) {
    let Gates { probabilities, gates, mask } = out;
    let out = ((probabilities, experts), (gates, experts), (mask, experts));
    par::rows(out, TOKENS, |first, (probabilities, gates, mask)| {
        let start = first * experts;
        let logits = &logits[start..][..gates.len()];
        match noise {
            Some((stream, deviation)) => stream.normal_from(start, gates, deviation),
            None => gates.fill(E::zero()),
        }
        fast::<E, _>(
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
            E::select(gates, experts, k, mask);
        }
    });
}
