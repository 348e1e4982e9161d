//! Trees become the DAGs that Kubo makes of them, and come out again as they went in.

use std::{
    collections::BTreeMap,
    fs, io,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use lightstreams_store::{
    AnyChunker, Block, BlockStore, BuildError, Chunker, Cid, DAG_PB, Directory, DirectorySize, ExportError,
    ExportLimits, FileLayout, FileReader, FileRoot, ImportOptions, Input, LayoutError, MAX_TREE_DEPTH,
    MemoryStore, Metadata, Mtime, NodeKind, ReadError, StoreError, export, export_tar, resolve, stat,
    testing::Seeded,
};
use serde_json::Value;

use crate::support::{json, vectors};

#[track_caller]
fn import(options: &ImportOptions, input: Input<'_>) -> (MemoryStore, FileRoot) {
    let store = MemoryStore::default();
    let root = options.import(input, &store, &mut |_| ()).unwrap();
    (store, root)
}

fn files(names: &[&str]) -> Vec<(String, Input<'static>)> {
    names.iter().map(|name| (name.to_string(), Input::reader(io::empty()))).collect()
}

#[test]
fn the_files_of_the_vectors_get_their_roots() {
    for (suite, name) in [("unixfs-cids", "known-cids.json"), ("kubo", "cases.json")] {
        let Some(folder) = vectors(suite) else { continue };
        let mut checked = 0;
        for row in json(folder.join(name))["rows"].as_array().unwrap() {
            let Some(options) = options(row) else { continue };
            let Some(bytes) = generate(&row["file"]) else { continue };
            let (store, root) = import(&options, Input::reader(&bytes[..]));
            assert_eq!(root.cid.to_string(), row["root_cid"].as_str().unwrap(), "{}", row["name"]);
            let reader = FileReader::open(&store, &root.cid).unwrap();
            let mut read = vec![0; bytes.len()];
            assert_eq!(reader.read_at(0, &mut read).unwrap(), bytes.len());
            assert!(read == bytes, "{}", row["name"]);
            checked += 1;
        }
        println!("{suite}: {checked} files");
        assert!(checked > 0);
    }
}

/// The options of a row without metadata; `None` for those that take long or a feature that is not built.
fn options(row: &Value) -> Option<ImportOptions> {
    let mut options = match row["cid_version"].as_u64()? {
        0 => ImportOptions::unixfs_v0_2015(),
        _ => ImportOptions::unixfs_v1_2025(),
    };
    let chunk = row["chunk"].as_u64().map(|chunk| format!("size-{chunk}"));
    options.hash = row["multihash"].as_str()?.parse().ok()?;
    options.chunker = row["chunker"].as_str().map(str::to_owned).or(chunk)?.parse().unwrap();
    options.raw_leaves = row["raw_leaves"] == true;
    options.max_links = row["max_links"].as_u64()? as usize;
    options.layout = if row["layout"] == "trickle" { FileLayout::Trickle } else { FileLayout::Balanced };
    options.inline_limit = row["inline_limit"].as_u64().map(|limit| limit as usize);
    let plain = ["wrap", "mode", "mtime", "preserve_mode", "preserve_mtime"];
    // A CID holds identity digests of 64 bytes.
    let is_small = row["size"].as_u64()? <= 1 << 20 && options.inline_limit.is_none_or(|limit| limit <= 64);
    (is_small && plain.iter().all(|key| row.get(key).is_none()) && options.check().is_ok()).then_some(options)
}

pub(crate) fn generate(recipe: &Value) -> Option<Vec<u8>> {
    let mut x = recipe["seed"].as_u64().unwrap_or(0) as u32;
    let lcg = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    match recipe["gen"].as_str()? {
        "lcg" => Some((0..recipe["size"].as_u64()?).map(lcg).collect()),
        "text" => Some(recipe["text"].as_str()?.into()),
        _ => None,
    }
}

#[test]
fn the_profiles_differ_as_they_are_known_to() {
    let hello =
        |options: ImportOptions| import(&options, Input::reader(&b"hello world"[..])).1.cid.to_string();
    assert_eq!(hello(ImportOptions::unixfs_v0_2015()), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    let v1 = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    assert_eq!(hello(ImportOptions::unixfs_v1_2025()), v1);
    assert_eq!(hello(ImportOptions::kubo_cid_v1()), v1);
    let mut options = ImportOptions::unixfs_v0_2015();
    for empty_directories in [true, false] {
        options.empty_directories = empty_directories;
        let empty = import(&options, Input::directory([])).1;
        assert_eq!(empty.cid.to_string(), "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn");
    }
}

#[test]
fn a_directory_of_what_was_imported_before_is_the_directory_that_would_have_been_imported() {
    for options in [ImportOptions::unixfs_v0_2015(), ImportOptions::unixfs_v1_2025()] {
        let below = || Input::directory([("b".to_owned(), Input::reader(&b"bb"[..]))]);
        let entries = |b| Input::directory([("a".to_owned(), Input::reader(&b"a"[..])), ("d".to_owned(), b)]);
        let whole = import(&options, entries(below())).1;
        let (_, before) = import(&options, below());
        assert_eq!(import(&options, entries(Input::Imported(before))).1, whole);
        assert_eq!(import(&options, Input::Imported(before)).1, before);
    }
}

#[test]
fn no_chunker_cuts_more_than_it_may_and_cuts_do_not_depend_on_what_follows() {
    let bytes = Seeded::new(3).bytes(3 << 20);
    let mut names =
        vec!["size-1000", "rabin", "rabin-16-40-64", "rabin-min:16-avg:40-max:64", "buzhash", "envelope"];
    if cfg!(feature = "fastcdc") {
        names.push("fastcdc-1024-4096-16384");
    }
    for name in names {
        let mut chunker: AnyChunker = name.parse().unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(chunker.max_len())];
            let cut = chunker.cut(window);
            assert!((1..=window.len()).contains(&cut), "{name}");
            // FastCDC looks at two bytes at a time.
            if cut + 2 <= window.len() {
                assert_eq!(chunker.cut(&window[..cut + 2]), cut, "{name}");
            }
            rest = &rest[cut..];
        }
    }
    for name in [
        "",
        "size",
        "size-0",
        "size-x",
        "size-2096897",
        "rabin-47",
        "rabin-1-2",
        "rabin-max:1-2-3",
        "buzhash-1",
    ] {
        assert!(name.parse::<AnyChunker>().is_err(), "{name}");
    }
}

