//! Object storage behind a [`Disk`]: S3, and what speaks like it.
//!
//! ```text
//! append, sync --> local disk            a file is written here, and an acknowledgement means that it is durable here
//!                     | complete
//!                     v
//!                  upload, one at a time, retried     the object is whole or not there
//!                     |
//!                     v
//! read      <-- object, by ranges        the local file is removed once the object is there
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use lightstreams_store::{Block, BlockStore, FileDisk, SegmentOptions, SegmentStore};
//! use lightstreams_store::objects::{ObjectDisk, object_store::memory::InMemory};
//!
//! # let folder = tempfile::tempdir()?;
//! let bucket = Arc::new(InMemory::new()); // or what `object_store::aws::AmazonS3Builder` builds
//! let disk = Arc::new(ObjectDisk::open(Arc::new(FileDisk::open(folder.path())?), bucket, "blocks")?);
//! let store = SegmentStore::open_on(disk.clone(), SegmentOptions::default())?;
//! store.put(&Block::raw("hello"))?;
//! disk.flush()?; // waits until all segments that are full are objects
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`SegmentStore`](crate::SegmentStore) of this kind has a block in a segment on the local disk, until the segment is full, and then in an object of
//! that size: few requests, and nothing is ever changed in an object. Its index is in memory. Opening reads the end of each object;
//! of objects with blocks of less than about 4 KiB, whose segments have no footers, it reads all.
//!
//! **One owner.** The object `OWNER` names the one local disk that may write: another is refused, until it
//! [takes over](ObjectDisk::take_over). The storage must be strongly consistent, as S3, GCS, Azure, R2 and MinIO are.
//!
//! **What a lost machine costs.** What is not an object yet: at most as much as [`waiting`](ObjectDisk::waiting) says, and the segment that was
//! being filled. No read cache is kept: each block that is read from an object is one request.

mod owner;
mod upload;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use futures::TryStreamExt;
pub use object_store;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tokio::runtime::{Builder, Runtime};

use crate::{Disk, DiskFile, DiskLock, disk::check_name};

/// Files that may wait to become objects before no other is begun.
const WAITING_MAX: usize = 8;
/// Bytes that an object is brought back by.
const READ_LEN: usize = 8 << 20;
/// How long an upload that failed waits for its next attempt: first, and at most.
const PAUSES: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(60);

/// A [`Disk`] whose files become objects when they are complete.
///
/// Calls wait for the object storage on the thread that makes them; they may come from anywhere, also from within an asynchronous
/// runtime's blocking threads. When it is dropped, an upload that is under way is broken off; it is made up for when it is opened again.
pub struct ObjectDisk {
    inner: Arc<Inner>,
    uploading: Option<JoinHandle<()>>,
}

struct Inner {
    local: Arc<dyn Disk>,
    remote: Remote,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Objects that are there, and their lengths.
    stored: BTreeMap<String, u64>,
    /// Files that are complete, and not objects yet.
    waiting: VecDeque<String>,
    /// The one of them that is being uploaded.
    uploading: Option<String>,
    /// Why the last attempt failed, if it did.
    failure: Option<String>,
    closed: bool,
}

impl ObjectDisk {
    /// Files under construction are kept on `local`, the others as objects whose names begin with `prefix`.
    ///
    /// Objects that belong to another local disk are an [`AlreadyExists`](io::ErrorKind::AlreadyExists) error.
    pub fn open(local: Arc<dyn Disk>, objects: Arc<dyn ObjectStore>, prefix: &str) -> io::Result<Self> {
        Self::start(local, objects, prefix, false)
    }

    /// The same for objects of a disk that is lost. If it is not, and is used on, blocks are lost.
    pub fn take_over(local: Arc<dyn Disk>, objects: Arc<dyn ObjectStore>, prefix: &str) -> io::Result<Self> {
        Self::start(local, objects, prefix, true)
    }

    fn start(
        local: Arc<dyn Disk>,
        objects: Arc<dyn ObjectStore>,
        prefix: &str,
        take_over: bool,
    ) -> io::Result<Self> {
        let remote = Remote::new(objects, prefix)?;
        owner::claim(&*local, &remote, take_over)?;
        let state = State { stored: remote.list()?, ..State::default() };
        let inner = Arc::new(Inner { local, remote, state: Mutex::new(state), changed: Condvar::new() });
        let uploader = inner.clone();
        let uploading =
            std::thread::Builder::new().name("objects".into()).spawn(move || uploader.upload())?;
        Ok(Self { inner, uploading: Some(uploading) })
    }

    /// How many files are complete and not objects yet.
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Why the last upload failed, if it did. It is tried again, after a second and up to a minute.
    pub fn failure(&self) -> Option<String> {
        self.inner.lock().failure.clone()
    }

