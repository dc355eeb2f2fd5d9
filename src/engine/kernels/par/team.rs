//! A team of threads that wait between parallel loops, so that even a loop of a few microseconds is worth distributing.
//!
//! The leader runs the program; the workers wait for its loops: they spin at first (the next loop usually follows soon)
//! and then sleep on a condition variable. Threads take tasks one by one, so a late or descheduled worker delays nobody.
//! The leader takes tasks from the front and workers from the back: over successive loops a thread mostly gets the rows
//! that are in its cache. A loop inside a task runs on the task's own thread.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{available_parallelism, yield_now};

thread_local! {
    /// The team that this thread leads.
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
    /// Whether this thread is inside a task.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// The body of a loop, which outlives the loop.
type Job = *const (dyn Fn(usize) + Sync);

struct Team {
    /// The tasks of the loop that no thread has taken yet, as a [`Span`].
    state: AtomicU64,
    /// Finished tasks of the loop.
    done: AtomicUsize,
    /// Written by the leader between loops, read by a thread that has taken a task.
    job: UnsafeCell<Option<Job>>,
    shutdown: AtomicBool,
    /// Workers that wait on `wakeup`.
    sleepers: AtomicUsize,
    mutex: Mutex<()>,
    wakeup: Condvar,
    /// The first panic of a task of the loop.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. Only the leader writes it, after every task of the
// previous loop is done (`Team::run` waits for that). Only a thread that has taken a task of the present loop reads it, and
// the leader waits for that task: no read races with a write. The function it points to is `Sync`.
unsafe impl Sync for Team {}
// SAFETY: as above; no field is tied to the thread that created the team.
unsafe impl Send for Team {}

/// The tasks `front .. back` of a loop, and the loop's number, which distinguishes loops of the same length.
#[derive(Clone, Copy)]
struct Span {
    number: u64,
    front: u64,
    back: u64,
}

impl Span {
    const BITS: u32 = 24;

    fn unpack(state: u64) -> Span {
        let mask = (1 << Span::BITS) - 1;
        Span { number: state >> (2 * Span::BITS), front: state >> Span::BITS & mask, back: state & mask }
    }

    fn pack(self) -> u64 {
        self.number << (2 * Span::BITS) | self.front << Span::BITS | self.back
    }

    fn is_empty(self) -> bool {
        self.front == self.back
    }
}

/// The end of the span from which a thread takes its tasks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

/// Whether this thread is inside a task, where loops run on this thread alone.
pub fn in_task() -> bool {
    IN_TASK.get()
}

/// Runs `work` and all of its loops on this thread.
pub fn on_this_thread<R>(work: impl FnOnce() -> R) -> R {
    /// Restores the flag, also if `work` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_TASK.set(self.0);
        }
    }
    let _restore = Restore(IN_TASK.replace(true));
    work()
}

/// Runs `work` as the leader of a team of all threads of the current rayon pool.
pub fn lead<R>(work: impl FnOnce() -> R) -> R {
    if rayon::current_num_threads() == 1 || IN_TASK.get() || TEAM.with_borrow(Option::is_some) {
        return work();
    }
    /// Ends the workers, also if `work` panics.
    struct Shutdown(Arc<Team>);
    impl Drop for Shutdown {
        fn drop(&mut self) {
            TEAM.take();
            self.0.shutdown.store(true, Ordering::SeqCst);
            self.0.wake();
        }
    }
    let team = Arc::new(Team {
        state: AtomicU64::new(0),
        done: AtomicUsize::new(0),
        job: UnsafeCell::new(None),
        shutdown: AtomicBool::new(false),
        sleepers: AtomicUsize::new(0),
        mutex: Mutex::new(()),
        wakeup: Condvar::new(),
        panic: Mutex::new(None),
    });
    let leader = rayon::current_thread_index().unwrap_or(0);
    rayon::in_place_scope(|scope| {
        let worker = team.clone();
        scope.spawn_broadcast(move |_, thread| {
            if thread.index() != leader {
                worker.work();
            }
        });
        TEAM.set(Some(team.clone()));
        let _shutdown = Shutdown(team);
        work()
    })
}

/// The most tasks of one loop; longer loops are run in several.
const MOST: usize = (1 << Span::BITS) - 1;

/// Distributes a loop over the team that this thread leads; `false` if it leads none.
pub fn run(count: usize, work: &(dyn Fn(usize) + Sync)) -> bool {
    let Some(team) = TEAM.with_borrow(Clone::clone) else { return false };
    IN_TASK.set(true);
    let mut parts = (0..count).step_by(MOST).map(|first| (first, MOST.min(count - first)));
    let panic = parts.find_map(|(first, count)| team.run(count, &|i| work(first + i)));
    IN_TASK.set(false);
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
    true
}

/// How often to look for work before yielding the processor, and before going to sleep.
fn patience() -> (u32, u32) {
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from));
    // With more threads than cores, a spinning thread would take the processor from a working one.
    if rayon::current_num_threads() <= cores { (5_000, 6_000) } else { (50, 100) }
}

