//! A team of threads that stand ready between parallel loops, so that a loop of a few microseconds is worth
//! sharing out.
//!
//! The leader runs the program; the helpers wait for its loops, at first awake (a loop usually follows soon), then
//! asleep. Tasks are taken one by one, so a helper that comes late, or that the system has put aside, holds
//! nobody up. The leader takes them from the front and helpers from the back: in one loop after the other a
//! thread then mostly meets the rows that it has in its cache. A loop inside a task runs on the task's own
//! thread.

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
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// What a loop does: a function that outlives the loop.
type Job = *const (dyn Fn(usize) + Sync);

struct Team {
    /// The tasks of a loop that nobody has taken yet, as a [`Span`].
    state: AtomicU64,
    /// Finished tasks of this loop.
    done: AtomicUsize,
    /// Written by the leader between loops, read by whoever has taken a task.
    job: UnsafeCell<Option<Job>>,
    over: AtomicBool,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only part that is not `Sync` by itself. It is written by the leader alone, when every task of
// the loop before is done (`lead` waits for that), and read only by a thread that has taken a task of the
// loop it belongs to, which the leader then waits for: no read meets a write. The function it points to is `Sync`.
unsafe impl Sync for Team {}
// SAFETY: as above; nothing in a team belongs to the thread that made it.
unsafe impl Send for Team {}

/// The tasks `front .. back` of a loop, and the loop's number, which tells loops of one length apart.
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

/// Where a thread takes its tasks from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

/// Whether this thread is inside a task, where loops are not shared out again.
pub fn is_busy() -> bool {
    BUSY.get()
}

/// Runs `work` on this thread, all of its loops included.
pub fn alone<R>(work: impl FnOnce() -> R) -> R {
    /// Ends it, also when `work` panics.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            BUSY.set(self.0);
        }
    }
    let _before = Before(BUSY.replace(true));
    work()
}

/// Runs `work` as the leader of a team of all threads of the current rayon pool.
pub fn gather<R>(work: impl FnOnce() -> R) -> R {
    let helpers = rayon::current_num_threads() - 1;
    if helpers == 0 || BUSY.get() || TEAM.with_borrow(Option::is_some) {
        return work();
    }
    /// Sends the helpers home, also when `work` panics.
    struct Over(Arc<Team>);
    impl Drop for Over {
        fn drop(&mut self) {
            TEAM.take();
            self.0.over.store(true, Ordering::SeqCst);
            self.0.wake();
        }
    }
    let team = Arc::new(Team {
        state: AtomicU64::new(0),
        done: AtomicUsize::new(0),
        job: UnsafeCell::new(None),
        over: AtomicBool::new(false),
        sleepers: AtomicUsize::new(0),
        bed: Mutex::new(()),
        bell: Condvar::new(),
        panic: Mutex::new(None),
    });
    let leader = rayon::current_thread_index().unwrap_or(0);
    rayon::in_place_scope(|scope| {
        let helper = team.clone();
        scope.spawn_broadcast(move |_, thread| {
            if thread.index() != leader {
                helper.help();
            }
        });
        TEAM.set(Some(team.clone()));
        let _over = Over(team);
        work()
    })
}

/// Tasks of one loop, at most; more come in several.
const MOST: usize = (1 << Span::BITS) - 1;

/// Shares a loop out among the team that this thread leads; `false` if it leads none.
pub fn run(count: usize, work: &(dyn Fn(usize) + Sync)) -> bool {
    let Some(team) = TEAM.with_borrow(Clone::clone) else { return false };
    BUSY.set(true);
    let mut parts = (0..count).step_by(MOST).map(|first| (first, MOST.min(count - first)));
    let panic = parts.find_map(|(first, count)| team.lead(count, &|i| work(first + i)));
    BUSY.set(false);
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
    true
}

/// How often to look for work before giving the processor to others, and before going to sleep.
fn patience() -> (u32, u32) {
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from));
    // Where there are more threads than cores, waiting awake would keep the others from their work.
    if rayon::current_num_threads() <= cores { (5_000, 6_000) } else { (50, 100) }
}

impl Team {
    /// Runs a loop to its end, with whoever comes to help, and hands back the first task's panic.
    fn lead(&self, count: usize, work: &(dyn Fn(usize) + Sync)) -> Option<Box<dyn Any + Send>> {
        debug_assert!(count <= MOST, "a loop of too many tasks");
        // SAFETY: the lifetime is only forgotten, not prolonged: this function returns after the last task is done,
        // and nobody calls `work` without having taken a task.
        let work: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        // SAFETY: all tasks of the loop before are done and none of this one can be taken yet, so nobody reads.
        unsafe { *self.job.get() = Some(work) };
        self.done.store(0, Ordering::Relaxed);
        let number = Span::unpack(self.state.load(Ordering::Relaxed)).number.wrapping_add(1);
        self.state.store(Span { number, front: 0, back: count as u64 }.pack(), Ordering::SeqCst);
        self.wake();
        while self.take_and_do(End::Front) {}
        let mut idle = 0u32;
        while self.done.load(Ordering::Acquire) < count {
            idle += 1;
            if idle < patience().0 { spin_loop() } else { yield_now() }
        }
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Helps with every loop until the team is dissolved.
    fn help(&self) {
        BUSY.set(true);
        let (spins, yields) = patience();
        let mut idle = 0;
        while !self.over.load(Ordering::Acquire) {
            if self.take_and_do(End::Back) {
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
        BUSY.set(false);
    }

    /// Takes a task and does it; `false` if there is none.
    fn take_and_do(&self, end: End) -> bool {
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
                    // SAFETY: a task of this loop was just taken, so the leader waits for it in `lead` and
                    // neither `job` nor the function it points to changes or ends before it is done.
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

    /// Sleeps until the next loop begins. It may be over before a sleeper is up: then others follow soon.
    fn sleep(&self) {
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state.load(Ordering::SeqCst);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while Span::unpack(state).is_empty()
            && self.state.load(Ordering::SeqCst) == state
            && !self.over.load(Ordering::SeqCst)
        {
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
            self.bell.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::super::{chunks, with_threads};

    /// Many, if not interpreted.
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

    /// A thread that was late would read memory that is no longer there, which a sanitizer sees.
    #[test]
    fn nobody_is_at_work_when_a_loop_has_ended() {
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
    fn a_task_that_panics_is_the_leaders_panic_and_the_team_goes_on() {
        with_threads(3, || {
            let mut done = [false; 9];
            let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
                chunks(&mut done, 1, |i, done| {
                    assert!(i != 5, "task five");
                    // Others are still at work when the panic comes.
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
