//! Frames: an unsigned varint, and as many bytes as it says.

use std::{io, marker::PhantomData};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

use super::message::Message;

/// Bytes of the varint; enough for 2^28.
const VARINT_MAX: usize = 4;

/// Reads and writes the messages of one protocol, none longer than its bound.
pub struct Codec<Q, A> {
    request_max: usize,
    response_max: usize,
    messages: PhantomData<fn() -> (Q, A)>,
}

impl<Q, A> Codec<Q, A> {
    pub(super) fn new(request_max: usize, response_max: usize) -> Self {
        Self { request_max, response_max, messages: PhantomData }
    }
}

impl<Q, A> Clone for Codec<Q, A> {
    fn clone(&self) -> Self {
        Self::new(self.request_max, self.response_max)
    }
}

impl<Q: Message, A: Message> request_response::Codec for Codec<Q, A> {
    type Protocol = StreamProtocol;
    type Request = Q;
    type Response = A;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Q>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.request_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<A>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.response_max).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Q) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request.to_bytes(), self.request_max).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: A) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response.to_bytes(), self.response_max).await
    }
}

async fn read<T: AsyncRead + Unpin + Send, M: Message>(io: &mut T, max: usize) -> io::Result<M> {
    let mut length = 0_usize;
    for place in 0..VARINT_MAX {
        let mut byte = [0; 1];
        io.read_exact(&mut byte).await?;
        let [byte] = byte;
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            if byte == 0 && place > 0 {
                return Err(invalid("a varint longer than it need be"));
            }
            if length > max {
                return Err(invalid("a message beyond its bound"));
            }
            // Memory grows with what arrives, not with what was promised.
            let mut bytes = Vec::new();
            io.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut bytes).await?;
            if bytes.len() < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return M::from_bytes(&bytes).map_err(|error| invalid(error.to_string()));
        }
    }
    Err(invalid("a message beyond its bound"))
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8], max: usize) -> io::Result<()> {
    if bytes.len() > max {
        return Err(invalid("a message beyond its bound"));
    }
    let mut prefix = Vec::with_capacity(VARINT_MAX);
    let mut rest = bytes.len();
    while rest >= 0x80 {
        prefix.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    prefix.push(u8::try_from(rest).unwrap_or_default());
    io.write_all(&prefix).await?;
    io.write_all(bytes).await?;
    io.close().await
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::{executor::block_on, io::Cursor};

    use super::*;
    use crate::p2p::message::{Ack, NewTransactions, Question, Range};

    fn check(bytes: &[u8], max: usize, good: bool) {
        let read: io::Result<Question> = block_on(read(&mut Cursor::new(bytes.to_vec()), max));
        assert_eq!(read.is_ok(), good, "{bytes:?}: {read:?}");
    }

    #[test]
    fn a_frame_reads_back_and_a_torn_or_long_one_does_not() {
        let question = Question::Blocks(Range { first: 7, count: 1_000 });
        let mut frame = Cursor::new(Vec::new());
        block_on(write(&mut frame, &question.to_bytes(), 100)).unwrap();
        let frame = frame.into_inner();
        check(&frame, 100, true);
        check(&frame, frame.len() - 2, false);
        for end in 0..frame.len() {
            check(&frame[..end], 100, false);
        }
        let body = &frame[1..];
        check(&[&[frame[0] | 0x80, 0x00], body].concat(), 100, false);
        check(&[0xff; 64], usize::MAX, false);
        check(&[&[frame[0] + 1], body, &[0]].concat(), 100, false);
        check(&[1, 0x80], 100, false);
    }

    #[test]
    fn a_length_of_many_bytes_reads_back() {
        let many = NewTransactions { raw: vec![vec![7; 300_000].into()] };
        let mut frame = Cursor::new(Vec::new());
        block_on(write(&mut frame, &many.to_bytes(), 1 << 20)).unwrap();
        let back: NewTransactions = block_on(read(&mut Cursor::new(frame.into_inner()), 1 << 20)).unwrap();
        assert_eq!(back, many);
        assert!(block_on(write(&mut Cursor::new(Vec::new()), &many.to_bytes(), 1_000)).is_err());
    }

    #[test]
    fn an_acknowledgement_is_empty() {
        assert!(block_on(read::<_, Ack>(&mut Cursor::new(vec![0]), 0)).is_ok());
        assert!(block_on(read::<_, Ack>(&mut Cursor::new(vec![1, 0]), 10)).is_err());
    }
}
