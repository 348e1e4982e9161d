//! Which contents a block belongs to: what the gate asks before a block leaves.
//!
//! A block belongs to a content because this node published that content, holds custody of it, or fetched it, never
//! because a registration somewhere else names the block. The list of contents is on disk; the map from blocks to
//! contents is in memory, rebuilt at start by walking what each manifest names:
//!
//! ```text
//! content, M --+-- H ------------ gated
//!              +-- P, its nodes, its leaves (by their names in the nodes), R -- gated
//!              +-- M itself, card -- public, unless gated by some content
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use alloy_primitives::B256;
use cid::Cid;
use lightstreams_acl::ContentId;
use lightstreams_store::{
    BlockStore, Disk, Log, LogError, PayloadReader, PayloadShape, ReadError, StoreError, readable_root,
};

use super::manifest::{Manifest, Place};
use super::messages::Domain;
use super::wire::{self, Fields, MapBuilder, WireError};

/// The list's name on its disk.
const LIST_NAME: &str = "contents";
/// Blocks that the index remembers at most; at 64 bytes each, 2 GiB.
const BLOCKS_MAX: usize = 1 << 25;
/// Leaves whose names are read at once: those under one node.
const PIECE: u64 = 1024;
const SHA2_256: u64 = 0x12;

/// How a content came to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Its operator published it here.
    Published,
    /// Its operator admitted its owner, and holds custody of it.
    Custody,
    /// Its operator fetched it, as a reader.
    Fetched,
}

impl Origin {
    /// The name, as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Custody => "custody",
            Self::Fetched => "fetched",
        }
    }

    /// The origin with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Published, Self::Custody, Self::Fetched].into_iter().find(|origin| origin.as_str() == text)
    }
}

/// To whom a block belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belonging {
    /// To no content, and it is not pinned as public: it is for nobody.
    Nothing,
    /// It is for everybody.
    Public,
    /// To these, all of which must allow.
    Gated(Vec<Gate>),
}

/// Whose permission a block needs: a content's, for a version of this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gate {
    /// The content.
    pub place: Place,
    /// The epoch of the version that the block belongs to; `None`, while only claimed, is the head's.
    pub epoch: Option<u32>,
}

/// A content in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedContent {
    /// The content.
    pub place: Place,
    /// How it came here; the strongest of several.
    pub origin: Origin,
    /// The manifests known, in the order in which they came.
    pub manifests: Vec<Cid>,
}

/// The contents of this node, and the blocks that belong to them.
pub struct ContentIndex {
    list: Mutex<List>,
    blocks: RwLock<Blocks>,
}

struct List {
    log: Log,
    entries: HashSet<Entry>,
    contents: BTreeMap<Place, IndexedContent>,
}

/// One line of the list on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Entry {
    Content { place: Place, manifest: Cid, origin: Origin },
    Public(Cid),
}

#[derive(Default)]
struct Blocks {
    gates: Vec<Gate>,
    numbers: HashMap<Gate, u32>,
    gated: HashMap<B256, Owners>,
    public: HashSet<B256>,
}

/// Nearly every block has one owner.
enum Owners {
    One(u32),
    Many(Box<[u32]>),
}

