//! Capacity: experts that serve a limited number of tokens of a batch.

/// Places left in each expert, first come, first served: callers go through tokens in rising order.
#[derive(Debug)]
pub struct Room(Vec<usize>);

/// How many tokens each of `experts` has room for: `floor(factor tokens / experts)`, and at least one, so that
/// a single token is served.
pub fn capacity(factor: f64, tokens: usize, experts: usize) -> usize {
    // The tiny constant undoes products such as 0.58 * 50 = 28.999999999999996.
    ((factor * tokens as f64 / experts as f64 + 1e-9) as usize).max(1)
}

impl Room {
    /// As many places in each of `experts`.
    pub fn new(places: usize, experts: usize) -> Room {
        Room(vec![places; experts])
    }

    /// Takes a place in an expert, if it has one left.
    pub fn take(&mut self, expert: usize) -> bool {
        let left = &mut self.0[expert];
        let free = *left > 0;
        *left -= usize::from(free);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_rounded_down_and_at_least_one() {
        assert_eq!(
            [(1.25, 256, 8), (1.0, 7, 2), (2.0, 1, 8), (0.1, 580, 1)].map(|(f, t, e)| capacity(f, t, e)),
            [40, 3, 1, 58]
        );
    }

    #[test]
    fn places_run_out() {
        let mut room = Room::new(2, 2);
        assert_eq!([1, 1, 1, 0].map(|e| room.take(e)), [true, true, false, true]);
    }
}
