//! The only file that uses rayon: parallel loops over disjoint outputs.
//!
//! Chunks have a size that does not depend on the number of threads, each chunk is written by one
//! task, and nothing is ever reduced across tasks here: so the number of threads moves no bit.

use rayon::prelude::*;

/// How many threads the current pool has.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `work` on a pool of its own with `count` threads.
pub fn with_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build();
    pool.expect("the system refused to start threads").install(work)
}

/// `work(i, chunk)` for each chunk of `size` elements of `out`, the i-th starting at `i * size`.
pub fn chunks<T: Send>(out: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Sync + Send) {
    if out.len() <= size {
        if !out.is_empty() {
            work(0, out);
        }
        return;
    }
    out.par_chunks_mut(size).enumerate().for_each(|(i, chunk)| work(i, chunk));
}

/// The same over two outputs, cut into the same number of chunks.
pub fn chunks2<A: Send, B: Send>(
    (a, a_size): (&mut [A], usize),
    (b, b_size): (&mut [B], usize),
    work: impl Fn(usize, &mut [A], &mut [B]) + Sync + Send,
) {
    if a.len() <= a_size {
        if !a.is_empty() {
            work(0, a, b);
        }
        return;
    }
    a.par_chunks_mut(a_size).zip(b.par_chunks_mut(b_size)).enumerate().for_each(|(i, (a, b))| work(i, a, b));
}

/// The same over three outputs.
pub fn chunks3<A: Send, B: Send, C: Send>(
    (a, a_size): (&mut [A], usize),
    (b, b_size): (&mut [B], usize),
    (c, c_size): (&mut [C], usize),
    work: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync + Send,
) {
    if a.len() <= a_size {
        if !a.is_empty() {
            work(0, a, b, c);
        }
        return;
    }
    let chunks = a.par_chunks_mut(a_size).zip(b.par_chunks_mut(b_size)).zip(c.par_chunks_mut(c_size));
    chunks.enumerate().for_each(|(i, ((a, b), c))| work(i, a, b, c));
}

/// `work(task)` for each of a list of tasks; a task owns what it writes.
pub fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    if tasks.len() <= 1 {
        tasks.into_iter().for_each(work);
    } else {
        tasks.into_par_iter().with_max_len(1).for_each(work);
    }
}
