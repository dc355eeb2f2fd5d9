//! What an operation is: a function of arrays, and its gradient.

use crate::engine::arr::Arr;
use crate::engine::error::{Error, Result};
use crate::engine::kernels::elem::Elem;

/// A differentiable operation on `N` arrays.
pub trait Op<F: Elem, const N: usize>: 'static {
    /// The operation's name in messages.
    const NAME: &'static str;
    /// What the backward pass needs beyond inputs and output.
    type Saved: 'static;
    /// The output, and what to keep for the backward pass. Shapes that do not fit are an error from
    /// [`shape_error`].
    fn forward(&self, x: [&Arr<F>; N]) -> Result<(Arr<F>, Self::Saved)>;
    /// The gradient of each input, given the gradient `gy` of the output; `None` for an input that has none or
    /// needs none ([`Ctx::needs`]).
    fn backward(&self, ctx: Ctx<F, Self::Saved, N>, gy: &Arr<F>) -> [Option<Arr<F>>; N];
}

/// What [`Op::backward`] may read.
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

/// The error for shapes that do not fit; [`Tape::apply`](crate::Tape::apply) adds the caller's place.
pub fn shape_error(op: &'static str, why: impl Into<String>, shapes: &[&[usize]]) -> Error {
    let shapes = shapes.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" and ");
    Error::Shape { op, why: why.into(), shapes, at: String::new() }
}
