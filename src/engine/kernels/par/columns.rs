//! Outputs divided by columns: a task owns some columns of some rows, and other tasks the columns beside them.

use std::marker::PhantomData;

use super::output::Output;

/// A row-major matrix whose columns are divided into parts of one width. As an [`Output`] its rows are the rows of the
/// first part, then the rows of the second, and so on; a piece lies within one part.
pub struct Parts<'a, T> {
    data: &'a mut [T],
    width: usize,
    stride: usize,
}

impl<'a, T> Parts<'a, T> {
    /// `count` parts of `width` columns each.
    ///
    /// # Panics
    /// If `data` is not a whole number of rows.
    pub fn new(data: &'a mut [T], count: usize, width: usize) -> Parts<'a, T> {
        let stride = count * width;
        assert!(
            data.len().is_multiple_of(stride),
            "{} elements are not a whole number of rows of {stride}",
            data.len()
        );
        Parts { data, width, stride }
    }
}

/// The start of a matrix, its number of rows, the width of a part and the width of a row.
pub struct Source<T> {
    start: *mut T,
    height: usize,
    width: usize,
    stride: usize,
}

// SAFETY: a `Source` only gives access to elements of type T, each to one task (`piece`'s contract), so it may
// be shared between threads where T may be sent to another thread.
unsafe impl<T: Send> Sync for Source<T> {}

impl<'a, T: Send> Output for Parts<'a, T> {
    type Piece = Columns<'a, T>;
    type Source = Source<T>;
    fn rows(&self) -> usize {
        self.data.len() / self.width.max(1)
    }
    fn source(self) -> Source<T> {
        let height = self.data.len() / self.stride.max(1);
        Source { start: self.data.as_mut_ptr(), height, width: self.width, stride: self.stride }
    }
    unsafe fn piece(source: &Source<T>, first: usize, count: usize) -> Columns<'a, T> {
        let (part, row) = (first / source.height.max(1), first % source.height.max(1));
        assert!(
            count <= source.height - row && (part + 1) * source.width <= source.stride,
            "no such columns"
        );
        // SAFETY: row and part exist, so this points to an element, or to the end of the data if there are none.
        let start = unsafe { source.start.add(row * source.stride + part * source.width) };
        Columns { start, rows: count, width: source.width, stride: source.stride, borrow: PhantomData }
    }
}

/// A piece of [`Parts`]: the columns of one part in some rows.
pub struct Columns<'a, T> {
    start: *mut T,
    rows: usize,
    width: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Columns<'_, T> {
    /// Row i of the piece: its elements in these columns.
    #[inline(always)]
    pub fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        // SAFETY: the row exists (`Parts::piece` has checked it), this piece alone owns its columns here, and the borrow of
        // the piece prevents a second borrow of the row.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.stride), self.width) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{rows, with_threads};
    use super::*;

    #[test]
    fn every_element_is_visited_once_in_its_own_columns() {
        let (height, count) = (6, 4);
        for threads in [1, 2, 3, 8] {
            let (mut a, mut b) = (vec![0; height * count * 3], vec![0; height * count]);
            with_threads(threads, || {
                let out = (Parts::new(&mut a, count, 3), Parts::new(&mut b, count, 1));
                rows(out, 2, |first, (mut a, mut b)| {
                    for i in 0..2 {
                        a.row(i).iter_mut().for_each(|a| *a += first + i + 1);
                        b.row(i)[0] += first + i + 1;
                    }
                });
            });
            // Row `part * height + i` of the output is row i, columns `part * 3 ..` of the matrix.
            let number = |row: usize, part: usize| part * height + row + 1;
            assert!(a.iter().enumerate().all(|(j, &v)| v == number(j / (3 * count), j / 3 % count)));
            assert!(b.iter().enumerate().all(|(j, &v)| v == number(j / count, j % count)));
        }
    }

    #[test]
    #[should_panic(expected = "no such columns")]
    fn a_piece_of_two_parts_is_refused() {
        rows(Parts::new(&mut [0; 6], 2, 1), 2, |_, _| ());
    }

    #[test]
    #[should_panic(expected = "row 3 of 3")]
    fn a_row_past_the_last_is_refused() {
        rows(Parts::new(&mut [0; 6], 2, 1), 3, |_, mut piece| piece.row(3)[0] = 1);
    }

    #[test]
    #[should_panic(expected = "not a whole number of rows of 4")]
    fn half_a_row_is_refused() {
        Parts::new(&mut [0; 6], 2, 2);
    }
}
