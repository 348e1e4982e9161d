//! A Merkle-Patricia trie whose nodes are stored by path, and read and hashed only where it changes.
//!
//! ```text
//! path ""      ext 'a5' --> branch at 'a5' --> leaf at 'a52'
//!                                          --> branch at 'a57' --> ..
//! ```
//!
//! A node is stored under the nibbles that lead to it, one byte each; nodes of fewer than 32 bytes lie inside their parents,
//! as the trie's hashes demand, all but the root. An update reads and rewrites the nodes from the root to the leaf and nothing
//! else. Nodes stay open after a commit, with their hashes, so that the next update neither reads nor hashes them again.
//! All keys have 32 bytes, so a branch never holds a value.

use std::collections::BTreeSet;

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode, TrieNode},
};

use crate::{KvError, Table};

/// Where the stored nodes of one trie come from.
pub(crate) trait NodeSource {
    /// The table, for errors.
    const TABLE: Table;
    /// The node at `path`, as it was stored.
    fn node(&self, path: &Nibbles) -> Result<Option<Vec<u8>>, KvError>;
}

/// A trie, as far as it was looked at. After an error it is of no use any more.
pub(crate) struct Trie {
    /// The root hash after the last commit.
    hash: B256,
    root: Option<Link>,
    /// Paths at which a node is stored and none stands any more, unless a new one came there.
    gone: Vec<Nibbles>,
    /// Nodes in memory, at most.
    open: usize,
    /// Changes since the last commit.
    changes: usize,
}

/// Changes from which on the hashing is shared among cores.
#[cfg(feature = "parallel")]
const SHARED_MIN: usize = 256;

/// A node to write, or `None` where there is none any more, with its path.
pub(crate) type NodeWrite = (Nibbles, Option<Vec<u8>>);

/// How a parent knows its child.
enum Link {
    /// By the reference in the stored parent: a hash, or the node itself if short.
    Stored(RlpNode),
    /// As a node that was read, and perhaps changed.
    Open(Box<Node>),
}

struct Node {
    kind: Kind,
    /// How its parent refers to it; `None` if it changed since the last commit.
    reference: Option<RlpNode>,
    /// Whether there is a stored node at its path.
    stored: bool,
    /// Whether it was passed since the trie was last asked to shed nodes.
    used: bool,
}

/// Links are `None` only on the way from one form to the next, but for children that are not there.
enum Kind {
    Leaf { key: Nibbles, value: Vec<u8> },
    Extension { key: Nibbles, child: Option<Link> },
    Branch(Box<[Option<Link>; 16]>),
}

impl Trie {
    /// The trie with the root hash `root`.
    pub(crate) fn new(root: B256) -> Self {
        let link = (root != EMPTY_ROOT_HASH).then(|| Link::Stored(RlpNode::word_rlp(&root)));
        Self { hash: root, root: link, gone: Vec::new(), open: 0, changes: 0 }
    }

    /// The root hash after the last commit.
    pub(crate) fn root(&self) -> B256 {
        self.hash
    }

    /// How many nodes are in memory, at most.
    pub(crate) fn open_nodes(&self) -> usize {
        self.open
    }

    /// Sets the value of `key`.
    pub(crate) fn insert(
        &mut self,
        source: &impl NodeSource,
        key: B256,
        value: Vec<u8>,
    ) -> Result<(), KvError> {
        self.changes = self.changes.saturating_add(1);
        let mut walk = Walk::new(source, key, &mut self.gone, &mut self.open);
        walk.insert(&mut self.root, 0, value)
    }

    /// Removes `key`, if it is there.
    pub(crate) fn remove(&mut self, source: &impl NodeSource, key: B256) -> Result<(), KvError> {
        self.changes = self.changes.saturating_add(1);
        let mut walk = Walk::new(source, key, &mut self.gone, &mut self.open);
        walk.remove(&mut self.root, 0).map(|_| ())
    }

