//! Parameters on the tape: found by their id, read whole or in some of their rows. Read `tape.rs` first.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Gradients, Mode, Tape, Var};
use crate::engine::arr::{self, Arr};
use crate::engine::kernels::elem::Elem;
use crate::engine::watch::ParamId;

/// The parameters on a tape.
pub type Parameters = HashMap<ParamId, Entry>;

/// The node of a parameter, and the rows that it holds; `None` for all of them.
#[derive(Clone)]
pub struct Entry {
    node: usize,
    rows: Option<Arc<[u32]>>,
}

/// The gradient of a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a, F> {
    /// The gradient of all rows, or of those in `rows`.
    pub values: &'a Arr<F>,
    /// The rows that have a gradient, ascending; it is zero for all others. `None` for all rows.
    pub rows: Option<&'a [u32]>,
}

impl<F: Elem> Tape<F> {
    /// A parameter of a model. Asked for again, it is the same variable.
    pub fn parameter(&self, id: ParamId, value: &Arr<F>) -> Var<'_, F> {
        self.known_parameter(id, None, || value.clone())
    }

    /// Some rows of a parameter, ascending. The variable and its gradient hold only these rows, so a step that
    /// uses few rows of a large table stays cheap.
    ///
    /// # Panics
    /// If the parameter is already on the tape with other rows.
    pub fn parameter_rows(
        &self,
        id: ParamId,
        rows: Arc<[u32]>,
        values: impl FnOnce() -> Arr<F>,
    ) -> Var<'_, F> {
        self.known_parameter(id, Some(rows), values)
    }

    fn known_parameter(
        &self,
        id: ParamId,
        rows: Option<Arc<[u32]>>,
        value: impl FnOnce() -> Arr<F>,
    ) -> Var<'_, F> {
        if let Some(known) = self.parameters.borrow().get(&id) {
            assert!(known.rows == rows, "the parameter is already on the tape with other rows");
            return Var { tape: self, id: known.node };
        }
        let var = self.push(id, value(), self.mode != Mode::Infer, &[], None);
        self.parameters.borrow_mut().insert(id, Entry { node: var.id, rows });
        var
    }
}

impl<F: Elem> Gradients<F> {
    /// The gradient of a parameter; `None` if the result does not depend on it.
    pub fn parameter(&self, id: ParamId) -> Option<Gradient<'_, F>> {
        let Entry { node, rows } = self.parameters.get(&id)?;
        Some(Gradient { values: self.of[*node].as_ref()?, rows: rows.as_deref() })
    }

    /// Adds the gradients of the parameters on another tape. Those of its variables are dropped.
    pub fn accumulate(&mut self, mut other: Gradients<F>) {
        for (id, Entry { node, rows }) in std::mem::take(&mut other.parameters) {
            let Some(theirs) = other.of[node].take() else { continue };
            let of = &mut self.of;
            let mine = self.parameters.entry(id).or_insert_with(|| {
                of.push(None);
                Entry { node: of.len() - 1, rows: rows.clone() }
            });
            let (sum, rows) = match of[mine.node].take() {
                Some(ours) => add((ours, mine.rows.take()), (theirs, rows)),
                None => (theirs, rows),
            };
            of[mine.node] = Some(sum);
            mine.rows = rows;
        }
    }
}

impl<F: Elem> Drop for Gradients<F> {
    fn drop(&mut self) {
        self.of.drain(..).flatten().for_each(arr::recycle);
    }
}

/// The sum of two gradients of one parameter, with its rows.
///
/// # Panics
/// If only one of the two is of all rows: the whole gradient of a parameter that is read in rows is not defined here.
fn add<F: Elem>(
    (a, rows_a): (Arr<F>, Option<Arc<[u32]>>),
    (b, rows_b): (Arr<F>, Option<Arc<[u32]>>),
) -> (Arr<F>, Option<Arc<[u32]>>) {
    let (rows_a, rows_b) = match (rows_a, rows_b) {
        (Some(rows_a), Some(rows_b)) => (rows_a, rows_b),
        (None, None) => return (arr::sum(a, b), None),
        _ => panic!("one gradient of the parameter is of all rows, the other of some"),
    };
    let mut rows = [&rows_a[..], &rows_b[..]].concat();
    rows.sort_unstable();
    rows.dedup();
    let width = a.len() / rows_a.len().max(1);
    let mut sum = arr::zeros(&[&[rows.len()], &a.shape()[1..]].concat());
    let sums = arr::data_mut(&mut sum);
    for (part_rows, part) in [(&rows_a, &a), (&rows_b, &b)] {
        for (row, part) in part_rows.iter().zip(arr::data(part).chunks_exact(width)) {
            let at = rows.binary_search(row).expect("a row of one of the two") * width;
            sums[at..at + width].iter_mut().zip(part).for_each(|(sum, &v)| *sum += v);
        }
    }
    (sum, Some(rows.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gradients of `sum(values * p)`, where `p` is a parameter, or some rows of it.
    fn gradients(id: ParamId, rows: Option<&[u32]>, values: &[f64]) -> Gradients<f64> {
        let (tape, values) = (Tape::new(Mode::Train), arr::from_vec(&[values.len() / 2, 2], values.to_vec()));
        let p = match rows {
            Some(rows) => tape.parameter_rows(id, rows.into(), || values.clone()),
            None => tape.parameter(id, &values),
        };
        tape.backward((p * tape.constant(values)).sum()).unwrap()
    }

    #[test]
    fn a_parameter_is_one_variable_and_a_missing_one_has_no_gradient() {
        let (tape, [a, b]) = (Tape::new(Mode::Train), [ParamId::unique(), ParamId::unique()]);
        let value = arr::full(&[1], 3.0);
        let y = tape.parameter(a, &value) * tape.parameter(a, &value);
        tape.parameter(b, &value);
        let gradients = tape.backward(y).unwrap();
        assert_eq!(arr::data(gradients.parameter(a).unwrap().values), [6.0]);
        assert!(gradients.parameter(b).is_none() && gradients.parameter(ParamId::unique()).is_none());
    }

    #[test]
    fn gradients_of_whole_parameters_and_of_rows_accumulate() {
        let [a, b, c] = [(); 3].map(|()| ParamId::unique());
        let mut sum = gradients(a, None, &[1.0, 2.0]);
        sum.accumulate(gradients(a, None, &[10.0, 20.0]));
        sum.accumulate(gradients(b, Some(&[1, 4]), &[1.0, 2.0, 3.0, 4.0]));
        sum.accumulate(gradients(b, Some(&[0, 4]), &[5.0, 6.0, 7.0, 8.0]));
        sum.accumulate(gradients(c, None, &[7.0, 7.0]));
        assert_eq!(arr::data(sum.parameter(a).unwrap().values), [11.0, 22.0]);
        let of_b = sum.parameter(b).unwrap();
        assert_eq!(of_b.rows, Some(&[0, 1, 4][..]));
        assert_eq!(arr::data(of_b.values), [5.0, 6.0, 1.0, 2.0, 10.0, 12.0]);
        assert_eq!(arr::data(sum.parameter(c).unwrap().values), [7.0, 7.0]);
    }

    #[test]
    #[should_panic(expected = "already on the tape with other rows")]
    fn rows_and_the_whole_of_a_parameter_exclude_each_other() {
        let (tape, id) = (Tape::new(Mode::Train), ParamId::unique());
        let value = arr::full(&[2, 1], 1.0);
        tape.parameter(id, &value);
        tape.parameter_rows(id, [1].into(), || arr::full(&[1, 1], 1.0));
    }
}
