//! The body of a request, on the thread that answers it.

use std::{
    io,
    time::{Duration, Instant},
};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::Handle;

/// Bytes of a body as they come.
pub(super) struct Upload {
    body: BodyDataStream,
    runtime: Handle,
    patience: Duration,
    until: Instant,
    bytes_left: u64,
}

impl Upload {
    /// Takes at most `bytes_max` bytes, before `until`, and waits for each piece no longer than `patience`. It is made within a runtime,
    /// and used on a thread that may block.
    pub(super) fn new(body: Body, bytes_max: u64, patience: Duration, until: Instant) -> Self {
        let (body, runtime) = (body.into_data_stream(), Handle::current());
        Self { body, runtime, patience, until, bytes_left: bytes_max }
    }

    /// The next bytes; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let left = self.until.saturating_duration_since(Instant::now());
        let body = &mut self.body;
        let wait = self.patience.min(left);
        let next = self.runtime.block_on(async { tokio::time::timeout(wait, body.next()).await });
        match next {
            Ok(Some(Ok(bytes))) => {
                let left = self.bytes_left.checked_sub(bytes.len() as u64);
                self.bytes_left = left.ok_or_else(|| io::Error::other("the body is longer than allowed"))?;
                Ok(Some(bytes))
            }
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Ok(None) => Ok(None),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, super::room::LATE)),
        }
    }
}
