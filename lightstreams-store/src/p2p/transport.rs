//! What carries the streams: Noise and Yamux, as IPFS's peers speak them, in steps that are not small.
//!
//! libp2p's own read 8 KiB at once and send 16 KiB at once, and each step costs a system call and an encryption of its own. Here a read
//! takes what the socket has, up to 64 KiB, and a frame of Yamux fills a message of Noise.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io, iter,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite, io::BufReader};
use libp2p::{
    PeerId,
    core::{
        muxing::{StreamMuxer, StreamMuxerEvent},
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    },
    identity::Keypair,
    noise,
};
use yamux::{Connection, ConnectionError, Mode};

/// Bytes read from a socket at once.
pub(super) const READ_BYTES: usize = 64 << 10;
/// Bytes of a data frame that is sent: with its header it fills one message of libp2p's Noise, which has 65,535 bytes of which libp2p
/// leaves 1,024 free.
const SEND_BYTES: usize = 65_535 - 1_024 - HEADER_LEN;
/// The same with its header.
#[cfg(feature = "tls")]
pub(super) const SENT_FRAME_BYTES: usize = SEND_BYTES + HEADER_LEN;
/// Bytes of a data frame, or of a part of a longer one, that is received. Yamux asks for zeroed memory for each, and what jemalloc calls
/// small, 14 KiB at most, is memory that was just used; for more it gives pages back to have them zeroed by the kernel.
const FRAME_BYTES_MAX: u32 = 14 << 10;
/// Bytes read before those who read the streams get their turn. Without it megabytes would pile up, as far as the windows allow, in
/// memory that is new each time; and glibc gives back what is free at the top of a heap from 128 KiB on.
const TURN_BYTES: usize = 64 << 10;
/// Streams of a connection.
const STREAMS_MAX: usize = 512;
/// Bytes by which the windows of a connection's streams may grow together, beyond the 256 KiB that each has.
const WINDOWS_GROWTH: usize = 64 << 20;
/// Streams that a peer opened and nobody took yet.
const INBOUND_MAX: usize = 256;

/// Noise, the encryption of a connection, with [`noise::Config`] inside.
///
/// ```
/// use libp2p::{SwarmBuilder, tcp};
/// use lightstreams_store::p2p::{Noise, Yamux};
/// # #[derive(libp2p::swarm::NetworkBehaviour)]
/// # struct Behaviour { ping: libp2p::ping::Behaviour }
/// let swarm = SwarmBuilder::with_new_identity()
///     .with_tokio()
///     .with_tcp(tcp::Config::default(), Noise::new, Yamux::default)?
///     .with_behaviour(|_| Behaviour { ping: Default::default() })?
///     .build();
/// # drop(swarm);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Noise(noise::Config);

impl Noise {
    /// The encryption under which we prove to be `identity`.
    pub fn new(identity: &Keypair) -> Result<Self, noise::Error> {
        noise::Config::new(identity).map(Self)
    }
}

impl std::fmt::Debug for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Noise").finish_non_exhaustive()
    }
}

