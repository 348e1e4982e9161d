//! A Merkle-Patricia trie whose nodes are stored by path and read as they are needed.
//!
//! ```text
//! path ""      ext 'a5' --> branch at 'a5' --> leaf at 'a52'
//!                                          --> branch at 'a57' --> ..
//! ```
//!
//! A node is stored under the nibbles that lead to it, one byte each; nodes of fewer than 32 bytes lie inside their parents,
//! as the trie's hashes demand, all but the root. An update reads and rewrites the nodes from the root to the leaf and nothing
//! else. All keys have 32 bytes, so a branch never holds a value.

use std::collections::BTreeSet;

use alloy_primitives::{B256, keccak256};
use alloy_rlp::Decodable;
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

/// A trie under change.
pub(crate) struct Trie<S> {
    source: S,
    root: Option<Link>,
    /// Paths of nodes that were read from the source: each is either written again or goes.
    read: BTreeSet<Nibbles>,
}

/// What a commit does to the stored nodes.
pub(crate) struct TrieUpdate {
    pub(crate) root: B256,
    /// Path, and the node or `None` if there is none any more.
    pub(crate) nodes: Vec<(Nibbles, Option<Vec<u8>>)>,
}

/// How a parent knows its child.
enum Link {
    /// By the reference in the stored parent: a hash, or the node itself if short.
    Stored(RlpNode),
    /// As a node that was read, and perhaps changed.
    Open(Box<Node>),
}

type Children = Box<[Option<Link>; 16]>;

enum Node {
    Leaf { key: Nibbles, value: Vec<u8> },
    Extension { key: Nibbles, child: Link },
    Branch { children: Children },
}

impl<S: NodeSource> Trie<S> {
    /// Opens the trie with the root hash `root`.
    pub(crate) fn open(source: S, root: B256) -> Self {
        let root = (root != EMPTY_ROOT_HASH).then(|| Link::Stored(RlpNode::word_rlp(&root)));
        Self { source, root, read: BTreeSet::new() }
    }

    /// Sets the value of `key`.
    pub(crate) fn insert(&mut self, key: B256, value: Vec<u8>) -> Result<(), KvError> {
        let root = self.root.take();
        self.root = Some(self.insert_at(root, Nibbles::new(), Nibbles::unpack(key), value)?);
        Ok(())
    }

    /// Removes `key`, if it is there.
    pub(crate) fn remove(&mut self, key: B256) -> Result<(), KvError> {
        if let Some(root) = self.root.take() {
            self.root = self.remove_at(root, Nibbles::new(), Nibbles::unpack(key))?;
        }
        Ok(())
    }

    /// The root hash, and what has to be written for it.
    pub(crate) fn commit(self) -> TrieUpdate {
        let mut nodes = Vec::new();
        let root = match self.root {
            None => EMPTY_ROOT_HASH,
            Some(Link::Stored(reference)) => reference.as_hash().unwrap_or(EMPTY_ROOT_HASH),
            Some(Link::Open(node)) => {
                let rlp = encode(*node, Nibbles::new(), &mut nodes);
                let root = keccak256(&rlp);
                nodes.push((Nibbles::new(), Some(rlp)));
                root
            }
        };
        let written: BTreeSet<Nibbles> = nodes.iter().map(|(path, _)| *path).collect();
        nodes.extend(self.read.difference(&written).map(|path| (*path, None)));
        TrieUpdate { root, nodes }
    }

