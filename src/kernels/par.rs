//! The only file that uses rayon: parallel loops over disjoint outputs.
//!
//! Chunks have a size that does not depend on the number of threads, each chunk is written by one
//! task, and nothing is ever reduced across tasks here: so the number of threads moves no bit.
//!
//! Every loop comes down to one function that takes its work as a `dyn Fn`: rayon's machinery is compiled once,
//! not once for each kernel.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

/// Parallel loops of this process that were shared out among threads.
static REGIONS: AtomicU64 = AtomicU64::new(0);

/// How many parallel loops of this process were shared out among threads so far.
pub fn regions() -> u64 {
    REGIONS.load(Ordering::Relaxed)
}

/// How many threads the current pool has.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `work` on a pool of its own with `count` threads.
///
/// # Panics
/// If the system refuses so many threads.
pub fn with_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> R {
    try_with_threads(count, work).expect("the system refused to start threads")
}

/// [`with_threads`], or `None` if the system refuses so many threads.
pub fn try_with_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> Option<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().ok()?;
    Some(pool.install(work))
}

/// `work(i)` for each i below `count`, in any order, on all threads.
fn run(count: usize, work: &(dyn Fn(usize) + Sync)) {
    if count <= 1 || threads() == 1 {
        (0..count).for_each(work);
    } else {
        REGIONS.fetch_add(1, Ordering::Relaxed);
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// A slice whose chunks are handed out, each to one task.
struct Chunks<T> {
    start: *mut T,
    len: usize,
    size: usize,
}

// SAFETY: a `Chunks` only gives access to elements of type T, each to one task (`get`'s contract), so it may
// be shared between threads where T may be sent to another thread.
unsafe impl<T: Send> Sync for Chunks<T> {}

impl<T> Chunks<T> {
    fn new(data: &mut [T], size: usize) -> Chunks<T> {
        assert!(size > 0 || data.is_empty(), "chunks of no elements");
        Chunks { start: data.as_mut_ptr(), len: data.len(), size: size.max(1) }
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.size)
    }

    /// The i-th chunk; empty past the end.
    ///
    /// # Safety
    /// The slice given to `new` is still borrowed for this `Chunks` alone, and no two live results have
    /// the same `i`.
    #[expect(clippy::mut_from_ref, reason = "each i is handed out once")]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        let first = i.saturating_mul(self.size).min(self.len);
        let count = self.size.min(self.len - first);
        // SAFETY: `first + count <= len`, so the chunk lies in the borrowed slice; chunks of different i do
        // not overlap, and the caller asks for each i once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }
}

/// `work(i, chunk)` for each chunk of `size` elements of `out`, the i-th starting at `i * size`.
pub fn chunks<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let out = Chunks::new(out, size);
    // SAFETY: `out` borrows its slice until the end of this function, and `run` gives each i to one task.
    run(out.count(), &|i| work(i, unsafe { out.get(i) }));
}

/// The same over two outputs, cut into the same number of chunks.
pub fn chunks2<A: Send, B: Send>(
    (a, a_size): (&mut [A], usize),
    (b, b_size): (&mut [B], usize),
    work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (a, b) = (Chunks::new(a, a_size), Chunks::new(b, b_size));
    assert_eq!(a.count(), b.count(), "outputs with different numbers of chunks");
    // SAFETY: as in `chunks`, for both.
    run(a.count(), &|i| unsafe { work(i, a.get(i), b.get(i)) });
}

/// The same over three outputs.
pub fn chunks3<A: Send, B: Send, C: Send>(
    (a, a_size): (&mut [A], usize),
    (b, b_size): (&mut [B], usize),
    (c, c_size): (&mut [C], usize),
    work: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
) {
    let (a, b, c) = (Chunks::new(a, a_size), Chunks::new(b, b_size), Chunks::new(c, c_size));
    assert!(a.count() == b.count() && a.count() == c.count(), "outputs with different numbers of chunks");
    // SAFETY: as in `chunks`, for all three.
    run(a.count(), &|i| unsafe { work(i, a.get(i), b.get(i), c.get(i)) });
}

/// `work(task)` for each of a list of tasks; a task owns what it writes.
pub fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync) {
    let mut tasks: Vec<Option<T>> = tasks.into_iter().map(Some).collect();
    chunks(&mut tasks, 1, |_, task| work(task[0].take().expect("each task is run once")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_visited_once_in_its_own_chunk() {
        for threads in [1, 2, 3, 8] {
            for (len, size) in [(0, 4), (1, 4), (4, 4), (5, 4), (103, 10)] {
                let (mut a, mut b, mut c) = (vec![0; len], vec![0; 2 * len], vec![0; len]);
                with_threads(threads, || {
                    chunks(&mut c, size, |i, c| {
                        c.iter_mut().enumerate().for_each(|(j, c)| *c += i * size + j)
                    });
                    chunks3((&mut a, size), (&mut b, 2 * size), (&mut c, size), |i, a, b, c| {
                        assert_eq!((b.len(), c.len()), (2 * a.len(), a.len()));
                        a.fill(i);
                        b.fill(i);
                    });
                });
                assert!(c.iter().enumerate().all(|(i, &v)| v == i));
                assert!(a.iter().enumerate().all(|(i, &v)| v == i / size));
                assert!(b.iter().enumerate().all(|(i, &v)| v == i / (2 * size)));
            }
        }
    }

    #[test]
    fn tasks_run_once_each() {
        let mut counts = [0; 50];
        with_threads(3, || each(counts.iter_mut().collect(), |count: &mut i32| *count += 1));
        assert!(counts.iter().all(|&c| c == 1));
    }

    #[test]
    #[should_panic(expected = "different numbers of chunks")]
    fn outputs_must_have_the_same_number_of_chunks() {
        chunks2((&mut [0; 4], 2), (&mut [0; 5], 2), |_, _, _| ());
    }
}
