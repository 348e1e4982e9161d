//! A payload from the node to a file: fetched in windows, every block checked, decrypted leaf by leaf.

use std::{
    io::{self, Write},
    ops::Range,
};

use cid::Cid;
use indicatif::ProgressBar;
use lightstreams_crypto::{CHUNK, FileKey, PayloadKey, PayloadNonce, TAG, chunk_count};
use lightstreams_store::{
    Block, BlockStore, CarReader, CarWriter, DAG_PB, MemoryStore, PayloadReader, PayloadShape,
};
use serde_json::{Value, json};

use super::{pipe, session::Session};
use crate::{
    error::{Exit, NodeError, Result},
    vault::Manifest,
};

/// Leaves that one request asks for: their inner nodes fit into memory whatever the file's size.
const WINDOW_LEAVES: u64 = 1024;

/// Where a payload is to be had.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The content's URI, for the node's gate and index.
    pub(crate) content: String,
    /// Multiaddrs of nodes that may have it; none is asked where the list is empty.
    pub(crate) providers: Vec<String>,
    /// Whether the node keeps the blocks.
    pub(crate) keep: bool,
}

/// What came through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// Blocks that the node gave.
    pub(crate) blocks: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// What is done with the blocks of a payload, in order.
trait Sink: Send + 'static {
    /// An inner node, before the leaves under it.
    fn node(&mut self, _: &Block) -> Result<()> {
        Ok(())
    }

    /// The leaf `index`, which has the length that `shape` says.
    fn leaf(&mut self, shape: &PayloadShape, index: u64, leaf: &Block) -> Result<()>;
}

/// Decrypts, and writes the plaintext bytes in the range.
struct Plain<W> {
    key: PayloadKey,
    wanted: Range<u64>,
    out: W,
}

impl<W: Write + Send + 'static> Sink for Plain<W> {
    fn leaf(&mut self, shape: &PayloadShape, index: u64, leaf: &Block) -> Result<()> {
        let chunks = chunk_count(shape.plaintext_len());
        let mut sealed = leaf.data().to_vec();
        let first = index * u64::from(shape.k());
        for (j, chunk) in (first..).zip(sealed.chunks_mut(CHUNK + TAG)) {
            let plain = self.key.open_chunk(j, j + 1 == chunks, chunk).map_err(|error| {
                NodeError::new("damaged_payload", "the payload does not open").because(error).exit(Exit::Peer)
            })?;
            let at = j * CHUNK as u64;
            let from = self.wanted.start.saturating_sub(at).min(plain.len() as u64);
            let to = self.wanted.end.saturating_sub(at).min(plain.len() as u64);
            if let Some(part) = plain.get(from as usize..to as usize) {
                self.out.write_all(part).map_err(output)?;
            }
        }
        Ok(())
    }
}

/// Writes leaves as they are: the payload of an age file.
struct Sealed<W>(W);

impl<W: Write + Send + 'static> Sink for Sealed<W> {
    fn leaf(&mut self, _: &PayloadShape, _: u64, leaf: &Block) -> Result<()> {
        self.0.write_all(leaf.data()).map_err(output)
    }
}

/// Writes all blocks into a CAR.
struct Car<W: Write>(CarWriter<W>);

impl<W: Write + Send + 'static> Sink for Car<W> {
    fn node(&mut self, node: &Block) -> Result<()> {
        self.0.write(node).map_err(output)
    }

    fn leaf(&mut self, _: &PayloadShape, _: u64, leaf: &Block) -> Result<()> {
        self.0.write(leaf).map_err(output)
    }
}

/// Decrypts the plaintext bytes `wanted` of the manifest's payload into `out`.
pub(crate) async fn decrypt<W: Write + Send + 'static>(
    session: &Session,
    source: &Source,
    manifest: &Manifest,
    file_key: &FileKey,
    wanted: Range<u64>,
    out: W,
    bar: &ProgressBar,
) -> Result<(W, Moved)> {
    let key = PayloadKey::derive(file_key, &PayloadNonce::from_bytes(manifest.nonce));
    let sink = Plain { key, wanted: wanted.clone(), out };
    let (sink, moved) = transfer(session, source, manifest, wanted, sink, bar).await?;
    Ok((sink.out, moved))
}

