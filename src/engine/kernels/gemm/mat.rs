//! The operands of products: views of matrices, whose gathers and transposes move no data.

/// A view of a matrix or of its transpose. Each stored row is contiguous; an index may select and order the rows.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, F> {
    pub(super) data: &'a [F],
    /// Stored rows and columns: before the transpose.
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Elements between the starts of two rows.
    pub(super) stride: usize,
    /// Stored row i is row `index[i]` of the data; without an index, row i.
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

    /// The rows `index` of `data`, each `cols` long.
    pub fn gather(data: &'a [F], cols: usize, index: &'a [u32]) -> Mat<'a, F> {
        let rows = index.len();
        Mat { data, rows, cols, stride: cols, index: Some(index), transposed: false, panels: None }
    }

    /// The transpose.
    pub fn t(self) -> Mat<'a, F> {
        Mat { transposed: !self.transposed, panels: None, ..self }
    }

    /// `count` rows from row `first`.
    pub fn slice(self, first: usize, count: usize) -> Mat<'a, F> {
        assert!(first + count <= self.rows(), "rows {first} to {} of {}", first + count, self.rows());
        let whole = Mat { panels: None, ..self };
        match (self.transposed, self.index) {
            _ if count == 0 => Mat { rows: 0, cols: 0, data: &[], ..whole },
            // A matrix without columns has no data to skip.
            (true, _) => Mat { data: &self.data[first.min(self.data.len())..], cols: count, ..whole },
            (false, Some(index)) => Mat { index: Some(&index[first..][..count]), rows: count, ..whole },
            (false, None) => Mat { data: &self.data[first * self.stride..], rows: count, ..whole },
        }
    }

    /// `count` columns from column `first`.
    pub fn columns(self, first: usize, count: usize) -> Mat<'a, F> {
        self.t().slice(first, count).t()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        if self.transposed { self.cols } else { self.rows }
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        if self.transposed { self.rows } else { self.cols }
    }

    /// Stored row i (column i of a transposed view).
    #[inline(always)]
    pub(super) fn stored(&self, i: usize) -> &'a [F] {
        let i = self.index.map_or(i, |index| index[i] as usize);
        &self.data[i * self.stride..][..self.cols]
    }

    /// The data from element `column` of stored row i to the end.
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

/// A copy of a matrix in the layout in which products read it.
#[derive(Clone, Copy, Debug)]
pub struct Panels<'a, F> {
    pub(super) data: &'a [F],
    /// Width of a panel. A SIMD level with another width reads the matrix itself.
    pub(super) width: usize,
}
