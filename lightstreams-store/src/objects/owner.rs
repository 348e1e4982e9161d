//! Which local disk the objects belong to.

use std::{
    hash::{BuildHasher, RandomState},
    io,
};

use object_store::{ObjectStoreExt, PutMode};

use super::Remote;
use crate::Disk;

/// The object, and the local file, with the owner's mark.
pub(super) const NAME: &str = "OWNER";
/// Bytes of a mark.
const LEN: usize = 32;

/// Makes `local` the owner, if nobody else is, or `take_over` says that the other is gone.
pub(super) fn claim(local: &dyn Disk, remote: &Remote, take_over: bool) -> io::Result<()> {
    let path = remote.path(NAME);
    let held = match remote.call(|objects| async move { objects.get(&path).await?.bytes().await }) {
        Ok(mark) => Some(mark),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let mut file = local.open(NAME)?;
    let mut mark = vec![0; LEN];
    let known = file.len()? == LEN as u64 && file.read_at(0, &mut mark)? == LEN;
    match held {
        Some(held) if known && held == mark => return Ok(()),
        Some(_) if !take_over => {
            let text = "the objects belong to another disk; take them over if that one is gone for good";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        _ => {}
    }
    if !known {
        // Keys of hash maps are random: no two disks draw the same.
        let half = || format!("{:016x}", RandomState::new().hash_one(NAME));
        mark = (half() + &half()).into_bytes();
        file.truncate(0)?;
        file.append(&mark)?;
    }
    file.sync()?;
    local.sync()?;
    let mode = if take_over { PutMode::Overwrite } else { PutMode::Create };
    let path = remote.path(NAME);
    let put = remote.call(|objects| async move { objects.put_opts(&path, mark.into(), mode.into()).await });
    put.map(|_| ())
}
