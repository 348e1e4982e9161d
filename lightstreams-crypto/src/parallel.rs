use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    io::{self, BufRead, Read},
    mem,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use crate::{
    PayloadDecryptor, PayloadEncryptor, PayloadKey,
    payload::{Stream, read_buffered, read_by_buffer, reader},
    run::{Direction, Open, Run, Seal, State},
};

/// Chunks that a thread works on in one go: enough to make handing them over cheap, 256 KiB.
const RUN: usize = 4;
/// More threads do not help: one thread reads and hands out for all of them.
const THREADS_MAX: usize = 16;

impl<R: Read> PayloadEncryptor<R> {
    /// Goes on with up to `threads` threads (at most 16) beside the caller's.
    pub fn parallel(self, threads: NonZeroUsize) -> ParallelEncryptor<R> {
        ParallelEncryptor(Parallel::new(self.0, threads))
    }
}

impl<R: Read> PayloadDecryptor<R> {
    /// Goes on with up to `threads` threads (at most 16) beside the caller's.
    pub fn parallel(self, threads: NonZeroUsize) -> ParallelDecryptor<R> {
        ParallelDecryptor(Parallel::new(self.0, threads))
    }
}

/// A [`PayloadEncryptor`] that uses several cores, see [`PayloadEncryptor::parallel`].
///
/// ```text
///            +--> run of 4 chunks --> thread --+
/// source ----+--> run of 4 chunks --> thread --+--> in order, to the caller
///  (caller)  +--> ..                           |
///            ^------- buffers come back -------+
/// ```
///
/// Bytes and errors are those of the serial stream. The source is read, and its panics and errors come up, in the
/// caller's thread alone; it is read ahead by `2 * threads + 2` runs, which at 327 KiB each with 16 threads are
/// 11 MiB. The threads start when there is work for them and have ended when the stream is dropped. A slow source
/// that should give out each chunk as it comes is better served by the serial stream.
pub struct ParallelEncryptor<R>(Parallel<Seal, R>);

/// A [`PayloadDecryptor`] that uses several cores, see [`PayloadDecryptor::parallel`].
///
/// Works as [`ParallelEncryptor`] does. Nothing is given out that did not verify, and nothing behind a chunk that
/// did not, though more of the source may have been read by then.
pub struct ParallelDecryptor<R>(Parallel<Open, R>);

reader!(ParallelEncryptor);
reader!(ParallelDecryptor);
read_by_buffer!(ParallelEncryptor);
read_by_buffer!(ParallelDecryptor);

struct Parallel<D: Direction, R> {
    reader: R,
    key: PayloadKey,
    direction: D,
    state: State,
    /// The run that is given out.
    current: Run,
    /// A run that a read error left incomplete.
    partial: Option<Run>,
    /// The read error, which comes up behind what was read before it.
    error: Option<crate::Error>,
    /// Whether the source need not be read any more.
    end: bool,
    spare: Vec<Run>,
    /// How many more runs may be made.
    allowance: usize,
    /// The runs behind the current one, `None` for those that a thread has.
    ahead: VecDeque<Option<Run>>,
    /// Number of the first run of `ahead`.
    number: u64,
    /// How many threads are still to be started.
    threads: usize,
    pool: Option<Pool>,
}

impl<D: Direction, R> Parallel<D, R> {
    fn new(serial: Stream<D, R>, threads: NonZeroUsize) -> Self {
        let Stream { reader, key, direction, mut run, state } = serial;
        let threads = threads.get().min(THREADS_MAX);
        let partial = run.is_partial().then(|| mem::replace(&mut run, direction.run(1)));
        Self {
            reader,
            key,
            direction,
            state,
            current: run,
            partial,
            error: None,
            end: false,
            spare: Vec::new(),
            allowance: 2 * threads + 2,
            ahead: VecDeque::new(),
            number: 0,
            threads,
            pool: None,
        }
    }

    fn into_inner(self) -> R {
        self.reader
    }

    fn consume(&mut self, amount: usize) {
        self.current.consume(amount);
    }

