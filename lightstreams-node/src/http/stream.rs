//! Bridges between an asynchronous body and the synchronous readers and writers of CAR streams.
//!
//! A bounded channel stands between the two sides, so a slow disk slows the sender and a slow reader slows the disk.

use bytes::{Bytes, BytesMut};
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// Pieces in flight between the two sides.
const PIECES: usize = 8;
/// What a writer gathers before it sends.
const PIECE_LEN: usize = 256 * 1024;

/// The sending end of a [`PieceReader`].
pub type PieceSender = mpsc::Sender<io::Result<Bytes>>;
/// The receiving end of a [`PieceWriter`].
pub type PieceReceiver = mpsc::Receiver<io::Result<Bytes>>;

/// A `Read` for a blocking thread, fed by an asynchronous sender.
#[derive(Debug)]
pub struct PieceReader {
    from: PieceReceiver,
    piece: Bytes,
}

/// Makes a reader and what feeds it. The reader is at its end when the sender is dropped.
pub fn piece_reader() -> (PieceSender, PieceReader) {
    let (to, from) = mpsc::channel(PIECES);
    (to, PieceReader { from, piece: Bytes::new() })
}

impl Read for PieceReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.from.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let n = buf.len().min(self.piece.len());
        let piece = self.piece.split_to(n);
        if let Some(into) = buf.get_mut(..n) {
            into.copy_from_slice(&piece);
        }
        Ok(n)
    }
}

/// A `Write` for a blocking thread, drained by an asynchronous receiver.
#[derive(Debug)]
pub struct PieceWriter {
    to: PieceSender,
    gathered: BytesMut,
}

/// Makes a writer and what drains it. Writing fails once the receiver is dropped.
pub fn piece_writer() -> (PieceWriter, PieceReceiver) {
    let (to, from) = mpsc::channel(PIECES);
    (PieceWriter { to, gathered: BytesMut::new() }, from)
}

impl PieceWriter {
    /// Ends the stream with an error, which breaks the connection so that no one takes the half for the whole.
    pub fn fail(self, error: io::Error) {
        let _ = self.to.blocking_send(Err(error));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = self.gathered.split().freeze();
        self.to.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE_LEN {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_until_the_sender_is_dropped() {
        let (mut writer, mut drain) = piece_writer();
        let (feed, mut reader) = piece_reader();
        let data: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let sent = data.clone();
        let write = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.flush().unwrap();
        });
        let carry = std::thread::spawn(move || {
            while let Some(piece) = drain.blocking_recv() {
                feed.blocking_send(piece).unwrap();
            }
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == data);
        write.join().unwrap();
        carry.join().unwrap();
    }

    #[test]
    fn an_error_in_the_middle_is_an_error_of_the_reader() {
        let (feed, mut reader) = piece_reader();
        feed.blocking_send(Ok(Bytes::from_static(b"half"))).unwrap();
        feed.blocking_send(Err(io::ErrorKind::ConnectionReset.into())).unwrap();
        drop(feed);
        let mut got = Vec::new();
        assert_eq!(reader.read_to_end(&mut got).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(got, b"half");
    }

    #[test]
    fn a_writer_whose_reader_went_away_fails() {
        let (mut writer, drain) = piece_writer();
        drop(drain);
        writer.write_all(b"x").unwrap();
        assert!(writer.flush().is_err());
    }
}
