//! One message after the other, from and to a stream.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_timer::Delay;
use libp2p::Stream;

use super::{
    server::MessageId,
    wire::{Encoded, MESSAGE_BYTES_MAX, Message, Revision},
};
use crate::buffers::{Buffer, Buffers};

/// A stream of a peer on which nothing moved for so long is closed.
const IDLE: Duration = Duration::from_secs(45);
/// The same for a stream of ours, before Helia resets it after 10 seconds; a new one costs half a round trip.
const IDLE_OUT: Duration = Duration::from_secs(5);
/// After so many of these times in which nothing of a message could be written, it is not written.
const STUCK_MAX: u32 = 9;
/// The longest length prefix: 4 MiB need four bytes, and longer forms are refused.
const PREFIX_MAX: usize = 4;

/// Reads messages, without parsing them.
pub(super) struct Reader {
    stream: Stream,
    state: ReadState,
    budget: Budget,
    buffers: Arc<Buffers>,
    watch: Watch,
}

enum ReadState {
    Prefix {
        len: usize,
        bytes: usize,
    },
    /// Waiting until the connection's other messages leave room.
    Room {
        len: usize,
    },
    Body {
        bytes: Buffer,
        len: usize,
        room: Room,
    },
    Ended,
}

impl Reader {
    pub(super) fn new(stream: Stream, budget: Budget, buffers: Arc<Buffers>) -> Self {
        let state = ReadState::Prefix { len: 0, bytes: 0 };
        Self { stream, state, budget, buffers, watch: Watch::new(IDLE) }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(Bytes, Room)>>> {
        loop {
            match &mut self.state {
                ReadState::Prefix { len, bytes } => {
                    let mut byte = [0u8];
                    let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut byte))?;
                    if read == 0 {
                        return Poll::Ready(if *bytes == 0 {
                            Ok(None)
                        } else {
                            Err(io::ErrorKind::UnexpectedEof.into())
                        });
                    }
                    self.watch.moved();
                    let [byte] = byte;
                    *len |= usize::from(byte & 0x7f) << (7 * *bytes);
                    *bytes += 1;
                    if byte >= 0x80 {
                        if *bytes >= PREFIX_MAX {
                            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                        }
                        continue;
                    }
                    if *len > MESSAGE_BYTES_MAX {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                    self.state = ReadState::Room { len: *len };
                }
                ReadState::Room { len } => {
                    let len = *len;
                    let room = ready!(self.budget.poll_take(cx, len));
                    self.state = ReadState::Body { bytes: self.buffers.take(len), len, room };
                }
                ReadState::Body { bytes, len, .. } => {
                    while let space @ [_, ..] = bytes.space(*len) {
                        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, space))?;
                        if read == 0 {
                            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                        }
                        self.watch.moved();
                        bytes.filled(read);
                    }
                    let next = ReadState::Prefix { len: 0, bytes: 0 };
                    if let ReadState::Body { bytes, room, .. } = std::mem::replace(&mut self.state, next) {
                        return Poll::Ready(Ok(Some((bytes.into(), room))));
                    }
                }
                ReadState::Ended => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl futures::Stream for Reader {
    type Item = io::Result<(Bytes, Room)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut polled = self.poll_message(cx);
        if polled.is_pending() && self.watch.poll_still(cx).is_ready() {
            polled = Poll::Ready(Ok(None));
        }
        let item = ready!(polled).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.state = ReadState::Ended;
        }
        Poll::Ready(item)
    }
}

/// Writes messages.
pub(super) struct Writer {
    stream: Stream,
    revision: Revision,
    current: Option<Current>,
    unflushed: bool,
    /// How often in a row nothing moved.
    still: u32,
    watch: Watch,
}

/// A message on its way, whole and as far as it is still to be written.
struct Current {
    id: MessageId,
    message: Message,
    rest: Encoded,
}

/// What became of the messages given to a [`Writer`].
pub(super) enum Progress {
    Written(MessageId),
    /// The message is over a bound of the protocol.
    Refused(MessageId),
    /// Nothing was to be written for a while.
    Idle,
}

impl Writer {
    pub(super) fn new(stream: Stream, revision: Revision) -> Self {
        Self { stream, revision, current: None, unflushed: false, still: 0, watch: Watch::new(IDLE_OUT) }
    }

    /// The message that was not written to its end.
    pub(super) fn into_current(self) -> Option<(MessageId, Message)> {
        self.current.map(|current| (current.id, current.message))
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut VecDeque<(MessageId, Message)>,
    ) -> Poll<io::Result<Progress>> {
        match self.poll_write(cx, outbox) {
            Poll::Pending => {}
            ready => return ready,
        }
        loop {
            ready!(self.watch.poll_still(cx));
            if self.current.is_none() && !self.unflushed {
                return Poll::Ready(Ok(Progress::Idle));
            }
            self.still += 1;
            if self.still >= STUCK_MAX {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut VecDeque<(MessageId, Message)>,
    ) -> Poll<io::Result<Progress>> {
        loop {
            if let Some(Current { id, rest, .. }) = &mut self.current {
                while let Some(piece) = rest.pieces.front_mut() {
                    let written = ready!(Pin::new(&mut self.stream).poll_write(cx, piece))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.watch.moved();
                    self.still = 0;
                    piece.advance(written);
                    if piece.is_empty() {
                        rest.pieces.pop_front();
                    }
                }
                let id = *id;
                self.current = None;
                self.unflushed = true;
                return Poll::Ready(Ok(Progress::Written(id)));
            }
            if let Some((id, message)) = outbox.pop_front() {
                let Ok(rest) = message.encode(self.revision) else {
                    return Poll::Ready(Ok(Progress::Refused(id)));
                };
                self.current = Some(Current { id, message, rest });
                continue;
            }
            if self.unflushed {
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                self.unflushed = false;
            }
            return Poll::Pending;
        }
    }
}

/// Tells when nothing has moved for a while.
struct Watch {
    after: Duration,
    delay: Delay,
    moved: bool,
}

impl Watch {
    fn new(after: Duration) -> Self {
        Self { after, delay: Delay::new(after), moved: false }
    }

    fn moved(&mut self) {
        self.moved = true;
    }

    fn poll_still(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.delay.poll_unpin(cx));
            self.delay.reset(self.after);
            if !std::mem::take(&mut self.moved) {
                return Poll::Ready(());
            }
        }
    }
}

/// Room for messages of one connection that are being read or verified.
#[derive(Clone)]
pub(super) struct Budget(Arc<Mutex<BudgetState>>);

struct BudgetState {
    left: usize,
    waiting: Vec<Waker>,
}

impl Budget {
    /// `bytes` is at least [`MESSAGE_BYTES_MAX`], so that any message fits once the others are through.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(BudgetState { left: bytes, waiting: Vec::new() })))
    }

    fn poll_take(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<Room> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.left.checked_sub(bytes) {
            Some(left) => {
                state.left = left;
                Poll::Ready(Room { of: self.clone(), bytes })
            }
            None => {
                state.waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A share of a [`Budget`], given back on drop.
pub(super) struct Room {
    of: Budget,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.left += self.bytes;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}
