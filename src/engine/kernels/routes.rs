//! The assignments of a batch of tokens to experts: the mask (T, E) grouped by expert.

use super::{elem::Elem, gemm, par, pool::Buffer};

/// Consecutive assignments of one expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The expert.
    pub expert: usize,
    /// The first assignment.
    pub first: usize,
    /// The number of assignments.
    pub count: usize,
}

impl Block {
    /// The tokens of the block's assignments.
    pub fn tokens<'a>(&self, routes: &'a Routes) -> &'a [u32] {
        &routes.tokens[self.first..][..self.count]
    }
}

// SAFETY: fields behind a shared borrow do not change.
unsafe impl par::Span for Block {
    fn first(&self) -> usize {
        self.first
    }
    fn count(&self) -> usize {
        self.count
    }
}

/// Approximate minimum and maximum assignments of a block: few enough that every thread gets some blocks, enough to be
/// worth loading an expert's weights. The size does not change the bits.
const BLOCK: (usize, usize) = (64, 144);

/// The assignments of a batch of tokens to experts, grouped by expert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// The token of each assignment, grouped by expert, rising within an expert.
    pub tokens: Vec<u32>,
    /// Expert e has the assignments `starts[e] .. starts[e + 1]`.
    pub starts: Vec<usize>,
    /// The assignments of each token, in rising expert order.
    slots: Vec<u32>,
    /// The assignments divided into blocks of one expert each, small enough for the cache.
    pub blocks: Vec<Block>,
    /// Token t has `slots[slot_starts[t] .. slot_starts[t + 1]]`.
    slot_starts: Vec<u32>,
}

impl Routes {
    /// From a mask (T, E), by a counting sort.
    pub fn new(mask: &[bool], experts: usize) -> Routes {
        let count = mask.len() / experts;
        let mut starts = vec![0; experts + 1];
        for row in mask.chunks_exact(experts) {
            for (e, &chosen) in row.iter().enumerate() {
                starts[e + 1] += usize::from(chosen);
            }
        }
        for e in 0..experts {
            starts[e + 1] += starts[e];
        }
        let total = starts[experts];
        // Without branches: each token is written, and overwritten by the next if it was not chosen.
        let mut tokens = vec![0; total + 1];
        let mut next = 0;
        for e in 0..experts {
            for t in 0..count {
                tokens[next] = t as u32;
                next += usize::from(mask[t * experts + e]);
            }
        }
        tokens.truncate(total);
        let mut slot_starts = vec![0; count + 1];
        for &t in &tokens {
            slot_starts[t as usize + 1] += 1;
        }
        for t in 0..count {
            slot_starts[t + 1] += slot_starts[t];
        }
        let (mut slots, mut next) = (vec![0; total], slot_starts.clone());
        for (slot, &t) in tokens.iter().enumerate() {
            slots[next[t as usize] as usize] = slot as u32;
            next[t as usize] += 1;
        }
        let threads = par::threads();
        let block = (total / (4 * threads)).clamp(BLOCK.0.min(total / threads), BLOCK.1).max(1);
        let mut blocks = Vec::with_capacity(total / block + experts);
        for e in 0..experts {
            let count = starts[e + 1] - starts[e];
            // Blocks of about the same size, in whole tiles of the products.
            let size = count.div_ceil(count.div_ceil(block).max(1)).next_multiple_of(gemm::GRAIN).max(1);
            for first in (starts[e]..starts[e + 1]).step_by(size) {
                blocks.push(Block { expert: e, first, count: size.min(starts[e + 1] - first) });
            }
        }
        Routes { tokens, starts, slots, blocks, slot_starts }
    }

    /// The number of experts, E.
    pub fn experts(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of tokens, T, including tokens without an expert.
    pub fn token_count(&self) -> usize {
        self.slot_starts.len() - 1
    }

    /// The number of assignments.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no token has an expert.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The number of experts of a token.
    pub fn k(&self, token: usize) -> usize {
        self.slots_of(token).len()
    }

    /// The number of tokens of each expert.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.starts.windows(2).map(|w| w[1] - w[0])
    }

    /// The assignments of a token, in rising expert order.
    pub fn slots_of(&self, token: usize) -> &[u32] {
        &self.slots[self.slot_starts[token] as usize..self.slot_starts[token + 1] as usize]
    }

    /// The experts of a token, rising.
    pub fn experts_of(&self, token: usize) -> Vec<u16> {
        let expert = |&slot: &u32| self.starts.partition_point(|&start| start <= slot as usize) - 1;
        self.slots_of(token).iter().map(|slot| expert(slot) as u16).collect()
    }

    /// The assignments of an expert.
    pub fn slots(&self, expert: usize) -> std::ops::Range<usize> {
        self.starts[expert]..self.starts[expert + 1]
    }

    /// `x[token, expert]` of each assignment, from `x` (T, E).
    pub fn gather<F: Elem>(&self, x: &[F]) -> Buffer<F> {
        let experts = self.experts();
        let mut out = Buffer::new(self.len());
        for e in 0..experts {
            for slot in self.slots(e) {
                out[slot] = x[self.tokens[slot] as usize * experts + e];
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_grouped_by_expert_in_token_order() {
        let (t, f) = (true, false);
        let routes = Routes::new(&[t, f, t, f, f, f, t, f, f], 3);
        assert_eq!(routes.tokens, [0, 2, 0]);
        assert_eq!(routes.starts, [0, 2, 2, 3]);
        assert_eq!(
            (routes.slots_of(0), routes.slots_of(1), routes.slots_of(2)),
            (&[0, 2][..], &[][..], &[1][..])
        );
        assert_eq!(
            (routes.experts_of(0), routes.experts_of(1), routes.experts_of(2)),
            (vec![0, 2], vec![], vec![0])
        );
        assert_eq!(&routes.gather(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])[..], [1.0, 7.0, 3.0]);
        let block = |expert, first, count| Block { expert, first, count };
        assert_eq!(routes.blocks, [block(0, 0, 2), block(2, 2, 1)]);
    }
}
