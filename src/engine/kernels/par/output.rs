//! Outputs that a parallel loop divides into pieces of whole rows.

/// An output that can be divided into pieces of whole rows: a slice with the length of its rows, or a tuple of outputs
/// with equally many rows.
pub trait Output: Sized {
    /// Some rows of the output.
    type Piece;
    /// The output without its borrow; pieces are taken from it.
    type Source: Sync;
    /// The number of rows; the last may be short.
    fn rows(&self) -> usize;
    /// Converts the borrow to a source of pieces.
    fn source(self) -> Self::Source;
    /// Rows `first .. first + count`, as far as they exist.
    ///
    /// # Safety
    /// The output behind `source` must still be borrowed exclusively, and no two live pieces may share a row.
    unsafe fn piece(source: &Self::Source, first: usize, count: usize) -> Self::Piece;
}

/// The start, length and row length of a slice.
///
/// Elements must be `Send`, since pieces go to other threads:
///
/// ```compile_fail,E0277
/// let mut counts = [std::rc::Rc::new(0)];
/// dynamoe::engine::kernels::par::chunks(&mut counts, 1, |_, _| ());
/// ```
pub struct Slice<T> {
    start: *mut T,
    len: usize,
    width: usize,
}

// SAFETY: a `Slice` only gives access to elements of type T, each to one task (`piece`'s contract), so it may
// be shared between threads where T may be sent to another thread.
unsafe impl<T: Send> Sync for Slice<T> {}

impl<'a, T: Send> Output for (&'a mut [T], usize) {
    type Piece = &'a mut [T];
    type Source = Slice<T>;
    fn rows(&self) -> usize {
        self.0.len().div_ceil(self.1.max(1))
    }
    fn source(self) -> Slice<T> {
        assert!(self.1 > 0 || self.0.is_empty(), "rows of no elements");
        Slice { start: self.0.as_mut_ptr(), len: self.0.len(), width: self.1 }
    }
    unsafe fn piece(source: &Slice<T>, first: usize, count: usize) -> &'a mut [T] {
        let start = first.saturating_mul(source.width).min(source.len);
        let len = count.saturating_mul(source.width).min(source.len - start);
        // SAFETY: `start + len <= source.len`, so the piece lies in the borrowed slice; pieces without a row
        // in common do not overlap, and the caller promises that.
        unsafe { std::slice::from_raw_parts_mut(source.start.add(start), len) }
    }
}

macro_rules! tuple {
    ($($part:ident $i:tt),+) => {
        impl<$($part: Output),+> Output for ($($part,)+) {
            type Piece = ($($part::Piece,)+);
            type Source = ($($part::Source,)+);
            fn rows(&self) -> usize {
                let rows = self.0.rows();
                $(assert_eq!(self.$i.rows(), rows, "outputs with different numbers of rows");)+
                rows
            }
            fn source(self) -> Self::Source {
                ($(self.$i.source(),)+)
            }
            unsafe fn piece(source: &Self::Source, first: usize, count: usize) -> Self::Piece {
                // SAFETY: the caller's promise holds for each part.
                unsafe { ($($part::piece(&source.$i, first, count),)+) }
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
