//! What a block belongs to.

use std::{collections::HashMap, fmt};

use cid::Cid;

use super::{
    Pin,
    walk::{Walk, read},
};
use crate::{BlockStore, Codec, Ipld, dagpb::RawNode};

/// A pin that holds a block, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The pin.
    pub pin: Pin,
    /// The links from the root of the pin to the block; none if it is the root itself. Of more than 256 the last 256.
    pub path: Vec<PathStep>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStep {
    /// How the block above names it: the name of a file in a directory, the number of a link that has none, or the keys and
    /// indices that lead to it, with slashes between them; its CID where that is longer than 256 bytes.
    pub name: String,
    /// Where it leads.
    pub cid: Cid,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {}", self.pin)?;
        self.path.iter().try_for_each(|step| write!(f, "/{}", step.name))
    }
}

impl Owner {
    /// The way to `cid`, which came last in the `walk` of `pin`.
    pub(super) fn new(store: &dyn BlockStore, pin: &Pin, walk: &Walk, cid: Cid, names: &mut Names) -> Self {
        let first = walk.above().len().saturating_sub(MAX_PATH_LEN);
        let above = walk.above().skip(first);
        let below = walk.above().skip(first + 1).chain([cid]);
        let steps = above.zip(below).enumerate();
        let path = steps.map(|(depth, (above, cid))| {
            let name = names.of(store, depth, &above, &cid);
            PathStep { name, cid }
        });
        Self { pin: pin.clone(), path: path.collect() }
    }
}

/// Links of the longest path: a log of a million entries would have as many.
const MAX_PATH_LEN: usize = 256;
/// Levels of a path whose names are remembered; on deeper ones they are read again.
const LEVELS: usize = 8;
/// Bytes of the longest way that becomes a name: many links may share a long one.
const WAY_LEN: usize = 256;

/// How blocks name their links: those of the block on each level that was asked for last, since many blocks of one may be
/// damaged.
#[derive(Default)]
pub(super) struct Names {
    levels: HashMap<usize, (Cid, HashMap<Cid, String>)>,
}

impl Names {
    /// How the block `above` names its first link to `cid`.
    fn of(&mut self, store: &dyn BlockStore, depth: usize, above: &Cid, cid: &Cid) -> String {
        let level = depth % LEVELS;
        if self.levels.get(&level).is_none_or(|(known, _)| known != above) {
            // Who came this way has read the block; if it was lost since then, CIDs must do.
            let names = read(store, above).ok().and_then(|data| names_in(above, &data));
            self.levels.insert(level, (*above, names.unwrap_or_default()));
        }
        let name = self.levels.get(&level).and_then(|(_, names)| names.get(cid));
        name.cloned().unwrap_or_else(|| cid.to_string())
    }
}

/// The names of the links in `data`, the bytes of `above`.
fn names_in(above: &Cid, data: &[u8]) -> Option<HashMap<Cid, String>> {
    let codec = Codec::from_code(above.codec())?;
    let mut names = HashMap::new();
    if codec == Codec::DagPb {
        for (i, link) in RawNode::decode(data).ok()?.links.iter().enumerate() {
            let name = link.name.filter(|name| !name.is_empty());
            names.entry(link.cid).or_insert_with(|| name.map_or_else(|| i.to_string(), str::to_owned));
        }
    } else {
        collect(&codec.decode(data).ok()?, &mut Vec::new(), &mut names);
    }
    Some(names)
}

/// Notes the keys and indices on the way to each link. Values are nested 256 deep at most.
fn collect(value: &Ipld, way: &mut Vec<String>, names: &mut HashMap<Cid, String>) {
    match value {
        Ipld::Link(cid) if way.iter().map(String::len).sum::<usize>() <= WAY_LEN => {
            names.entry(*cid).or_insert_with(|| way.join("/"));
        }
        Ipld::List(list) => {
            for (i, value) in list.iter().enumerate() {
                way.push(i.to_string());
                collect(value, way, names);
                way.pop();
            }
        }
        Ipld::Map(map) => {
            for (key, value) in map {
                way.push(key.clone());
                collect(value, way, names);
                way.pop();
            }
        }
        _ => {}
    }
}
