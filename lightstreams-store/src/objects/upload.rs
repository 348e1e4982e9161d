//! Files become objects, one after the other.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use object_store::{MultipartUpload, ObjectStoreExt, path::Path};

use super::{Inner, PAUSES, Remote};
use crate::DiskFile;

/// Bytes of a part; S3 takes 10,000 of at least 5 MiB.
const PART_LEN: usize = 8 << 20;

impl Inner {
    /// Uploads what waits, until the disk is closed.
    pub(super) fn upload(&self) {
        let mut pause = PAUSES.start;
        loop {
            let name = {
                let mut state = self.wait(|state| state.waiting.is_empty() && !state.closed);
                let Some(name) = state.waiting.front().filter(|_| !state.closed).cloned() else { return };
                state.uploading = Some(name.clone());
                name
            };
            let result = self.store(&name);
            let mut state = self.lock();
            state.uploading = None;
            match result {
                Ok(()) => {
                    state.waiting.retain(|waiting| *waiting != name);
                    state.failure = None;
                    pause = PAUSES.start;
                    self.changed.notify_all();
                }
                Err(e) => {
                    // Where nobody waits for it any more, that it was broken off is no failure.
                    let wanted = state.waiting.contains(&name);
                    state.failure = wanted.then(|| e.to_string());
                    self.changed.notify_all();
                    if wanted {
                        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.closed);
                        drop(waited.unwrap_or_else(PoisonError::into_inner));
                        pause = (pause * 2).min(PAUSES.end);
                    }
                }
            }
        }
    }

    /// Makes an object of the file `name`, and removes the file.
    fn store(&self, name: &str) -> io::Result<()> {
        let file = match self.local.read(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result?,
        };
        let len = file.len()?;
        if self.lock().stored.get(name) != Some(&len) {
            self.send(&self.remote, &*file, name, len)?;
            self.lock().stored.insert(name.to_owned(), len);
        }
        drop(file);
        self.local.remove(name)?;
        self.local.sync()
    }

    fn send(&self, remote: &Remote, file: &dyn DiskFile, name: &str, len: u64) -> io::Result<()> {
        let path = remote.path(name);
        if len <= PART_LEN as u64 {
            let bytes = read(file, 0, len)?;
            return remote.call(|objects| async move { objects.put(&path, bytes.into()).await }).map(|_| ());
        }
        let upload = Multipart::begin(remote, path)?;
        let mut at = 0;
        while at < len {
            let part = read(file, at, len)?;
            at += part.len() as u64;
            let given_up = {
                let state = self.lock();
                state.closed || !state.waiting.iter().any(|waiting| waiting == name)
            };
            let sent = if given_up {
                Err(io::Error::new(io::ErrorKind::Interrupted, "the upload was broken off"))
            } else {
                upload.put(part)
            };
            if let Err(e) = sent {
                upload.abort();
                return Err(e);
            }
        }
        upload.complete()
    }
}

/// The next part of the file, whose length is `len`.
fn read(file: &dyn DiskFile, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut part = vec![0; (len - at).min(PART_LEN as u64) as usize];
    if file.read_at(at, &mut part)? < part.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(part)
}

/// An object that is not there yet.
struct Multipart<'a> {
    remote: &'a Remote,
    upload: Arc<tokio::sync::Mutex<Box<dyn MultipartUpload>>>,
}

impl<'a> Multipart<'a> {
    fn begin(remote: &'a Remote, path: Path) -> io::Result<Self> {
        let upload = remote.call(|objects| async move { objects.put_multipart(&path).await })?;
        Ok(Self { remote, upload: Arc::new(tokio::sync::Mutex::new(upload)) })
    }

    fn put(&self, part: Vec<u8>) -> io::Result<()> {
        let upload = self.upload.clone();
        self.remote.call(|_| async move {
            let sent = upload.lock().await.put_part(part.into());
            sent.await
        })
    }

    fn complete(self) -> io::Result<()> {
        let upload = self.upload.clone();
        self.remote.call(|_| async move { upload.lock().await.complete().await }).map(|_| ())
    }

    /// Has the parts forgotten. A storage that fails does so by its rules for uploads that are never completed.
    fn abort(self) {
        let upload = self.upload.clone();
        let _ = self.remote.call(|_| async move { upload.lock().await.abort().await });
    }
}
