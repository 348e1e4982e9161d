//! One connection: streams in, one stream out.

use std::{
    array,
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use cid::Cid;
use futures::{
    FutureExt, StreamExt,
    channel::oneshot,
    future::BoxFuture,
    stream::{BoxStream, SelectAll},
};
use libp2p::{
    Stream,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::{
    pool::Pool,
    server::MessageId,
    stream::{Budget, Progress, Reader, Room, Writer},
    wire::{Entry, MESSAGE_BYTES_MAX, Message, Payload, Presence, Revision},
};
use crate::{Block, HashFunction, buffers::Buffers};

/// Streams that a peer may have open to us: Kubo opens one for each of its eight senders, Helia one for each of up to 50
/// messages. None of them sends again what it wrote to a stream that was refused.
const INBOUND_MAX: usize = 64;
/// Messages that wait for a peer to read those before.
const OUTBOX_MAX: usize = 1024;
/// Bytes of messages of one connection that are being read or verified.
const INBOUND_BYTES: usize = 2 * MESSAGE_BYTES_MAX;
/// Messages of one stream that are being verified while the next is read.
const VERIFY_AHEAD: usize = 2;
/// Fewer bytes are hashed where they are.
const VERIFY_INLINE: usize = 16 * 1024;
/// A connection on which so many streams in a row broke before a message was written is of no use.
const FAILURES_MAX: u8 = 3;

/// Serves one connection of [`Bitswap`](super::Bitswap); it is made by it and used by the swarm.
pub struct Handler {
    pool: Pool,
    /// For messages.
    buffers: Arc<Buffers>,
    /// How many blocks are wanted of the peer: with none, its blocks are dropped unhashed.
    wanted: Arc<AtomicUsize>,
    outbox: VecDeque<(MessageId, Message)>,
    outbound: Outbound,
    failures: u8,
    inbound: SelectAll<BoxStream<'static, Inbound>>,
    budget: Budget,
    events: VecDeque<ToBehaviour>,
}

enum Outbound {
    Closed,
    Opening,
    Open(Box<Writer>),
}

/// What the behaviour tells the handler.
#[derive(Debug)]
pub struct FromBehaviour(pub(super) Command);

#[derive(Debug)]
pub(super) enum Command {
    /// Where to see how many blocks are wanted of the peer.
    Wanted(Arc<AtomicUsize>),
    Send(MessageId, Message),
}

/// What the handler tells the behaviour.
#[derive(Debug)]
pub struct ToBehaviour(pub(super) Event);

#[derive(Debug)]
pub(super) enum Event {
    Received(Received),
    Written(MessageId),
    /// The message is lost, but the connection may serve the next one.
    Lost(MessageId),
    /// The peer speaks a revision without presences.
    Plain,
    /// The peer does not speak the protocol, or not for long.
    Unusable,
    /// The peer sent what is no message.
    Violation,
}

/// A message with its blocks verified.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) entries: Vec<Entry>,
    pub(super) full: bool,
    pub(super) blocks: Vec<Block>,
    pub(super) presences: Vec<(Cid, Presence)>,
    /// Blocks came that nobody can have asked for, by a hash that is not known here.
    pub(super) unasked: bool,
    /// How many blocks were not looked at, since none was wanted, and their bytes.
    pub(super) dropped: (u64, u64),
}

enum Inbound {
    Received(Received),
    Violation,
    Broken,
}

impl Handler {
    pub(super) fn new(pool: Pool, buffers: Arc<Buffers>) -> Self {
        Self {
            pool,
            buffers,
            wanted: Arc::default(),
            outbox: VecDeque::new(),
            outbound: Outbound::Closed,
            failures: 0,
            inbound: SelectAll::new(),
            budget: Budget::new(INBOUND_BYTES),
            events: VecDeque::new(),
        }
    }

    fn accept(&mut self, stream: Stream) {
        if self.inbound.len() >= INBOUND_MAX {
            // Dropping a stream resets it, which tells the peer to use those it has.
            return;
        }
        let (pool, wanted) = (self.pool.clone(), self.wanted.clone());
        let messages = Reader::new(stream, self.budget.clone(), self.buffers.clone())
            .map(move |message| receive(message, &pool, &wanted))
            .buffered(VERIFY_AHEAD);
        self.inbound.push(messages.boxed());
    }

    /// A stream broke, or none was to be had. A message that was not written to its end goes on the next one: nobody took it, as
    /// when Helia resets a stream on which nothing came for ten seconds.
    fn outbound_failed(&mut self) {
        if let Outbound::Open(writer) = std::mem::replace(&mut self.outbound, Outbound::Closed)
            && let Some(unwritten) = writer.into_current()
        {
            self.outbox.push_front(unwritten);
        }
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            self.unusable();
        }
    }

    fn unusable(&mut self) {
        self.failures = 0;
        self.outbound = Outbound::Closed;
        self.events.extend(self.outbox.drain(..).map(|(id, _)| ToBehaviour(Event::Lost(id))));
        self.events.push_back(ToBehaviour(Event::Unusable));
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("outbox", &self.outbox.len()).finish_non_exhaustive()
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = FromBehaviour;
    type ToBehaviour = ToBehaviour;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        // Beyond this, a connection lives as long as its streams, and these as long as something moves on them.
        !self.outbox.is_empty() || self.wanted.load(Ordering::Relaxed) > 0
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, (), ToBehaviour>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
            }
            match &mut self.outbound {
                Outbound::Closed if !self.outbox.is_empty() => {
                    self.outbound = Outbound::Opening;
                    let protocol = SubstreamProtocol::new(Upgrade, ());
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
                Outbound::Closed | Outbound::Opening => {}
                Outbound::Open(writer) => match writer.poll(cx, &mut self.outbox) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(Progress::Written(id))) => {
                        self.failures = 0;
                        self.events.push_back(ToBehaviour(Event::Written(id)));
                        continue;
                    }
                    Poll::Ready(Ok(Progress::Refused(id))) => {
                        self.events.push_back(ToBehaviour(Event::Lost(id)));
                        continue;
                    }
                    Poll::Ready(Ok(Progress::Idle)) => {
                        self.outbound = Outbound::Closed;
                        continue;
                    }
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(%error, "bitswap stream broke");
                        self.outbound_failed();
                        continue;
                    }
                },
            }
            match self.inbound.poll_next_unpin(cx) {
                Poll::Ready(Some(Inbound::Received(message))) => {
                    self.events.push_back(ToBehaviour(Event::Received(message)));
                }
                Poll::Ready(Some(Inbound::Violation)) => {
                    self.inbound.clear();
                    self.events.push_back(ToBehaviour(Event::Violation));
                }
                Poll::Ready(Some(Inbound::Broken)) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn on_behaviour_event(&mut self, FromBehaviour(command): FromBehaviour) {
        match command {
            Command::Wanted(wanted) => self.wanted = wanted,
            Command::Send(id, message) => {
                self.outbox.push_back((id, message));
                if self.outbox.len() > OUTBOX_MAX {
                    // It reads nothing of what it is sent.
                    self.unusable();
                }
            }
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.accept(protocol.0);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                let (stream, revision) = protocol;
                if revision < Revision::V1_2 {
                    self.events.push_back(ToBehaviour(Event::Plain));
                }
                self.outbound = Outbound::Open(Box::new(Writer::new(stream, revision)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => match error {
                StreamUpgradeError::NegotiationFailed => self.unusable(),
                _ => self.outbound_failed(),
            },
            _ => {}
        }
    }
}

/// Verifies a message as it came from its stream.
fn receive(
    message: io::Result<(Bytes, Room)>,
    pool: &Pool,
    wanted: &Arc<AtomicUsize>,
) -> BoxFuture<'static, Inbound> {
    let (bytes, room) = match message {
        Ok(message) => message,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return ready(Inbound::Violation).boxed(),
        Err(_) => return ready(Inbound::Broken).boxed(),
    };
    let Ok(message) = Message::decode(&bytes) else { return ready(Inbound::Violation).boxed() };
    let Message { entries, full, payloads, presences } = message;
    let mut received =
        Received { entries, full, blocks: Vec::new(), presences, unasked: false, dropped: (0, 0) };
    if payloads.is_empty() {
        return ready(Inbound::Received(received)).boxed();
    }
    if wanted.load(Ordering::Relaxed) == 0 {
        // Either they come too late, or nobody asked: not worth the hashing that would tell.
        let bytes = payloads.iter().map(|payload| payload.data.len() as u64).sum();
        received.dropped = (payloads.len() as u64, bytes);
        return ready(Inbound::Received(received)).boxed();
    }
    if payloads.iter().map(|payload| payload.data.len()).sum::<usize>() <= VERIFY_INLINE {
        (received.blocks, received.unasked) = verify(payloads);
        return ready(Inbound::Received(received)).boxed();
    }
    let (done, verified) = oneshot::channel();
    pool.run(move || {
        let _ = done.send(verify(payloads));
    });
    async move {
        (received.blocks, received.unasked) = verified.await.unwrap_or((Vec::new(), true));
        drop(room);
        Inbound::Received(received)
    }
    .boxed()
}

/// Names the blocks by their hashes; says whether there was one that cannot be named.
fn verify(payloads: Vec<Payload>) -> (Vec<Block>, bool) {
    let count = payloads.len();
    let blocks: Vec<Block> = payloads.into_iter().filter_map(name).collect();
    let unasked = blocks.len() < count;
    (blocks, unasked)
}

fn name(Payload { prefix, data }: Payload) -> Option<Block> {
    let hash = HashFunction::from_code(prefix.hash)?.digest(&data);
    if u64::from(hash.size()) != prefix.digest_len {
        return None;
    }
    let cid = Cid::new(prefix.version, prefix.codec, hash).ok()?;
    Some(Block::checked_before(cid, data))
}

/// Negotiates a revision of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade;

impl UpgradeInfo for Upgrade {
    type Info = Revision;
    type InfoIter = array::IntoIter<Revision, 3>;

    fn protocol_info(&self) -> Self::InfoIter {
        Revision::ALL.into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, Revision);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, revision: Revision) -> Self::Future {
        ready(Ok((stream, revision)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, Revision);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, revision: Revision) -> Self::Future {
        ready(Ok((stream, revision)))
    }
}
