//! Operations that do the work of several small ones, and can be replaced by them.

use super::{Mode, Op, Tape, Var};
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;

/// An operation that does the work of several small ones in one pass.
pub trait Fused<F: Elem, const N: usize>: Op<F, N> {
    /// The same function built from small operations: its definition, which tests compare it with.
    fn reference<'t>(&self, x: [Var<'t, F>; N]) -> Result<Var<'t, F>>;
}

impl<F: Elem> Tape<F> {
    /// Applies a fused operation, or its reference on a tape in [`Mode::Teach`].
    ///
    /// # Errors
    /// As [`Tape::apply`].
    #[track_caller]
    pub fn apply_fused<'t, O: Fused<F, N>, const N: usize>(
        &'t self,
        op: O,
        x: [Var<'t, F>; N],
    ) -> Result<Var<'t, F>> {
        if self.mode == Mode::Teach { op.reference(x) } else { self.apply(op, x) }
    }
}