impl ContentIndex {
    /// Opens the list on `disk` and walks what it names through `store`.
    ///
    /// A manifest that is not held is passed over: its blocks belong to nothing, and leave to nobody.
    pub fn open(disk: Arc<dyn Disk>, store: &dyn BlockStore) -> Result<Self, IndexError> {
        let (mut order, mut failed, mut index) = (Vec::new(), None, 0u64);
        let log = Log::open(&*disk, LIST_NAME, &mut |record| {
            match Entry::decode(record) {
                Ok(entry) => order.push(entry),
                Err(source) => failed = failed.take().or(Some(IndexError::Record { index, source })),
            }
            index += 1;
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let (mut blocks, mut contents) = (Blocks::default(), BTreeMap::new());
        for entry in &order {
            match entry {
                Entry::Public(cid) => blocks.publish(cid)?,
                Entry::Content { place, manifest, origin } => {
                    match walk(place, manifest, store, false, &mut |found| blocks.take(found)) {
                        Ok(()) | Err(IndexError::NoManifest { .. }) => {}
                        // A list that holds what cannot be walked must not keep the node from starting: what was
                        // found stays gated, the rest belongs to nothing.
                        Err(
                            IndexError::Manifest { .. }
                            | IndexError::Elsewhere { .. }
                            | IndexError::Layout(_),
                        ) => {}
                        Err(error) => return Err(error),
                    }
                    note(&mut contents, place, manifest, *origin);
                }
            }
        }
        let list = List { log, entries: order.into_iter().collect(), contents };
        Ok(Self { list: Mutex::new(list), blocks: RwLock::new(blocks) })
    }

    /// Adds a version of a content whose manifest `store` holds, and claims for it what of H and P is held.
    ///
    /// Durable when it returns. Adding it again is cheap and claims what came since.
    pub fn add(
        &self,
        place: &Place,
        manifest: &Cid,
        origin: Origin,
        store: &dyn BlockStore,
    ) -> Result<(), IndexError> {
        let mut found = Vec::new();
        walk(place, manifest, store, false, &mut |block| {
            found.push(block);
            Ok(())
        })?;
        self.lock_list().append(Entry::Content { place: *place, manifest: *manifest, origin })?;
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        found.into_iter().try_for_each(|block| blocks.take(block))
    }

    /// Claims blocks for a content before they are stored, so that there is no moment in which they belong to nothing
    /// that gates them.
    ///
    /// Not durable: a restart forgets it, and then [`ContentIndex::add`] claims them again by their manifest.
    pub fn claim<'a>(
        &self,
        place: &Place,
        cids: impl IntoIterator<Item = &'a Cid>,
    ) -> Result<(), IndexError> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let gate = Gate { place: *place, epoch: None };
        cids.into_iter().try_for_each(|cid| blocks.take(Found::Gated(*cid, gate)))
    }

    /// Names every block of all contents anew, so that whatever belongs to nothing may go.
    ///
    /// Fails if something of a content that was published here, or is in custody, is away that names further blocks: its
    /// manifest, its header, or a node of its payload. Of a fetched content, what is not here names nothing.
    pub fn know_all(&self, store: &dyn BlockStore) -> Result<(), IndexError> {
        for content in self.contents() {
            let whole = content.origin != Origin::Fetched;
            for manifest in &content.manifests {
                let mut found = Vec::new();
                let walked = walk(&content.place, manifest, store, whole, &mut |block| {
                    found.push(block);
                    Ok(())
                });
                match walked {
                    Err(IndexError::NoManifest { .. }) if !whole => {}
                    walked => walked?,
                }
                let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
                found.into_iter().try_for_each(|block| blocks.take(block))?;
            }
        }
        Ok(())
    }

    /// Pins a block as public: for everybody, unless a content gates it. Durable when it returns.
    pub fn pin_public(&self, cid: &Cid) -> Result<(), IndexError> {
        self.lock_list().append(Entry::Public(*cid))?;
        self.blocks.write().unwrap_or_else(PoisonError::into_inner).publish(cid)
    }

    /// To whom the block named `cid` belongs.
    pub fn belonging(&self, cid: &Cid) -> Belonging {
        let Some(digest) = digest_of(cid) else { return Belonging::Nothing };
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        // What a content gates stays gated, whatever else names it as public.
        match blocks.gated.get(&digest) {
            Some(owners) => Belonging::Gated(blocks.gates_of(owners)),
            None if blocks.public.contains(&digest) => Belonging::Public,
            None => Belonging::Nothing,
        }
    }

    /// How the content came here, if it did.
    pub fn origin(&self, place: &Place) -> Option<Origin> {
        self.lock_list().contents.get(place).map(|content| content.origin)
    }

    /// All contents, in the order of their places.
    pub fn contents(&self) -> Vec<IndexedContent> {
        self.lock_list().contents.values().cloned().collect()
    }

    fn lock_list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ContentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentIndex").finish_non_exhaustive()
    }
}

impl List {
    fn append(&mut self, entry: Entry) -> Result<(), IndexError> {
        if self.entries.contains(&entry) {
            return Ok(());
        }
        self.log.append(&entry.encode())?;
        if let Entry::Content { place, manifest, origin } = &entry {
            note(&mut self.contents, place, manifest, *origin);
        }
        self.entries.insert(entry);
        Ok(())
    }
}