/// Writes the whole payload as it is into `out`.
pub(crate) async fn copy<W: Write + Send + 'static>(
    session: &Session,
    source: &Source,
    manifest: &Manifest,
    out: W,
    bar: &ProgressBar,
) -> Result<(W, Moved)> {
    let (sink, moved) = transfer(session, source, manifest, 0..manifest.size, Sealed(out), bar).await?;
    Ok((sink.0, moved))
}

/// Writes all blocks of the payload into `out`.
pub(crate) async fn car<W: Write + Send + 'static>(
    session: &Session,
    source: &Source,
    manifest: &Manifest,
    out: CarWriter<W>,
    bar: &ProgressBar,
) -> Result<(CarWriter<W>, Moved)> {
    let (sink, moved) = transfer(session, source, manifest, 0..manifest.size, Car(out), bar).await?;
    Ok((sink.0, moved))
}

async fn transfer<S: Sink>(
    session: &Session,
    source: &Source,
    manifest: &Manifest,
    wanted: Range<u64>,
    mut sink: S,
    bar: &ProgressBar,
) -> Result<(S, Moved)> {
    let shape = shape(manifest)?;
    let leaves = leaves_of(&shape, wanted);
    let leaf_plain = u64::from(shape.k()) * CHUNK as u64;
    let mut moved = Moved::default();
    let mut first = leaves.start;
    while first < leaves.end {
        let window = first..leaves.end.min(first + WINDOW_LEAVES);
        let offset = window.start * leaf_plain;
        let length = (window.end * leaf_plain).min(manifest.size) - offset;
        let request = json!({
            "content": source.content,
            "providers": source.providers,
            "keep": source.keep,
            "payload": { "p": manifest.payload.to_string(), "s": manifest.size, "k": shape.k(), "offset": offset, "length": length },
        });
        let body = session.client().post_streaming("/v1/fetch", &request).await?;
        let (reader, pump) = pipe::reader(body);
        let pump = tokio::spawn(pump);
        let (root, shape, bar) = (manifest.payload, shape.clone(), bar.clone());
        let next = window.end;
        let work = tokio::task::spawn_blocking(move || window_of(reader, &root, shape, window, sink, &bar));
        let (back, part) =
            work.await.map_err(|error| NodeError::new("transfer", "decryption stopped").because(error))??;
        pump.abort();
        sink = back;
        moved.blocks += part.blocks;
        moved.bytes += part.bytes;
        first = next;
    }
    Ok((sink, moved))
}

/// The leaves that hold the plaintext bytes `wanted`. The one chunk of an empty file is read, too: it is authenticated.
fn leaves_of(shape: &PayloadShape, wanted: Range<u64>) -> Range<u64> {
    if shape.plaintext_len() == 0 { 0..shape.leaf_count() } else { shape.leaves(shape.payload_range(wanted)) }
}

/// Reads one window: inner nodes, then its leaves in order.
fn window_of<S: Sink>(
    reader: pipe::PipeReader,
    root: &Cid,
    shape: PayloadShape,
    window: Range<u64>,
    mut sink: S,
    bar: &ProgressBar,
) -> Result<(S, Moved)> {
    let mut car = CarReader::new(reader).map_err(broken)?;
    let nodes = MemoryStore::default();
    let mut moved = Moved::default();
    let mut expected: Option<std::vec::IntoIter<Cid>> = None;
    let mut index = window.start;
    while index < window.end {
        let Some(block) = car.next_block().map_err(broken)? else {
            return Err(NodeError::new("incomplete", format!("block {index} of the payload did not come"))
                .exit(Exit::Peer)
                .hint("no peer that could be asked gave it; try again later, or with another custodian up"));
        };
        moved.blocks += 1;
        moved.bytes += block.data().len() as u64;
        if block.cid().codec() == DAG_PB {
            nodes
                .put(&block)
                .map_err(|error| NodeError::new("transfer", "cannot hold a node").because(error))?;
            sink.node(&block)?;
            continue;
        }
        let names = match &mut expected {
            Some(names) => names,
            None => expected.insert(leaf_names(&nodes, &block, root, &shape, window.clone())?),
        };
        if names.next().as_ref() != Some(block.cid()) {
            return Err(wrong_layout(format!("leaf {index} is another block")));
        }
        bar.inc(block.data().len() as u64);
        if shape.leaf_len(index) != Some(block.data().len() as u64) {
            return Err(wrong_layout(format!("leaf {index} has another length")));
        }
        sink.leaf(&shape, index, &block)?;
        index += 1;
    }
    Ok((sink, moved))
}

