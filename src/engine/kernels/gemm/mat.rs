//! What products are made of: matrices that are views, with gathers and transposes that move no data.

use super::packed::Panels;

/// A matrix, or the transpose of one, whose rows lie contiguous in memory and may be gathered from many.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, F> {
    pub(super) data: &'a [F],
    /// Rows and columns as they lie in memory.
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Elements between the starts of two rows.
    pub(super) stride: usize,
    /// Row i lies at number `index[i]`; without an index at i.
    pub(super) index: Option<&'a [u32]>,
    pub(super) transposed: bool,
    pub(super) panels: Option<Panels<'a, F>>,
}

impl<'a, F> Mat<'a, F> {
    /// A row-major matrix at the start of `data`.
    pub fn new(data: &'a [F], rows: usize, cols: usize) -> Mat<'a, F> {
        assert!(data.len() >= rows * cols, "{rows} x {cols} elements do not fit in {}", data.len());
        Mat { data, rows, cols, stride: cols, index: None, transposed: false, panels: None }
    }

    /// The rows of `data` that `index` names, each `cols` long: a gather that moves no data.
    pub fn gather(data: &'a [F], cols: usize, index: &'a [u32]) -> Mat<'a, F> {
        let rows = index.len();
        Mat { data, rows, cols, stride: cols, index: Some(index), transposed: false, panels: None }
    }

    /// The transpose; moves no data.
    pub fn t(self) -> Mat<'a, F> {
        Mat { transposed: !self.transposed, panels: None, ..self }
    }

    /// `count` rows from row `first`.
    pub fn slice(self, first: usize, count: usize) -> Mat<'a, F> {
        assert!(first + count <= self.rows(), "rows {first} to {} of {}", first + count, self.rows());
        let whole = Mat { panels: None, ..self };
        match (self.transposed, self.index) {
            _ if count == 0 => Mat { rows: 0, cols: 0, data: &[], ..whole },
            // Without columns there are no data to skip.
            (true, _) => Mat { data: &self.data[first.min(self.data.len())..], cols: count, ..whole },
            (false, Some(index)) => Mat { index: Some(&index[first..][..count]), rows: count, ..whole },
            (false, None) => Mat { data: &self.data[first * self.stride..], rows: count, ..whole },
        }
    }

    /// `count` columns from column `first`.
    pub fn columns(self, first: usize, count: usize) -> Mat<'a, F> {
        self.t().slice(first, count).t()
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        if self.transposed { self.cols } else { self.rows }
    }

    /// How many columns it has.
    pub fn cols(&self) -> usize {
        if self.transposed { self.rows } else { self.cols }
    }

    /// The i-th contiguous row (a column, if transposed).
    #[inline(always)]
    pub(super) fn stored(&self, i: usize) -> &'a [F] {
        let i = self.index.map_or(i, |index| index[i] as usize);
        &self.data[i * self.stride..][..self.cols]
    }

    /// Everything from column `column` of the i-th contiguous row to the end of the data.
    #[inline(always)]
    pub(super) fn stored_from(&self, i: usize, column: usize) -> &'a [F] {
        let i = self.index.map_or(i, |index| index[i] as usize);
        &self.data[i * self.stride + column..]
    }

    /// Element (i, j).
    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> F
    where
        F: Copy,
    {
        if self.transposed { self.stored(j)[i] } else { self.stored(i)[j] }
    }
}
