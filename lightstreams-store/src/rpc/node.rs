//! What a node says of itself, and of its network.

use serde_json::json;

use crate::StoreError;

use super::{
    refusal::RpcError,
    work::{Done, Work},
};

/// What a node says of itself.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Its peer id, in base58btc or as a CID.
    pub id: String,
    /// Its public key as libp2p writes it in protobuf, in base64; empty if it does not say.
    pub public_key: String,
    /// Multiaddrs at which it is reached, each with `/p2p/` and the peer id at the end.
    pub addresses: Vec<String>,
    /// Name and version of its program.
    pub agent: String,
    /// Protocols that it speaks.
    pub protocols: Vec<String>,
}

impl NodeIdentity {
    /// The identity `id`, of which nothing else is said.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePeer {
    /// Its peer id.
    pub id: String,
    /// The multiaddr that it is connected at.
    pub address: String,
}

/// Tells of a node and its network; called on a thread that may block.
pub trait NodeInfo: Send + Sync {
    /// Its identity, or `None` if it has none.
    fn identity(&self) -> Option<NodeIdentity>;
    /// The peers that it is connected with.
    fn peers(&self) -> Vec<NodePeer>;
    /// Whether blocks may be collected or removed now; an error says why not.
    fn may_collect(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A node without a network.
pub(super) struct Alone;

impl NodeInfo for Alone {
    fn identity(&self) -> Option<NodeIdentity> {
        None
    }

    fn peers(&self) -> Vec<NodePeer> {
        Vec::new()
    }
}

pub(super) fn id(work: &mut Work<'_>) -> Done {
    let identity = work.rpc.node.identity().ok_or_else(|| RpcError::failed("this node has no identity"))?;
    if work.ask.args.first().is_some_and(|asked| *asked != identity.id) {
        return Err(RpcError::failed("only this node's own identity is known here").into());
    }
    work.once(&json!({
        "ID": identity.id,
        "PublicKey": identity.public_key,
        "Addresses": identity.addresses,
        "AgentVersion": identity.agent,
        "Protocols": identity.protocols,
    }))
}

pub(super) fn peers(work: &mut Work<'_>) -> Done {
    let peers = work.rpc.node.peers().into_iter();
    let peers: Vec<_> = peers.map(|peer| json!({ "Addr": peer.address, "Peer": peer.id })).collect();
    work.once(&json!({ "Peers": peers }))
}

pub(super) fn version(work: &mut Work<'_>) -> Done {
    let system = format!("{}/{}", std::env::consts::ARCH, std::env::consts::OS);
    let version = &work.rpc.config.version;
    work.once(&json!({ "Version": version, "Commit": "", "Repo": "0", "System": system, "Golang": "" }))
}

pub(super) fn resolve(work: &mut Work<'_>) -> Done {
    let text = work.ask.args.first().map(String::as_str).unwrap_or_default();
    let (path, cids) = (work.resolve(text)?, work.ask.cids()?);
    let rest: String = path.rest().iter().map(|name| format!("/{name}")).collect();
    work.once(&json!({ "Path": format!("/ipfs/{}{rest}", cids.of(path.cid())) }))
}