/// The names of the window's leaves, from the nodes that came first. A payload of one leaf has no nodes.
fn leaf_names(
    nodes: &MemoryStore,
    first_leaf: &Block,
    root: &Cid,
    shape: &PayloadShape,
    window: Range<u64>,
) -> Result<std::vec::IntoIter<Cid>> {
    if shape.leaf_count() == 1 {
        nodes
            .put(first_leaf)
            .map_err(|error| NodeError::new("transfer", "cannot hold a leaf").because(error))?;
    }
    let names = PayloadReader::open(nodes, root, shape.clone())
        .and_then(|payload| payload.leaf_cids(window))
        .map_err(|error| wrong_layout(error.to_string()))?;
    Ok(names.into_iter())
}

/// The one shape that the manifest's payload may have.
pub(crate) fn shape(manifest: &Manifest) -> Result<PayloadShape> {
    PayloadShape::new(manifest.size, manifest.leaf_chunks)
        .map_err(|_| wrong_layout("no payload has this size and leaf length"))
}

/// Asks the node for single blocks; those that did not come are missing in the answer.
pub(crate) async fn blocks(session: &Session, source: &Source, cids: &[Cid]) -> Result<Vec<Block>> {
    let request: Value = json!({
        "content": source.content,
        "providers": source.providers,
        "keep": source.keep,
        "cids": cids.iter().map(Cid::to_string).collect::<Vec<_>>(),
    });
    let body = session.client().post_streaming("/v1/fetch", &request).await?;
    let (reader, pump) = pipe::reader(body);
    let pump = tokio::spawn(pump);
    let most = cids.len();
    let work = tokio::task::spawn_blocking(move || {
        let car = CarReader::new(reader).map_err(broken)?;
        car.take(most).map(|block| block.map_err(broken)).collect::<Result<Vec<_>>>()
    });
    let found = work.await.map_err(|error| NodeError::new("transfer", "reading stopped").because(error))?;
    pump.abort();
    found
}

fn broken(error: lightstreams_store::CarError) -> NodeError {
    NodeError::new("broken_stream", "the stream of blocks broke off").because(error).exit(Exit::Peer)
}

fn wrong_layout(why: impl std::fmt::Display) -> NodeError {
    NodeError::new("wrong_layout", format!("the payload is not what its manifest says: {why}"))
        .exit(Exit::Peer)
}

fn output(error: io::Error) -> NodeError {
    NodeError::new("output", "cannot write the output").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_from_the_leaves_that_hold_it() {
        let leaf = 4 * CHUNK as u64;
        for size in [1, leaf, leaf + 1, 4096 * leaf, 4096 * leaf - 1] {
            let shape = PayloadShape::new(size, 4).unwrap();
            assert_eq!(leaves_of(&shape, 0..size), 0..shape.leaf_count(), "{size}");
            for at in [0, size / 2, size - 1] {
                assert_eq!(leaves_of(&shape, at..at + 1), at / leaf..at / leaf + 1, "byte {at} of {size}");
            }
        }
        assert_eq!(leaves_of(&PayloadShape::new(0, 4).unwrap(), 0..0), 0..1);
    }
}
