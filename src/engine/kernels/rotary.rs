//! Rotary position embedding, RoPE (Su et al., "RoFormer", 2021): pairs of numbers are rotated by angles proportional to
//! the position.
//!
//! ```text
//! angle_i = position * theta^(-i / p)            for pair i of the p pairs of a head
//! y_i     = x_i cos(angle_i) - x_(i+p) sin(angle_i)
//! y_(i+p) = x_(i+p) cos(angle_i) + x_i sin(angle_i)
//! ```

use super::{par, pool::Buffer, rows, scalar::Scalar};

/// Cosines and sines of the angles of a range of positions, (count, pairs) each.
#[derive(Debug)]
pub struct Turns<F: Scalar> {
    cos: Buffer<F>,
    sin: Buffer<F>,
    /// Pairs of a head: half its width.
    pairs: usize,
}

impl<F: Scalar> Turns<F> {
    /// For the positions `first .. first + count`; computed in f64 and rounded once.
    pub fn new(pairs: usize, theta: f64, first: usize, count: usize) -> Turns<F> {
        /// Positions of a task.
        const ROWS: usize = 32;
        let speeds: Vec<f64> = (0..pairs).map(|i| libm::pow(theta, -(i as f64) / pairs as f64)).collect();
        let (mut cos, mut sin) = (Buffer::new(count * pairs), Buffer::new(count * pairs));
        par::rows(((&mut cos[..], pairs), (&mut sin[..], pairs)), ROWS, |row, (cos, sin)| {
            for (i, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
                let position = (first + row + i / pairs) as f64;
                let (s, c) = libm::sincos(position * speeds[i % pairs]);
                (*cos, *sin) = (F::of(c), F::of(s));
            }
        });
        Turns { cos, sin, pairs }
    }

    /// Cosines and sines (pairs) of the position `first + place`.
    #[inline(always)]
    pub fn at(&self, place: usize) -> (&[F], &[F]) {
        let here = place * self.pairs..(place + 1) * self.pairs;
        (&self.cos[here.clone()], &self.sin[here])
    }
}

/// Rotates every head of `x` (T, width) into `y` (T, width): row r by the angles of position `first + places[r]`, or by
/// their negatives if `back`, which is the backward pass.
pub fn turn<F: Scalar>(y: &mut [F], x: &[F], width: usize, places: &[u32], turns: &Turns<F>, back: bool) {
    let sign = if back { -F::one() } else { F::one() };
    rows::each(
        y,
        width,
        #[inline(always)]
        |r, y| {
            let (cos, sin) = turns.at(places[r] as usize);
            let heads = y.chunks_exact_mut(2 * turns.pairs);
            for (y, x) in heads.zip(x[r * width..][..width].chunks_exact(2 * turns.pairs)) {
                let ((y_a, y_b), (a, b)) = (y.split_at_mut(turns.pairs), x.split_at(turns.pairs));
                for i in 0..turns.pairs {
                    let sin = sign * sin[i];
                    y_a[i] = a[i].mul_add(cos[i], -(b[i] * sin));
                    y_b[i] = b[i].mul_add(cos[i], a[i] * sin);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernels::simd;

    #[test]
    fn a_turn_is_the_definition_to_the_bit_at_every_level_and_thread_count() {
        let (pairs, heads, rows) = (5, 3, if cfg!(miri) { 40 } else { 900 });
        let width = 2 * pairs * heads;
        let x: Vec<f32> = (0..rows * width).map(|i| (i * 7919 % 2003) as f32 * 0.001 - 1.0).collect();
        let places: Vec<u32> = (0..rows as u32).map(|r| r * r % 50).collect();
        for back in [false, true] {
            let mut plain = vec![0.0f32; x.len()];
            for (r, &place) in places.iter().enumerate() {
                for (head, i) in (0..heads).flat_map(|head| (0..pairs).map(move |i| (head, i))) {
                    let angle = (7 + place) as f64 * libm::pow(100.0, -(i as f64) / pairs as f64);
                    let (cos, sin) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
                    let (a, sin) = (r * width + head * 2 * pairs + i, if back { -sin } else { sin });
                    plain[a] = x[a].mul_add(cos, -(x[a + pairs] * sin));
                    plain[a + pairs] = x[a + pairs].mul_add(cos, x[a] * sin);
                }
            }
            simd::on_every_level(|level| {
                for threads in [1, 2, 3, 8] {
                    let mut y = vec![f32::NAN; x.len()];
                    par::with_threads(threads, || {
                        let turns = Turns::new(pairs, 100.0, 7, 50);
                        turn(&mut y, &x, width, &places, &turns, back);
                    });
                    assert_eq!(y, plain, "{level}, {threads} threads");
                }
            });
        }
    }
}
