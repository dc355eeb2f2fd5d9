//! Matrix products, defined to the bit.
//!
//! `C = start + A B` with A (M, K), B (K, N), C (M, N). The inner dimension K is cut into chunks of [`CHUNK`]. In a
//! chunk each element of C is a chain of fused multiply-adds, from +0 in rising order:
//!
//! ```text
//! s = 0;  for p in chunk: s = fma(A[i, p], B[p, j], s);   C[i, j] += s
//! ```
//!
//! So an element depends only on its row of A and its column of B: not on its neighbors, the blocking or the number of
//! threads. `tile.rs` computes this for f32 on processors with fused multiply-adds, `portable.rs` on others (slowly),
//! and `double.rs` for f64.

mod definition;
mod double;
mod element;
mod mat;
mod packed;
mod panels;
#[cfg(test)]
mod plain;
mod portable;
#[cfg(test)]
mod tests;
mod tile;

use super::par;

pub use definition::{CHUNK, Start};
pub use element::Gemm;
pub use mat::Mat;
pub use packed::Packed;
#[cfg(test)]
pub use plain::plain;

/// Rows of the highest tile.
const TILE: usize = 12;
/// Products run fastest if they are split at multiples of this many rows.
pub const GRAIN: usize = 4;

/// `out = start + a b`, negative elements set to zero if `relu`, on all threads: each takes some rows of `out`, or some
/// columns of a single row. The split does not change the bits.
pub fn threaded<F: Gemm>(out: &mut [F], a: Mat<F>, b: Mat<F>, start: Start<F>, relu: bool) {
    let (rows, width) = (a.rows(), b.cols());
    let work = rows * a.cols() * width;
    if rows == 1 {
        return row(out, a, b, start, relu);
    }
    if work < par::SMALL || rows <= TILE || par::threads() == 1 {
        return F::gemm(out, a, b, start, relu);
    }
    // No more tasks than threads: each of them packs B.
    let tasks = par::threads().min(work / par::SMALL + 1);
    let rows = rows.div_ceil(tasks).next_multiple_of(GRAIN);
    par::chunks(out, rows * width, |i, out| {
        F::gemm(out, a.slice(i * rows, out.len() / width), b, start, relu);
    });
}

/// [`threaded`] for one row.
fn row<F: Gemm>(out: &mut [F], a: Mat<F>, b: Mat<F>, start: Start<F>, relu: bool) {
    /// A task gets a multiple of this many columns.
    const TOGETHER: usize = 64;
    let tasks = (b.rows() * b.cols() / par::SMALL).clamp(1, par::threads());
    let columns = b.cols().div_ceil(tasks).max(1).next_multiple_of(TOGETHER);
    par::chunks(out, columns, |i, out| {
        let (first, count) = (i * columns, out.len());
        let start = match start {
            Start::Bias(bias) => Start::Bias(&bias[first..][..count]),
            start => start,
        };
        F::gemm(out, a, b.columns(first, count), start, relu);
    });
}

/// `out = a b`, on all threads.
pub fn product<F: Gemm>(out: &mut [F], a: Mat<F>, b: Mat<F>) {
    threaded(out, a, b, Start::Zero, false);
}

/// `out = a b + bias` with one bias per column, and then `max(out, 0)` if `relu`; on all threads.
pub fn affine<F: Gemm>(out: &mut [F], a: Mat<F>, b: Mat<F>, bias: &[F], relu: bool) {
    threaded(out, a, b, Start::Bias(bias), relu);
}