    /// Computes the root hash, and returns what has to be written for it.
    pub(crate) fn commit(&mut self) -> Vec<NodeWrite> {
        let mut writes = Vec::new();
        #[cfg(feature = "parallel")]
        if self.changes >= SHARED_MIN && rayon::current_thread_index().is_some() {
            self.refer_to_children(&mut writes);
        }
        self.changes = 0;
        match &mut self.root {
            None => self.hash = EMPTY_ROOT_HASH,
            Some(Link::Stored(_)) => {}
            Some(Link::Open(node)) if node.reference.is_some() => {}
            Some(Link::Open(node)) => {
                let rlp = node.encode(Nibbles::new(), &mut writes, &mut self.gone).0;
                self.hash = keccak256(&rlp);
                // However short it is, the root is stored and known by its hash.
                node.reference = Some(RlpNode::word_rlp(&self.hash));
                node.stored = true;
                writes.push((Nibbles::new(), Some(rlp)));
            }
        }
        if !self.gone.is_empty() {
            let written: BTreeSet<Nibbles> = writes.iter().map(|(path, _)| *path).collect();
            let gone: BTreeSet<Nibbles> = self.gone.drain(..).collect();
            writes.extend(gone.difference(&written).map(|path| (*path, None)));
        }
        writes
    }

    /// Does what [`commit`](Self::commit) does for all below the root, on the cores of the pool that the caller installed.
    #[cfg(feature = "parallel")]
    fn refer_to_children(&mut self, writes: &mut Vec<NodeWrite>) {
        use rayon::prelude::*;

        let Some(Link::Open(node)) = &mut self.root else { return };
        let Kind::Branch(children) = &mut node.kind else { return };
        let parts: Vec<_> = children
            .par_iter_mut()
            .zip(0u8..16)
            .filter_map(|(child, nibble)| {
                let (mut writes, mut gone) = (Vec::new(), Vec::new());
                child.as_mut()?.refer(Nibbles::from_nibbles_unchecked([nibble]), &mut writes, &mut gone);
                Some((writes, gone))
            })
            .collect();
        for (below, gone) in parts {
            writes.extend(below);
            self.gone.extend(gone);
        }
    }

    /// Keeps at most `max` nodes in memory, those used last. Only after a commit: changes stay.
    pub(crate) fn shed(&mut self, max: usize) {
        // The first time what was not used goes, the second time all of it.
        for _ in 0..2 {
            if self.open > max {
                self.open = self.root.as_mut().map_or(0, Link::shed);
            }
        }
    }
}

impl Link {
    /// Closes the nodes that were not used, and returns how many are left.
    fn shed(&mut self) -> usize {
        let Self::Open(node) = self else { return 0 };
        if !node.used
            && let Some(reference) = node.reference.take()
        {
            *self = Self::Stored(reference);
            return 0;
        }
        node.used = false;
        1 + match &mut node.kind {
            Kind::Leaf { .. } => 0,
            Kind::Extension { child, .. } => child.as_mut().map_or(0, Self::shed),
            Kind::Branch(children) => children.iter_mut().flatten().map(Self::shed).sum(),
        }
    }
}

/// One change on its way down the trie.
struct Walk<'a, S> {
    source: &'a S,
    key: Nibbles,
    gone: &'a mut Vec<Nibbles>,
    open: &'a mut usize,
}

impl<'a, S: NodeSource> Walk<'a, S> {
    fn new(source: &'a S, key: B256, gone: &'a mut Vec<Nibbles>, open: &'a mut usize) -> Self {
        Self { source, key: Nibbles::unpack_array(&key.0), gone, open }
    }

