//! Waiting for what takes less time than to put a thread to sleep and to wake it.

use std::{
    hint,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
    },
    thread,
};

/// How often a lock is tried before a thread sleeps. They are held for a few microseconds, or for a commit
/// on a quick disk.
const TRIES: u32 = 1000;

/// On one core whoever is waited for goes on only when this thread sleeps.
static SEVERAL_CORES: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|cores| cores.get() > 1));

/// Waits until `done`, or until it was asked `tries` times; the caller sleeps then, if it must.
pub(crate) fn until(tries: u32, mut done: impl FnMut() -> bool) {
    for _ in 0..tries {
        if done() || !*SEVERAL_CORES {
            return;
        }
        hint::spin_loop();
    }
}

/// What `attempt` gives, which takes a lock if it is free; `None` if it was not for a while.
fn attempt<T>(attempt: impl Fn() -> Result<T, TryLockError<T>>) -> Option<T> {
    let mut taken = None;
    until(TRIES, || {
        taken = match attempt() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        taken.is_some()
    });
    taken
}

// What these locks guard is changed in steps after each of which it is whole: a panic elsewhere leaves nothing half done.

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    attempt(|| mutex.try_lock()).unwrap_or_else(|| mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    attempt(|| lock.try_read()).unwrap_or_else(|| lock.read().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    attempt(|| lock.try_write()).unwrap_or_else(|| lock.write().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use super::*;

    #[test]
    fn it_ends_when_done_or_after_so_many_tries() {
        let asked = Cell::new(0);
        let ask = |last: u32| {
            asked.set(0);
            until(10, || {
                asked.set(asked.get() + 1);
                asked.get() == last
            });
            asked.get()
        };
        let one = |tries| if *SEVERAL_CORES { tries } else { 1 };
        assert_eq!(ask(1), 1);
        assert_eq!(ask(7), one(7));
        assert_eq!(ask(11), one(10));
    }

    #[test]
    fn a_lock_that_is_held_for_long_is_taken_after_all() {
        let mutex = Mutex::new(0);
        thread::scope(|scope| {
            let mut guard = lock(&mutex);
            scope.spawn(|| *lock(&mutex) += 1);
            thread::sleep(Duration::from_millis(20));
            *guard += 1;
            assert_eq!(*guard, 1);
        });
        assert_eq!(*lock(&mutex), 2);
    }
}
