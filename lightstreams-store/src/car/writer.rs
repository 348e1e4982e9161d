//! Writing.

use std::{
    collections::BTreeMap,
    io::{self, Seek, SeekFrom, Write},
};

use cid::Cid;

use super::{FIRST_DATA, PRAGMA, index};
use crate::{Block, Codec, Ipld, varint};

/// Writes a CARv1.
#[derive(Debug)]
pub struct CarWriter<W> {
    out: W,
    frame: Vec<u8>,
    written: u64,
}

impl<W: Write> CarWriter<W> {
    /// Writes the header, which names `roots`.
    pub fn new(mut out: W, roots: &[Cid]) -> io::Result<Self> {
        let roots = roots.iter().copied().map(Ipld::Link).collect();
        let header = BTreeMap::from([
            ("roots".to_owned(), Ipld::List(roots)),
            ("version".to_owned(), Ipld::Integer(1)),
        ]);
        let header = Codec::DagCbor.encode(&Ipld::Map(header)).map_err(io::Error::other)?;
        let mut frame = Vec::new();
        varint::put(&mut frame, header.len() as u64);
        frame.extend_from_slice(&header);
        out.write_all(&frame)?;
        Ok(Self { out, written: frame.len() as u64, frame })
    }

    /// Writes one block.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        self.frame.clear();
        varint::put(&mut self.frame, (block.cid().encoded_len() + block.len()) as u64);
        block.cid().write_bytes(&mut self.frame).map_err(io::Error::other)?;
        self.out.write_all(&self.frame)?;
        self.out.write_all(block.data())?;
        self.written += (self.frame.len() + block.len()) as u64;
        Ok(())
    }

    /// Flushes, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    /// Gives access to the output, for who takes what was written so far.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }
}

/// Writes a CARv2 with a sorted index (0x0401) of every section, which its characteristics say: *fully indexed*.
///
/// Memory holds 88 bytes for each block. What was written is no CAR before [`finish`](Self::finish).
#[derive(Debug)]
pub struct IndexedCarWriter<W> {
    /// Where the file begins in the output.
    start: u64,
    data: CarWriter<W>,
    entries: Vec<index::Entry>,
}

impl<W: Write + Seek> IndexedCarWriter<W> {
    /// Writes, from where `out` stands, a header that is completed at the end, and the header that names `roots`.
    pub fn new(mut out: W, roots: &[Cid]) -> io::Result<Self> {
        let start = out.stream_position()?;
        out.write_all(&PRAGMA)?;
        out.write_all(&[0; FIRST_DATA as usize - PRAGMA.len()])?;
        Ok(Self { start, data: CarWriter::new(out, roots)?, entries: Vec::new() })
    }

    /// Writes one block.
    pub fn write(&mut self, block: &Block) -> io::Result<()> {
        let offset = self.data.written;
        self.data.write(block)?;
        self.entries.push((*block.cid().hash(), offset));
        Ok(())
    }

    /// Writes the index, completes the header, flushes, and gives the output back, which stands at its end.
    pub fn finish(mut self) -> io::Result<W> {
        let mut out = self.data.out;
        let len = self.data.written;
        index::write(&mut out, &mut self.entries)?;
        let end = out.stream_position()?;
        let mut header = [0; FIRST_DATA as usize - PRAGMA.len()];
        // The first bit: fully indexed.
        let fields = [&[0x80; 1][..], &[0; 15], &FIRST_DATA.to_le_bytes(), &len.to_le_bytes()].concat();
        let index_at = (FIRST_DATA + len).to_le_bytes();
        for (to, from) in header.iter_mut().zip(fields.iter().chain(&index_at)) {
            *to = *from;
        }
        out.seek(SeekFrom::Start(self.start + PRAGMA.len() as u64))?;
        out.write_all(&header)?;
        out.seek(SeekFrom::Start(end))?;
        out.flush()?;
        Ok(out)
    }
}