/// A tree with a bit of everything, in a HAMT of little width.
fn tree() -> (ImportOptions, MemoryStore, FileRoot) {
    let mut options = ImportOptions::unixfs_v0_2015();
    options.sharding.threshold = 300;
    options.sharding.fanout = 8;
    options.preserve_mode = true;
    options.preserve_mtime = true;
    let many = (0..200).map(|i| (format!("f{i}"), Input::reader(io::Cursor::new(vec![i as u8; i]))));
    let metadata = Metadata::new(Some(0o640), Mtime::new(-2, 700_000_000));
    let root = Input::directory([
        ("many".to_owned(), Input::directory(many)),
        ("link".to_owned(), Input::symlink("many/f3")),
        ("n\u{e4}me with \"quotes\"\n".to_owned(), Input::reader(&b"odd"[..]).with_metadata(metadata)),
        ("x".repeat(200), Input::reader(&b"long"[..])),
        ("empty".to_owned(), Input::directory([])),
    ]);
    let (store, root) = import(&options, root);
    (options, store, root)
}

#[test]
fn a_tree_is_exported_and_imported_to_the_same_root() {
    let (mut options, store, root) = tree();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out");
    export(&store, &root.cid, &target, ExportLimits::default()).unwrap();
    assert_eq!(fs::read(target.join("many/f3")).unwrap(), [3; 3]);
    assert_eq!(fs::read_link(target.join("link")).unwrap().to_str(), Some("many/f3"));
    // Only one entry has a mode and a time; the system gave them to all others.
    options.preserve_mode = false;
    options.preserve_mtime = false;
    let again = import(&options, Input::path(&target).unwrap()).1;
    let bare = without_metadata();
    assert_eq!(again.cid, bare.cid);
    let odd = fs::metadata(target.join("n\u{e4}me with \"quotes\"\n")).unwrap();
    let before = std::time::UNIX_EPOCH.duration_since(odd.modified().unwrap()).unwrap();
    assert_eq!(before.as_millis(), 1300);

    // Nothing is written over.
    let result = export(&store, &root.cid, &target, ExportLimits::default());
    assert!(matches!(result, Err(ExportError::Write { .. })), "{result:?}");
}

