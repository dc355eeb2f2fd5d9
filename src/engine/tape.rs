//! The tape records what is computed and walks back over it to find gradients. Read `op.rs` and this file first.
//!
//! Each operation ([`Op`]) applied to variables ([`Var`]) appends one node with its value. An input comes before its
//! user, so one loop from the last node to the first ([`Tape::backward`]) applies the chain rule.

use std::{cell::RefCell, panic::Location};

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Result, locate};
use crate::engine::kernels::elem::Elem;

mod fused;
mod inspect;
mod non_finite;
mod parameters;
mod watched;

pub use crate::engine::op::{Ctx, Op, shape_error};
pub use fused::Fused;
pub use parameters::Gradient;
use watched::{Label, Watcher};

/// How a tape runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Record everything for a backward pass.
    Train,
    /// Compute values only; there are no gradients.
    Infer,
    /// As `Train`, but a [`Fused`] operation is replaced by the small ones it stands for: slow, easy to follow.
    Teach,
}

/// A record of one computation.
pub struct Tape<F: Elem> {
    nodes: RefCell<Vec<Node<F>>>,
    mode: Mode,
    parameters: RefCell<parameters::Parameters>,
    watcher: Watcher<F>,
}

/// A value, the inputs it was computed from, and how to go back to them; both are empty where no gradient is needed.
struct Node<F: Elem> {
    label: Label,
    value: Arr<F>,
    needs_grad: bool,
    inputs: Box<[usize]>,
    backward: Option<Box<Backward<F>>>,
}

/// Given all nodes and the gradient of the output, passes on the number of each input with its gradient.
type Backward<F> = dyn Fn(&[Node<F>], &Arr<F>, &mut dyn FnMut(usize, Arr<F>));

/// A value on a tape: a reference and a number, so it is free to copy.
#[derive(Clone, Copy)]
pub struct Var<'t, F: Elem> {
    tape: &'t Tape<F>,
    id: usize,
}

impl<F: Elem> Tape<F> {
    /// An empty tape.
    pub fn new(mode: Mode) -> Tape<F> {
        Tape::watched(mode, None)
    }

    /// An input without a gradient.
    pub fn constant(&self, value: Arr<F>) -> Var<'_, F> {
        self.push("constant", value, false, &[], None)
    }

    /// An input with a gradient.
    pub fn variable(&self, value: Arr<F>) -> Var<'_, F> {
        self.push("variable", value, self.mode != Mode::Infer, &[], None)
    }

    /// Applies an operation. Every computation goes through this function.
    ///
    /// # Errors
    /// Shapes that do not fit, with the caller's file and line.
    #[track_caller]
    pub fn apply<O: Op<F, N>, const N: usize>(&self, op: O, inputs: [Var<'_, F>; N]) -> Result<Var<'_, F>> {
        let caller = Location::caller();
        let same_tape = inputs.iter().all(|input| std::ptr::eq(input.tape, self));
        assert!(same_tape, "{}: a variable belongs to another tape ({caller})", O::NAME);
        let ids = inputs.map(|input| input.id);
        let nodes = self.nodes.borrow();
        let (value, saved) = op.forward(ids.map(|id| &nodes[id].value)).map_err(|e| locate(e, caller))?;
        let (needs, id) = (ids.map(|id| nodes[id].needs_grad), nodes.len());
        drop(nodes);
        if !needs.contains(&true) {
            return Ok(self.push(O::NAME, value, false, &[], None));
        }
        let backward: Box<Backward<F>> = Box::new(move |nodes, gy, give| {
            let x = ids.map(|id| &nodes[id].value);
            let gradients = op.backward(Ctx { x, y: &nodes[id].value, saved: &saved, needs }, gy);
            for ((input, needs), gradient) in ids.into_iter().zip(needs).zip(gradients) {
                let Some(gradient) = gradient.filter(|_| needs) else { continue };
                assert_eq!(gradient.shape(), nodes[input].value.shape(), "{}: a gradient's shape", O::NAME);
                give(input, gradient);
            }
        });
        Ok(self.push(O::NAME, value, true, &ids, Some(backward)))
    }

    fn push(
        &self,
        name: impl Into<Label>,
        mut value: Arr<F>,
        needs_grad: bool,
        inputs: &[usize],
        backward: Option<Box<Backward<F>>>,
    ) -> Var<'_, F> {
        let label = self.watch_value(name.into(), &mut value);
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { label, value, needs_grad, inputs: inputs.into(), backward });
        Var { tape: self, id: nodes.len() - 1 }
    }

    /// Gradients of the scalar `loss` with respect to every variable and parameter.
    ///
    /// # Errors
    /// If `loss` is not a single number.
    pub fn backward(&self, loss: Var<'_, F>) -> Result<Gradients<F>> {
        let shape = loss.shape();
        if shape.iter().product::<usize>() != 1 {
            let why = "the loss must be one number; reduce it with mean() or sum()";
            return Err(shape_error("backward", why, &[&shape]));
        }
        Ok(self.backward_from(loss, arr::full(&shape, F::one())))
    }

    /// Gradients of `sum(y * cotangent)`, where `cotangent` has the shape of `y`: the backward pass.
    pub fn backward_from(&self, y: Var<'_, F>, cotangent: Arr<F>) -> Gradients<F> {
        let nodes = self.nodes.borrow();
        let mut of: Vec<Option<Arr<F>>> = vec![None; nodes.len()];
        of[y.id] = Some(cotangent);
        for id in (0..=y.id).rev() {
            // Inputs keep their gradient; that of an operation's output is used up here.
            let Some(backward) = &nodes[id].backward else { continue };
            let Some(gy) = of[id].take() else { continue };
            backward(&nodes, &gy, &mut |input, gradient| {
                let mut sum = match of[input].take() {
                    Some(sum) => arr::sum(sum, gradient),
                    None => gradient,
                };
                self.watch_gradient(&nodes[id], &nodes[input], &mut sum);
                of[input] = Some(sum);
            });
            arr::recycle(gy);
        }
        Gradients { of, parameters: self.parameters.borrow().clone() }
    }
}

/// The gradients that a backward pass found.
pub struct Gradients<F: Elem> {
    of: Vec<Option<Arr<F>>>,
    parameters: parameters::Parameters,
}

impl<F: Elem> Gradients<F> {
    /// The gradient of an input; zeros if the result does not depend on it.
    pub fn wrt(&self, var: Var<'_, F>) -> Arr<F> {
        self.of[var.id].clone().unwrap_or_else(|| arr::zeros(&var.shape()))
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Its value.
    pub fn value(self) -> Arr<F> {
        self.tape.nodes.borrow()[self.id].value.clone()
    }

    /// [`Tape::apply`] for methods of `Var`: shapes that do not fit panic with the caller's file and line.
    #[track_caller]
    pub fn apply<O: Op<F, N>, const N: usize>(op: O, inputs: [Var<'t, F>; N]) -> Var<'t, F> {
        inputs[0].tape.apply(op, inputs).unwrap_or_else(|e| panic!("{e}"))
    }
}
