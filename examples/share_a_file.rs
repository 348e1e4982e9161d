//! How do I share an encrypted file without a chain and without a node?
//!
//! Alice encrypts a file into content-addressed blocks. A mirror holds them and can read nothing. Bob gets a CAR file of
//! the blocks, seeks to the middle, and decrypts only that. Later Alice lets Carol read, too: one new block.

use std::{
    error::Error,
    io::{self, Read, Seek, SeekFrom},
};

use lightstreams_crypto::{
    FileKey, Header, PayloadEncryptor, PayloadKey, PayloadNonce, ReadAt, SeekableReader, X25519Identity,
    rewrap,
};
use lightstreams_store::{
    Block, BlockStore, CarReader, CarWriter, EnvelopeChunker, FileBuilder, MemoryStore, PayloadReader,
    PayloadShape, readable_root,
};

fn main() -> Result<(), Box<dyn Error>> {
    let rng = &mut rand::rng();
    let (alice, bob, carol) =
        (X25519Identity::generate(rng), X25519Identity::generate(rng), X25519Identity::generate(rng));
    let film: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();

    // Encrypt: payload blocks that never change, and a small header block that says who may read.
    let (file_key, nonce) = (FileKey::generate(rng), PayloadNonce::generate(rng));
    let store = MemoryStore::default();
    let mut sealed = PayloadEncryptor::new(PayloadKey::derive(&file_key, &nonce), film.as_slice());
    let payload = FileBuilder::new(EnvelopeChunker::default()).import(&mut sealed, &store, &mut |_| {})?;
    let header = Header::wrap(&file_key, &[&alice.recipient(), &bob.recipient()], rng)?;
    let h = Block::raw(header.to_block(&nonce));
    let r = readable_root(&h, &payload.cid, payload.size, payload.tsize);
    store.put_many(&[h.clone(), r.clone()])?;
    println!("readable root {}: any IPFS tool exports it, any age tool opens it", r.cid());

    // Hand the blocks over as a CAR file; the other side checks every one.
    let mut car = CarWriter::new(Vec::new(), &[*r.cid()])?;
    for cid in store.cids(None, usize::MAX)? {
        car.write(&store.get(&cid)?.ok_or("the store lost a block")?)?;
    }
    let mirror = MemoryStore::default();
    for block in CarReader::new(car.finish()?.as_slice())? {
        mirror.put(&block?)?;
    }

    // Bob knows the size and the header's name, and reads 100 bytes in the middle.
    let (header, nonce) = Header::parse_block(mirror.get(h.cid())?.ok_or("no header")?.data())?;
    let key = PayloadKey::derive(&header.unwrap(&[&bob])?, &nonce);
    let shape = PayloadShape::new(film.len() as u64, 4)?;
    let sealed = Sealed(PayloadReader::open(&mirror, &payload.cid, shape)?);
    let mut reader = SeekableReader::with_plaintext_len(key, sealed, film.len() as u64);
    reader.seek(SeekFrom::Start(1_500_000))?;
    let mut middle = [0; 100];
    reader.read_exact(&mut middle)?;
    assert_eq!(Some(&middle[..]), film.get(1_500_000..1_500_100));
    println!("Bob read 100 bytes in the middle of {} and decrypted one chunk", film.len());

    // Carol may read, too: the payload stays, one small block is new.
    let header =
        rewrap(&header, &[&alice], &[&alice.recipient(), &bob.recipient(), &carol.recipient()], rng)?;
    assert!(header.unwrap(&[&carol])? == file_key);
    println!("Carol was let in by a header of {} bytes", header.as_bytes().len());
    Ok(())
}

/// A payload in blocks, as something that can be read at an offset: store and crypto meet here, and nowhere else.
struct Sealed<'a>(PayloadReader<&'a MemoryStore>);

impl ReadAt for Sealed<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf).map_err(io::Error::other)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }
}
