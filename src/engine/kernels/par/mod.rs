//! The only door to threads: parallel loops over disjoint outputs.
//!
//! Each piece is written by one task, and nothing is ever reduced across tasks here: so the number of threads
//! moves no bit. A loop may cut its rows by the number of threads only where no row depends on its neighbors.
//!
//! Threads come from rayon. Under [`with_threads`] they stand ready as a team (`team.rs`), to which a
//! loop costs about a microsecond; elsewhere loops go through rayon's own scheduler.

mod columns;
mod team;

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::engine::error::Error;

pub use columns::{Columns, Parts};

/// How many threads the current pool has.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `work` on a team of its own with `count` threads.
///
/// # Panics
/// If the system refuses so many threads.
pub fn with_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> R {
    try_with_threads(count, work).expect("the system refused to start threads")
}

/// [`with_threads`], or `None` if the system refuses so many threads.
pub fn try_with_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> Option<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().ok()?;
    Some(pool.install(|| team::gather(work)))
}

/// The error for more threads than the system gives.
pub fn refused(count: usize) -> Error {
    Error::config("threads", format!("the system refuses to start {count}; ask for fewer"))
}

/// Multiplications below which another thread's help costs more than it saves.
pub const SMALL: usize = 1 << 16;

/// Runs `work` with so many multiplications; without help if they are few.
pub fn sized<R>(multiplications: usize, work: impl FnOnce() -> R) -> R {
    if multiplications < SMALL { team::alone(work) } else { work() }
}

/// Parallel loops started so far, by all threads of the process.
pub fn regions() -> u64 {
    REGIONS.load(Ordering::Relaxed)
}

static REGIONS: AtomicU64 = AtomicU64::new(0);

