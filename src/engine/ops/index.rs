//! Rows by number: gather, its reverse scatter, and the embedding table.

use crate::engine::arr::{self, Arr};
use crate::engine::error::Result;
use crate::engine::gradcheck::{Check, gradcheck, random};
use crate::engine::kernels::{elem::Elem, par, simd::fast};
use crate::engine::tape::{Ctx, Op, Var, shape_error};

/// Elements a task copies or adds to, at least one row.
const CHUNK: usize = 16 * 1024;
/// Tasks that a scatter is cut into at most: each reads all the indices.
const SCATTER_TASKS: usize = 16;

/// The shape of `rows` rows like those of `x`.
fn rows_like<F: Elem>(x: &Arr<F>, rows: &[usize]) -> Vec<usize> {
    [rows, &x.shape()[1..]].concat()
}

/// Every index must be the number of one of `rows` rows.
fn check_indices(op: &'static str, indices: &[u32], rows: usize, shape: &[usize]) -> Result<()> {
    match indices.iter().position(|&index| index as usize >= rows) {
        Some(at) => {
            let why = format!("index {} at position {at} is not below the {rows} rows", indices[at]);
            Err(shape_error(op, why, &[shape]))
        }
        None => Ok(()),
    }
}

fn check_has_rows<F: Elem>(op: &'static str, x: &Arr<F>) -> Result<()> {
    if x.ndim() == 0 { Err(shape_error(op, "a single number has no rows", &[x.shape()])) } else { Ok(()) }
}

/// Row i of the result is row `indices[i]` of `x`.
fn gather<F: Elem>(x: &Arr<F>, indices: &[u32], shape: &[usize]) -> Arr<F> {
    let mut out = arr::uninit(shape);
    let width = out.len() / indices.len().max(1);
    let (x, rows) = (arr::data(x), (CHUNK / width.max(1)).max(1));
    par::chunks(arr::data_mut(&mut out), rows * width, |i, out| {
        for (out, &index) in out.chunks_exact_mut(width).zip(&indices[i * rows..]) {
            out.copy_from_slice(&x[index as usize * width..][..width]);
        }
    });
    out
}

/// Row i of `x` is added to row `indices[i]` of zeros, in ascending order of i.
fn scatter_add<F: Elem>(x: &Arr<F>, indices: &[u32], shape: &[usize]) -> Arr<F> {
    let mut out = arr::zeros(shape);
    let width = out.len() / shape[0].max(1);
    let rows = shape[0].div_ceil(SCATTER_TASKS).max(CHUNK / width.max(1));
    let x = arr::data(x);
    // A task owns some rows of the result and searches all indices for them.
    par::chunks(arr::data_mut(&mut out), rows * width, |task, out| {
        let first = task * rows;
        let own = first..first + out.len() / width;
        fast::<F, _>(
            #[inline(always)]
            || {
                for (i, &index) in
                    indices.iter().enumerate().filter(|(_, index)| own.contains(&(**index as usize)))
                {
                    let out = &mut out[(index as usize - first) * width..][..width];
                    for (o, &x) in out.iter_mut().zip(&x[i * width..][..width]) {
                        *o += x;
                    }
                }
            },
        );
    });
    out
}

/// Rows by number.
pub struct GatherRows {
    indices: Vec<u32>,
}

