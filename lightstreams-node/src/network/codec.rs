//! The frame of our request-response protocols: an unsigned varint length, then that many bytes of CBOR.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;
use std::io;

/// Carries one length-prefixed message each way, each of bounded length.
#[derive(Clone, Copy, Debug)]
pub struct Framed {
    request_len_max: usize,
    response_len_max: usize,
}

impl Framed {
    /// A codec whose messages have at most these lengths.
    pub const fn new(request_len_max: usize, response_len_max: usize) -> Self {
        Self { request_len_max, response_len_max }
    }
}

impl request_response::Codec for Framed {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, self.request_len_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, self.response_len_max).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, frame: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame, self.request_len_max).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, frame: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame, self.response_len_max).await
    }
}

async fn read_frame<T: AsyncRead + Unpin + Send>(io: &mut T, len_max: usize) -> io::Result<Vec<u8>> {
    let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut len: usize = 0;
    // Four bytes of varint reach 2^28 - 1, beyond every bound in use.
    for shift in [0, 7, 14, 21] {
        let mut byte = [0u8];
        io.read_exact(&mut byte).await?;
        let [byte] = byte;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 != 0 {
            continue;
        }
        if byte == 0 && shift != 0 {
            return Err(wrong("the length is not the shortest varint"));
        }
        if len > len_max {
            return Err(wrong("the message is longer than the protocol allows"));
        }
        // The buffer grows with what arrives, not with what was announced.
        let mut frame = Vec::new();
        io.take(len as u64).read_to_end(&mut frame).await?;
        return if frame.len() == len { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
    }
    Err(wrong("the length is no varint of four bytes"))
}

async fn write_frame<T: AsyncWrite + Unpin + Send>(
    io: &mut T,
    frame: &[u8],
    len_max: usize,
) -> io::Result<()> {
    if frame.len() > len_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is longer than the protocol allows",
        ));
    }
    let mut len = unsigned_varint::encode::usize_buffer();
    io.write_all(unsigned_varint::encode::usize(frame.len(), &mut len)).await?;
    io.write_all(frame).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[track_caller]
    fn refused(bytes: &[u8], len_max: usize) {
        assert!(block_on(read_frame(&mut &*bytes, len_max)).is_err(), "{bytes:02x?}");
    }

    #[test]
    fn a_frame_is_read_back() {
        for len in [0usize, 1, 127, 128, 16 * 1024] {
            let frame = vec![7; len];
            let mut wire = Vec::new();
            block_on(write_frame(&mut wire, &frame, 16 * 1024)).unwrap();
            assert_eq!(block_on(read_frame(&mut wire.as_slice(), 16 * 1024)).unwrap(), frame);
        }
    }

    #[test]
    fn hostile_lengths_are_refused() {
        refused(&[], 10);
        refused(&[0x80], 10);
        refused(&[0x80, 0x00], 10);
        refused(&[0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10);
        refused(&[0x02, 0], 10);
        refused(&[0xff, 0xff, 0xff, 0xff, 0x0f], usize::MAX);
        assert!(block_on(write_frame(&mut Vec::new(), &[0; 11], 10)).is_err());
    }
}
