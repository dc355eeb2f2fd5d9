//! Looking at a tape: its mode, shapes, single values, all nodes as text. And where its buffers go in the end.

use std::fmt::{Display, Formatter, Result};

use super::{Mode, Tape, Var};
use crate::engine::arr;
use crate::engine::kernels::elem::Elem;

impl<F: Elem> Tape<F> {
    /// How this tape runs.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The tape that it is on.
    pub fn tape(self) -> &'t Tape<F> {
        self.tape
    }

    /// The length of each axis.
    pub fn shape(self) -> Vec<usize> {
        self.tape.nodes.borrow()[self.id].value.shape().to_vec()
    }

    /// The only element of a value with one element.
    ///
    /// # Panics
    /// If it has more.
    pub fn item(self) -> F {
        let value = self.value();
        assert_eq!(value.len(), 1, "item() of a value with shape {:?}", value.shape());
        arr::data(&value)[0]
    }
}

/// The nodes in order, one per line: number, operation, numbers of the inputs that gradients go back to, and the
/// value or its shape.
impl<F: Elem> Display for Tape<F> {
    fn fmt(&self, f: &mut Formatter) -> Result {
        for (id, node) in self.nodes.borrow().iter().enumerate() {
            let inputs = if node.inputs.is_empty() { String::new() } else { format!("{:?}", node.inputs) };
            write!(f, "{id:>4}  {:<12}{inputs:<10}", node.label.name)?;
            match arr::data(&node.value) {
                [value] => writeln!(f, "{value:.6}")?,
                _ => writeln!(f, "shape {:?}", node.value.shape())?,
            }
        }
        Ok(())
    }
}

/// Values go back to the pool for the next tape. Shared ones (parameters) stay with their owner.
impl<F: Elem> Drop for Tape<F> {
    fn drop(&mut self) {
        self.nodes.get_mut().drain(..).for_each(|node| arr::recycle(node.value));
    }
}