fn note(contents: &mut BTreeMap<Place, IndexedContent>, place: &Place, manifest: &Cid, origin: Origin) {
    let content = contents.entry(*place).or_insert_with(|| IndexedContent {
        place: *place,
        origin,
        manifests: Vec::new(),
    });
    content.origin = content.origin.min(origin);
    if !content.manifests.contains(manifest) {
        content.manifests.push(*manifest);
    }
}

impl Blocks {
    fn take(&mut self, found: Found) -> Result<(), IndexError> {
        let (cid, gate) = match found {
            Found::Public(cid, place) => {
                self.unclaim(&cid, &place);
                return self.publish(&cid);
            }
            Found::Gated(cid, gate) => (cid, gate),
        };
        // Only sha2-256 names blocks of contents; another hash has no place in the format.
        let Some(digest) = digest_of(&cid) else { return Ok(()) };
        let number = self.number(&gate)?;
        if self.gated.len() >= BLOCKS_MAX && !self.gated.contains_key(&digest) {
            return Err(IndexError::Full);
        }
        // Once the version is known, its epoch takes the place of the claim that came before.
        let claim = gate.epoch.and_then(|_| self.numbers.get(&Gate { epoch: None, ..gate })).copied();
        let owners = self.gated.entry(digest).or_insert(Owners::One(number));
        match owners {
            Owners::One(owner) if *owner == number => {}
            Owners::One(owner) if Some(*owner) == claim => *owner = number,
            Owners::One(owner) => *owners = Owners::Many(Box::new([*owner, number])),
            Owners::Many(owners) => {
                let others = owners.iter().copied().filter(|owner| Some(*owner) != claim && *owner != number);
                *owners = others.chain([number]).collect();
            }
        }
        Ok(())
    }

    /// Ends the claim of `place` to a block that its manifest says is for everyone; gates of versions stay.
    fn unclaim(&mut self, cid: &Cid, place: &Place) {
        let claim = self.numbers.get(&Gate { place: *place, epoch: None }).copied();
        let (Some(claim), Some(digest)) = (claim, digest_of(cid)) else { return };
        let last = match self.gated.get_mut(&digest) {
            Some(Owners::One(owner)) => *owner == claim,
            Some(Owners::Many(owners)) => {
                *owners = owners.iter().copied().filter(|owner| *owner != claim).collect();
                owners.is_empty()
            }
            None => false,
        };
        if last {
            self.gated.remove(&digest);
        }
    }

    fn publish(&mut self, cid: &Cid) -> Result<(), IndexError> {
        let Some(digest) = digest_of(cid) else { return Ok(()) };
        if self.public.len() >= BLOCKS_MAX {
            return Err(IndexError::Full);
        }
        self.public.insert(digest);
        Ok(())
    }

    fn number(&mut self, gate: &Gate) -> Result<u32, IndexError> {
        if let Some(number) = self.numbers.get(gate) {
            return Ok(*number);
        }
        let number = u32::try_from(self.gates.len()).map_err(|_| IndexError::Full)?;
        self.gates.push(*gate);
        self.numbers.insert(*gate, number);
        Ok(number)
    }

    fn gates_of(&self, owners: &Owners) -> Vec<Gate> {
        let gate = |number: &u32| usize::try_from(*number).ok().and_then(|n| self.gates.get(n)).copied();
        match owners {
            Owners::One(number) => gate(number).into_iter().collect(),
            Owners::Many(numbers) => numbers.iter().filter_map(gate).collect(),
        }
    }
}

enum Found {
    Gated(Cid, Gate),
    /// For everyone, says the manifest of this content.
    Public(Cid, Place),
}

