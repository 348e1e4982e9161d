//! Blocks in files of their own, where Kubo keeps them.
//!
//! ```text
//! <folder>/SHARDING    "/repo/flatfs/shard/v1/next-to-last/2\n"
//! <folder>/_README     what this is, for people
//! <folder>/LOCK        held by the process that has the store open
//! <folder>/X3/CIQFTFEEHEDF6KLBT32BFAGLXEZL4UWFNWM4LFTLMXQBCERZ6CMLX3Y.data        the bytes of the empty directory
//! ```
//!
//! A file is named by the multihash in upper-case base32 (RFC 4648) without padding, and lies in the folder that the two
//! characters before the name's last one name (ipfs/boxo `datastore/dshelp/key.go`, ipfs/go-ds-flatfs `shard.go`). `LOCK` alone
//! is not Kubo's, who passes it over.
//!
//! **Whole or not at all.** A block is written to the file `put-<number>` beside its place, a name that Kubo passes over too,
//! and synced; then it gets its name, and the folder is synced. What such writes left when they were cut off goes before
//! the first new one in that folder. All blocks of a batch are on disk before the first of them gets its name: a full
//! disk stores nothing. A power cut may leave some of a batch.
//!
//! **What is held is durable.** Names change and are synced under a lock for each folder, which whoever finds a block there
//! already passes through before it says so; opening syncs all folders, since an earlier process may have been killed in between.

mod layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Bound,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cid::Cid;

use self::layout::{SHARDS, WRITING, check, claim, folder_name, key_of_file, place, shard_of_folder};
use crate::{
    Block, BlockStore, Disk, DiskLock, FileDisk, StoreError, StoreOp,
    block::check_len,
    key::{check_batch, cid_of_key, key},
};

/// Keeps each block in a file of its own, in the folders of Kubo's `flatfs` with its default sharding `next-to-last/2`.
///
/// For those who want plain files, or the blocks of a Kubo that does not run. Every new block costs two syncs and an
/// inode: [`SegmentStore`](crate::SegmentStore) is faster by far. From the first listing on it holds about 90 bytes of memory for each
/// block. Kubo must not use the folder at the same time: neither of the two sees the other's lock.
pub struct FolderStore {
    disk: Arc<dyn Disk>,
    shards: Vec<Shard>,
    /// The keys of all blocks, once somebody asked for them.
    listed: Mutex<Option<BTreeSet<Vec<u8>>>>,
    /// Files that were begun.
    begun: AtomicU64,
    _lock: DiskLock,
}

/// One of the folders that blocks are in.
#[derive(Default)]
struct Shard {
    /// Set once the folder is there.
    disk: OnceLock<Arc<dyn Disk>>,
    names: Mutex<Names>,
}

/// Of the names in a folder.
#[derive(Default)]
struct Names {
    /// Nothing is left of earlier processes' writes.
    clean: bool,
    /// A change was not synced.
    unsynced: bool,
}

/// Blocks that are to be stored, by shard and name.
type Batch<'a> = BTreeMap<usize, BTreeMap<String, &'a Block>>;

