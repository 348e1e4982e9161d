//! Content-addressed storage of opaque bytes: blocks that cannot be wrong, files and directories that
//! stream and seek, CAR files, and an exchange that gives a block only to those who may have it.
//!
//! ```text
//! bytes --chunker--> chunks --hash--> blocks --put--> BlockStore --gate--> Exchange, CAR, gateway
//!                                       +-- links --> nodes --put--> BlockStore ==> root Cid
//! ```
//!
//! ```
//! use lightstreams_store::{EnvelopeChunker, FileBuilder, MemoryStore, PayloadReader, PayloadShape};
//!
//! let payload = vec![7; 200_000 + 4 * 16]; // what encrypting 200,000 bytes makes
//! let store = MemoryStore::default();
//! let root = FileBuilder::new(EnvelopeChunker::default()).import(&mut &payload[..], &store, &mut |_| ())?;
//!
//! let reader = PayloadReader::open(&store, &root.cid, PayloadShape::new(200_000, 4)?)?;
//! let mut middle = [0; 100];
//! reader.read_at(100_000, &mut middle)?; // touches one leaf
//! assert_eq!(middle, [7; 100]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A tree of files goes in as Kubo and Helia would add it, and is read by name:
//!
//! ```
//! use lightstreams_store::{FileReader, ImportOptions, Input, MemoryStore, resolve};
//!
//! let store = MemoryStore::default();
//! let file = ("hello.txt".to_owned(), Input::reader(&b"hello world"[..])); // or Input::path("folder")?
//! let root = ImportOptions::unixfs_v1_2025().import(Input::directory([file]), &store, &mut |_| ())?;
//!
//! let entry = resolve(&&store, &root.cid, "hello.txt")?.ok_or("no such entry")?;
//! assert_eq!(std::io::read_to_string(FileReader::open(&store, &entry.cid)?)?, "hello world");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An import hashes and stores on all cores while it reads, unless [`ImportOptions::threads`] says otherwise; its threads end with it.
//!
//! [`PinnedStore`] keeps what is pinned, or being written through a [`Hold`], and sweeps the rest.
//!
//! **Promises.** What [`BlockStore::get`] returns hashes to the CID asked for. What [`SegmentStore`], [`FolderStore`], `FjallStore`
//! and `RocksStore` acknowledged survives kill -9 and a power cut; so does what [`Log`] did. The CIDs are those of Kubo
//! and Helia under the same [`ImportOptions`]: chunkers, layouts, HAMT, metadata. No name leads out of the folder that a tree
//! is exported to. An encrypted payload has one layout, and [`PayloadReader`] refuses every other before
//! a byte of it is believed. A block that a [`ServePolicy`] denies looks like one that is not here. A sweep,
//! which runs beside all else, takes no block that a pin or a hold reaches, also when it is cut off. No length that comes from outside
//! is believed before it is checked.
//!
//! **Not here.** Encryption, accounts, chains: the store holds opaque bytes and asks a [`ServePolicy`] about the rest.
//!
//! | Store | Keeps blocks in | Writes a byte |
//! |---|---|---|
//! | [`SegmentStore`] | append-only files, which it compacts; index in memory | once |
//! | `FjallStore`, `RocksStore` | a database | at least twice |
//! | [`FolderStore`] | a file for each block, as Kubo does | once, with two syncs and an inode for each block |
//! | [`MemoryStore`] | memory | never |
//!
//! [`Quota`] limits any of them.
//!
//! | Feature | Gives |
//! |---|---|
//! | `fjall` | `FjallStore`, a database in pure Rust |
//! | `rocksdb` | `RocksStore`, which needs a C++ compiler and libclang |
//! | `p2p` | Bitswap 1.2, 1.1 and 1.0 as a libp2p `NetworkBehaviour` |
//! | `kad` | who has a block, by the Kademlia of IPFS |
//! | `blake3` | blocks named by BLAKE3 |
//! | `hashes` | blocks named by SHA-1, SHA-3, Keccak, SHAKE-256 and BLAKE2 |
//! | `fastcdc` | the chunker FastCDC, whose CIDs match no other importer's |
//! | `gateway` | an HTTP gateway as an axum `Router` |
//! | `rpc` | the part of Kubo's RPC that works on blocks and pins, as an axum `Router` |
//! | `ipns` | IPNS records: signed and verified |
//! | `objects` | segments as objects of S3 and its like |
//! | `testing` | the checks that our own implementations of the seams pass, for yours |