    /// Returns once all files that are complete are objects, or with the failure of an upload.
    pub fn flush(&self) -> io::Result<()> {
        let state = self.inner.wait(|state| !state.waiting.is_empty() && state.failure.is_none());
        match &state.failure {
            Some(failure) if !state.waiting.is_empty() => Err(io::Error::other(failure.clone())),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ObjectDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectDisk").field("objects", &self.inner.remote.objects).finish_non_exhaustive()
    }
}

impl Drop for ObjectDisk {
    fn drop(&mut self) {
        self.inner.lock().closed = true;
        self.inner.changed.notify_all();
        if let Some(uploading) = self.uploading.take() {
            // A panic there was reported there.
            let _ = uploading.join();
        }
    }
}

impl Inner {
    // What the lock guards is changed in single steps: a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `not_yet`.
    fn wait(&self, not_yet: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_while(self.lock(), |state| not_yet(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn holds_locally(&self, name: &str) -> io::Result<bool> {
        match self.local.read(name) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Copies an object to the local disk, where it can be appended to.
    fn bring_back(&self, name: &str, object: &Object) -> io::Result<()> {
        let part = format!("{name}.part");
        let mut file = self.local.open(&part)?;
        file.truncate(0)?;
        let (mut at, mut buf) = (0, vec![0; READ_LEN]);
        loop {
            let n = object.read_at(at, &mut buf)?;
            if n == 0 {
                break;
            }
            file.append(buf.get(..n).unwrap_or_default())?;
            at += n as u64;
        }
        file.sync()?;
        self.local.rename(&part, name)?;
        self.local.sync()
    }
}

impl Disk for ObjectDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let inner = &self.inner;
        if inner.holds_locally(name)? {
            return inner.local.open(name);
        }
        // Whoever writes faster than the storage takes it waits here, and hears of it where it takes nothing.
        let state = inner.wait(|state| state.waiting.len() >= WAITING_MAX && state.failure.is_none());
        if state.waiting.len() >= WAITING_MAX {
            let failure = state.failure.as_deref().unwrap_or_default();
            let text = format!("{WAITING_MAX} files wait for the object storage, which fails: {failure}");
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        let object = state.stored.get(name).map(|len| inner.remote.object(name, *len));
        drop(state);
        if let Some(object) = object {
            inner.bring_back(name, &object)?;
        }
        inner.local.open(name)
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        // A file is removed here after its object is known to be there.
        match self.inner.local.read(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let len = self.inner.lock().stored.get(name).copied();
        let len = len.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(self.inner.remote.object(name, len)))
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.inner.local.lock()
    }

    /// Unsupported: objects keep their names.
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let inner = &self.inner;
        inner.lock().waiting.retain(|waiting| waiting != name);
        // An upload that is under way sees that nobody waits for it, and ends.
        let stored = inner.wait(|state| state.uploading.as_deref() == Some(name)).stored.contains_key(name);
        if stored {
            inner.remote.delete(name)?;
            inner.lock().stored.remove(name);
        }
        match inner.local.remove(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && stored => Ok(()),
            result => result,
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.inner.local.list()?;
        names.extend(self.inner.lock().stored.keys().cloned());
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.local.sync()
    }

    fn complete(&self, name: &str) -> io::Result<()> {
        if !self.inner.holds_locally(name)? {
            return Ok(());
        }
        let mut state = self.inner.lock();
        if !state.waiting.iter().any(|waiting| waiting == name) {
            state.waiting.push_back(name.to_owned());
            self.inner.changed.notify_all();
        }
        Ok(())
    }
}

/// The objects.
struct Remote {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Drives the requests; `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Remote {
    fn new(objects: Arc<dyn ObjectStore>, prefix: &str) -> io::Result<Self> {
        let prefix = Path::parse(prefix).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { objects, prefix, runtime: Some(runtime) })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn object(&self, name: &str, len: u64) -> Object {
        let runtime = self.runtime.as_ref().map(|runtime| runtime.handle().clone());
        Object { objects: self.objects.clone(), path: self.path(name), len, runtime }
    }

    /// Waits for what `request` makes.
    fn call<T: Send + 'static, F: Future<Output = object_store::Result<T>> + Send + 'static>(
        &self,
        request: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> io::Result<T> {
        wait_for(self.runtime.as_ref().map(Runtime::handle), request(self.objects.clone()))
    }

    fn list(&self) -> io::Result<BTreeMap<String, u64>> {
        let prefix = self.prefix.clone();
        let found = self.call(|objects| async move {
            objects.list(Some(&prefix)).try_collect::<Vec<object_store::ObjectMeta>>().await
        })?;
        let named = found.into_iter().filter_map(|meta| {
            let mut parts = meta.location.prefix_match(&self.prefix)?;
            let name = parts.next()?.as_ref().to_owned();
            (parts.next().is_none() && name != owner::NAME).then_some((name, meta.size))
        });
        Ok(named.collect())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match self.call(|objects| async move { objects.delete(&path).await }) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime may not be waited for where another one runs.
            runtime.shutdown_background();
        }
    }
}

fn wait_for<T: Send + 'static>(
    runtime: Option<&tokio::runtime::Handle>,
    request: impl Future<Output = object_store::Result<T>> + Send + 'static,
) -> io::Result<T> {
    let gone = || io::Error::other("the object storage is closed");
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = async move {
        // Nobody receives it any more: nobody needs it.
        let _ = sender.send(request.await);
    };
    drop(runtime.ok_or_else(gone)?.spawn(task));
    receiver.recv().map_err(|_| gone())?.map_err(io_error)
}

fn io_error(e: object_store::Error) -> io::Error {
    use object_store::Error;
    let kind = match &e {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, e)
}

/// An object that is read.
struct Object {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    len: u64,
    runtime: Option<tokio::runtime::Handle>,
}

impl DiskFile for Object {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = offset.saturating_add(buf.len() as u64).min(self.len);
        if offset >= end {
            return Ok(0);
        }
        let (objects, path) = (self.objects.clone(), self.path.clone());
        let request = async move { objects.get_range(&path, offset..end).await };
        let bytes: Bytes = wait_for(self.runtime.as_ref(), request)?;
        let target = buf.get_mut(..bytes.len()).filter(|_| bytes.len() as u64 == end - offset);
        target.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&mut self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