impl UpgradeInfo for Noise {
    type Info = <noise::Config as UpgradeInfo>::Info;
    type InfoIter = <noise::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<T> for Noise {
    type Output = (PeerId, noise::Output<BufReader<T>>);
    type Error = noise::Error;
    type Future = <noise::Config as InboundConnectionUpgrade<BufReader<T>>>::Future;

    fn upgrade_inbound(self, socket: T, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(BufReader::with_capacity(READ_BYTES, socket), info)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<T> for Noise {
    type Output = (PeerId, noise::Output<BufReader<T>>);
    type Error = noise::Error;
    type Future = <noise::Config as OutboundConnectionUpgrade<BufReader<T>>>::Future;

    fn upgrade_outbound(self, socket: T, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(BufReader::with_capacity(READ_BYTES, socket), info)
    }
}

/// Yamux, the streams of a connection: 512 at most, whose windows grow with the speed of the connection, by 64 MiB together.
///
/// It takes frames of any length that the window allows, as peers made with js-libp2p send them; the yamux of rust-libp2p ends a
/// connection on which a frame has more than 1 MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Yamux(());

impl Yamux {
    fn open<T: AsyncRead + AsyncWrite + Unpin>(socket: T, mode: Mode) -> Muxer<T> {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_MAX);
        config.set_max_connection_receive_window(Some(
            STREAMS_MAX * yamux::DEFAULT_CREDIT as usize + WINDOWS_GROWTH,
        ));
        config.set_split_send_size(SEND_BYTES);
        Muxer {
            connection: Connection::new(Frames::new(socket), config, mode),
            inbound: VecDeque::new(),
            taker: None,
        }
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<T> for Yamux {
    type Output = Muxer<T>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_inbound(self, socket: T, _: Self::Info) -> Self::Future {
        ready(Ok(Self::open(socket, Mode::Server)))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<T> for Yamux {
    type Output = Muxer<T>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_outbound(self, socket: T, _: Self::Info) -> Self::Future {
        ready(Ok(Self::open(socket, Mode::Client)))
    }
}

/// The streams of one connection.
#[derive(Debug)]
pub struct Muxer<T> {
    connection: Connection<Frames<T>>,
    inbound: VecDeque<yamux::Stream>,
    /// Who waits for a stream of the peer.
    taker: Option<Waker>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Muxer<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.connection.poll_next_inbound(cx).map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<T> {
    type Substream = yamux::Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        if let Some(stream) = self.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.taker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        // Nothing moves on the connection but by asking it for streams, wanted or not.
        let stream = ready!(self.poll_next(cx))?;
        if self.inbound.len() < INBOUND_MAX {
            self.inbound.push_back(stream);
            self.taker.take().into_iter().for_each(Waker::wake);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Bytes of a frame's header: version, type, flags u16, stream u32, length u32, big-endian (hashicorp/yamux, spec.md, "Framing").
const HEADER_LEN: usize = 12;
/// Type of a frame with data: of no other is the length that of bytes that follow.
const DATA: u8 = 0;
/// The flags that begin a stream, SYN and ACK; the others, FIN and RST, end it.
const FLAGS_FIRST: u8 = 0b0011;

type Header = [u8; HEADER_LEN];

/// Cuts long frames that are read into several: the bytes are the same, with more headers between them. And rests between two frames
/// every [`TURN_BYTES`].
#[derive(Debug)]
struct Frames<T> {
    socket: T,
    state: State,
    /// Bytes read since the last rest.
    turn: usize,
}

#[derive(Debug)]
enum State {
    /// The header of the next frame is read, `known` bytes of it so far.
    Header { header: Header, known: usize },
    /// A part of the frame that has the header `frame` is handed out.
    Part {
        frame: Header,
        header: Header,
        /// Bytes of `header` that were handed out.
        said: usize,
        /// Bytes of the part that are still to come, and those of the frame that follow it.
        left: u32,
        rest: u32,
    },
}

impl State {
    const NEXT: Self = Self::Header { header: [0; HEADER_LEN], known: 0 };

    /// The first part of a frame.
    fn first(frame: Header) -> Self {
        let [_, kind, _, _, _, _, _, _, l0, l1, l2, l3] = frame;
        match (kind, u32::from_be_bytes([l0, l1, l2, l3])) {
            (DATA, len) if len > FRAME_BYTES_MAX => Self::part(frame, len, FLAGS_FIRST),
            (DATA, len) => Self::Part { frame, header: frame, said: 0, left: len, rest: 0 },
            _ => Self::Part { frame, header: frame, said: 0, left: 0, rest: 0 },
        }
    }

    /// A part of a frame of which `len` bytes are still to come; it has those of its flags that are in `flags`, the last one all
    /// that are not in [`FLAGS_FIRST`] as well.
    fn part(frame: Header, len: u32, flags: u8) -> Self {
        let left = len.min(FRAME_BYTES_MAX);
        let rest = len - left;
        let flags = if rest == 0 { flags | !FLAGS_FIRST } else { flags };
        let [version, kind, _, all, s0, s1, s2, s3, ..] = frame;
        let [l0, l1, l2, l3] = left.to_be_bytes();
        let header = [version, kind, 0, all & flags, s0, s1, s2, s3, l0, l1, l2, l3];
        Self::Part { frame, header, said: 0, left, rest }
    }
}

impl<T> Frames<T> {
    fn new(socket: T) -> Self {
        Self { socket, state: State::NEXT, turn: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { socket, state, turn } = self.get_mut();
        loop {
            match state {
                State::Header { known: 0, .. } if *turn >= TURN_BYTES => {
                    *turn = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Header { header, known } => {
                    let space = header.get_mut(*known..).unwrap_or_default();
                    if space.is_empty() {
                        *state = State::first(*header);
                        continue;
                    }
                    let read = ready!(Pin::new(&mut *socket).poll_read(cx, space))?;
                    if read == 0 {
                        let between = *known == 0;
                        return Poll::Ready(if between {
                            Ok(0)
                        } else {
                            Err(io::ErrorKind::UnexpectedEof.into())
                        });
                    }
                    *known += read;
                }
                State::Part { header, said, .. } if *said < HEADER_LEN => {
                    let mut unsaid = header.get(*said..).unwrap_or_default();
                    let read = ready!(Pin::new(&mut unsaid).poll_read(cx, buf))?;
                    *said += read;
                    return Poll::Ready(Ok(read));
                }
                State::Part { left: 0, rest: 0, .. } => *state = State::NEXT,
                State::Part { left: 0, rest, frame, .. } => *state = State::part(*frame, *rest, 0),
                State::Part { left, .. } => {
                    let len = buf.len().min(*left as usize);
                    let read =
                        ready!(Pin::new(socket).poll_read(cx, buf.get_mut(..len).unwrap_or_default()))?;
                    *left -= read as u32;
                    *turn += read;
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use futures::{AsyncReadExt, executor::block_on};

    use super::*;

    fn frame(kind: u8, flags: u8, len: u32) -> Vec<u8> {
        let [l0, l1, l2, l3] = len.to_be_bytes();
        vec![0, kind, 0, flags, 0, 0, 0, 7, l0, l1, l2, l3]
    }

    /// Reads `bytes` in pieces of `step`.
    fn read(bytes: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let (mut frames, mut all, mut piece) = (Frames::new(bytes), Vec::new(), vec![0; step]);
        loop {
            match block_on(frames.read(&mut piece))? {
                0 => return Ok(all),
                n => all.extend_from_slice(&piece[..n]),
            }
        }
    }

    #[test]
    fn a_long_frame_becomes_several_and_every_other_stays_as_it_is() {
        const MAX: u32 = FRAME_BYTES_MAX;
        let data: Vec<u8> = (0..2 * MAX + 5).map(|i| (i % 251) as u8).collect();
        let whole = |parts: &[&[u8]]| parts.concat();
        let window = frame(1, 1, 3 * MAX);
        let short = whole(&[&frame(DATA, 0b1111, MAX), &data[..MAX as usize]]);
        let empty = frame(DATA, 0b0100, 0);
        // All flags: those that begin the stream are said first, those that end it last.
        let long = whole(&[&frame(DATA, 0b1111, 2 * MAX + 5), &data]);
        let (first, rest) = data.split_at(MAX as usize);
        let (second, third) = rest.split_at(MAX as usize);
        let cut = whole(&[
            &frame(DATA, 0b0011, MAX),
            first,
            &frame(DATA, 0, MAX),
            second,
            &frame(DATA, 0b1100, 5),
            third,
        ]);
        let sent = whole(&[&window, &short, &long, &empty, &window]);
        let seen = whole(&[&window, &short, &cut, &empty, &window]);
        for step in [1, 5, 12, 1000, 1 << 20] {
            assert!(read(&sent, step).unwrap() == seen, "in pieces of {step} bytes");
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn those_who_read_the_streams_get_their_turn_between_two_frames() {
        const LEN: usize = 1000;
        let bytes = [&frame(DATA, 0, LEN as u32)[..], &[7; LEN]].concat().repeat(3 * TURN_BYTES / LEN);
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let (mut frames, mut piece) = (Frames::new(&bytes[..]), [0; 300]);
        let (mut read, mut turns) = (0, vec![0]);
        while read < bytes.len() {
            match Pin::new(&mut frames).poll_read(&mut Context::from_waker(&waker), &mut piece) {
                Poll::Ready(count) => {
                    read += count.unwrap();
                    *turns.last_mut().unwrap() += 1;
                }
                Poll::Pending => {
                    assert_eq!(read % (HEADER_LEN + LEN), 0, "a rest within a frame");
                    turns.push(0);
                }
            }
        }
        assert_eq!((turns.len(), woken.0.load(Ordering::Relaxed)), (3, 2), "reads in each turn: {turns:?}");
    }

    #[test]
    fn a_connection_that_ends_within_a_header_is_an_error_and_one_that_ends_between_frames_is_not() {
        let one = frame(1, 0, 9);
        assert_eq!(read(&one, 64).unwrap(), one);
        let cut = read(&[&one[..], &one[..5]].concat(), 64).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