/// Names every block of the version that `manifest` describes, as far as its nodes are held; if `whole`, all must be.
fn walk(
    place: &Place,
    manifest: &Cid,
    store: &dyn BlockStore,
    whole: bool,
    sink: &mut dyn FnMut(Found) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let block = store.get(manifest)?.ok_or(IndexError::NoManifest { cid: *manifest })?;
    let m = Manifest::decode(block.data())
        .map_err(|source| IndexError::Manifest { cid: *manifest, source: Box::new(source) })?;
    if m.place != *place {
        return Err(IndexError::Elsewhere { cid: *manifest });
    }
    let gate = Gate { place: *place, epoch: Some(m.version.epoch) };
    sink(Found::Public(*manifest, *place))?;
    m.card.map_or(Ok(()), |card| sink(Found::Public(card, *place)))?;
    sink(Found::Gated(m.header, gate))?;
    sink(Found::Gated(m.payload, gate))?;

    let shape = PayloadShape::new(m.size, m.leaf_chunks)
        .map_err(|source| IndexError::Layout(Box::new(ReadError::Layout { cid: m.payload, source })))?;
    if let Some(header) = store.get(&m.header)? {
        let r = readable_root(&header, &m.payload, shape.payload_len(), shape.tsize());
        sink(Found::Gated(*r.cid(), gate))?;
    } else if whole {
        return Err(IndexError::Incomplete { manifest: *manifest, cid: Box::new(m.header) });
    }
    let passed_over = |error| passed_over(error, manifest, whole);
    let leaves = shape.leaf_count();
    let reader = match PayloadReader::open(store, &m.payload, shape) {
        Ok(reader) => reader,
        Err(error) => return passed_over(error),
    };
    let mut at = 0;
    while at < leaves {
        let piece = at..leaves.min(at.saturating_add(PIECE));
        at = piece.end;
        let names = reader.nodes(piece.clone()).and_then(|mut nodes| {
            nodes.extend(reader.leaf_cids(piece)?);
            Ok(nodes)
        });
        match names {
            Ok(names) => names.into_iter().try_for_each(|cid| sink(Found::Gated(cid, gate)))?,
            Err(error) => passed_over(error)?,
        }
    }
    Ok(())
}