fn without_metadata() -> FileRoot {
    let (mut options, store, root) = tree();
    options.preserve_mode = false;
    options.preserve_mtime = false;
    fn copy(store: &MemoryStore, cid: &Cid) -> Input<'static> {
        match stat(&store, cid).unwrap().kind {
            NodeKind::Symlink { target } => Input::symlink(target),
            NodeKind::Directory { .. } => {
                let directory = Directory::open(store, cid).unwrap();
                let entries: Vec<_> = directory
                    .entries()
                    .map(Result::unwrap)
                    .map(|entry| (entry.name, copy(store, &entry.cid)))
                    .collect();
                Input::directory(entries)
            }
            _ => {
                let mut bytes = Vec::new();
                io::copy(&mut FileReader::open(store, cid).unwrap(), &mut bytes).unwrap();
                Input::reader(io::Cursor::new(bytes))
            }
        }
    }
    import(&options, copy(&store, &root.cid)).1
}

#[test]
fn tar_unpacks_what_was_exported() {
    let (_, store, root) = tree();
    let folder = tempfile::tempdir().unwrap();
    let archive = export_tar(&store, &root.cid, "top", ExportLimits::default(), Vec::new()).unwrap();
    assert_eq!(archive.len() % 512, 0);
    let Ok(mut tar) = Command::new("tar").args(["-x", "-C"]).arg(folder.path()).stdin(Stdio::piped()).spawn()
    else {
        println!("no tar program: skipped");
        return;
    };
    io::Write::write_all(&mut tar.stdin.take().unwrap(), &archive).unwrap();
    assert!(tar.wait().unwrap().success());
    let exported = folder.path().join("exported");
    export(&store, &root.cid, &exported, ExportLimits::default()).unwrap();
    let mut options = ImportOptions::unixfs_v1_2025();
    options.hidden = true;
    let root_of = |name: &str| import(&options, Input::path(folder.path().join(name)).unwrap()).1.cid;
    assert_eq!(root_of("top"), root_of("exported"));
    let odd = fs::metadata(folder.path().join("top/n\u{e4}me with \"quotes\"\n")).unwrap();
    let before = std::time::UNIX_EPOCH.duration_since(odd.modified().unwrap()).unwrap();
    assert_eq!(before.as_millis(), 1300);
}

#[test]
fn entries_are_listed_and_found_alike() {
    let (_, store, root) = tree();
    let many = resolve(&&store, &root.cid, "//many/").unwrap().unwrap();
    let directory = Directory::open(&store, &many.cid).unwrap();
    let listed: BTreeMap<_, _> =
        directory.entries().map(Result::unwrap).map(|entry| (entry.name.clone(), entry)).collect();
    assert_eq!(listed.len(), 200);
    for (name, entry) in &listed {
        assert_eq!(directory.get(name).unwrap().as_ref(), Some(entry));
    }
    assert_eq!(directory.get("f200").unwrap(), None);
    assert_eq!(resolve(&&store, &root.cid, "many/f7").unwrap().unwrap().cid, listed["f7"].cid);
    assert_eq!(resolve(&&store, &root.cid, "many/none/x").unwrap(), None);
    let through = resolve(&&store, &root.cid, "link/x");
    assert!(
        matches!(through, Err(ReadError::Layout { source: LayoutError::NotADirectory, .. })),
        "{through:?}"
    );
}

/// Counts what is written.
#[derive(Default)]
struct Writes {
    store: MemoryStore,
    blocks: AtomicUsize,
}

