//! What every implementation of the product shares: the length of a chunk and the value that C starts from.

use crate::engine::kernels::scalar::Scalar;

/// Length of the inner chunks of the definition.
pub const CHUNK: usize = 256;

/// The value of C to which the products are added.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, F> {
    /// Zero: C is overwritten.
    Zero,
    /// One number per column.
    Bias(&'a [F]),
    /// The present value of C.
    Sum,
}

/// Writes the start value to `out`, row-major.
pub fn begin<F: Scalar>(out: &mut [F], start: Start<F>) {
    match start {
        Start::Zero => out.fill(F::zero()),
        Start::Bias(bias) => out.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)),
        Start::Sum => (),
    }
}
