//! The search for the operation that first produced a NaN or an infinity.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Tape, Var};
use crate::engine::arr::{self, Arr};
use crate::engine::kernels::{elem::Elem, reduce};
use crate::engine::watch::{Seen, Watch};

fn is_bad<F: Elem>(value: &Arr<F>) -> bool {
    reduce::first_non_finite(arr::data(value)).is_some()
}

impl<F: Elem> Tape<F> {
    /// Names the operation that first produced a NaN or an infinity on the way to `loss`, or back from it.
    pub fn first_non_finite(&self, loss: Var<'_, F>) -> Option<String> {
        for (id, node) in self.nodes.borrow().iter().enumerate() {
            if is_bad(&node.value) {
                return Some(format!("op {} (number {id} of the forward pass)", node.label.name));
            }
        }
        let found = Rc::new(RefCell::new(None));
        let watch: Watch<F> = Rc::new(RefCell::new({
            let found = found.clone();
            move |seen: Seen, gradient: &mut Arr<F>| {
                if let Seen::Gradient { op, .. } = seen
                    && found.borrow().is_none()
                    && is_bad(gradient)
                {
                    *found.borrow_mut() = Some(format!("the gradient of op {op}"));
                }
            }
        }));
        let before = self.watcher.watch.replace(Some(watch));
        drop(self.backward_from(loss, arr::full(&loss.shape(), F::one())));
        self.watcher.watch.replace(before);
        found.take()
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::{Mode, Tape, arr};

    #[test]
    fn the_first_bad_operation_is_named_forward_and_backward() {
        let first = |x: f64, f: fn(crate::Var<f64>) -> crate::Var<f64>| {
            let tape = Tape::new(Mode::Train);
            tape.first_non_finite(f(tape.variable(arr::full(&[1], x))).sum())
        };
        assert_eq!(first(1.0, |x| x.ln().exp()), None);
        assert_eq!(first(-1.0, |x| x.ln().exp()), Some("op ln (number 1 of the forward pass)".into()));
        assert_eq!(first(0.0, |x| x.sqrt().exp()), Some("the gradient of op sqrt".into()));
    }
}
