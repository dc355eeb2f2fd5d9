//! A vector for each token of a vocabulary.

use super::param::{Init, Param};
use crate::engine::error::Result;
use crate::engine::kernels::elem::Elem;
use crate::engine::tape::{Mode, Tape, Var};
use crate::module;

/// A table of vectors, (V, d).
#[derive(Clone, Debug)]
pub struct Embedding<F> {
    /// The table.
    pub table: Param<F>,
}

impl<F: Elem> Embedding<F> {
    /// `vocabulary` vectors of width `width`, uniform in `[-1/sqrt(width), 1/sqrt(width))`.
    pub fn new(vocabulary: usize, width: usize, init: &mut Init) -> Embedding<F> {
        Embedding { table: Param::uniform(&[vocabulary, width], width, init) }
    }

    /// The vectors of `ids`, (T, d). If nothing else on the tape reads the table (`alone`), only the rows named by
    /// `ids` are put on the tape, and only they get a gradient.
    ///
    /// # Errors
    /// Ids that are not in the vocabulary.
    ///
    /// # Panics
    /// `alone`, although other rows of the table are on the tape.
    pub fn forward<'t>(&self, tape: &'t Tape<F>, ids: &[u32], alone: bool) -> Result<Var<'t, F>> {
        if !alone || tape.mode() == Mode::Infer || ids.iter().any(|&id| id as usize >= self.rows()) {
            return embed(self.table.on(tape), ids);
        }
        let rows = rows_of(ids);
        let local: Vec<u32> =
            ids.iter().map(|id| rows.binary_search(id).expect("a row of an id") as u32).collect();
        embed(self.table.rows_on(tape, rows.into()), &local)
    }

    fn rows(&self) -> usize {
        self.table.value.shape()[0]
    }
}

/// The rows of a table named by `ids`, without repetition, in rising order.
pub fn rows_of(ids: &[u32]) -> Vec<u32> {
    let mut rows = ids.to_vec();
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn embed<'t, F: Elem>(table: Var<'t, F>, ids: &[u32]) -> Result<Var<'t, F>> {
    table.tape().apply(crate::engine::ops::index::Embedding::new(ids, &[ids.len()]), [table])
}

module!(Embedding { table });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::arr;

    #[test]
    fn rows_alone_and_the_whole_table_give_the_same_vectors_and_gradients() {
        let embedding = Embedding::<f64>::new(9, 3, &mut Init::new(1));
        let ids = [7, 2, 2, 0, 7, 7];
        let run = |alone| {
            let tape = Tape::new(Mode::Train);
            let h = embedding.forward(&tape, &ids, alone).unwrap();
            (h.value(), tape.backward((h * h).sum()).unwrap())
        };
        let ((h, some), (expected, whole)) = (run(true), run(false));
        assert_eq!(h, expected);
        let [some, whole] = [&some, &whole].map(|all| all.parameter(embedding.table.id()).unwrap());
        assert_eq!((some.rows, whole.rows), (Some(&[0, 2, 7][..]), None));
        for (i, row) in [0usize, 2, 7].into_iter().enumerate() {
            assert_eq!(arr::data(some.values)[i * 3..][..3], arr::data(whole.values)[row * 3..][..3]);
        }
        let tape = Tape::new(Mode::Train);
        let error = embedding.forward(&tape, &[1, 9], true).err().unwrap().to_string();
        assert!(error.contains("index 9 at position 1 is not below the 9 rows"), "{error}");
    }
}