/// `work(i)` for each i below `count`, in any order, on all threads.
///
/// Everything comes down to this one function, which takes its work as a `dyn Fn`: the machinery is compiled
/// once, not once for each kernel.
fn run(count: usize, work: &(dyn Fn(usize) + Sync)) {
    if count <= 1 || team::is_busy() || threads() == 1 {
        return (0..count).for_each(work);
    }
    REGIONS.fetch_add(1, Ordering::Relaxed);
    if !team::run(count, work) {
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// Outputs that can be handed out in pieces of whole rows: a slice with the length of its rows, or a tuple
/// of such.
pub trait Output: Sized {
    /// A piece.
    type Piece;
    /// What pieces are taken from.
    type Source: Sync;
    /// How many rows there are; the last may be short.
    fn rows(&self) -> usize;
    /// Gives the borrow up for a source of pieces.
    fn source(self) -> Self::Source;
    /// Rows `first .. first + count`, or as many of them as there are.
    ///
    /// # Safety
    /// What `source` was made of is still borrowed for it alone, and no two live pieces share a row.
    unsafe fn piece(source: &Self::Source, first: usize, count: usize) -> Self::Piece;
}

/// Where a slice starts, how long it is, and how long its rows are.
///
/// What may not be sent to another thread is not handed out:
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

/// `work(first, piece)` for pieces of `size` rows of `out`, each starting at its row `first`.
pub fn rows<O: Output>(out: O, size: usize, work: impl Fn(usize, O::Piece) + Sync) {
    let rows = out.rows();
    let source = out.source();
    // SAFETY: `source` stands for borrows that last until the end of this function; each i is given to one
    // task, and the pieces of different i share no row.
    run(rows.div_ceil(size.max(1)), &|i| work(i * size, unsafe { O::piece(&source, i * size, size) }));
}

/// `work(i, chunk)` for each chunk of `size` elements of `out`, the i-th starting at `i * size`.
pub fn chunks<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    rows((out, size), 1, work);
}

/// A run of rows: the first, and how many.
///
/// # Safety
/// Both functions give the same answer every time: they are asked again after they were checked.
pub unsafe trait Span: Sync {
    /// The first row.
    fn first(&self) -> usize;
    /// How many rows.
    fn count(&self) -> usize;
}

/// A source of pieces for spans that were checked: they rise, do not overlap and end within the rows.
fn checked<O: Output, S: Span>(out: O, spans: &[S]) -> O::Source {
    check(spans, out.rows());
    out.source()
}

fn check<S: Span>(spans: &[S], rows: usize) {
    let mut end = 0;
    for span in spans {
        assert!(span.first() >= end, "spans overlap");
        end = span.first().saturating_add(span.count());
    }
    assert!(end <= rows, "a span reaches past the last row");
}

/// `work(span, piece)` for each of the spans of rows of `out`.
///
/// # Panics
/// If spans do not rise, overlap, or reach past the end.
pub fn spans<O: Output, S: Span>(out: O, spans: &[S], work: impl Fn(&S, O::Piece) + Sync) {
    let source = checked(out, spans);
    // SAFETY: `source` stands for borrows that last until the end of this function; each span is given to one
    // task, and no two share a row (`checked`, and a `Span` does not change).
    run(spans.len(), &|i| work(&spans[i], unsafe { O::piece(&source, spans[i].first(), spans[i].count()) }));
}

/// `work(span, part, piece)` for each of the spans of rows of matrices that are cut into `count` [`Parts`] each; one span's
/// parts one after another, since they lie side by side in memory.
///
/// # Panics
/// As [`spans`], or if there are not so many parts.
pub fn parts<O: Output, S: Span>(
    out: O,
    count: usize,
    spans: &[S],
    work: impl Fn(&S, usize, O::Piece) + Sync,
) {
    let height = out.rows() / count;
    assert_eq!(out.rows(), height * count, "another number of parts");
    check(spans, height);
    let source = out.source();
    run(spans.len() * count, &|i| {
        let (span, part) = (&spans[i / count], i % count);
        // SAFETY: as in `spans`; a span's rows in one part are not those in another, since it ends within the height.
        work(span, part, unsafe { O::piece(&source, part * height + span.first(), span.count()) });
    });
}

/// Two loops like [`spans`] in one: no thread waits between them.
pub fn spans2<A: Output, B: Output, S: Span>(
    (a, a_spans): (A, &[S]),
    a_work: impl Fn(&S, A::Piece) + Sync,
    (b, b_spans): (B, &[S]),
    b_work: impl Fn(&S, B::Piece) + Sync,
) {
    let (a, b) = (checked(a, a_spans), checked(b, b_spans));
    run(a_spans.len() + b_spans.len(), &|i| {
        match i.checked_sub(a_spans.len()) {
            // SAFETY: as in `spans`.
            None => a_work(&a_spans[i], unsafe { A::piece(&a, a_spans[i].first(), a_spans[i].count()) }),
            // SAFETY: as in `spans`.
            Some(i) => b_work(&b_spans[i], unsafe { B::piece(&b, b_spans[i].first(), b_spans[i].count()) }),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_visited_once_in_its_own_piece() {
        for threads in [1, 2, 3, 8] {
            for (len, size) in [(0, 4), (1, 4), (4, 4), (5, 4), (103, 10)] {
                let (mut a, mut b, mut c) = (vec![0; len], vec![0; 2 * len], vec![0; len]);
                with_threads(threads, || {
                    chunks(&mut c, size, |i, c| {
                        c.iter_mut().enumerate().for_each(|(j, c)| *c += i * size + j)
                    });
                    rows(((&mut a[..], 1), (&mut b[..], 2), (&mut c[..], 1)), size, |first, (a, b, c)| {
                        assert_eq!((b.len(), c.len()), (2 * a.len(), a.len()));
                        a.fill(first);
                        b.fill(first);
                    });
                });
                assert!(c.iter().enumerate().all(|(i, &v)| v == i));
                assert!(a.iter().enumerate().all(|(i, &v)| v == i / size * size));
                assert!(b.iter().enumerate().all(|(i, &v)| v == i / 2 / size * size));
            }
        }
    }

    // SAFETY: two numbers behind a shared borrow do not change.
    unsafe impl Span for (usize, usize) {
        fn first(&self) -> usize {
            self.0
        }
        fn count(&self) -> usize {
            self.1
        }
    }

    #[test]
    fn spans_get_their_rows() {
        let (mut a, mut b) = ([0; 10], [0; 20]);
        with_threads(3, || {
            spans(((&mut a[..], 1), (&mut b[..], 2)), &[(0, 3), (3, 0), (5, 5)], |span, (a, b)| {
                a.fill(span.0 + 1);
                b.fill(span.0 + 1);
            });
        });
        assert_eq!(a, [1, 1, 1, 0, 0, 6, 6, 6, 6, 6]);
        assert!(b.iter().enumerate().all(|(i, &v)| v == a[i / 2]));
    }

    #[test]
    fn two_loops_in_one() {
        let (mut a, mut b) = ([0; 6], [0; 10]);
        with_threads(3, || {
            spans2(
                ((&mut a[..], 2), &[(0, 1), (2, 1)]),
                |span, a| a.fill(span.0 + 1),
                ((&mut b[..], 1), &[(4, 2), (6, 3)]),
                |span, b| b.fill(span.0),
            );
        });
        assert_eq!((a, b), ([1, 1, 0, 0, 3, 3], [0, 0, 0, 0, 4, 4, 6, 6, 6, 0]));
    }

    #[test]
    fn spans_get_their_rows_in_every_part() {
        let (mut a, mut b) = ([0; 5 * 3 * 2], [0; 5 * 3]);
        with_threads(3, || {
            let out = (Parts::new(&mut a, 3, 2), Parts::new(&mut b, 3, 1));
            parts(out, 3, &[(0, 2), (3, 2)], |span, part, (mut a, mut b)| {
                for i in 0..span.1 {
                    a.row(i).fill(10 * (span.0 + i) + part);
                    b.row(i).fill(10 * (span.0 + i) + part);
                }
            });
        });
        let expected = |row: usize, part: usize| if row == 2 { 0 } else { 10 * row + part };
        assert!(a.iter().enumerate().all(|(j, &v)| v == expected(j / 6, j / 2 % 3)));
        assert!(b.iter().enumerate().all(|(j, &v)| v == expected(j / 3, j % 3)));
    }

    #[test]
    #[should_panic(expected = "past the last row")]
    fn spans_must_lie_inside_a_part() {
        parts(Parts::new(&mut [0; 8], 2, 1), 2, &[(3, 2)], |_, _, _| ());
    }

    #[test]
    #[should_panic(expected = "another number of parts")]
    fn parts_must_be_as_many() {
        parts(Parts::new(&mut [0; 8], 2, 1), 3, &[(0, 1)], |_, _, _| ());
    }

    #[test]
    #[should_panic(expected = "spans overlap")]
    fn spans_must_not_overlap() {
        spans((&mut [0; 4][..], 1), &[(0, 2), (1, 2)], |_, _| ());
    }

    #[test]
    #[should_panic(expected = "past the last row")]
    fn spans_must_lie_inside() {
        spans((&mut [0; 4][..], 1), &[(0, 2), (3, 2)], |_, _| ());
    }

    #[test]
    #[should_panic(expected = "spans overlap")]
    fn a_span_whose_end_no_number_can_hold_is_refused() {
        spans((&mut [0; 4][..], 1), &[(2, usize::MAX), (2, 2)], |_, _| ());
    }

    #[test]
    #[should_panic(expected = "different numbers of rows")]
    fn outputs_must_have_the_same_number_of_rows() {
        rows(((&mut [0; 4][..], 2), (&mut [0; 5][..], 2)), 1, |_, _| ());
    }
}
