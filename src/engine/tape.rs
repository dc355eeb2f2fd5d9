//! The tape: records what was computed, and walks back over it to find gradients. Read this file first.
//!
//! Every operation ([`Op`]) applied to variables ([`Var`]) appends one node with its value. The nodes
//! stand in the order of execution, so every input has a smaller index than its user, and one loop
//! from the last node to the first ([`Tape::backward`]) applies the chain rule: no recursion, no
//! sorting, a fixed order. The graph lives as long as the tape; a training step makes a new one.

use std::cell::{Cell, RefCell};
use std::fmt::{Display, Formatter};
use std::panic::Location;

use crate::engine::arr::{self, Arr};
use crate::engine::error::{Error, Result};
use crate::engine::kernels::{elem::Elem, reduce};
use crate::engine::watch::{ParamId, Place, Seen, Watch};

mod parameters;

pub use parameters::Gradient;
use parameters::Parameters;

/// A differentiable operation on `N` arrays. One struct, one forward, one backward, both required.
pub trait Op<F: Elem, const N: usize>: 'static {
    /// The operation's name in messages and in the table of gradient checks.
    const NAME: &'static str;
    /// What the backward pass needs beyond inputs and output.
    type Saved: 'static;
    /// The output and what to keep for later. Input shapes that do not fit are an error from [`shape_error`].
    fn forward(&self, x: [&Arr<F>; N]) -> Result<(Arr<F>, Self::Saved)>;
    /// The gradient of each input, given the gradient `gy` of the output; `None` where an input has none
    /// or nobody asks ([`Ctx::needs`]).
    fn backward(&self, ctx: Ctx<F, Self::Saved, N>, gy: &Arr<F>) -> [Option<Arr<F>>; N];
}

/// An operation that does the work of several small ones, and can be spelled out in them.
pub trait Fused<F: Elem, const N: usize>: Op<F, N> {
    /// The same function built from small operations: what a student reads and the tests compare with.
    fn reference<'t>(&self, x: [Var<'t, F>; N]) -> Result<Var<'t, F>>;
}

/// What [`Op::backward`] may look at.
pub struct Ctx<'a, F: Elem, S, const N: usize> {
    /// The inputs of the forward pass.
    pub x: [&'a Arr<F>; N],
    /// The output of the forward pass.
    pub y: &'a Arr<F>,
    /// What the forward pass saved.
    pub saved: &'a S,
    /// Which inputs need a gradient.
    pub needs: [bool; N],
}

/// How a tape runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Record everything for a backward pass.
    Train,
    /// Record nothing; gradients cannot be asked for.
    Infer,
    /// As `Train`, but every fused operation is spelled out in small ones: slow, easy to follow.
    Teach,
}

/// A record of one computation.
pub struct Tape<F: Elem> {
    nodes: RefCell<Vec<Node<F>>>,
    parameters: RefCell<Parameters>,
    mode: Mode,
    place: Cell<Place>,
    watch: Option<Watch<F>>,
}

struct Node<F: Elem> {
    value: Arr<F>,
    name: &'static str,
    place: Place,
    needs_grad: bool,
    step: Option<Box<dyn Step<F>>>,
}