/// A node that is not here names no leaves, which counts if all must be `whole`; every other failure counts.
fn passed_over(error: ReadError, manifest: &Cid, whole: bool) -> Result<(), IndexError> {
    match error {
        ReadError::Missing { cid } if whole => {
            Err(IndexError::Incomplete { manifest: *manifest, cid: Box::new(cid) })
        }
        ReadError::Missing { .. } => Ok(()),
        error @ ReadError::Layout { .. } => Err(IndexError::Layout(Box::new(error))),
        ReadError::Source(error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn digest_of(cid: &Cid) -> Option<B256> {
    let hash = cid.hash();
    if hash.code() != SHA2_256 {
        return None;
    }
    <[u8; 32]>::try_from(hash.digest()).ok().map(B256::new)
}

impl Entry {
    const NAME: &'static str = "content list entry";

    fn encode(&self) -> Vec<u8> {
        let map = MapBuilder::default();
        wire::encode(
            &match self {
                Self::Public(cid) => map.with("public", cid),
                Self::Content { place, manifest, origin } => map
                    .with("chain", place.domain.chain_id)
                    .with("registry", &place.domain.registry)
                    .with("content", &place.content.0)
                    .with("manifest", manifest)
                    .with("origin", origin.as_str()),
            }
            .build(),
        )
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::decode(Self::NAME, bytes, 1024)?;
        let entry = match fields.optional("public", Fields::link)? {
            Some(cid) => Self::Public(cid),
            None => Self::Content {
                place: Place {
                    domain: Domain { chain_id: fields.u64("chain")?, registry: fields.address("registry")? },
                    content: ContentId(fields.b256("content")?),
                },
                manifest: fields.link("manifest")?,
                origin: Origin::parse(&fields.text("origin", 16)?)
                    .ok_or_else(|| fields.wrong("origin", "a known origin"))?,
            },
        };
        fields.finish()?;
        Ok(entry)
    }
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// Why the index could not take a content, or could not be opened.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The manifest is not held: store its blocks first.
    #[error("the manifest {cid} is not held here")]
    NoManifest {
        /// Its name.
        cid: Cid,
    },
    /// A block is not held that names others of a content that must stay.
    #[error(
        "the block {cid} of the content with the manifest {manifest} is not held here, so nobody knows which others are its own"
    )]
    Incomplete {
        /// The content's manifest.
        manifest: Cid,
        /// The block.
        cid: Box<Cid>,
    },
    /// The block is no manifest.
    #[error("the manifest {cid} cannot be read")]
    Manifest {
        /// Its name.
        cid: Cid,
        /// What is wrong with it.
        source: Box<WireError>,
    },
    /// The manifest belongs to another content.
    #[error("the manifest {cid} belongs to another content")]
    Elsewhere {
        /// Its name.
        cid: Cid,
    },
    /// The payload is not laid out as the manifest says.
    #[error("the payload is not laid out as its manifest says")]
    Layout(#[source] Box<ReadError>),
    /// As many blocks as there is room for are remembered already.
    #[error("the index of blocks is full")]
    Full,
    /// The block store failed.
    #[error("the block store failed")]
    Store(#[source] Box<StoreError>),
    /// The list's log failed.
    #[error("the list of contents failed")]
    Log(#[from] LogError),
    /// A record of the list is whole but cannot be understood.
    #[error("record {index} of the list of contents cannot be read")]
    Record {
        /// Which one, from 0.
        index: u64,
        /// What is wrong with it.
        source: WireError,
    },
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use alloy_primitives::Address;
    use lightstreams_store::testing::{FaultyDisk, Seeded};
    use lightstreams_store::{Block, EnvelopeChunker, FileBuilder, MemoryStore};

    use super::*;
    use crate::vault::VersionInfo;

    fn place(byte: u8) -> Place {
        let domain = Domain { chain_id: 161, registry: Address::repeat_byte(1) };
        Place { domain, content: ContentId(B256::repeat_byte(byte)) }
    }

    /// A content of `size` bytes under `place`, all of its blocks in the store; the manifest and the payload's blocks.
    fn content(store: &MemoryStore, place: Place, size: u64, seed: u64) -> (Manifest, Vec<Cid>) {
        content_of(store, place, size, seed, 4)
    }

    /// The same, with leaves of `leaf_chunks` chunks.
    fn content_of(
        store: &MemoryStore,
        place: Place,
        size: u64,
        seed: u64,
        leaf_chunks: u8,
    ) -> (Manifest, Vec<Cid>) {
        let shape = PayloadShape::new(size, leaf_chunks).unwrap();
        let payload = Seeded::new(seed).bytes(shape.payload_len() as usize);
        let mut cids = Vec::new();
        let root = FileBuilder::new(EnvelopeChunker::new(leaf_chunks).unwrap())
            .build(&mut Cursor::new(payload), &mut |block| {
                cids.push(*block.cid());
                store.put(&block)
            })
            .unwrap();
        let header = Block::raw(Seeded::new(seed + 1).bytes(200));
        let manifest = Manifest {
            size,
            nonce: [1; 16],
            commitment: [2; 32],
            payload: root.cid,
            header: *header.cid(),
            leaf_chunks,
            version: VersionInfo { version: 1, epoch: 3, revision: 0 },
            previous: None,
            place,
            metadata: Vec::new(),
            card: Some(*Block::raw("card").cid()),
            author: Address::ZERO,
            sig: Vec::new(),
        };
        store.put_many(&[header, manifest.to_block()]).unwrap();
        (manifest, cids)
    }

    fn gated(place: Place) -> Belonging {
        Belonging::Gated(vec![Gate { place, epoch: Some(3) }])
    }

    #[test]
    fn every_block_of_a_content_belongs_to_it_also_after_a_restart() {
        for size in [0, 5, 262_144, 262_145, 3_000_000] {
            let (disk, store) = (FaultyDisk::new(1), MemoryStore::default());
            let (manifest, cids) = content(&store, place(1), size, size);
            let m = *manifest.to_block().cid();
            let index = ContentIndex::open(Arc::new(disk.clone()), &store).unwrap();
            assert_eq!(index.belonging(&manifest.header), Belonging::Nothing);
            index.add(&place(1), &m, Origin::Published, &store).unwrap();
            let again = ContentIndex::open(Arc::new(disk.after_power_cut()), &store).unwrap();
            for index in [index, again] {
                for cid in &cids {
                    assert_eq!(index.belonging(cid), gated(place(1)), "{size} bytes");
                }
                assert_eq!(index.belonging(&manifest.header), gated(place(1)));
                let header = store.get(&manifest.header).unwrap().unwrap();
                let shape = PayloadShape::new(size, 4).unwrap();
                let r = readable_root(&header, &manifest.payload, shape.payload_len(), shape.tsize());
                assert_eq!(index.belonging(r.cid()), gated(place(1)));
                assert_eq!(index.belonging(&m), Belonging::Public);
                assert_eq!(index.belonging(&manifest.card.unwrap()), Belonging::Public);
                assert_eq!(index.belonging(Block::raw("other").cid()), Belonging::Nothing);
                assert_eq!(index.origin(&place(1)), Some(Origin::Published));
                assert_eq!(index.contents().len(), 1);
            }
        }
    }

    #[test]
    fn a_shared_block_needs_every_content_that_was_added_here() {
        let (disk, store) = (FaultyDisk::new(1), MemoryStore::default());
        let (manifest, cids) = content(&store, place(1), 1_000_000, 1);
        let copy = Manifest { place: place(2), ..manifest.clone() };
        store.put(&copy.to_block()).unwrap();
        let index = ContentIndex::open(Arc::new(disk), &store).unwrap();
        index.add(&place(1), manifest.to_block().cid(), Origin::Published, &store).unwrap();
        // The copy is registered somewhere, and its manifest is even held: that alone means nothing.
        assert_eq!(index.belonging(&cids[0]), gated(place(1)));
        index.add(&place(2), copy.to_block().cid(), Origin::Custody, &store).unwrap();
        let Belonging::Gated(gates) = index.belonging(&cids[0]) else { panic!("not gated") };
        assert_eq!(gates.iter().map(|gate| gate.place).collect::<Vec<_>>(), [place(1), place(2)]);
    }

    #[test]
    fn what_a_content_gates_no_card_and_no_pin_makes_public() {
        let (disk, store) = (FaultyDisk::new(1), MemoryStore::default());
        let (manifest, cids) = content(&store, place(1), 1_000_000, 1);
        let (mut other, _) = content(&store, place(2), 10, 9);
        other.card = Some(cids[0]);
        store.put(&other.to_block()).unwrap();
        let index = ContentIndex::open(Arc::new(disk), &store).unwrap();
        index.add(&place(2), other.to_block().cid(), Origin::Fetched, &store).unwrap();
        index.pin_public(&cids[1]).unwrap();
        assert_eq!(index.belonging(&cids[1]), Belonging::Public);
        index.add(&place(1), manifest.to_block().cid(), Origin::Published, &store).unwrap();
        assert_eq!(index.belonging(&cids[0]), gated(place(1)));
        assert_eq!(index.belonging(&cids[1]), gated(place(1)));
    }

    #[test]
    fn blocks_are_claimed_before_their_manifest_is_known() {
        let (disk, store) = (FaultyDisk::new(1), MemoryStore::default());
        let (manifest, cids) = content(&store, place(1), 1_000_000, 1);
        let m = *manifest.to_block().cid();
        let index = ContentIndex::open(Arc::new(disk.clone()), &store).unwrap();
        index.claim(&place(1), cids.iter().chain([&m])).unwrap();
        let claimed = Belonging::Gated(vec![Gate { place: place(1), epoch: None }]);
        assert_eq!(index.belonging(&cids[0]), claimed);
        assert_eq!(index.belonging(&m), claimed);
        index.add(&place(1), &m, Origin::Published, &store).unwrap();
        assert_eq!(
            index.belonging(&m),
            Belonging::Public,
            "the manifest is for everyone once it is known as one"
        );
        assert_eq!(index.belonging(&cids[0]), gated(place(1)), "the version's epoch takes the claim's place");
        // A claim is forgotten by a restart; what was not added belongs to nothing, and so to nobody.
        let other = Block::raw("claimed");
        index.claim(&place(1), [other.cid()]).unwrap();
        let again = ContentIndex::open(Arc::new(disk.after_power_cut()), &store).unwrap();
        assert_eq!(again.belonging(other.cid()), Belonging::Nothing);
    }

    #[test]
    fn a_payload_that_is_partly_here_is_gated_as_far_as_it_is_here() {
        let (disk, store) = (FaultyDisk::new(1), MemoryStore::default());
        let (manifest, cids) = content(&store, place(1), 1_000_000, 1);
        store.remove_many(&cids[..2]).unwrap();
        let index = ContentIndex::open(Arc::new(disk.clone()), &store).unwrap();
        index.add(&place(1), manifest.to_block().cid(), Origin::Fetched, &store).unwrap();
        assert!(
            cids.iter().all(|cid| index.belonging(cid) == gated(place(1))),
            "leaves are known by their names"
        );
        store.remove_many(&[manifest.payload]).unwrap();
        let again = ContentIndex::open(Arc::new(disk.after_power_cut()), &store).unwrap();
        assert_eq!(again.belonging(&manifest.payload), gated(place(1)));
        assert_eq!(again.belonging(&cids[0]), Belonging::Nothing);
    }

    #[test]
    fn what_is_no_manifest_of_the_content_is_not_added() {
        let (disk, store) = (FaultyDisk::new(1), MemoryStore::default());
        let (manifest, _) = content(&store, place(1), 10, 1);
        let m = *manifest.to_block().cid();
        let index = ContentIndex::open(Arc::new(disk), &store).unwrap();
        let add = |place, cid| index.add(&place, &cid, Origin::Fetched, &store);
        assert!(matches!(add(place(2), m), Err(IndexError::Elsewhere { .. })));
        assert!(matches!(add(place(1), manifest.header), Err(IndexError::Manifest { .. })));
        assert!(matches!(add(place(1), *Block::raw("none").cid()), Err(IndexError::NoManifest { .. })));
        assert_eq!(index.contents(), []);
        // A payload with another layout than the manifest's size and k ask for.
        let lying = Manifest { size: 3_000_000, ..content(&store, place(1), 1_000_000, 5).0 };
        store.put(&lying.to_block()).unwrap();
        assert!(matches!(add(place(1), *lying.to_block().cid()), Err(IndexError::Layout(_))));
    }

    #[test]
    fn a_crash_while_adding_loses_nothing_that_was_acknowledged() {
        for seed in 0..16 {
            for cut in 1..=8 {
                let (disk, store) = (FaultyDisk::new(seed), MemoryStore::default());
                let (one, _) = content(&store, place(1), 10, 1);
                let (two, _) = content(&store, place(2), 10, 2);
                let index = ContentIndex::open(Arc::new(disk.clone()), &store).unwrap();
                index.add(&place(1), one.to_block().cid(), Origin::Published, &store).unwrap();
                disk.cut_power_at(cut);
                let added = index.add(&place(2), two.to_block().cid(), Origin::Published, &store).is_ok();
                let again = ContentIndex::open(Arc::new(disk.after_power_cut()), &store).unwrap();
                assert_eq!(again.belonging(&one.header), gated(place(1)));
                assert!(!added || again.belonging(&two.header) == gated(place(2)), "seed {seed}, cut {cut}");
            }
        }
    }

    #[test]
    fn all_is_known_only_if_all_that_names_blocks_is_here() {
        for (origin, strict) in [(Origin::Published, true), (Origin::Custody, true), (Origin::Fetched, false)]
        {
            let (disk, store) = (FaultyDisk::new(1), MemoryStore::default());
            // More leaves than one node has links.
            let (manifest, cids) = content_of(&store, place(1), 70_000_000, 1, 1);
            let m = *manifest.to_block().cid();
            let index = ContentIndex::open(Arc::new(disk.clone()), &store).unwrap();
            index.add(&place(1), &m, origin, &store).unwrap();
            index.know_all(&store).unwrap();

            let node = *cids.iter().find(|cid| cid.codec() == 0x70 && **cid != manifest.payload).unwrap();
            for away in [m, manifest.header, manifest.payload, node] {
                let block = store.get(&away).unwrap().unwrap();
                store.remove_many(&[away]).unwrap();
                let index = ContentIndex::open(Arc::new(disk.clone()), &store).unwrap();
                assert_eq!(index.know_all(&store).is_err(), strict, "{origin:?} {away}");
                // It came back: what it names is known again.
                store.put(&block).unwrap();
                index.know_all(&store).unwrap();
                assert!(cids.iter().all(|cid| index.belonging(cid) != Belonging::Nothing), "{away}");
            }
        }
    }
}