mod ahead;
mod block;
mod blockstore;
mod buffers;
mod car;
mod chunker;
mod chunks;
mod codec;
mod crew;
mod dag;
mod dagpb;
mod disk;
mod exchange;
mod fault;
mod file;
#[cfg(feature = "fjall")]
mod fjall_journal;
#[cfg(feature = "fjall")]
mod fjall_store;
mod folder;
mod folder_store;
#[cfg(feature = "gateway")]
pub mod gateway;
mod hash;
#[cfg(feature = "ipns")]
mod ipns;
mod key;
mod log;
mod memory;
mod multiformats;
#[cfg(feature = "objects")]
pub mod objects;
mod options;
#[cfg(feature = "p2p")]
pub mod p2p;
mod payload;
mod pins;
mod policy;
mod protobuf;
mod quota;
mod reader;
#[cfg(feature = "rocksdb")]
mod rocks_store;
mod routing;
#[cfg(feature = "rpc")]
pub mod rpc;
mod segments;
mod spin;
mod unixfs;
mod varint;

#[cfg(feature = "testing")]
pub mod testing;

pub use block::{Block, BlockError, DAG_CBOR, DAG_PB, MAX_BLOCK_LEN, RAW};
pub use blockstore::{BlockStore, StoreError, StoreOp};
pub use bytes::Bytes;
pub use car::{
    CarError, CarFile, CarImport, CarImportError, CarLimits, CarReader, CarWriter, IndexedCarWriter, ReadAt,
    import_car,
};
#[cfg(feature = "fastcdc")]
pub use chunker::FastCdcChunker;
pub use chunker::{
    AnyChunker, BadChunker, BuzhashChunker, Chunker, EnvelopeChunker, FixedChunker, MAX_CHUNK_LEN,
    PLAIN_CHUNK_LEN, RabinChunker, SEALED_CHUNK_LEN,
};
pub use cid::{Cid, Version as CidVersion, multibase};
pub use codec::{Codec, DAG_JSON, DecodeError, EncodeError, Ipld, MAX_NESTING};
pub use dag::{DagError, DagPath, DagScope, DagSelection, EntityBytes, FetchedDag, fetch_dag};
pub use disk::{Disk, DiskFile, DiskLock, FileDisk};
pub use exchange::{
    BlockSource, Exchange, FetchError, FetchingSource, LocalExchange, MAX_WANTS, PeerFailure,
    PeerFailureKind, Session,
};
pub use file::{BuildError, FileBuilder, FileRoot, MAX_LINKS};
#[cfg(feature = "fjall")]
pub use fjall_store::FjallStore;
pub use folder_store::FolderStore;
pub use hash::{HashFunction, UnknownHashName};
#[cfg(feature = "ipns")]
pub use ipns::{IpnsEntry, IpnsError, IpnsName, IpnsRecord, MAX_IPNS_RECORD_LEN};
pub use log::{Log, LogError, MAX_RECORD_LEN};
pub use memory::MemoryStore;
pub use multiformats::{CidError, exact_cid, parse_cid};
pub use options::StoreOptions;
pub use payload::{LayoutError, PayloadReader, PayloadShape, ReadError, readable_root};
pub use pins::{
    BlockFault, Damage, Finding, Hold, MAX_PIN_NAME_LEN, Owner, PathStep, Pin, PinError, PinKind,
    PinnedStore, Removal, Sweep, Verification,
};
pub use policy::{Account, AllowAll, DenyAll, Gate, PeerId, Requester, ServePolicy};
pub use quota::{Quota, QuotaError};
pub use reader::FileReader;
#[cfg(feature = "rocksdb")]
pub use rocks_store::RocksStore;
pub use routing::{LocalRouting, RoutedExchange, Routing, RoutingError, announce};
pub use segments::{Compaction, SegmentError, SegmentOptions, SegmentStore};
pub use unixfs::{
    Directory, DirectoryEntry, DirectorySize, Entries, ExportError, ExportLimits, FileLayout, ImportOptions,
    Input, MAX_INLINE_LEN, MAX_TREE_DEPTH, Metadata, Mtime, NodeKind, OptionsError, Sharding, Stat, export,
    export_tar, resolve, stat,
};
