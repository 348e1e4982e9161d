//! Threads that work beside the caller's.

use std::{
    cell::Cell,
    collections::VecDeque,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, available_parallelism},
};

/// More threads do not help: one thread reads for all of them, and hashing is no eight times slower than that.
const THREADS_MAX: usize = 8;

type Task<'t> = Box<dyn FnOnce() + Send + 't>;

/// Takes tasks. The caller's own thread works on them too while it waits for one of them, so that `threads` of them need one
/// thread less to be started, and one needs none.
///
/// Threads are started when tasks pile up, and have ended when the [`crew`] has.
pub(crate) struct Crew<'a, 't> {
    queue: &'a Queue<'t>,
    /// Starts a thread.
    hire: &'a dyn Fn() -> bool,
    /// How many more may be started.
    left: Cell<usize>,
    threads: usize,
}

/// Does `work` with a crew of `threads` threads, the caller's among them; 0 is as many as the machine runs at a time.
pub(crate) fn crew<'t, T>(threads: usize, work: impl FnOnce(&Crew<'_, 't>) -> T) -> T {
    // The answer is read from files, which takes longer than a small import.
    static PARALLELISM: OnceLock<usize> = OnceLock::new();
    let all = || *PARALLELISM.get_or_init(|| available_parallelism().map_or(1, NonZeroUsize::get));
    let threads = if threads == 0 { all() } else { threads }.min(THREADS_MAX);
    let queue = Queue::default();
    thread::scope(|scope| {
        let hire = || {
            let thread = thread::Builder::new().name("import".into());
            thread.spawn_scoped(scope, || queue.work()).is_ok()
        };
        work(&Crew { queue: &queue, hire: &hire, left: Cell::new(threads - 1), threads })
    })
}

impl<'t> Crew<'_, 't> {
    /// How many threads work at most.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Has `task` done by whoever comes to it first.
    pub(crate) fn give<T: Send + 't>(&self, task: impl FnOnce() -> T + Send + 't) -> Ticket<T> {
        let ticket = Ticket(Arc::default());
        let result = Arc::clone(&ticket.0);
        let task = Box::new(move || {
            let done = catch_unwind(AssertUnwindSafe(task));
            *lock(&result) = Some(done);
        });
        let mut state = lock(&self.queue.state);
        let waiting = state.tasks.len();
        state.tasks.push_back(task);
        drop(state);
        if waiting > 0 && self.left.get() > 0 {
            // Without another thread it goes on, only slower.
            self.left.set(if (self.hire)() { self.left.get() - 1 } else { 0 });
        }
        self.queue.given.notify_one();
        ticket
    }

    /// Waits for a task, doing others meanwhile; its panic goes on here.
    pub(crate) fn wait<T>(&self, ticket: Ticket<T>) -> T {
        let mut state = lock(&self.queue.state);
        loop {
            // Whoever has done it takes the lock of the queue once more before this thread is woken.
            match lock(&ticket.0).take() {
                Some(Ok(done)) => return done,
                Some(Err(panic)) => resume_unwind(panic),
                None => {}
            }
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                task();
                state = lock(&self.queue.state);
            } else {
                state = self.queue.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Drop for Crew<'_, '_> {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.state);
        state.closed = true;
        state.tasks.clear();
        drop(state);
        self.queue.given.notify_all();
    }
}

/// What comes of a task.
pub(crate) struct Ticket<T>(Arc<Mutex<Option<thread::Result<T>>>>);

impl<T> Ticket<T> {
    /// Whether nobody need wait for it.
    pub(crate) fn is_done(&self) -> bool {
        lock(&self.0).is_some()
    }
}

#[derive(Default)]
struct Queue<'t> {
    state: Mutex<State<'t>>,
    /// A task came, or no more will.
    given: Condvar,
    /// A task was done.
    done: Condvar,
}

#[derive(Default)]
struct State<'t> {
    tasks: VecDeque<Task<'t>>,
    closed: bool,
}

impl Queue<'_> {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                task();
                state = lock(&self.state);
                self.done.notify_one();
            } else if state.closed {
                return;
            } else {
                state = self.given.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

// What these locks guard is changed in single steps, and tasks run outside of them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        panic::catch_unwind,
        sync::atomic::{AtomicUsize, Ordering},
        thread::current,
    };

    use super::*;

    #[test]
    fn one_thread_is_the_callers() {
        let caller = current().id();
        crew(1, |crew| {
            let tickets: Vec<_> = (0..100).map(|i| crew.give(move || (i, current().id()))).collect();
            for (i, ticket) in tickets.into_iter().enumerate() {
                assert_eq!(crew.wait(ticket), (i, caller));
            }
        });
    }

    #[test]
    fn every_task_is_done_once_by_no_more_threads_than_asked_for() {
        let (done, threads) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        crew(4, |crew| {
            let task = || {
                thread::sleep(std::time::Duration::from_micros(200));
                threads.lock().unwrap().push(current().id());
                done.fetch_add(1, Ordering::Relaxed)
            };
            let tickets: Vec<_> = (0..200).map(|_| crew.give(task)).collect();
            let mut seen: Vec<usize> = tickets.into_iter().rev().map(|ticket| crew.wait(ticket)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..200));
        });
        let mut threads = threads.into_inner().unwrap();
        threads.sort_by_key(|id| format!("{id:?}"));
        threads.dedup();
        assert!((2..=4).contains(&threads.len()), "{threads:?}");
    }

    #[test]
    fn a_panic_comes_up_where_the_task_is_waited_for_and_nothing_hangs() {
        for threads in [1, 3] {
            let caught = catch_unwind(|| {
                crew(threads, |crew| {
                    let tickets: Vec<_> =
                        (0..10).map(|i| crew.give(move || assert_ne!(i, 5, "five"))).collect();
                    tickets.into_iter().for_each(|ticket| crew.wait(ticket));
                });
            });
            let panic = caught.unwrap_err();
            assert!(panic.downcast_ref::<String>().unwrap().contains("five"));
        }
    }

    #[test]
    fn what_nobody_waits_for_is_dropped() {
        let done = AtomicUsize::new(0);
        crew(1, |crew| drop(crew.give(|| done.fetch_add(1, Ordering::Relaxed))));
        assert_eq!(done.into_inner(), 0);
    }
}
