//! Which names there are, and whose folder it is.

use cid::{Cid, multibase::Base};
use multihash::Multihash;

use super::{failed, write};
use crate::{Disk, StoreError, StoreOp, disk::LOCK, key::key};

/// The file that says how blocks are spread over folders, and what it must say.
const SHARDING: &str = "SHARDING";
const NEXT_TO_LAST_2: &str = "/repo/flatfs/shard/v1/next-to-last/2";
/// The longest such file that is read.
const SHARDING_LEN_MAX: usize = 256;
const README: &str = "_README";
const README_TEXT: &str = "\
Blocks of IPFS, each in a file of its own, as Kubo's datastore flatfs keeps them. A file is named <name>.data, where
<name> is the multihash of the block in upper-case base32 (RFC 4648, without padding). It lies in the folder that the two
characters before the last one of <name> name: CIQFTFEEHEDF6KLBT32BFAGLXEZL4UWFNWM4LFTLMXQBCERZ6CMLX3Y.data in X3.
";
/// Where Kubo notes how much is stored; it counts again when there is no such file.
const USAGE: &str = "diskUsage.cache";
const EXTENSION: &str = ".data";
/// How names of files begin that are being written.
pub(super) const WRITING: &str = "put-";

/// The alphabet of base32, five bits each; two characters name a folder.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Folders.
pub(super) const SHARDS: usize = 32 * 32;

/// Refuses a folder that is neither one of this layout nor empty.
pub(super) fn check(disk: &dyn Disk) -> Result<(), StoreError> {
    let refused = |message: String| Err(StoreError::new(StoreOp::Open, message));
    let failed = failed(StoreOp::Open);
    let names = disk.list().map_err(&failed)?;
    if !names.iter().any(|name| name == SHARDING) {
        // An earlier attempt may have been cut off.
        let begun = format!("{WRITING}{SHARDING}");
        let foreign = names.iter().any(|name| *name != LOCK && *name != begun);
        if foreign || !disk.folders().map_err(&failed)?.is_empty() {
            return refused("the folder holds other files than a block store".to_owned());
        }
        return Ok(());
    }
    let mut found = vec![0; SHARDING_LEN_MAX];
    let len = disk.read(SHARDING).and_then(|file| file.read_at(0, &mut found)).map_err(&failed)?;
    let found = String::from_utf8_lossy(found.get(..len).unwrap_or_default());
    if found.trim() != NEXT_TO_LAST_2 {
        let found = found.lines().next().unwrap_or_default();
        return refused(format!("the folder is sharded by \"{found}\", not by \"{NEXT_TO_LAST_2}\""));
    }
    Ok(())
}

/// Makes sure that the folder is, or becomes, one of this layout, and ours.
pub(super) fn claim(disk: &dyn Disk) -> Result<(), StoreError> {
    check(disk)?;
    let complete = || {
        let names = disk.list()?;
        let has = |name: &str| names.iter().any(|found| found == name);
        for (name, text) in [(SHARDING, format!("{NEXT_TO_LAST_2}\n")), (README, README_TEXT.to_owned())] {
            if !has(name) {
                let begun = format!("{WRITING}{name}");
                write(disk, &begun, text.as_bytes())?;
                disk.rename(&begun, name)?;
                // The first of the two is what the folder is known by: nothing may be there without it.
                disk.sync()?;
            }
        }
        if has(USAGE) {
            // It will not be true any more.
            disk.remove(USAGE)?;
        }
        Ok(())
    };
    complete().map_err(failed(StoreOp::Open))
}

/// The number of the shard and the name of the file of `cid`.
pub(super) fn place(cid: &Cid) -> (usize, String) {
    let name = Base::Base32Upper.encode(key(cid));
    // A multihash has two bytes at least, which are four characters.
    (shard_of_name(&name).unwrap_or_default(), name + EXTENSION)
}

fn shard_of_name(name: &str) -> Option<usize> {
    let [.., high, low, _] = name.as_bytes() else { return None };
    let digit = |character| ALPHABET.iter().position(|digit| digit == character);
    Some(digit(high)? * 32 + digit(low)?)
}

/// The number of the shard whose folder `name` is.
pub(super) fn shard_of_folder(name: &str) -> Option<usize> {
    if name.len() == 2 { shard_of_name(&format!("{name}A")) } else { None }
}

/// The name of the folder of the shard `shard`.
pub(super) fn folder_name(shard: usize) -> String {
    let digit = |digit: usize| ALPHABET.get(digit % 32).copied().map_or('A', char::from);
    [digit(shard / 32), digit(shard)].iter().collect()
}

/// The key of the block that the file `name` in the shard `number` holds; `None` if it is something else.
pub(super) fn key_of_file(name: &str, number: usize) -> Option<Vec<u8>> {
    let name = name.strip_suffix(EXTENSION)?;
    let key = Base::Base32Upper.decode(name).ok()?;
    let sound = Multihash::<64>::from_bytes(&key).is_ok()
        && Base::Base32Upper.encode(&key) == name
        && shard_of_name(name) == Some(number);
    sound.then_some(key)
}
