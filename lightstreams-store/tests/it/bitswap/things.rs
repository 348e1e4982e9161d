//! What is exchanged with nodes of other makes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lightstreams_store::{
    Block, BlockStore, Cid, EnvelopeChunker, FileBuilder, ImportOptions, Input, MemoryStore, readable_root,
};

const MIB: usize = 1024 * 1024;
const SIZES: [usize; 6] = [1, 262_143, 262_144, 262_145, MIB + 1, 6 * MIB + 7];

pub(super) type Options = fn() -> ImportOptions;
pub(super) const PROFILES: [(&str, Options); 2] =
    [("unixfs-v1-2025", ImportOptions::unixfs_v1_2025), ("unixfs-v0-2015", ImportOptions::unixfs_v0_2015)];

/// The sizes of files; a file of `LIGHTSTREAMS_INTEROP_MIB` mebibytes is added where that is set.
fn sizes() -> Vec<usize> {
    let large = std::env::var("LIGHTSTREAMS_INTEROP_MIB").ok().map(|mib| mib.parse::<usize>().unwrap() * MIB);
    SIZES.into_iter().chain(large).collect()
}

/// Files of all sizes, a tree of them, and a directory that is sharded.
pub(super) fn things(folder: &Path) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for size in sizes() {
        let path = folder.join(format!("{size} bytes"));
        fs::write(&path, bytes(size)).unwrap();
        made.push(path);
    }
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("a/deeper/folder")).unwrap();
    fs::write(tree.join("a/deeper/folder/large"), bytes(3 * MIB)).unwrap();
    fs::write(tree.join("a/small"), "small").unwrap();
    fs::write(tree.join("top"), bytes(300_000)).unwrap();
    made.push(tree);
    let sharded = folder.join("sharded");
    fs::create_dir(&sharded).unwrap();
    for i in 0..1300 {
        fs::write(sharded.join(format!("{i:0>200}")), format!("entry {i}")).unwrap();
    }
    made.push(sharded);
    made
}

/// Bytes that do not repeat within their blocks, and differ from size to size.
pub(super) fn bytes(len: usize) -> Vec<u8> {
    let mut state = len as u64 | 1 << 40;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

/// What stands in the file system at `path`: name and bytes of each file.
fn listed(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(next) = waiting.pop() {
        if next.is_dir() {
            waiting.extend(fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = next.strip_prefix(path).unwrap().to_owned();
            found.insert(name, fs::read(&next).unwrap());
        }
    }
    found
}

#[track_caller]
pub(super) fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (listed(left), listed(right));
    assert!(left.keys().eq(right.keys()), "other files");
    assert!(left == right, "other bytes");
}

pub(super) fn import(path: &Path, options: &ImportOptions, store: &MemoryStore) -> Cid {
    options.import(Input::path(path).unwrap(), store, &mut |_| ()).unwrap().cid
}

/// A file that the real age encrypted, as our blocks.
pub(super) struct Sealed {
    pub(super) root: Cid,
    key: PathBuf,
}

impl Sealed {
    /// `None`, with a line that says so, without the age command.
    pub(super) fn make(folder: &Path, content: &[u8], store: &MemoryStore) -> Option<Self> {
        let (key, plain, sealed) = (folder.join("key"), folder.join("plain"), folder.join("plain.age"));
        let _ = fs::remove_file(&key);
        let Ok(made) = Command::new("age-keygen").arg("-o").arg(&key).output() else {
            let required = std::env::var("LIGHTSTREAMS_REQUIRE_TOOLS").as_deref() == Ok("1");
            assert!(!required, "the command age is not here");
            eprintln!("skipped: the command age is not here");
            return None;
        };
        assert!(made.status.success());
        fs::write(&plain, content).unwrap();
        let recipient = Command::new("age-keygen").arg("-y").arg(&key).output().unwrap();
        let recipient = String::from_utf8(recipient.stdout).unwrap();
        let mut age = Command::new("age");
        age.args(["-r", recipient.trim(), "-o"]).arg(&sealed).arg(&plain);
        assert!(age.status().unwrap().success());
        let bytes = fs::read(&sealed).unwrap();
        // The header ends with the line of the MAC; 16 bytes of nonce go with it.
        let mac = bytes.windows(5).position(|window| window == b"\n--- ").unwrap();
        let end = mac + 1 + bytes[mac + 1..].iter().position(|byte| *byte == b'\n').unwrap() + 1 + 16;
        let header = Block::raw(bytes[..end].to_vec());
        let payload = FileBuilder::new(EnvelopeChunker::default())
            .import(&mut &bytes[end..], store, &mut |_| ())
            .unwrap();
        let root = readable_root(&header, &payload.cid, payload.size, payload.tsize);
        store.put_many(&[header, root.clone()]).unwrap();
        Some(Self { root: *root.cid(), key })
    }

    /// What the real age makes of `sealed`, a file or a pipe.
    pub(super) fn open(&self, sealed: impl Into<Stdio>) -> Vec<u8> {
        let output = Command::new("age").args(["-d", "-i"]).arg(&self.key).stdin(sealed).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}