    fn fill_buf(&mut self) -> io::Result<&[u8]>
    where
        R: Read,
    {
        while self.current.ready().is_empty() && self.state.goes_on()? {
            self.read_ahead()?;
            let Some(run) = self.next_in_order()? else {
                return Err(self.error.take().map_or_else(stopped, io::Error::from));
            };
            let spent = mem::replace(&mut self.current, run);
            // What the serial stream began with is smaller, and is not used again.
            if self.number > 1 {
                self.spare.push(spent);
            }
            self.state = self.state.after(&mut self.current);
        }
        Ok(self.current.ready())
    }

    /// Reads as many runs as there are buffers for, and hands them to the threads.
    fn read_ahead(&mut self) -> io::Result<()>
    where
        R: Read,
    {
        while !self.end && self.error.is_none() {
            if self.partial.is_none() {
                self.partial = match self.spare.pop() {
                    None if self.allowance == 0 => return Ok(()),
                    None => {
                        self.allowance -= 1;
                        Some(self.direction.run(RUN))
                    }
                    spare => spare,
                };
            }
            let Some(run) = &mut self.partial else { return Ok(()) };
            if let Err(error) = self.direction.fill(&mut self.reader, run, self.state) {
                self.error = Some(error);
                return Ok(());
            }
            let Some(mut run) = self.partial.take() else { return Ok(()) };
            self.end = run.end;
            // A stream of one run is not worth a thread.
            if self.pool.is_none() && !self.end {
                self.pool = Pool::start::<D>(mem::take(&mut self.threads), &self.key);
            }
            match &self.pool {
                Some(pool) => {
                    pool.give(self.number + self.ahead.len() as u64, run)?;
                    self.ahead.push_back(None);
                }
                None => {
                    D::apply(&self.key, &mut run);
                    self.ahead.push_back(Some(run));
                }
            }
        }
        Ok(())
    }

    /// The next run, once it is done; `None` if none was read.
    fn next_in_order(&mut self) -> io::Result<Option<Run>> {
        while let Some(None) = self.ahead.front() {
            let (number, run) = self.pool.as_ref().ok_or_else(stopped)?.take()?;
            let place = usize::try_from(number - self.number).ok().and_then(|at| self.ahead.get_mut(at));
            *place.ok_or_else(stopped)? = Some(run);
        }
        let run = self.ahead.pop_front().flatten();
        self.number += u64::from(run.is_some());
        Ok(run)
    }
}

fn stopped() -> io::Error {
    io::Error::other("the threads of a parallel stream have stopped")
}

/// What comes back from a thread: a numbered run, or the panic that it ended in.
type Done = Result<(u64, Run), Box<dyn Any + Send>>;

/// Threads that take runs from one queue and put them into another.
struct Pool {
    /// Closed, by being dropped, before the threads are waited for.
    todo: Option<mpsc::Sender<(u64, Run)>>,
    done: mpsc::Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` threads or as many as the system grants; none at all is no pool.
    fn start<D: Direction>(threads: usize, key: &PayloadKey) -> Option<Self> {
        let (todo, queue) = mpsc::channel::<(u64, Run)>();
        let (results, done) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Self { todo: Some(todo), done, threads: Vec::new() };
        for _ in 0..threads {
            let (queue, results, key) = (Arc::clone(&queue), results.clone(), key.clone());
            let work = move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, mut run)) = next else { return };
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        D::apply(&key, &mut run);
                        (number, run)
                    }));
                    if results.send(outcome).is_err() {
                        return;
                    }
                }
            };
            match thread::Builder::new().name("payload".into()).spawn(work) {
                Ok(thread) => pool.threads.push(thread),
                Err(_) => break,
            }
        }
        (!pool.threads.is_empty()).then_some(pool)
    }

    fn give(&self, number: u64, run: Run) -> io::Result<()> {
        self.todo.as_ref().and_then(|todo| todo.send((number, run)).ok()).ok_or_else(stopped)
    }

    fn take(&self) -> io::Result<(u64, Run)> {
        match self.done.recv() {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(stopped()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.todo = None;
        for thread in self.threads.drain(..) {
            // A panic of a thread has come out as its result.
            let _ = thread.join();
        }
    }
}