/// A value on a tape. Copying it copies a reference and a number.
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

    /// An empty tape that shows every value and gradient to `watch`.
    pub fn watched(mode: Mode, watch: Option<Watch<F>>) -> Tape<F> {
        /// Nodes that most graphs stay below.
        const NODES: usize = 256;
        let nodes = RefCell::new(Vec::with_capacity(NODES));
        let place = Cell::new(Place("input", None));
        Tape { nodes, parameters: RefCell::default(), mode, place, watch }
    }

    /// Says which part of the network the following operations belong to; only watchers look at it.
    pub fn enter(&self, part: &'static str, number: Option<usize>) {
        self.place.set(Place(part, number));
    }

    /// How this tape runs.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// An input that no gradient is asked for.
    pub fn constant(&self, value: Arr<F>) -> Var<'_, F> {
        self.push("constant", value, false, None, None)
    }

    /// An input whose gradient is asked for.
    pub fn variable(&self, value: Arr<F>) -> Var<'_, F> {
        self.push("variable", value, self.mode != Mode::Infer, None, None)
    }

    /// Applies an operation: the one door through which every computation passes.
    ///
    /// # Errors
    /// Shapes that do not fit, with the caller's file and line.
    #[track_caller]
    pub fn apply<O: Op<F, N>, const N: usize>(&self, op: O, inputs: [Var<'_, F>; N]) -> Result<Var<'_, F>> {
        let caller = Location::caller();
        let ids = inputs.map(|input| {
            assert!(
                std::ptr::eq(input.tape, self),
                "{}: a variable belongs to another tape ({caller})",
                O::NAME
            );
            input.id
        });
        let (value, saved, needs) = {
            let nodes = self.nodes.borrow();
            let (value, saved) = op.forward(ids.map(|id| &nodes[id].value)).map_err(|e| locate(e, caller))?;
            (value, saved, ids.map(|id| nodes[id].needs_grad))
        };
        let needs_grad = needs.contains(&true);
        let step: Option<Box<dyn Step<F>>> =
            if needs_grad { Some(Box::new(Recorded { op, saved, ids, needs })) } else { None };
        Ok(self.push(O::NAME, value, needs_grad, step, None))
    }

    /// Applies a fused operation, or what it stands for where the tape is for teaching.
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

    fn push(
        &self,
        name: &'static str,
        mut value: Arr<F>,
        needs_grad: bool,
        step: Option<Box<dyn Step<F>>>,
        parameter: Option<ParamId>,
    ) -> Var<'_, F> {
        let place = self.place.get();
        if let Some(watch) = &self.watch {
            watch.borrow_mut()(Seen::Value { place, op: name, parameter }, &mut value);
        }
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { value, name, place, needs_grad, step });
        Var { tape: self, id: nodes.len() - 1 }
    }

    /// Gradients of the scalar `loss` with respect to every variable and parameter.
    ///
    /// # Errors
    /// If `loss` is not a single number.
    pub fn backward(&self, loss: Var<'_, F>) -> Result<Gradients<F>> {
        if loss.shape().iter().product::<usize>() != 1 {
            return Err(shape_error(
                "backward",
                "the loss must be one number; reduce it with mean() or sum()",
                &[&loss.shape()],
            ));
        }
        Ok(self.backward_from(loss, arr::full(&loss.shape(), F::one())))
    }

    /// Gradients of `sum(y * cotangent)`, where `cotangent` has the shape of `y`.
    pub fn backward_from(&self, y: Var<'_, F>, cotangent: Arr<F>) -> Gradients<F> {
        self.walk(y, cotangent, |node, input, gradient| {
            if let Some(watch) = &self.watch {
                let parameter = self.parameter_at(input);
                let input = self.nodes.borrow()[input].name;
                let seen = Seen::Gradient { place: node.place, op: node.name, input, parameter };
                watch.borrow_mut()(seen, gradient);
            }
        })
    }

    /// The backward pass; `see` is shown each operation, the number of one of its inputs, and that input's
    /// gradient, the operation's part of it added.
    fn walk(
        &self,
        y: Var<'_, F>,
        cotangent: Arr<F>,
        mut see: impl FnMut(&Node<F>, usize, &mut Arr<F>),
    ) -> Gradients<F> {
        let nodes = self.nodes.borrow();
        let mut of: Vec<Option<Arr<F>>> = vec![None; nodes.len()];
        of[y.id] = Some(cotangent);
        for id in (0..=y.id).rev() {
            // Inputs keep their gradient; an operation's own is used up here.
            let Some(step) = &nodes[id].step else { continue };
            let Some(gy) = of[id].take() else { continue };
            step.backward(&nodes, id, &gy, &mut |input, gradient| {
                let mut gradient = match of[input].take() {
                    Some(sum) => arr::sum(sum, gradient),
                    None => gradient,
                };
                see(&nodes[id], input, &mut gradient);
                of[input] = Some(gradient);
            });
            arr::recycle(gy);
        }
        Gradients { of, parameters: self.parameters.borrow().clone() }
    }

    /// Names the operation that first produced a NaN or an infinity on the way to `loss` or back from it.
    pub fn first_non_finite(&self, loss: Var<'_, F>) -> Option<String> {
        let bad = |value: &Arr<F>| reduce::first_non_finite(arr::data(value)).is_some();
        let forward = self.nodes.borrow().iter().position(|node| bad(&node.value));
        if let Some(id) = forward {
            return Some(format!("op {} (number {id} of the forward pass)", self.nodes.borrow()[id].name));
        }
        let mut found = None;
        let _ = self.walk(loss, arr::full(&loss.shape(), F::one()), |node, _, gradient| {
            if found.is_none() && bad(gradient) {
                found = Some(format!("the gradient of op {}", node.name));
            }
        });
        found
    }
}