impl FolderStore {
    /// Opens the store in the folder `path`, which is created if it is not there; it may be one that Kubo made, the folder
    /// `blocks` of its repository.
    ///
    /// A folder with other files in it, or with another sharding, is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(FileDisk::open(path).map_err(failed(StoreOp::Open))?))
    }

    /// Opens the store on `disk`, which must have [folders](Disk::folder).
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        // A folder of somebody else's is left as it is.
        check(&*disk)?;
        let lock = disk.lock().map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => {
                StoreError::new(StoreOp::Open, "another process has the folder open")
            }
            _ => StoreError::new(StoreOp::Open, e),
        })?;
        claim(&*disk)?;
        let mut shards = Vec::new();
        shards.resize_with(SHARDS, Shard::default);
        let find_shards = || {
            for name in disk.folders()? {
                let Some(shard) = shard_of_folder(&name).and_then(|number| shards.get(number)) else {
                    continue;
                };
                let folder = disk.folder(&name)?;
                // An earlier process may have been killed between a change and its sync.
                folder.sync()?;
                let _ = shard.disk.set(folder);
            }
            disk.sync()
        };
        find_shards().map_err(failed(StoreOp::Open))?;
        let (listed, begun) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { disk, shards, listed, begun, _lock: lock })
    }

    /// The folder of the shard `number`, if it is there.
    fn folder(&self, number: usize) -> Option<&Arc<dyn Disk>> {
        self.shards.get(number)?.disk.get()
    }

    /// Makes sure that the folders are there of all shards that `batch` goes to, and clean.
    fn make_ready(&self, batch: &Batch<'_>) -> io::Result<()> {
        let mut made = Vec::new();
        for number in batch.keys() {
            if let Some(shard) = self.shards.get(*number).filter(|shard| shard.disk.get().is_none()) {
                made.push((shard, self.disk.folder(&folder_name(*number))?));
            }
        }
        if !made.is_empty() {
            self.disk.sync()?;
        }
        for (shard, folder) in made {
            // Another thread may have been first.
            let _ = shard.disk.set(folder);
        }
        for shard in batch.keys().filter_map(|number| self.shards.get(*number)) {
            let Some(folder) = shard.disk.get() else { continue };
            let mut names = lock(&shard.names);
            if !names.clean {
                for name in folder.list()?.iter().filter(|name| name.starts_with(WRITING)) {
                    folder.remove(name)?;
                }
                names.clean = true;
            }
        }
        Ok(())
    }

    fn put(&self, batch: &Batch<'_>) -> io::Result<()> {
        self.make_ready(batch)?;
        let mut drafts = BTreeMap::new();
        for (number, blocks) in batch {
            let Some(folder) = self.folder(*number) else { continue };
            for (name, block) in blocks {
                if !holds(&**folder, name, block)? {
                    drafts.insert(name, self.draft(folder, block)?);
                }
            }
        }
        for (number, blocks) in batch {
            self.change(
                *number,
                |folder, names| {
                    for (name, block) in blocks {
                        let draft = match drafts.remove(name) {
                            Some(draft) => draft,
                            None if holds(&**folder, name, block)? => continue,
                            // It was removed meanwhile.
                            None => self.draft(folder, block)?,
                        };
                        names.unsynced = true;
                        draft.rename(name)?;
                    }
                    Ok(())
                },
                |listed| listed.extend(blocks.values().map(|block| key(block.cid()))),
            )?;
        }
        Ok(())
    }

    fn remove(&self, number: usize, keys: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
        self.change(
            number,
            |folder, names| {
                for name in keys.keys() {
                    match folder.remove(name) {
                        Ok(()) => names.unsynced = true,
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(())
            },
            |listed| {
                for key in keys.values() {
                    listed.remove(key);
                }
            },
        )
    }

    /// Changes names in the folder of the shard `number`, if it is there, durably, and then in the listing.
    fn change(
        &self,
        number: usize,
        change: impl FnOnce(&Arc<dyn Disk>, &mut Names) -> io::Result<()>,
        list: impl FnOnce(&mut BTreeSet<Vec<u8>>),
    ) -> io::Result<()> {
        let Some(shard) = self.shards.get(number) else { return Ok(()) };
        let Some(folder) = shard.disk.get() else { return Ok(()) };
        let mut names = lock(&shard.names);
        let mut changed = change(folder, &mut names);
        if changed.is_ok() && names.unsynced {
            changed = folder.sync();
            names.unsynced = changed.is_err();
        }
        let mut listed = lock(&self.listed);
        match (&changed, &mut *listed) {
            (Ok(()), Some(listed)) => list(listed),
            (Ok(()), None) => {}
            // Nobody knows how far it came: the next listing looks.
            (Err(_), listed) => *listed = None,
        }
        changed
    }

    /// Writes `block` to a file that has no name of its own yet.
    fn draft(&self, folder: &Arc<dyn Disk>, block: &Block) -> io::Result<Draft> {
        let name = format!("{WRITING}{}", self.begun.fetch_add(1, Ordering::Relaxed));
        let draft = Draft { folder: folder.clone(), name, renamed: false };
        write(&**folder, &draft.name, block.data())?;
        Ok(draft)
    }

    /// The keys of all blocks.
    fn keys(&self) -> io::Result<BTreeSet<Vec<u8>>> {
        let mut keys = BTreeSet::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let Some(folder) = shard.disk.get() else { continue };
            keys.extend(folder.list()?.iter().filter_map(|name| key_of_file(name, number)));
        }
        Ok(keys)
    }
}