    /// Puts `value` under `rest` into the sub-trie at `path`.
    fn insert_at(
        &mut self,
        link: Option<Link>,
        path: Nibbles,
        rest: Nibbles,
        value: Vec<u8>,
    ) -> Result<Link, KvError> {
        let Some(link) = link else {
            return Ok(open(Node::Leaf { key: rest, value }));
        };
        Ok(open(match self.open_link(link, &path)? {
            Node::Leaf { key, value: _ } if key == rest => Node::Leaf { key, value },
            Node::Leaf { key, value: other } => {
                let shared = key.common_prefix_length(&rest);
                let mut children = empty_children();
                put_child(
                    &mut children,
                    key.get(shared),
                    Node::Leaf { key: key.slice(shared + 1..), value: other },
                );
                put_child(
                    &mut children,
                    rest.get(shared),
                    Node::Leaf { key: rest.slice(shared + 1..), value },
                );
                under(rest.slice(..shared), Node::Branch { children })
            }
            Node::Extension { key, child } => {
                let shared = key.common_prefix_length(&rest);
                if shared == key.len() {
                    let child = self.insert_at(Some(child), path.join(&key), rest.slice(shared..), value)?;
                    Node::Extension { key, child }
                } else {
                    let mut children = empty_children();
                    let tail = key.slice(shared + 1..);
                    let old =
                        if tail.is_empty() { child } else { open(Node::Extension { key: tail, child }) };
                    if let Some(slot) = key.get(shared).and_then(|n| children.get_mut(usize::from(n))) {
                        *slot = Some(old);
                    }
                    put_child(
                        &mut children,
                        rest.get(shared),
                        Node::Leaf { key: rest.slice(shared + 1..), value },
                    );
                    under(rest.slice(..shared), Node::Branch { children })
                }
            }
            Node::Branch { mut children } => {
                let (nibble, rest) = split(&rest)?;
                if let Some(slot) = children.get_mut(usize::from(nibble)) {
                    *slot = Some(self.insert_at(slot.take(), step(path, nibble), rest, value)?);
                }
                Node::Branch { children }
            }
        }))
    }

    /// Takes `rest` out of the sub-trie at `path`; `None` if nothing is left of it.
    fn remove_at(&mut self, link: Link, path: Nibbles, rest: Nibbles) -> Result<Option<Link>, KvError> {
        match self.open_link(link, &path)? {
            Node::Leaf { key, value } => Ok((key != rest).then(|| open(Node::Leaf { key, value }))),
            Node::Extension { key, child } => {
                if !rest.starts_with(&key) {
                    return Ok(Some(open(Node::Extension { key, child })));
                }
                let below = path.join(&key);
                match self.remove_at(child, below, rest.slice(key.len()..))? {
                    None => Ok(None),
                    Some(child) => Ok(Some(open(self.shorten(key, child, below)?))),
                }
            }
            Node::Branch { mut children } => {
                let (nibble, rest) = split(&rest)?;
                if let Some(slot) = children.get_mut(usize::from(nibble))
                    && let Some(child) = slot.take()
                {
                    *slot = self.remove_at(child, step(path, nibble), rest)?;
                }
                let mut left = children.iter_mut().zip(0u8..).filter(|(child, _)| child.is_some());
                match (left.next(), left.next()) {
                    (None, _) => Ok(None),
                    (Some((only, nibble)), None) => {
                        let Some(child) = only.take() else { return Ok(None) };
                        let mut key = Nibbles::new();
                        key.push(nibble);
                        Ok(Some(open(self.shorten(key, child, step(path, nibble))?)))
                    }
                    _ => Ok(Some(open(Node::Branch { children }))),
                }
            }
        }
    }

    /// The node for `child` at `below`, reached by `key` alone: one that is no branch takes the key into itself.
    fn shorten(&mut self, key: Nibbles, child: Link, below: Nibbles) -> Result<Node, KvError> {
        Ok(match self.open_link(child, &below)? {
            Node::Leaf { key: tail, value } => Node::Leaf { key: key.join(&tail), value },
            Node::Extension { key: tail, child } => Node::Extension { key: key.join(&tail), child },
            branch @ Node::Branch { .. } => Node::Extension { key, child: open(branch) },
        })
    }