impl Team {
    /// Runs a loop to its end, with the workers that join in time, and returns the first panic of a task.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) -> Option<Box<dyn Any + Send>> {
        debug_assert!(count <= MOST, "a loop of too many tasks");
        // SAFETY: the lifetime is erased, but `work` is not called after it ends: only a thread that has taken a task
        // calls it, and this function returns after the last task is done.
        let work: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        // SAFETY: all tasks of the previous loop are done and none of this one can be taken yet, so no thread reads.
        unsafe { *self.job.get() = Some(work) };
        self.done.store(0, Ordering::Relaxed);
        let number = Span::unpack(self.state.load(Ordering::Relaxed)).number.wrapping_add(1);
        self.state.store(Span { number, front: 0, back: count as u64 }.pack(), Ordering::SeqCst);
        self.wake();
        while self.run_task(End::Front) {}
        let mut idle = 0u32;
        while self.done.load(Ordering::Acquire) < count {
            idle += 1;
            if idle < patience().0 { spin_loop() } else { yield_now() }
        }
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes part in every loop until shutdown.
    fn work(&self) {
        IN_TASK.set(true);
        let (spins, yields) = patience();
        let mut idle = 0;
        while !self.shutdown.load(Ordering::Acquire) {
            if self.run_task(End::Back) {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle < spins {
                spin_loop();
            } else if idle < yields {
                yield_now();
            } else {
                self.sleep();
                idle = 0;
            }
        }
        IN_TASK.set(false);
    }

    /// Takes one task and runs it; `false` if none is left.
    fn run_task(&self, end: End) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let mut span = Span::unpack(state);
            if span.is_empty() {
                return false;
            }
            let task = if end == End::Front {
                span.front += 1;
                span.front - 1
            } else {
                span.back -= 1;
                span.back
            };
            match self.state.compare_exchange_weak(state, span.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: this thread has just taken a task of the loop. The leader waits for it in `run`, so `job` does
                    // not change and the function lives until the task is done.
                    let work = unsafe { &*(*self.job.get()).expect("a job with its tasks") };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(task as usize))) {
                        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                    }
                    self.done.fetch_add(1, Ordering::Release);
                    return true;
                }
                Err(now) => state = now,
            }
        }
    }

    /// Sleeps until the next loop begins. The loop may end before the sleeper has woken up; the caller then spins again.
    fn sleep(&self) {
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load(Ordering::SeqCst);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while Span::unpack(state).is_empty()
            && self.state.load(Ordering::SeqCst) == state
            && !self.shutdown.load(Ordering::SeqCst)
        {
            guard = self.wakeup.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
            self.wakeup.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::super::{chunks, with_threads};

    /// Few under Miri, which is slow.
    const ROUNDS: u32 = if cfg!(miri) { 20 } else { 2_000 };

    #[test]
    fn many_short_loops_and_pauses_long_enough_to_sleep() {
        with_threads(4, || {
            let mut counts = vec![0u32; 37];
            for round in 0..ROUNDS {
                chunks(&mut counts, 1, |_, count| count[0] += 1);
                if round % 500 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            assert_eq!(counts, [ROUNDS; 37]);
        });
    }

    /// A late thread would read freed memory, which a sanitizer detects.
    #[test]
    fn no_task_runs_after_its_loop_has_ended() {
        with_threads(4, || {
            for round in 0..ROUNDS {
                let (numbers, mut sums) = (vec![round; 64], [0; 16]);
                chunks(&mut sums, 1, |i, sum| {
                    // Tasks of very different lengths.
                    for _ in 0..if i % 5 == 0 { 20 } else { 1 } {
                        sum[0] = numbers.iter().sum();
                    }
                });
                drop(numbers);
                assert_eq!(sums, [64 * round; 16]);
            }
        });
    }

    #[test]
    fn a_loop_inside_a_task_runs_there() {
        with_threads(3, || {
            let mut sums = vec![0usize; 16];
            chunks(&mut sums, 1, |i, sum| {
                let mut inner = vec![0; 8];
                chunks(&mut inner, 1, |j, v| v[0] = i * j);
                sum[0] = inner.iter().sum();
            });
            assert!(sums.iter().enumerate().all(|(i, &s)| s == 28 * i));
        });
    }

    #[test]
    fn a_tasks_panic_reaches_the_leader_and_the_team_keeps_working() {
        with_threads(3, || {
            let mut done = [false; 9];
            let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
                chunks(&mut done, 1, |i, done| {
                    assert!(i != 5, "task five");
                    // Other tasks are still running when the panic is raised.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    done[0] = true;
                });
            }));
            let message = *caught.unwrap_err().downcast::<&str>().unwrap();
            assert_eq!(message, "task five");
            assert_eq!(done, [true, true, true, true, true, false, true, true, true]);
            let mut after = [0; 9];
            chunks(&mut after, 1, |i, v| v[0] = i);
            assert_eq!(after, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        });
    }
}
