//! What the first paper proves about routing, as numbers: how many sets of experts there are to choose from.

/// `C(n, k)`: exact as long as it fits in 53 bits, infinite where it leaves the range of f64.
pub fn choose(n: usize, k: usize) -> f64 {
    if k > n {
        return 0.0;
    }
    (0..k.min(n - k)).fold(1.0, |product, i| (product * (n - i) as f64 / (i + 1) as f64).round())
}

/// Sets of 1 to `most` of `experts` (Gülmez, theorem 1): what a router can choose from whose number of experts
/// varies.
pub fn dynamic_patterns(experts: usize, most: usize) -> f64 {
    (1..=most.min(experts)).map(|k| choose(experts, k)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_by_hand() {
        assert_eq!(
            (choose(8, 3), choose(8, 5), choose(3, 4), choose(50, 25)),
            (56.0, 56.0, 0.0, 126_410_606_437_752.0)
        );
        // All non-empty subsets.
        assert_eq!(
            (dynamic_patterns(8, 8), dynamic_patterns(8, 3), dynamic_patterns(1, 9)),
            (255.0, 92.0, 1.0)
        );
        assert!(choose(4096, 2000).is_infinite());
    }
}
