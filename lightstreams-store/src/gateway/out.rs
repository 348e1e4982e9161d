use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use cid::Cid;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

pub(super) const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// An answer begins when so much of it is there, or all: what goes wrong before is answered by a status.
const FIRST_BYTES: usize = 64 << 10;
/// What small writes are gathered to.
const GATHER_BYTES: usize = 64 << 10;
/// Parts that wait for the client.
const PARTS_AHEAD: usize = 4;

/// Status and headers of an answer.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Bytes that follow, where that is known before they do.
    pub(crate) len: Option<u64>,
}

impl Head {
    fn bodiless(&self) -> bool {
        self.status == StatusCode::NOT_MODIFIED || self.status.is_redirection()
    }

    pub(crate) fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

/// Why no more of an answer is written.
pub(crate) enum Stop<R> {
    Refused(R),
    /// The answer is complete without a body, or the client has gone.
    Gone,
}

/// Takes an answer from the thread that reads it, and gives it to the client as fast as that takes it.
pub(crate) struct Out {
    begin: Option<oneshot::Sender<Response>>,
    head: Option<Head>,
    head_only: bool,
    /// What the path leads through.
    roots: Option<HeaderValue>,
    waiting: Vec<Bytes>,
    waiting_len: usize,
    gathered: BytesMut,
    parts: mpsc::Sender<Frame<Bytes>>,
    body: Option<mpsc::Receiver<Frame<Bytes>>>,
    /// Set when the last part was handed over.
    complete: Arc<AtomicBool>,
    runtime: Handle,
    patience: Duration,
}

impl Out {
    /// The writing side, and where the response will come. It is made within a runtime and used on a thread that may block.
    pub(crate) fn new(head_only: bool, patience: Duration) -> (Self, oneshot::Receiver<Response>) {
        let (begin, response) = oneshot::channel();
        let (parts, body) = mpsc::channel(PARTS_AHEAD);
        let out = Self {
            begin: Some(begin),
            head: None,
            head_only,
            roots: None,
            waiting: Vec::new(),
            waiting_len: 0,
            gathered: BytesMut::new(),
            parts,
            body: Some(body),
            complete: Arc::default(),
            runtime: Handle::current(),
            patience,
        };
        (out, response)
    }

    /// Says what the path leads through; it stands in any answer.
    pub(crate) fn state_roots(&mut self, roots: &[Cid]) {
        let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
        self.roots = HeaderValue::from_str(&roots.join(",")).ok();
    }

    /// Says what the answer is; its bytes follow. Without a body, this is all of it, and the rest is not to be read.
    pub(crate) fn head<R>(&mut self, head: Head) -> Result<(), Stop<R>> {
        let bodiless = self.head_only || head.bodiless();
        self.head = Some(head);
        if bodiless {
            self.respond(Body::empty(), None);
            return Err(Stop::Gone);
        }
        Ok(())
    }

    /// Takes the next bytes.
    pub(crate) fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.flush_gathered()?;
        self.push(bytes)
    }

    /// Gives the client what there is by now.
    #[cfg(feature = "rpc")]
    pub(crate) fn send_gathered(&mut self) -> io::Result<()> {
        self.flush_gathered()?;
        self.begin()
    }

    /// Ends the answer, or says why it cannot go on. One that has begun breaks off, unless `trailers` say of it what went wrong.
    pub(crate) fn end<R: IntoResponse>(
        mut self,
        done: Result<(), Stop<R>>,
        trailers: impl FnOnce(&R) -> Option<HeaderMap>,
    ) {
        let done = done.and_then(|()| self.flush_gathered().map_err(|_| Stop::Gone));
        match done {
            Ok(()) if self.begin.is_some() => {
                let len = self.waiting_len as u64;
                let waiting = std::mem::take(&mut self.waiting);
                let body = match <[Bytes; 1]>::try_from(waiting) {
                    Ok([bytes]) => Body::from(bytes),
                    Err(several) => Body::from(several.concat()),
                };
                self.respond(body, Some(len));
            }
            Ok(()) => self.complete.store(true, Ordering::Release),
            Err(Stop::Gone) => {}
            Err(Stop::Refused(refusal)) => match (self.begin.take(), trailers(&refusal)) {
                (Some(begin), _) => self.send_response(begin, refusal.into_response()),
                (None, Some(trailers)) => {
                    let sent = self.flush_gathered().and_then(|()| self.put(Frame::trailers(trailers)));
                    self.complete.store(sent.is_ok(), Ordering::Release);
                }
                (None, None) => {}
            },
        }
    }

    fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        if self.begin.is_none() {
            return self.put(Frame::data(bytes));
        }
        self.waiting_len += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_len < FIRST_BYTES { Ok(()) } else { self.begin() }
    }

    /// Begins the answer, with what waits for that.
    fn begin(&mut self) -> io::Result<()> {
        let Some(body) = self.body.take() else { return Ok(()) };
        let complete = self.complete.clone();
        let parts = futures::stream::unfold((body, complete), |(mut body, complete)| async {
            let part = match body.recv().await {
                Some(part) => Ok(part),
                None if complete.swap(true, Ordering::Acquire) => return None,
                // The client must not take what it has for all.
                None => Err(io::Error::other("the answer broke off")),
            };
            Some((part, (body, complete)))
        });
        self.respond(Body::new(StreamBody::new(parts)), None);
        std::mem::take(&mut self.waiting).into_iter().try_for_each(|bytes| self.put(Frame::data(bytes)))
    }

    /// Hands a part over, as soon as the client has room for it.
    fn put(&mut self, part: Frame<Bytes>) -> io::Result<()> {
        let sent = async { tokio::time::timeout(self.patience, self.parts.send(part)).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn flush_gathered(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let bytes = self.gathered.split().freeze();
        self.push(bytes)
    }

    fn send_response(&self, begin: oneshot::Sender<Response>, mut response: Response) {
        response.headers_mut().extend(self.roots.clone().map(|roots| (X_IPFS_ROOTS, roots)));
        // A client that has gone needs none.
        let _ = begin.send(response);
    }

    fn respond(&mut self, body: Body, len: Option<u64>) {
        let (Some(begin), Some(head)) = (self.begin.take(), self.head.take()) else { return };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        if let Some(len) = head.len.or(len) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        self.send_response(begin, response);
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHER_BYTES {
            self.flush_gathered()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