impl<F: Elem> Op<F, 1> for GatherRows {
    const NAME: &'static str = "gather_rows";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let name = <Self as Op<F, 1>>::NAME;
        check_has_rows(name, x)?;
        check_indices(name, &self.indices, x.shape()[0], x.shape())?;
        Ok((gather(x, &self.indices, &rows_like(x, &[self.indices.len()])), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(scatter_add(gy, &self.indices, ctx.x[0].shape()))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Row `indices[i]` of a `[rows, ..]` as row i of the result `[indices.len(), ..]`. The gradients of
    /// a row that is taken several times are added in ascending order of i.
    #[track_caller]
    pub fn gather_rows(self, indices: &[u32]) -> Self {
        Var::apply(GatherRows { indices: indices.to_vec() }, [self])
    }
}

/// Rows added up by number.
pub struct ScatterAddRows {
    indices: Vec<u32>,
    rows: usize,
}

impl<F: Elem> Op<F, 1> for ScatterAddRows {
    const NAME: &'static str = "scatter_add_rows";
    type Saved = ();
    fn forward(&self, [x]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let name = <Self as Op<F, 1>>::NAME;
        check_has_rows(name, x)?;
        if x.shape()[0] != self.indices.len() {
            let why = format!("{} rows need as many indices, not {}", x.shape()[0], self.indices.len());
            return Err(shape_error(name, why, &[x.shape()]));
        }
        check_indices(name, &self.indices, self.rows, x.shape())?;
        Ok((scatter_add(x, &self.indices, &rows_like(x, &[self.rows])), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(gather(gy, &self.indices, ctx.x[0].shape()))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// Adds row i of an `[n, ..]` to row `indices[i]` of the result `[rows, ..]`, in ascending order of i;
    /// rows without an index are 0.
    #[track_caller]
    pub fn scatter_add_rows(self, indices: &[u32], rows: usize) -> Self {
        Var::apply(ScatterAddRows { indices: indices.to_vec(), rows }, [self])
    }
}

/// The vectors of an embedding table that belong to ids.
pub struct Embedding {
    ids: Vec<u32>,
    shape: Vec<usize>,
}

impl Embedding {
    /// The vectors of `ids`, which are of the given shape.
    pub fn new(ids: &[u32], shape: &[usize]) -> Embedding {
        Embedding { ids: ids.to_vec(), shape: shape.to_vec() }
    }
}

impl<F: Elem> Op<F, 1> for Embedding {
    const NAME: &'static str = "embedding";
    type Saved = ();
    fn forward(&self, [table]: [&Arr<F>; 1]) -> Result<(Arr<F>, ())> {
        let name = <Self as Op<F, 1>>::NAME;
        if table.ndim() != 2 {
            return Err(shape_error(name, "the table needs two axes, [ids, width]", &[table.shape()]));
        }
        if self.shape.iter().product::<usize>() != self.ids.len() {
            let why = format!("{} ids do not fill the shape {:?}", self.ids.len(), self.shape);
            return Err(shape_error(name, why, &[table.shape()]));
        }
        check_indices(name, &self.ids, table.shape()[0], table.shape())?;
        Ok((gather(table, &self.ids, &rows_like(table, &self.shape)), ()))
    }
    fn backward(&self, ctx: Ctx<F, (), 1>, gy: &Arr<F>) -> [Option<Arr<F>>; 1] {
        [Some(scatter_add(gy, &self.ids, ctx.x[0].shape()))]
    }
}

impl<'t, F: Elem> Var<'t, F> {
    /// The rows of this table `[V, d]` that `ids`, of the given shape, name: `shape` + `[d]`. Gradients
    /// are added in ascending order of position.
    #[track_caller]
    pub fn embedding(self, ids: &[u32], shape: &[usize]) -> Self {
        Var::apply(Embedding::new(ids, shape), [self])
    }
}

/// The gradient checks of this file.
pub fn checks() -> Vec<Check> {
    vec![
        Check {
            op: "gather_rows",
            run: || gradcheck([random(&[4, 3, 2], 1)], |[x]| Ok(x.gather_rows(&[3, 1, 1, 0, 3]))),
        },
        Check {
            op: "scatter_add_rows",
            run: || gradcheck([random(&[5, 3], 1)], |[x]| Ok(x.scatter_add_rows(&[2, 0, 2, 2, 5], 6))),
        },
        Check {
            op: "embedding",
            run: || gradcheck([random(&[4, 3], 1)], |[x]| Ok(x.embedding(&[3, 1, 1, 0, 3, 3], &[2, 3]))),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tape::{Mode, Tape};

    #[test]
    fn sums_run_in_rising_order_at_every_thread_count() {
        let (n, rows, width) = (3000, 700, 50);
        let indices: Vec<u32> = (0..n).map(|i| (i * i % 691) as u32).collect();
        let x = random(&[n, width], 1);
        let mut plain = vec![0.0; rows * width];
        for (i, &index) in indices.iter().enumerate() {
            for j in 0..width {
                plain[index as usize * width + j] += arr::data(&x)[i * width + j];
            }
        }
        for threads in [1, 2, 3, 8] {
            let (sum, back) = par::with_threads(threads, || {
                let tape = Tape::new(Mode::Infer);
                let sum = tape.constant(x.clone()).scatter_add_rows(&indices, rows);
                (sum.value(), sum.gather_rows(&indices).value())
            });
            assert_eq!(arr::data(&sum), plain);
            assert!(indices.iter().enumerate().all(|(i, &index)| {
                arr::data(&back)[i * width..][..width] == plain[index as usize * width..][..width]
            }));
        }
    }

    #[test]
    fn no_indices_and_no_width() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(random(&[4, 3], 1));
        assert_eq!(x.gather_rows(&[]).shape(), [0, 3]);
        assert_eq!(x.gather_rows(&[]).scatter_add_rows(&[], 2).value(), arr::zeros::<f64>(&[2, 3]));
        assert_eq!(x.slice(1, 0..0).gather_rows(&[1, 2]).shape(), [2, 0]);
        assert_eq!(x.embedding(&[2], &[]).shape(), [3]);
    }

    #[test]
    fn wrong_indices_are_named() {
        let tape = Tape::new(Mode::Infer);
        let x = tape.constant(random(&[4, 3], 1));
        let message = |result: Result<Var<f64>>| result.err().unwrap().to_string();
        let gather = GatherRows { indices: vec![0, 4] };
        assert!(
            message(tape.apply(gather, [x]))
                .starts_with("gather_rows: index 4 at position 1 is not below the 4 rows")
        );
        let scatter = ScatterAddRows { indices: vec![0, 4], rows: 9 };
        assert!(message(tape.apply(scatter, [x])).contains("4 rows need as many indices, not 2"));
        let embedding = Embedding { ids: vec![0, 1, 2], shape: vec![2, 2] };
        assert!(message(tape.apply(embedding, [x])).contains("3 ids do not fill the shape [2, 2]"));
    }
}
