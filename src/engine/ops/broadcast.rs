//! Arrays whose shapes fit by the rules of NumPy: aligned at the last axis, and an axis of length 1 (or a missing
//! one) is repeated. Where the forward pass repeats an element, the backward pass sums its gradients.

use super::{reduce, shape};
use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::kernels::{elem::Elem, map};
use crate::engine::tape::shape_error;

/// The shape that two shapes are repeated to.
pub(super) fn common_shape(op: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let length = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|i| match (length(a, i), length(b, i)) {
            (m, n) if m == n || n == 1 => Ok(m),
            (1, n) => Ok(n),
            (m, n) => Err(shape_error(
                op,
                format!("lengths {m} and {n} of axis {} from the end are neither equal nor 1", rank - i),
                &[a, b],
            )),
        })
        .collect()
}

/// Whether an array of shape `row`, laid over the last axes of `shape` again and again, fills it.
fn is_row(row: &[usize], shape: &[usize]) -> bool {
    let first = row.iter().position(|&n| n != 1).unwrap_or(row.len());
    shape.ends_with(&row[first..]) && row.len() <= shape.len()
}

/// A new array of this shape with `x` repeated to fill it.
fn repeat<F: Elem>(x: &Arr<F>, shape: &[usize]) -> Arr<F> {
    let mut out = arr::uninit(shape);
    if x.shape() == shape {
        arr::data_mut(&mut out).copy_from_slice(arr::data(x));
    } else {
        out.assign(x);
    }
    out
}

/// `f(a, b)` with both repeated to `shape`. The four cases are loops over one definition.
#[inline(always)]
pub(super) fn broadcast<F: Elem>(
    a: &Arr<F>,
    b: &Arr<F>,
    shape: &[usize],
    f: impl Fn(F, F) -> F + Sync + Send,
) -> Arr<F> {
    if a.shape() == b.shape() {
        return arr::zip(a, b, f);
    }
    if a.shape() != shape && is_row(a.shape(), shape) {
        let mut out = repeat(b, shape);
        map::update_rows(
            arr::data_mut(&mut out),
            arr::data(a),
            #[inline(always)]
            |b, a| f(a, b),
        );
        return out;
    }
    let mut out = repeat(a, shape);
    if is_row(b.shape(), shape) {
        map::update_rows(arr::data_mut(&mut out), arr::data(b), f);
    } else {
        let b = repeat(b, shape);
        map::update(arr::data_mut(&mut out), arr::data(&b), f);
        arr::recycle(b);
    }
    out
}

/// The reverse of repeating: sums `g` over the axes along which `shape` was repeated, in a fixed order.
pub(super) fn sum_to<F: Elem>(g: &Arr<F>, to: &[usize]) -> Arr<F> {
    let added = g.ndim() - to.len();
    let repeated = |&axis: &usize| axis < added || (to[axis - added] == 1 && g.shape()[axis] != 1);
    let axes: Vec<usize> = (0..g.ndim()).filter(repeated).collect();
    if axes.is_empty() { g.clone() } else { shape::reshaped(&reduce::sum_over(g, &axes), to) }
}