/// A file that was written and synced, and goes again unless it gets a name.
struct Draft {
    folder: Arc<dyn Disk>,
    name: String,
    renamed: bool,
}

impl Draft {
    fn rename(mut self, name: &str) -> io::Result<()> {
        self.folder.rename(&self.name, name)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            // Else it goes when the store is opened the next time.
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// Writes the file `name`, of which something may be left from an earlier process.
fn write(folder: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = folder.open(name)?;
    if !file.is_empty()? {
        file.truncate(0)?;
    }
    file.append(bytes)?;
    file.sync()
}

/// Length of the file `name`, if it is there.
fn size(folder: &dyn Disk, name: &str) -> io::Result<Option<u64>> {
    match folder.read(name) {
        Ok(file) => Ok(Some(file.len()?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the file `name` can be `block`. Kubo's may have been cut off by a crash, since it does not sync unless told to.
fn holds(folder: &dyn Disk, name: &str, block: &Block) -> io::Result<bool> {
    Ok(size(folder, name)? == Some(block.len() as u64))
}

// What a lock guards is changed in single steps: a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(op: StoreOp) -> impl Fn(io::Error) -> StoreError {
    move |e| StoreError::new(op, e)
}

impl std::fmt::Debug for FolderStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderStore").finish_non_exhaustive()
    }
}

impl BlockStore for FolderStore {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let failed = |e: io::Error| StoreError::new(StoreOp::Get, e).on(cid);
        let (shard, name) = place(cid);
        let Some(folder) = self.folder(shard) else { return Ok(None) };
        let file = match folder.read(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let len = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX);
        let wrong = |e| StoreError::new(StoreOp::Get, e).on(cid);
        check_len(len).map_err(wrong)?;
        let mut bytes = vec![0; len];
        let read = file.read_at(0, &mut bytes).map_err(failed)?;
        bytes.truncate(read);
        Block::from_cid(*cid, bytes).map(Some).map_err(wrong)
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        let (shard, name) = place(cid);
        let Some(folder) = self.folder(shard) else { return Ok(None) };
        size(&**folder, &name).map_err(|e| StoreError::new(StoreOp::Size, e).on(cid))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        check_batch(blocks)?;
        let mut batch = Batch::new();
        for block in blocks {
            let (shard, name) = place(block.cid());
            batch.entry(shard).or_default().insert(name, block);
        }
        self.put(&batch).map_err(failed(StoreOp::Put))
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        let mut batch: BTreeMap<usize, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for cid in cids {
            let (shard, name) = place(cid);
            batch.entry(shard).or_default().insert(name, key(cid));
        }
        batch.iter().try_for_each(|(shard, keys)| self.remove(*shard, keys)).map_err(failed(StoreOp::Remove))
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let mut listed = lock(&self.listed);
        let keys = match &mut *listed {
            Some(keys) => keys,
            none => none.insert(self.keys().map_err(failed(StoreOp::List))?),
        };
        let start = after.map_or(Bound::Unbounded, |cid| Bound::Excluded(key(cid)));
        keys.range((start, Bound::Unbounded)).take(limit).map(|key| cid_of_key(key)).collect()
    }
}