/// The nodes in order, one a line: number, operation, numbers of the inputs (where a gradient goes back to
/// them), value or shape.
impl<F: Elem> Display for Tape<F> {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        for (id, node) in self.nodes.borrow().iter().enumerate() {
            let inputs = node.step.as_ref().map_or(String::new(), |step| format!("{:?}", step.inputs()));
            write!(f, "{id:>4}  {:<12}{inputs:<10}", node.name)?;
            match arr::data(&node.value) {
                [value] => writeln!(f, "{value:.6}")?,
                _ => writeln!(f, "shape {:?}", node.value.shape())?,
            }
        }
        Ok(())
    }
}

impl<F: Elem> Drop for Tape<F> {
    fn drop(&mut self) {
        // Steps hold saved buffers, values the rest; shared ones (parameters) stay with their owner.
        for node in self.nodes.get_mut().drain(..) {
            arr::recycle(node.value);
        }
    }
}

/// An operation on the tape with its inputs, whatever their number.
trait Step<F: Elem> {
    fn inputs(&self) -> &[usize];
    fn backward(&self, nodes: &[Node<F>], id: usize, gy: &Arr<F>, give: &mut dyn FnMut(usize, Arr<F>));
}

struct Recorded<O, S, const N: usize> {
    op: O,
    saved: S,
    ids: [usize; N],
    needs: [bool; N],
}

impl<F: Elem, O: Op<F, N>, const N: usize> Step<F> for Recorded<O, O::Saved, N> {
    fn inputs(&self) -> &[usize] {
        &self.ids
    }
    fn backward(&self, nodes: &[Node<F>], id: usize, gy: &Arr<F>, give: &mut dyn FnMut(usize, Arr<F>)) {
        let x = self.ids.map(|id| &nodes[id].value);
        let ctx = Ctx { x, y: &nodes[id].value, saved: &self.saved, needs: self.needs };
        for ((input, needs), gradient) in self.ids.into_iter().zip(self.needs).zip(self.op.backward(ctx, gy))
        {
            if let (true, Some(gradient)) = (needs, gradient) {
                assert_eq!(
                    gradient.shape(),
                    nodes[input].value.shape(),
                    "{}: gradient of another shape",
                    O::NAME
                );
                give(input, gradient);
            }
        }
    }
}

/// The gradients that a backward pass found.
pub struct Gradients<F: Elem> {
    of: Vec<Option<Arr<F>>>,
    parameters: Parameters,
}

impl<F: Elem> Gradients<F> {
    /// The gradient of an input, if the result depends on it.
    pub fn of(&self, var: Var<'_, F>) -> Option<&Arr<F>> {
        self.of[var.id].as_ref()
    }

    /// The gradient with respect to an input: zeros if the result does not depend on it.
    pub fn wrt(&self, var: Var<'_, F>) -> Arr<F> {
        self.of(var).cloned().unwrap_or_else(|| arr::zeros(&var.shape()))
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The tape it stands on.
    pub fn tape(self) -> &'t Tape<F> {
        self.tape
    }

    /// Its value.
    pub fn value(self) -> Arr<F> {
        self.tape.nodes.borrow()[self.id].value.clone()
    }

    /// The length of each axis.
    pub fn shape(self) -> Vec<usize> {
        self.tape.nodes.borrow()[self.id].value.shape().to_vec()
    }

    /// The only element of a value of one element.
    ///
    /// # Panics
    /// If it has more.
    pub fn item(self) -> F {
        let value = self.value();
        assert_eq!(value.len(), 1, "item() of a value with shape {:?}", value.shape());
        arr::data(&value)[0]
    }

    /// Applies an operation to this and further variables; wrong shapes panic with the caller's place.
    /// The methods of `Var` are made of this.
    #[track_caller]
    pub fn apply<O: Op<F, N>, const N: usize>(op: O, inputs: [Var<'t, F>; N]) -> Var<'t, F> {
        inputs[0].tape.apply(op, inputs).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// The error for shapes that do not fit; [`Tape::apply`] adds the caller's place.
pub fn shape_error(op: &'static str, why: impl Into<String>, shapes: &[&[usize]]) -> Error {
    let shapes = shapes.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" and ");
    Error::Shape { op, why: why.into(), shapes, at: String::new() }
}

fn locate(error: Error, caller: &Location) -> Error {
    match error {
        Error::Shape { op, why, shapes, .. } => Error::Shape { op, why, shapes, at: caller.to_string() },
        other => other,
    }
}
