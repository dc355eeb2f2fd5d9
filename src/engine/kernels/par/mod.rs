//! Parallel loops over disjoint outputs: the only way kernels use threads.
//!
//! One task writes each piece, and no loop reduces across tasks, so the number of threads does not change a bit. A loop
//! may choose its pieces by the number of threads only if no row depends on its neighbors.
//!
//! The threads are rayon's. Under [`with_threads`] they form a team (`team.rs`) that starts a loop in about a
//! microsecond; elsewhere loops use rayon's scheduler.

mod columns;
mod output;
mod team;

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::engine::error::Error;

pub use columns::{Columns, Parts};
pub use output::{Output, Slice};

/// The number of threads of the current pool.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `work` with a team of `count` threads.
///
/// # Panics
/// If the system refuses to start them.
pub fn with_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> R {
    try_with_threads(count, work).expect("the system refused to start threads")
}

/// [`with_threads`], or `None` if the system refuses to start the threads.
pub fn try_with_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> Option<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().ok()?;
    Some(pool.install(|| team::lead(work)))
}

/// The error if the system refuses to start `count` threads.
pub fn refused(count: usize) -> Error {
    Error::config("threads", format!("the system refused to start {count}; use fewer"))
}

/// Multiplications below which a second thread costs more time than it saves.
pub const SMALL: usize = 1 << 16;

/// Runs `work`, which does this many multiplications; on one thread if they are few.
pub fn sized<R>(multiplications: usize, work: impl FnOnce() -> R) -> R {
    if multiplications < SMALL { team::on_this_thread(work) } else { work() }
}

/// The number of parallel loops that the process has started so far.
pub fn regions() -> u64 {
    REGIONS.load(Ordering::Relaxed)
}

static REGIONS: AtomicU64 = AtomicU64::new(0);

/// `work(i)` for each i below `count`, in any order, on all threads.
///
/// Every loop calls this function. It takes a `dyn Fn`, so that it is compiled once and not once per kernel.
fn run(count: usize, work: &(dyn Fn(usize) + Sync)) {
    if count <= 1 || team::in_task() || threads() == 1 {
        return (0..count).for_each(work);
    }
    REGIONS.fetch_add(1, Ordering::Relaxed);
    if !team::run(count, work) {
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// `work(first, piece)` for each piece of `size` rows of `out`; `first` is the piece's first row.
pub fn rows<O: Output>(out: O, size: usize, work: impl Fn(usize, O::Piece) + Sync) {
    let rows = out.rows();
    let source = out.source();
    // SAFETY: `out` is borrowed until this function returns; one task gets each i, and pieces of different i share no
    // row.
    run(rows.div_ceil(size.max(1)), &|i| work(i * size, unsafe { O::piece(&source, i * size, size) }));
}

/// `work(i, chunk)` for each chunk of `size` elements of `out`; chunk i starts at element `i * size`.
pub fn chunks<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    rows((out, size), 1, work);
}

/// A range of rows.
///
/// # Safety
/// Both functions must return the same value at every call: they are called again after they were checked.
pub unsafe trait Span: Sync {
    /// The first row.
    fn first(&self) -> usize;
    /// The number of rows.
    fn count(&self) -> usize;
}

/// The source of pieces, after checking that the spans rise, do not overlap and end within the rows.
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
/// If the spans do not rise, overlap or reach past the end.
pub fn spans<O: Output, S: Span>(out: O, spans: &[S], work: impl Fn(&S, O::Piece) + Sync) {
    let source = checked(out, spans);
    // SAFETY: `out` is borrowed until this function returns; one task gets each span, and no two share a row (`checked`,
    // and a `Span` does not change).
    run(spans.len(), &|i| work(&spans[i], unsafe { O::piece(&source, spans[i].first(), spans[i].count()) }));
}

/// `work(span, part, piece)` for each span of rows and each part, of matrices that are divided into `count` [`Parts`]
/// each. The parts of a span follow each other, since they are adjacent in memory.
///
/// # Panics
/// As [`spans`], or if the matrices do not have `count` parts.
pub fn parts<O: Output, S: Span>(
    out: O,
    count: usize,
    spans: &[S],
    work: impl Fn(&S, usize, O::Piece) + Sync,
) {
    let height = out.rows() / count;
    assert_eq!(out.rows(), height * count, "the number of parts differs");
    check(spans, height);
    let source = out.source();
    run(spans.len() * count, &|i| {
        let (span, part) = (&spans[i / count], i % count);
        // SAFETY: as in `spans`; a span ends within the height, so its rows differ between parts.
        work(span, part, unsafe { O::piece(&source, part * height + span.first(), span.count()) });
    });
}

/// Two loops like [`spans`] as one, so that no thread waits between them.
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
    #[should_panic(expected = "the number of parts differs")]
    fn the_number_of_parts_must_agree() {
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
    fn a_span_whose_end_overflows_is_refused() {
        spans((&mut [0; 4][..], 1), &[(2, usize::MAX), (2, 2)], |_, _| ());
    }

    #[test]
    #[should_panic(expected = "different numbers of rows")]
    fn outputs_must_have_the_same_number_of_rows() {
        rows(((&mut [0; 4][..], 2), (&mut [0; 5][..], 2)), 1, |_, _| ());
    }
}
