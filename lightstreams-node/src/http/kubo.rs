//! Commands of Kubo's RPC over the blocks of this node.
//!
//! What they add belongs to no content, and so leaves to nobody. What belongs to a content is not theirs to collect or remove: they
//! do not see it among the blocks that could be. Blocks that are on their way into a content are held until the index has them.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use base64::Engine as _;
use lightstreams_store::rpc::{Authorization, NodeIdentity, NodeInfo, NodePeer, Rpc, RpcConfig};
use lightstreams_store::{Block, BlockStore, Bytes, Cid, PinnedStore, StoreError, StoreOp};

use crate::daemon::{Node, ensure_room};
use crate::vault::{Belonging, ContentIndex};

/// The routes `/api/v0/…`, for whoever shows `token`.
pub(super) fn router(node: &Arc<Node>, token: &str) -> Router {
    let mut config = RpcConfig::default();
    config.authorizations.push(Authorization::Bearer(token.to_owned()));
    config.version = env!("CARGO_PKG_VERSION").to_owned();
    let store = loose(&node.blocks.pinned, node.index.clone(), node.dir.blocks());
    Rpc::new(Arc::new(store), config).with_node(Arc::new(Face(node.clone()))).router()
}

/// The pins of `blocks`, over what of them belongs to no content.
fn loose(
    blocks: &PinnedStore<Arc<dyn BlockStore>>,
    index: Arc<ContentIndex>,
    dir: PathBuf,
) -> PinnedStore<Arc<dyn BlockStore>> {
    let store: Arc<dyn BlockStore> = Arc::new(Loose { store: blocks.store().clone(), index, dir });
    blocks.view(store)
}

/// Blocks, of which those that belong to a content are not listed, and not removed.
struct Loose {
    store: Arc<dyn BlockStore>,
    index: Arc<ContentIndex>,
    dir: PathBuf,
}

impl Loose {
    fn is_loose(&self, cid: &Cid) -> bool {
        self.index.belonging(cid) == Belonging::Nothing
    }
}

impl BlockStore for Loose {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }

    fn get_unhashed(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        self.store.get_unhashed(cid)
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        let bytes = blocks.iter().map(|block| block.len() as u64).sum();
        ensure_room(&self.dir, bytes).map_err(|error| StoreError::new(StoreOp::Put, error))?;
        self.store.put_many(blocks)
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let loose: Vec<Cid> = cids.iter().filter(|cid| self.is_loose(cid)).copied().collect();
        self.store.remove_many(&loose)
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let mut after = after.copied();
        loop {
            let mut page = self.store.cids(after.as_ref(), limit)?;
            after = page.last().copied();
            page.retain(|cid| self.is_loose(cid));
            // An empty page is the end.
            if after.is_none() || !page.is_empty() {
                return Ok(page);
            }
        }
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.store.reclaim()
    }
}

/// The node, as it shows itself.
struct Face(Arc<Node>);

impl NodeInfo for Face {
    fn identity(&self) -> Option<NodeIdentity> {
        let node = &self.0;
        let id = node.identity.peer_id.to_string();
        let mut identity = NodeIdentity::new(&id);
        // An Ed25519 key in the protobuf of libp2p: kind 1, then 32 bytes.
        let key = [&[0x08, 1, 0x12, 32][..], &node.identity.holder].concat();
        identity.public_key = base64::engine::general_purpose::STANDARD.encode(key);
        identity.addresses =
            node.network.listen_addresses().iter().map(|address| format!("{address}/p2p/{id}")).collect();
        identity.agent = format!("lightstreams/{}", env!("CARGO_PKG_VERSION"));
        Some(identity)
    }

    fn peers(&self) -> Vec<NodePeer> {
        let peers = tokio::runtime::Handle::current().block_on(self.0.network.peers());
        let shown = |peer: crate::network::PeerInfo| NodePeer {
            id: peer.id.to_string(),
            address: peer.address.to_string(),
        };
        peers.unwrap_or_default().into_iter().map(shown).collect()
    }

    fn may_collect(&self) -> Result<(), StoreError> {
        let known = self.0.index.know_all(&self.0.store);
        known.map_err(|error| StoreError::new(StoreOp::Remove, error))
    }
}
