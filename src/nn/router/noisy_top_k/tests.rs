//! Tests of the router.

use super::*;

#[test]
fn a_limit_is_the_kth_largest_of_the_others() {
    let h = [3.0, 1.0, 4.0, 2.0, 0.0, 0.0, 0.0, 0.0];
    // Chosen are 0 and 2, and of equal ones the first two.
    assert_eq!(limits(&h, 4, 2), [3, 0, 3, 0, 6, 6, 5, 5]);
}