impl BlockStore for Writes {
    fn get(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        self.store.get(cid)
    }
    fn size(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        self.store.size(cid)
    }
    fn put_many(&self, blocks: &[Block]) -> Result<(), StoreError> {
        self.blocks.fetch_add(blocks.len(), Ordering::Relaxed);
        self.store.put_many(blocks)
    }
    fn remove_many(&self, cids: &[Cid]) -> Result<(), StoreError> {
        self.store.remove_many(cids)
    }
    fn cids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<Cid>, StoreError> {
        self.store.cids(after, limit)
    }
}

#[test]
fn what_the_store_has_is_not_written_again() {
    let store = Writes::default();
    let mut options = ImportOptions::unixfs_v1_2025();
    options.chunker = "size-1000".parse().unwrap();
    let bytes = Seeded::new(1).bytes(100_000);
    let mut told = 0;
    let input = || {
        Input::directory([
            ("a".to_owned(), Input::reader(&bytes[..])),
            ("b".to_owned(), Input::reader(&bytes[..])),
        ])
    };
    let root = options.import(input(), &store, &mut |bytes| told = bytes).unwrap();
    assert_eq!((told, root.size), (200_000, 200_000));
    assert_eq!(store.blocks.swap(0, Ordering::Relaxed), 102, "equal files are written once");
    options.import(input(), &store, &mut |_| ()).unwrap();
    assert_eq!(store.blocks.swap(0, Ordering::Relaxed), 0);
    store.remove_many(&[root.cid]).unwrap();
    options.import(input(), &store, &mut |_| ()).unwrap();
    assert_eq!(store.blocks.swap(0, Ordering::Relaxed), 1);
}

