//! Who goes where: the assignments of a batch of tokens to experts.

/// The assignments of a batch of tokens to experts, grouped by expert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Token of each assignment, grouped by expert, rising within an expert.
    pub tokens: Vec<u32>,
    /// Assignments of expert e are `starts[e] .. starts[e + 1]`.
    pub starts: Vec<usize>,
    /// Assignments of each token, in rising expert order.
    slots: Vec<u32>,
    /// Slots of token t are `slot_starts[t] .. slot_starts[t + 1]`.
    slot_starts: Vec<u32>,
}

impl Routes {
    /// From a mask of `tokens` rows and `experts` columns, by a counting sort.
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
        let (mut tokens, mut slots) = (vec![0; total], Vec::with_capacity(total));
        let mut slot_starts = Vec::with_capacity(count + 1);
        let mut next = starts.clone();
        slot_starts.push(0);
        for (t, row) in mask.chunks_exact(experts).enumerate() {
            for (e, _) in row.iter().enumerate().filter(|(_, chosen)| **chosen) {
                tokens[next[e]] = t as u32;
                slots.push(next[e] as u32);
                next[e] += 1;
            }
            slot_starts.push(slots.len() as u32);
        }
        Routes { tokens, starts, slots, slot_starts }
    }

    /// How many experts there are.
    pub fn experts(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many tokens were routed (with or without an expert).
    pub fn token_count(&self) -> usize {
        self.slot_starts.len() - 1
    }

    /// How many assignments there are in all.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// No token has an expert.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// How many experts a token has.
    pub fn k(&self, token: usize) -> usize {
        self.slots_of(token).len()
    }

    /// How many tokens each expert serves.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.starts.windows(2).map(|w| w[1] - w[0])
    }

    /// The assignments of a token, in rising expert order.
    pub fn slots_of(&self, token: usize) -> &[u32] {
        &self.slots[self.slot_starts[token] as usize..self.slot_starts[token + 1] as usize]
    }

    /// Blocks of at most `size` assignments of one expert each: (expert, first, count).
    pub fn blocks(&self, size: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.experts()).flat_map(move |e| {
            let range = self.starts[e]..self.starts[e + 1];
            let end = range.end;
            range.step_by(size).map(move |first| (e, first, size.min(end - first)))
        })
    }

    /// The expert of an assignment.
    pub fn expert_of(&self, slot: usize) -> usize {
        self.starts.partition_point(|&start| start <= slot) - 1
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
        assert_eq!((routes.expert_of(0), routes.expert_of(1), routes.expert_of(2)), (0, 0, 2));
    }
}