    /// Puts `value` under the key into the sub-trie `slot`, which stands `depth` nibbles down.
    fn insert(&mut self, slot: &mut Option<Link>, depth: usize, value: Vec<u8>) -> Result<(), KvError> {
        let rest = self.key.slice(depth..);
        let Some(link) = slot else {
            *slot = Some(self.link(Kind::Leaf { key: rest, value }));
            return Ok(());
        };
        let node = self.open(link, self.key.slice(..depth))?;
        node.reference = None;
        let shared = match &mut node.kind {
            Kind::Branch(children) => return self.insert(child(children, rest.get(0))?, depth + 1, value),
            Kind::Leaf { key, value: old } if *key == rest => {
                *old = value;
                return Ok(());
            }
            Kind::Leaf { key, .. } => key.common_prefix_length(&rest),
            Kind::Extension { key, child } => {
                let shared = key.common_prefix_length(&rest);
                if shared == key.len() {
                    return self.insert(child, depth + shared, value);
                }
                shared
            }
        };

        // The keys part here: a branch, below an extension if they share something.
        let mut children = no_children();
        match std::mem::replace(&mut node.kind, Kind::Branch(no_children())) {
            Kind::Leaf { key, value } => {
                let slot = child(&mut children, key.get(shared))?;
                *slot = Some(self.link(Kind::Leaf { key: key.slice(shared + 1..), value }));
            }
            Kind::Extension { key, child: below } => {
                let slot = child(&mut children, key.get(shared))?;
                let tail = key.slice(shared + 1..);
                *slot = match tail.is_empty() {
                    true => below,
                    false => Some(self.link(Kind::Extension { key: tail, child: below })),
                };
            }
            Kind::Branch(_) => {}
        }
        let slot = child(&mut children, rest.get(shared))?;
        *slot = Some(self.link(Kind::Leaf { key: rest.slice(shared + 1..), value }));
        node.kind = if shared == 0 {
            Kind::Branch(children)
        } else {
            Kind::Extension { key: rest.slice(..shared), child: Some(self.link(Kind::Branch(children))) }
        };
        Ok(())
    }

    /// Takes the key out of the sub-trie `slot`, which stands `depth` nibbles down; returns whether it was there.
    fn remove(&mut self, slot: &mut Option<Link>, depth: usize) -> Result<bool, KvError> {
        let Some(link) = slot else { return Ok(false) };
        let rest = self.key.slice(depth..);
        let path = self.key.slice(..depth);
        let node = self.open(link, path)?;
        match &mut node.kind {
            Kind::Leaf { key, .. } => {
                if *key != rest {
                    return Ok(false);
                }
                if node.stored {
                    self.gone.push(path);
                }
                *slot = None;
                return Ok(true);
            }
            Kind::Extension { key, child } => {
                if !rest.starts_with(key) || !self.remove(child, depth + key.len())? {
                    return Ok(false);
                }
            }
            Kind::Branch(children) => {
                if !self.remove(child(children, rest.get(0))?, depth + 1)? {
                    return Ok(false);
                }
                let mut left = children.iter_mut().zip(0u8..).filter(|(child, _)| child.is_some());
                if let (Some((only, nibble)), None) = (left.next(), left.next()) {
                    let key = Nibbles::from_nibbles_unchecked([nibble]);
                    node.kind = Kind::Extension { key, child: only.take() };
                }
            }
        }
        node.reference = None;
        self.shorten(node, path)
    }

    /// An extension at `path` to what is no branch becomes one node with it.
    fn shorten(&mut self, node: &mut Node, path: Nibbles) -> Result<bool, KvError> {
        let Kind::Extension { key, child: Some(link) } = &mut node.kind else { return Ok(true) };
        let below = path.join(key);
        let child = self.open(link, below)?;
        let kind = match &mut child.kind {
            Kind::Branch(_) => return Ok(true),
            Kind::Leaf { key: tail, value } => {
                Kind::Leaf { key: key.join(tail), value: std::mem::take(value) }
            }
            Kind::Extension { key: tail, child } => {
                Kind::Extension { key: key.join(tail), child: child.take() }
            }
        };
        if child.stored {
            self.gone.push(below);
        }
        node.kind = kind;
        Ok(true)
    }

    /// The node of `link`, which stands at `path`.
    fn open<'n>(&mut self, link: &'n mut Link, path: Nibbles) -> Result<&'n mut Node, KvError> {
        if let Link::Stored(reference) = link {
            let kind = match reference.as_hash() {
                None => decode(reference, S::TABLE)?,
                Some(hash) => {
                    let rlp = self
                        .source
                        .node(&path)?
                        .ok_or_else(|| KvError::corrupt(S::TABLE, "a trie node is missing"))?;
                    if keccak256(&rlp) != hash {
                        let what = "a trie node does not hash to its parent's reference";
                        return Err(KvError::corrupt(S::TABLE, what));
                    }
                    decode(&rlp, S::TABLE)?
                }
            };
            *self.open += 1;
            let stored = reference.is_hash();
            let reference = Some(std::mem::take(reference));
            *link = Link::Open(Box::new(Node { kind, reference, stored, used: true }));
        }
        match link {
            Link::Open(node) => {
                node.used = true;
                Ok(node)
            }
            Link::Stored(_) => Err(KvError::corrupt(S::TABLE, "a trie node is missing")),
        }
    }

    /// A link to a new node.
    fn link(&mut self, kind: Kind) -> Link {
        *self.open += 1;
        Link::Open(Box::new(Node { kind, reference: None, stored: false, used: true }))
    }
}

