//! Between streams of the network, which are asynchronous, and readers and writers of the libraries, which are not.
//! Both ends hold at most a few parts, so that a slow side holds up the fast one.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// Parts on the way between the two sides.
const DEPTH: usize = 8;
/// Bytes that are gathered into one part.
const PART: usize = 256 * 1024;

/// What the blocking side writes, as a stream of parts.
pub(crate) fn writer() -> (PipeWriter, impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|part: io::Result<Bytes>| (part, receiver))
    });
    (PipeWriter { sender, part: BytesMut::with_capacity(PART) }, SyncStream(Box::pin(stream)))
}

/// A stream that is polled from one place only, whatever its parts are.
struct SyncStream<S: ?Sized>(std::pin::Pin<Box<S>>);

impl<S: Stream + ?Sized> Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// The blocking end of [`writer`]; without [`PipeWriter::finish`] the stream ends in an error.
pub(crate) struct PipeWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    part: BytesMut,
}

impl PipeWriter {
    /// Sends what is left and ends the stream.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()
    }

    /// Ends the stream with an error, so that the other side does not take what came for the whole.
    pub(crate) fn fail(self, why: &str) {
        // A receiver that is gone knows already.
        let _ = self.sender.blocking_send(Err(io::Error::other(why.to_owned())));
    }

    fn send(&mut self, part: Bytes) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the node stopped reading");
        self.sender.blocking_send(Ok(part)).map_err(gone)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = self.part.split().freeze();
        self.part.reserve(PART);
        self.send(part)
    }
}

/// What the network brings, for a reader that blocks; the returned future moves the parts.
pub(crate) fn reader(mut body: Incoming) -> (PipeReader, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let pump = async move {
        while let Some(frame) = body.frame().await {
            let part = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    Err(_) => continue,
                },
                Err(error) => Err(io::Error::other(error)),
            };
            if sender.send(part).await.is_err() {
                break;
            }
        }
    };
    (PipeReader { receiver, part: Bytes::new() }, pump)
}

/// The blocking end of [`reader`].
pub(crate) struct PipeReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    part: Bytes,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(part) => self.part = part?,
                None => return Ok(0),
            }
        }
        let len = self.part.len().min(buffer.len());
        self.part.copy_to_slice(buffer.get_mut(..len).unwrap_or_default());
        Ok(len)
    }
}
