//! How do I put the blocks somewhere else? Implement `BlockStore`, here over one file per block, and let the shared check of
//! the crate say whether it keeps the contract.

use std::{error::Error, fs, path::PathBuf};

use lightstreams_store::{
    Block, BlockError, BlockStore, Cid, EnvelopeChunker, FileBuilder, FileReader, MAX_BLOCK_LEN, StoreError,
    StoreOp, testing::check_block_store,
};

/// A directory with one file per block, named by its CID.
struct FolderStore(PathBuf);

impl FolderStore {
    fn path(&self, cid: &Cid) -> PathBuf {
        // Blocks are known by their hash: CIDs of other codecs and versions name the same file.
        self.0.join(Cid::new_v1(lightstreams_store::RAW, *cid.hash()).to_string())
    }
}

impl BlockStore for FolderStore {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        match fs::read(self.path(cid)) {
            Ok(data) => {
                Block::from_cid(*cid, data).map(Some).map_err(|e| StoreError::new(StoreOp::Get, e).on(cid))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::new(StoreOp::Get, error).on(cid)),
        }
    }

    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        Ok(self.get(cid)?.map(|block| block.data().len() as u64))
    }

    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        if let Some(block) = blocks.iter().find(|block| block.data().len() > MAX_BLOCK_LEN) {
            let error = BlockError::TooLong { len: block.data().len() };
            return Err(StoreError::new(StoreOp::Put, error).on(block.cid()));
        }
        for block in blocks {
            // A file appears under its name when it is whole and on disk, whoever else is writing the same.
            let part = self.path(block.cid()).with_extension(format!("{:?}", std::thread::current().id()));
            let written = fs::write(&part, block.data()).and_then(|()| fs::File::open(&part)?.sync_all());
            let named = written.and_then(|()| fs::rename(&part, self.path(block.cid())));
            named.map_err(|error| StoreError::new(StoreOp::Put, error).on(block.cid()))?;
        }
        let synced = fs::File::open(&self.0).and_then(|folder| folder.sync_all());
        synced.map_err(|error| StoreError::new(StoreOp::Put, error))
    }

    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        cids.iter().try_for_each(|cid| match fs::remove_file(self.path(cid)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::new(StoreOp::Remove, error).on(cid))
            }
            _ => Ok(()),
        })
    }

    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        let failed = |error| StoreError::new(StoreOp::List, error);
        let names = fs::read_dir(&self.0)
            .map_err(failed)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut cids: Vec<Cid> = names.filter_map(|name| name.parse().ok()).collect();
        cids.sort_by_key(|cid| cid.hash().to_bytes());
        let after = after.map(|cid| cid.hash().to_bytes());
        Ok(cids
            .into_iter()
            .filter(|cid| after.as_ref().is_none_or(|a| cid.hash().to_bytes() > *a))
            .take(limit)
            .collect())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("lightstreams-folder-store-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let store = FolderStore(dir.clone());
    check_block_store(&store);
    println!("FolderStore keeps the contract of BlockStore");

    let root = FileBuilder::new(EnvelopeChunker::default()).import(
        &mut &vec![7; 1_000_000][..],
        &store,
        &mut |_| {},
    )?;
    let mut back = Vec::new();
    std::io::Read::read_to_end(&mut FileReader::open(&store, &root.cid)?, &mut back)?;
    assert_eq!(back, vec![7; 1_000_000]);
    println!("{} blocks in {}, read back through {}", root.blocks, dir.display(), root.cid);
    fs::remove_dir_all(dir)?;
    Ok(())
}
