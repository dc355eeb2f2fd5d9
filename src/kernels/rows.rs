//! Blocks of rows of a matrix, shared out among the threads.

use super::{elem::Elem, par};

/// `work(first_row, rows)` over blocks of rows of `out`, each of `width` elements. The size of a block
/// depends on the width alone.
pub fn each_block<E: Elem>(out: &mut [E], width: usize, work: impl Fn(usize, &mut [E]) + Sync + Send) {
    let rows = (8192 / width.max(1)).max(1);
    par::chunks(out, rows * width.max(1), |i, block| work(i * rows, block));
}
