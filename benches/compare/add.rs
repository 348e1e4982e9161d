//! Adds a file or a folder to a new store of segments: `add plain INPUT STORE`, and a file sealed on the way with `add sealed INPUT STORE`.
//!
//! `add make KIND MIB INPUT` makes an input: a `file`, a folder of `small` files of 1 KiB, or a `tree` of which three files of ten are
//! copies of others.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::Write,
    path::Path,
};

use lightstreams_crypto::{FileKey, PayloadEncryptor, PayloadKey, PayloadNonce};
use lightstreams_store::{EnvelopeChunker, FileBuilder, ImportOptions, Input, SegmentStore};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["make", kind, mib, input] => make(kind, mib.parse()?, Path::new(input)),
        [way, input, store] => add(way, Path::new(input), Path::new(store)),
        _ => Err("usage: add plain|sealed INPUT STORE".into()),
    }
}

fn add(way: &str, input: &Path, store: &Path) -> Result {
    let store = SegmentStore::open(store)?;
    let progress = &mut |_| ();
    let root = match way {
        "plain" => ImportOptions::unixfs_v1_2025().import(Input::path(input)?, &store, progress)?,
        "sealed" => {
            let rng = &mut rand::rng();
            let key = PayloadKey::derive(&FileKey::generate(rng), &PayloadNonce::generate(rng));
            let mut sealed = PayloadEncryptor::new(key, File::open(input)?);
            FileBuilder::new(EnvelopeChunker::default()).import(&mut sealed, &store, progress)?
        }
        _ => return Err("plain or sealed".into()),
    };
    println!("{}", root.cid);
    Ok(())
}

fn make(kind: &str, mib: u64, input: &Path) -> Result {
    match kind {
        "file" => {
            let mut file = File::create(input)?;
            (0..mib).try_for_each(|i| file.write_all(&bytes(i, 1 << 20)))?;
        }
        "small" => {
            for folder in 0..mib {
                let place = input.join(format!("{folder:05}"));
                fs::create_dir_all(&place)?;
                for (i, text) in bytes(folder, 1 << 20).chunks(1 << 10).enumerate() {
                    fs::write(place.join(format!("file-{i:04}")), text)?;
                }
            }
        }
        "tree" => {
            fs::create_dir_all(input)?;
            for i in 0..mib {
                let seed = if i % 10 < 7 { i } else { i - 7 };
                fs::write(input.join(format!("{i:05}")), bytes(seed, 1 << 20))?;
            }
        }
        _ => return Err("file, small or tree".into()),
    }
    Ok(())
}

/// Bytes that no compression shortens (SplitMix64).
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = (seed + 1) << 32;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