fn no_children() -> Box<[Option<Link>; 16]> {
    Box::new([const { None }; 16])
}

fn child(children: &mut [Option<Link>; 16], nibble: Option<u8>) -> Result<&mut Option<Link>, KvError> {
    nibble
        .and_then(|nibble| children.get_mut(usize::from(nibble)))
        .ok_or_else(|| KvError::corrupt(Table::AccountTrie, "a branch lies deeper than a key is long"))
}

fn decode(mut rlp: &[u8], table: Table) -> Result<Kind, KvError> {
    match TrieNode::decode(&mut rlp) {
        Ok(TrieNode::Leaf(leaf)) => Ok(Kind::Leaf { key: leaf.key, value: leaf.value }),
        Ok(TrieNode::Extension(extension)) => {
            Ok(Kind::Extension { key: extension.key, child: Some(Link::Stored(extension.child)) })
        }
        Ok(TrieNode::Branch(branch)) => {
            let mut children = no_children();
            let mut stack = branch.stack.into_iter();
            for (slot, nibble) in children.iter_mut().zip(0u8..) {
                if branch.state_mask.is_bit_set(nibble) {
                    *slot = stack.next().map(Link::Stored);
                }
            }
            Ok(Kind::Branch(children))
        }
        Ok(TrieNode::EmptyRoot) | Err(_) => Err(KvError::corrupt(table, "a trie node does not decode")),
    }
}

impl Node {
    /// The RLP of the node at `path`, and how a parent refers to it; nodes below it that changed and are stored on their own go
    /// to `writes`.
    fn encode(
        &mut self,
        path: Nibbles,
        writes: &mut Vec<NodeWrite>,
        gone: &mut Vec<Nibbles>,
    ) -> (Vec<u8>, RlpNode) {
        let mut rlp = Vec::new();
        let reference = match &mut self.kind {
            Kind::Leaf { key, value } => {
                let leaf = LeafNodeRef { key, value };
                rlp.reserve_exact(leaf.length());
                leaf.rlp(&mut rlp)
            }
            Kind::Extension { key, child } => {
                let child =
                    child.as_mut().map(|child| child.refer(path.join(key), writes, gone)).unwrap_or_default();
                ExtensionNodeRef { key, child: &child }.rlp(&mut rlp)
            }
            Kind::Branch(children) => {
                let mut stack: [RlpNode; 16] = Default::default();
                let mut mask = TrieMask::default();
                let present =
                    children.iter_mut().zip(0u8..).filter_map(|(child, n)| Some((child.as_mut()?, n)));
                for ((child, nibble), reference) in present.zip(&mut stack) {
                    let mut path = path;
                    path.push(nibble);
                    *reference = child.refer(path, writes, gone);
                    mask.set_bit(nibble);
                }
                let stack = stack.get(..mask.count_ones() as usize).unwrap_or_default();
                let branch = BranchNodeRef::new(stack, mask);
                rlp.reserve_exact(branch.length());
                branch.rlp(&mut rlp)
            }
        };
        (rlp, reference)
    }
}

impl Link {
    /// How a parent refers to the node, which stands at `path`.
    fn refer(&mut self, path: Nibbles, writes: &mut Vec<NodeWrite>, gone: &mut Vec<Nibbles>) -> RlpNode {
        let node = match self {
            Self::Stored(reference) => return reference.clone(),
            Self::Open(node) => node,
        };
        if let Some(reference) = &node.reference {
            return reference.clone();
        }
        let (rlp, reference) = node.encode(path, writes, gone);
        if reference.is_hash() {
            writes.push((path, Some(rlp)));
            node.stored = true;
        } else if node.stored {
            gone.push(path);
            node.stored = false;
        }
        node.reference = Some(reference.clone());
        reference
    }
}
