//! Content-addressed storage of opaque bytes.
//!
//! ```text
//! bytes --chunker--> chunks --hash--> blocks --put--> BlockStore --CAR--> file, peer
//!                                       +-- links --> nodes --put--> BlockStore ==> root Cid
//! ```
//!
//! ```
//! use lightstreams_store::{Block, BlockStore, MemoryStore};
//! let store = MemoryStore::default();
//! let block = Block::raw(b"hello".to_vec());
//! store.put(&block)?;
//! assert_eq!(store.get(block.cid())?, Some(block));
//! # Ok::<(), lightstreams_store::StoreError>(())
//! ```
//!
//! **Promises.** What `get` returns hashes to the CID asked for. What `FjallStore` and `RocksStore` accepted survives
//! a power cut.
//!
//! **Not here.** Encryption, permissions, chains: the store holds opaque bytes.

mod block;
mod blockstore;
mod car;
mod chunker;
mod dagpb;
mod disk;
mod exchange;
mod file;
#[cfg(feature = "fjall")]
mod fjall_store;
mod key;
mod log;
mod memory;
mod options;
#[cfg(feature = "p2p")]
pub mod p2p;
mod payload;
mod policy;
mod reader;
#[cfg(feature = "rocksdb")]
mod rocks_store;
mod varint;

#[cfg(feature = "testing")]
pub mod testing;

pub use block::{Block, BlockError, DAG_CBOR, DAG_PB, MAX_BLOCK_LEN, RAW};
pub use blockstore::{BlockStore, StoreError, StoreOp};
pub use bytes::Bytes;
pub use car::{CarError, CarReader, CarWriter};
pub use chunker::{Chunker, EnvelopeChunker, FixedChunker, MAX_CHUNK_LEN, PLAIN_CHUNK_LEN, SEALED_CHUNK_LEN};
pub use cid::Cid;
pub use disk::{Disk, DiskFile, FileDisk};
pub use exchange::{
    BlockSource, Exchange, FetchError, FetchingSource, LocalExchange, MAX_WANTS, PeerFailure,
    PeerFailureKind, Session,
};
pub use file::{BuildError, FileBuilder, FileRoot, MAX_LINKS};
#[cfg(feature = "fjall")]
pub use fjall_store::FjallStore;
pub use log::{Log, LogError, MAX_RECORD_LEN};
pub use memory::MemoryStore;
pub use options::StoreOptions;
pub use payload::{LayoutError, PayloadReader, PayloadShape, ReadError, readable_root};
pub use policy::{Account, AllowAll, DenyAll, Gate, PeerId, Requester, ServePolicy};
pub use reader::FileReader;
#[cfg(feature = "rocksdb")]
pub use rocks_store::RocksStore;