#[test]
fn names_that_none_may_have_are_refused_both_ways() {
    let options = ImportOptions::unixfs_v1_2025();
    for names in [&[""][..], &["a/b"], &["a\0"], &["x", "x"]] {
        let result = options.build(Input::directory(files(names)), &mut |_| Ok(()));
        assert!(matches!(result, Err(BuildError::Name { .. })), "{names:?}: {result:?}");
    }
    let store = MemoryStore::default();
    for names in [&[""][..], &["."], &[".."], &["a/b"], &["../x"], &["/etc"], &["a\0"], &["x", "x"]] {
        let leaf = Block::raw(&b"x"[..]);
        let links = names.iter().map(|name| ipld_dagpb::PbLink {
            cid: *leaf.cid(),
            name: Some(name.to_string()),
            size: Some(1),
        });
        let node = ipld_dagpb::PbNode { links: links.collect(), data: Some(vec![8, 1].into()) };
        let block = Block::new(DAG_PB, node.into_bytes());
        store.put_many(&[leaf, block.clone()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let result = export(&store, block.cid(), folder.path().join("out"), ExportLimits::default());
        assert!(matches!(result, Err(ExportError::Read(_))), "{names:?}: {result:?}");
    }
}

#[test]
fn depth_and_amount_are_bounded() {
    let mut input = Input::directory([]);
    for _ in 0..MAX_TREE_DEPTH + 1 {
        input = Input::directory([("d".to_owned(), input)]);
    }
    let result = ImportOptions::default().build(input, &mut |_| Ok(()));
    assert!(matches!(result, Err(BuildError::TooDeep)), "{result:?}");

    // Sixty levels of two links to the same block: 2^60 files in a few KiB.
    let store = MemoryStore::default();
    let mut block = Block::raw(&b"bomb"[..]);
    store.put(&block).unwrap();
    for _ in 0..60 {
        let link =
            |name: &str| ipld_dagpb::PbLink { cid: *block.cid(), name: Some(name.into()), size: Some(1) };
        let node = ipld_dagpb::PbNode { links: vec![link("a"), link("b")], data: Some(vec![8, 1].into()) };
        block = Block::new(DAG_PB, node.into_bytes());
        store.put(&block).unwrap();
    }
    let mut limits = ExportLimits::default();
    limits.entries_max = 1000;
    let result = export_tar(&store, block.cid(), "x", limits, io::sink());
    assert!(matches!(result, Err(ExportError::Limit { what: "entries" })), "{:?}", result.err());
    limits.entries_max = 100_000;
    limits.bytes_max = 399;
    let result = export_tar(&store, block.cid(), "x", limits, io::sink());
    assert!(matches!(result, Err(ExportError::Limit { what: "bytes" })), "{:?}", result.err());
}

#[test]
fn a_chain_of_directories_is_exported_up_to_the_bound() {
    let store = MemoryStore::default();
    let mut root =
        Block::new(DAG_PB, ipld_dagpb::PbNode { links: vec![], data: Some(vec![8, 1].into()) }.into_bytes());
    store.put(&root).unwrap();
    for depth in 1..=MAX_TREE_DEPTH {
        let link = ipld_dagpb::PbLink { cid: *root.cid(), name: Some("d".into()), size: Some(1) };
        let node = ipld_dagpb::PbNode { links: vec![link], data: Some(vec![8, 1].into()) };
        root = Block::new(DAG_PB, node.into_bytes());
        store.put(&root).unwrap();
        let result = export_tar(&store, root.cid(), "x", ExportLimits::default(), io::sink());
        assert_eq!(result.is_ok(), depth < MAX_TREE_DEPTH, "{depth}");
    }
}

#[cfg(unix)]
#[test]
fn the_file_system_is_taken_as_it_is() {
    use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("tree/a/empty")).unwrap();
    fs::write(at("tree/a/file"), "content").unwrap();
    fs::write(at("tree/.hidden"), "").unwrap();
    std::os::unix::fs::symlink("nowhere/at all", at("tree/link")).unwrap();
    fs::set_permissions(at("tree/a/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_600_000_000, 5);
    fs::File::open(at("tree/a/file")).unwrap().set_modified(time).unwrap();

    let list = |options: &ImportOptions| {
        let (store, root) = import(options, Input::path(at("tree")).unwrap());
        let exists = |path: &str| resolve(&&store, &root.cid, path).unwrap().map(|entry| entry.cid);
        let found = ["a/file", "a/empty", ".hidden", "link"].map(exists);
        found.map(|cid| cid.map(|cid| stat(&&store, &cid).unwrap()))
    };
    let mut options = ImportOptions::unixfs_v0_2015();
    let [file, empty, hidden, link] = list(&options);
    assert_eq!(file.unwrap().metadata, Metadata::default());
    assert_eq!(link.unwrap().kind, NodeKind::Symlink { target: b"nowhere/at all".to_vec() });
    assert!(empty.is_some() && hidden.is_none());

    options.hidden = true;
    options.empty_directories = false;
    options.preserve_mode = true;
    options.preserve_mtime = true;
    let [file, empty, hidden, link] = list(&options);
    assert_eq!(file.unwrap().metadata, Metadata::new(Some(0o4751), Mtime::new(1_600_000_000, 5)));
    assert!(empty.is_none() && hidden.is_some());
    let link = link.unwrap().metadata;
    assert!(link.mode.is_none() && link.mtime.is_some());

    let name = std::ffi::OsStr::from_bytes(b"\xff");
    fs::write(folder.path().join("tree").join(name), "").unwrap();
    let result = options.build(Input::path(at("tree")).unwrap(), &mut |_| Ok(()));
    assert!(matches!(result, Err(BuildError::Name { .. })), "{result:?}");
    fs::remove_file(folder.path().join("tree").join(name)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("tree/socket")).unwrap();
    let result = options.build(Input::path(at("tree")).unwrap(), &mut |_| Ok(()));
    assert!(matches!(result, Err(BuildError::FileType { .. })), "{result:?}");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let wrong: [fn(&mut ImportOptions); 7] = [
        |options| options.inline_limit = Some(129),
        |options| options.max_links = 1,
        |options| options.sharding.fanout = 24,
        |options| options.sharding.fanout = 4,
        |options| options.sharding.fanout = 2048,
        |options| options.preserve_mode = true,
        |options| options.metadata = Metadata::new(None, Mtime::new(0, 0)),
    ];
    for change in wrong {
        let mut options = ImportOptions::unixfs_v1_2025();
        change(&mut options);
        let result = options.build(Input::reader(io::empty()), &mut |_| Ok(()));
        assert!(matches!(result, Err(BuildError::Options(_))), "{result:?}");
    }
    let mut options = ImportOptions::unixfs_v0_2015();
    options.hash = "sha2-512".parse().unwrap();
    assert!(options.check().is_err());
    assert_eq!(Mtime::new(0, 1_000_000_000), None);
    // A block between what fits into a CID and the limit.
    let mut options = ImportOptions::unixfs_v1_2025();
    options.inline_limit = Some(128);
    let result = options.build(Input::reader(&[0; 65][..]), &mut |_| Ok(()));
    assert!(matches!(result, Err(BuildError::Inline { len: 65 })), "{result:?}");
    // More links than a block holds.
    let mut options = ImportOptions::unixfs_v1_2025();
    options.sharding.estimate = DirectorySize::Disabled;
    let names: Vec<String> = (0..10_000).map(|i| format!("{i:0>200}")).collect();
    let entries: Vec<_> = names.into_iter().map(|name| (name, Input::reader(io::empty()))).collect();
    let result = options.build(Input::directory(entries), &mut |_| Ok(()));
    assert!(matches!(result, Err(BuildError::NodeTooLong { .. })), "{result:?}");
}

#[test]
fn a_shard_that_is_none_is_refused() {
    // Type 5, a bit field, hash 0x22, fanout 256; one link at a position.
    let shard = |bits: &[u8], hash: u8, fanout: &[u8], name: &str| {
        let mut data = vec![8, 5, 0x12, bits.len() as u8];
        data.extend(bits);
        data.extend([0x28, hash, 0x30]);
        data.extend(fanout);
        let link =
            ipld_dagpb::PbLink { cid: *Block::raw(&b"x"[..]).cid(), name: Some(name.into()), size: Some(1) };
        Block::new(DAG_PB, ipld_dagpb::PbNode { links: vec![link], data: Some(data.into()) }.into_bytes())
    };
    let names: Vec<String> = {
        // The place of the name "x" is found by importing it.
        let mut options = ImportOptions::unixfs_v1_2025();
        options.sharding.threshold = 0;
        options.sharding.estimate = DirectorySize::Links;
        let (store, root) = import(&options, Input::directory(files(&["x"])));
        let node =
            ipld_dagpb::PbNode::from_bytes(store.get(&root.cid).unwrap().unwrap().data().clone()).unwrap();
        node.links.into_iter().map(|link| link.name.unwrap()).collect()
    };
    let at = u8::from_str_radix(&names[0][..2], 16).unwrap();
    let mut bits = vec![0; 32];
    bits[31 - usize::from(at / 8)] = 1 << (at % 8);
    let list = |block: Block| {
        let store = MemoryStore::default();
        store.put_many(&[block.clone(), Block::raw(&b"x"[..])]).unwrap();
        let directory = Directory::open(&store, block.cid())?;
        directory.entries().collect::<Result<Vec<_>, _>>()
    };
    let fanout = [0x80, 2];
    assert_eq!(list(shard(&bits, 0x22, &fanout, &names[0])).unwrap().len(), 1);
    let elsewhere = at ^ 1;
    let mut other = vec![0; 32];
    other[31 - usize::from(elsewhere / 8)] = 1 << (elsewhere % 8);
    for (what, block) in [
        ("a bit too many", shard(&[0xff; 32], 0x22, &fanout, &names[0])),
        ("no bit", shard(&[0; 32], 0x22, &fanout, &names[0])),
        ("another hash", shard(&bits, 0x12, &fanout, &names[0])),
        ("a fanout of 7", shard(&bits, 0x22, &[7], &names[0])),
        ("a fanout of 2048", shard(&bits, 0x22, &[0x80, 0x10], &names[0])),
        ("a name of one digit", shard(&bits, 0x22, &fanout, "A")),
        ("lower case", shard(&bits, 0x22, &fanout, &names[0].to_lowercase().replace("x", ""))),
        ("another position", shard(&other, 0x22, &fanout, &format!("{elsewhere:02X}x"))),
        ("dots", shard(&bits, 0x22, &fanout, &format!("{at:02X}.."))),
        ("a leaf for a shard", shard(&bits, 0x22, &fanout, &format!("{at:02X}"))),
    ] {
        let result = list(block);
        assert!(matches!(result, Err(ReadError::Layout { .. })), "{what}: {result:?}");
    }
}

#[test]
fn shards_without_entries_do_not_keep_a_reader_busy() {
    // 1,024 links from each of five levels to the same shard below, down to an empty one: 2^50 paths, no entry.
    let shard = |bits: &[u8], links: Vec<ipld_dagpb::PbLink>| {
        let mut data = vec![8, 5];
        if !bits.is_empty() {
            data.extend([0x12, 0x80, 1]);
            data.extend(bits);
        }
        data.extend([0x28, 0x22, 0x30, 0x80, 8]);
        Block::new(DAG_PB, ipld_dagpb::PbNode { links, data: Some(data.into()) }.into_bytes())
    };
    let store = MemoryStore::default();
    let mut root = shard(&[], Vec::new());
    store.put(&root).unwrap();
    assert_eq!(Directory::open(&store, root.cid()).unwrap().entries().count(), 0);
    for _ in 0..5 {
        let link = |i| ipld_dagpb::PbLink { cid: *root.cid(), name: Some(format!("{i:03X}")), size: Some(1) };
        root = shard(&[0xff; 128], (0..1024).map(link).collect());
        store.put(&root).unwrap();
        let directory = Directory::open(&store, root.cid()).unwrap();
        let listed: Vec<_> = directory.entries().collect();
        assert!(matches!(&listed[..], [Err(ReadError::Layout { .. })]), "{listed:?}");
    }
}

#[test]
fn types_that_say_nothing_here_are_refused() {
    let store = MemoryStore::default();
    for (data, expected) in [
        (vec![8, 3], LayoutError::UnknownType { kind: 3 }),
        (vec![8, 9], LayoutError::UnknownType { kind: 9 }),
        (vec![], LayoutError::Malformed { reason: "the UnixFS message has no type" }),
    ] {
        let node = ipld_dagpb::PbNode { links: vec![], data: Some(data.into()) };
        let block = Block::new(DAG_PB, node.into_bytes());
        store.put(&block).unwrap();
        match stat(&&store, block.cid()) {
            Err(ReadError::Layout { source, .. }) => assert_eq!(source, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn damaged_nodes_never_panic() {
    let (_, store, root) = tree();
    let mut random = Seeded::new(9);
    let cids = store.cids(None, 10_000).unwrap();
    let mut limits = ExportLimits::default();
    (limits.entries_max, limits.bytes_max) = (1000, 1 << 20);
    let mut refused = 0;
    for round in 0..3000 {
        let cid = if round % 3 == 0 { root.cid } else { cids[round % cids.len()] };
        let mut bytes = store.get(&cid).unwrap().unwrap().data().to_vec();
        for change in random.bytes(12).chunks(4).take(1 + round % 3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            match change[2] % 3 {
                0 => bytes[at] = change[3],
                1 => bytes[at] ^= 1 << (change[3] % 8),
                _ => drop(bytes.remove(at)),
            }
            bytes.push(change[3]);
        }
        let block = Block::new(DAG_PB, bytes);
        store.put(&block).unwrap();
        let cid = block.cid();
        let _ = stat(&&store, cid);
        let _ = FileReader::open(&store, cid).and_then(|file| file.read_at(3, &mut [0; 100]));
        let _ = resolve(&&store, cid, "many/f3");
        if let Ok(directory) = Directory::open(&store, cid) {
            for entry in directory.entries().map_while(Result::ok) {
                assert_eq!(directory.get(&entry.name).unwrap(), Some(entry));
            }
        }
        refused += usize::from(export_tar(&store, cid, "x", limits, io::sink()).is_err());
    }
    assert!(refused > 1000, "{refused}");
}
