//! The number of activation patterns (sets of experts) that a router can choose from (Gülmez, theorem 1).

/// The binomial coefficient `C(n, k)`: exact up to 53 bits, infinite beyond the range of f64.
pub fn binomial(n: usize, k: usize) -> f64 {
    if k > n {
        return 0.0;
    }
    (0..k.min(n - k)).fold(1.0, |product, i| (product * (n - i) as f64 / (i + 1) as f64).round())
}

/// The number of sets of 1 to `most` of `experts`: the patterns possible with a varying number of active experts.
pub fn dynamic_patterns(experts: usize, most: usize) -> f64 {
    (1..=most.min(experts)).map(|k| binomial(experts, k)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_by_hand() {
        assert_eq!(
            (binomial(8, 3), binomial(8, 5), binomial(3, 4), binomial(50, 25)),
            (56.0, 56.0, 0.0, 126_410_606_437_752.0)
        );
        // All non-empty subsets, then up to three.
        assert_eq!(
            (dynamic_patterns(8, 8), dynamic_patterns(8, 3), dynamic_patterns(1, 9)),
            (255.0, 92.0, 1.0)
        );
        assert!(binomial(4096, 2000).is_infinite());
    }
}
