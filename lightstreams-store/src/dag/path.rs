use std::cell::RefCell;

use cid::Cid;

use super::DagError;
use crate::{
    Block, BlockSource, Codec, DAG_PB, Directory, Ipld, LayoutError, ReadError, StoreError,
    payload::read_block, unixfs::Borrowed,
};

/// The longest path, in bytes.
const MAX_PATH_LEN: usize = 1 << 14;
/// The most names in a path.
const MAX_NAMES: usize = 512;

/// Where a path leads, and what lies on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagPath {
    pub(super) cid: Cid,
    pub(super) before: Vec<Cid>,
    roots: Vec<Cid>,
    rest: Vec<String>,
}

/// A source that remembers what it gave.
struct Recording<'a, S> {
    source: &'a S,
    seen: RefCell<Vec<Cid>>,
}

impl<S: BlockSource> BlockSource for Recording<'_, S> {
    fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.seen.borrow_mut().push(*cid);
        self.source.block(cid)
    }
}

impl DagPath {
    /// Follows `names` from `root`: through UnixFS directories, plain and sharded, and through the fields and list items
    /// of dag-cbor and dag-json blocks, whose links lead on. Symbolic links are not followed.
    pub fn resolve<N: AsRef<str>>(
        source: &impl BlockSource,
        root: &Cid,
        names: &[N],
    ) -> Result<Self, DagError> {
        if names.len() > MAX_NAMES {
            return Err(DagError::Limit { what: "names in the path" });
        }
        if names.iter().map(|name| name.as_ref().len()).sum::<usize>() > MAX_PATH_LEN {
            return Err(DagError::Limit { what: "bytes in the path" });
        }
        let mut found = Self { cid: *root, before: Vec::new(), roots: vec![*root], rest: Vec::new() };
        let mut names = names.iter().map(AsRef::as_ref);
        while let Some(name) = names.next() {
            if found.cid.codec() == DAG_PB {
                found.enter_directory(source, name)?;
            } else if !found.enter_value(source, name, &mut names)? {
                break;
            }
        }
        Ok(found)
    }

    fn enter_directory(&mut self, source: &impl BlockSource, name: &str) -> Result<(), DagError> {
        let cid = self.cid;
        let missing = || DagError::NotFound { cid: Box::new(cid), name: name.to_owned() };
        let recording = Recording { source, seen: RefCell::default() };
        let entry = match Directory::open(Borrowed(&recording), &cid) {
            Ok(directory) => directory.get(name)?.ok_or_else(missing)?,
            // A file has no entries, which is no fault of its own.
            Err(ReadError::Layout { source: LayoutError::NotADirectory, .. }) => return Err(missing()),
            Err(error) => return Err(error.into()),
        };
        self.before.extend(recording.seen.into_inner());
        self.go_to(entry.cid);
        Ok(())
    }

    /// Follows `name` and as many of `names` as it takes to the next link; `false` if the path ends within the block.
    fn enter_value<'a>(
        &mut self,
        source: &impl BlockSource,
        mut name: &'a str,
        names: &mut impl Iterator<Item = &'a str>,
    ) -> Result<bool, DagError> {
        let cid = self.cid;
        let missing = |name: &str| DagError::NotFound { cid: Box::new(cid), name: name.to_owned() };
        let codec = Codec::from_code(cid.codec()).filter(|codec| *codec != Codec::Raw);
        let codec = codec.ok_or_else(|| missing(name))?;
        let block = read_block(source, &cid)?;
        let mut value =
            codec.decode(block.data()).map_err(|source| DagError::Decode { cid: Box::new(cid), source })?;
        loop {
            let field = match value {
                Ipld::Map(mut map) => map.remove(name),
                Ipld::List(list) => name.parse().ok().and_then(|i: usize| list.into_iter().nth(i)),
                _ => None,
            };
            self.rest.push(name.to_owned());
            match field.ok_or_else(|| missing(name))? {
                Ipld::Link(link) => {
                    self.before.push(cid);
                    self.rest.clear();
                    self.go_to(link);
                    return Ok(true);
                }
                field => value = field,
            }
            match names.next() {
                Some(next) => name = next,
                None => return Ok(false),
            }
        }
    }

    fn go_to(&mut self, cid: Cid) {
        self.cid = cid;
        self.roots.push(cid);
    }

    /// The block at the end.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The names at the end of the path that lead to a place within that block; none where it leads to the block.
    pub fn rest(&self) -> &[String] {
        &self.rest
    }

    /// The root, and what each name led to: of a sharded directory its root only.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// The blocks that were read on the way, from the root on, without that at the end.
    pub fn before(&self) -> &[Cid] {
        &self.before
    }
}