    fn open_link(&mut self, link: Link, path: &Nibbles) -> Result<Node, KvError> {
        let reference = match link {
            Link::Open(node) => return Ok(*node),
            Link::Stored(reference) => reference,
        };
        let Some(hash) = reference.as_hash() else {
            return decode(&reference, S::TABLE);
        };
        let rlp =
            self.source.node(path)?.ok_or_else(|| KvError::corrupt(S::TABLE, "a trie node is missing"))?;
        if keccak256(&rlp) != hash {
            return Err(KvError::corrupt(S::TABLE, "a trie node does not hash to its parent's reference"));
        }
        self.read.insert(*path);
        decode(&rlp, S::TABLE)
    }
}

fn open(node: Node) -> Link {
    Link::Open(Box::new(node))
}

fn empty_children() -> Children {
    Box::new([const { None }; 16])
}

fn put_child(children: &mut Children, nibble: Option<u8>, node: Node) {
    if let Some(slot) = nibble.and_then(|nibble| children.get_mut(usize::from(nibble))) {
        *slot = Some(open(node));
    }
}

fn under(key: Nibbles, branch: Node) -> Node {
    if key.is_empty() { branch } else { Node::Extension { key, child: open(branch) } }
}

fn step(mut path: Nibbles, nibble: u8) -> Nibbles {
    path.push(nibble);
    path
}

fn split(key: &Nibbles) -> Result<(u8, Nibbles), KvError> {
    match key.first() {
        Some(nibble) => Ok((nibble, key.slice(1..))),
        None => Err(KvError::corrupt(Table::AccountTrie, "a branch lies deeper than a key is long")),
    }
}

fn decode(mut rlp: &[u8], table: Table) -> Result<Node, KvError> {
    match TrieNode::decode(&mut rlp) {
        Ok(TrieNode::Leaf(leaf)) => Ok(Node::Leaf { key: leaf.key, value: leaf.value }),
        Ok(TrieNode::Extension(extension)) => {
            Ok(Node::Extension { key: extension.key, child: Link::Stored(extension.child) })
        }
        Ok(TrieNode::Branch(branch)) => {
            let mut children = empty_children();
            let mut stack = branch.stack.into_iter();
            for (slot, nibble) in children.iter_mut().zip(0u8..) {
                if branch.state_mask.is_bit_set(nibble) {
                    *slot = stack.next().map(Link::Stored);
                }
            }
            Ok(Node::Branch { children })
        }
        Ok(TrieNode::EmptyRoot) | Err(_) => Err(KvError::corrupt(table, "a trie node does not decode")),
    }
}

/// The RLP of `node` at `path`; nodes below it that are stored on their own go to `stored`.
fn encode(node: Node, path: Nibbles, stored: &mut Vec<(Nibbles, Option<Vec<u8>>)>) -> Vec<u8> {
    let mut rlp = Vec::new();
    match node {
        Node::Leaf { key, value } => {
            LeafNodeRef { key: &key, value: &value }.rlp(&mut rlp);
        }
        Node::Extension { key, child } => {
            let child = encode_link(child, path.join(&key), stored);
            ExtensionNodeRef { key: &key, child: &child }.rlp(&mut rlp);
        }
        Node::Branch { children } => {
            let mut stack = Vec::with_capacity(16);
            let mut mask = TrieMask::default();
            for (child, nibble) in (*children).into_iter().zip(0u8..) {
                if let Some(child) = child {
                    stack.push(encode_link(child, step(path, nibble), stored));
                    mask.set_bit(nibble);
                }
            }
            BranchNodeRef::new(&stack, mask).rlp(&mut rlp);
        }
    }
    rlp
}

fn encode_link(link: Link, path: Nibbles, stored: &mut Vec<(Nibbles, Option<Vec<u8>>)>) -> RlpNode {
    match link {
        Link::Stored(reference) => reference,
        Link::Open(node) => {
            let rlp = encode(*node, path, stored);
            let reference = RlpNode::from_rlp(&rlp);
            if reference.is_hash() {
                stored.push((path, Some(rlp)));
            }
            reference
        }
    }
}
