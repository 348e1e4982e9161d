//! First inputs of the fuzz targets, made by our own encoders: `seeds FOLDER`.

use std::{fs, path::Path, time::Duration};

use lightstreams_store::{
    Block, BlockStore, Codec, DAG_CBOR, DAG_PB, ImportOptions, Input, IndexedCarWriter, CarWriter, Ipld, IpnsEntry,
    IpnsRecord, MemoryStore,
    p2p::wire::{Entry, Message, Payload, Prefix, Presence, Revision, WantKind},
};

fn main() {
    let folder = std::env::args().nth(1).expect("the folder of the corpora");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("a seed");
    };

    let store = MemoryStore::default();
    let files = |count: usize| (0..count).map(|i| (format!("file {i}"), Input::reader(&b"leaf"[..])));
    let mut options = ImportOptions::unixfs_v1_2025();
    let small = options.import(Input::directory(files(3)), &store, &mut |_| ()).expect("an import");
    options.chunker = "size-16".parse().expect("a chunker");
    options.raw_leaves = false;
    options.import(Input::reader(&[7; 100][..]), &store, &mut |_| ()).expect("an import");
    options.sharding.fanout = 8;
    options.sharding.threshold = 0;
    let sharded = options.import(Input::directory(files(20)), &store, &mut |_| ()).expect("an import");
    let value = Ipld::Map([("site".to_owned(), Ipld::List(vec![Ipld::Link(small.cid), Ipld::Float(0.5)]))].into());
    for (i, codec) in [Codec::DagCbor, Codec::DagJson].into_iter().enumerate() {
        let bytes = codec.encode(&value).expect("a value");
        put("codec", &format!("value{i}"), &[&[2 + i as u8], &bytes[..]].concat());
    }
    let linked = Block::new(DAG_CBOR, Codec::DagCbor.encode(&value).expect("a value"));

    let mut blocks = vec![linked.clone()];
    for cid in store.cids(None, usize::MAX).expect("memory") {
        // The store lists by hash; whatever is no leaf here is dag-pb.
        let mut block = store.get(&cid).expect("memory").expect("a block");
        if Codec::DagPb.decode(block.data()).is_ok() && !block.is_empty() {
            block = Block::new(DAG_PB, block.data().clone());
        }
        put("unixfs", &format!("{}", block.cid()), block.data());
        put("codec", &format!("{}", block.cid()), &[&[1], &block.data()[..]].concat());
        blocks.push(block);
    }
    let mut v1 = CarWriter::new(Vec::new(), &[small.cid, sharded.cid]).expect("memory");
    let mut v2 = IndexedCarWriter::new(std::io::Cursor::new(Vec::new()), &[small.cid]).expect("memory");
    for block in blocks.iter().take(6) {
        v1.write(block).expect("memory");
        v2.write(block).expect("memory");
    }
    put("car", "v1", &v1.finish().expect("memory"));
    put("car", "v2", &v2.finish().expect("memory").into_inner());

    let cid = *linked.cid();
    let message = Message {
        entries: vec![
            Entry { cid, priority: 1, cancel: false, kind: WantKind::Have, send_dont_have: true },
            Entry { cid: small.cid, priority: -1, cancel: true, kind: WantKind::Block, send_dont_have: false },
        ],
        full: true,
        payloads: vec![Payload { prefix: Prefix::of(&cid), data: linked.data().clone() }],
        presences: vec![(cid, Presence::Have), (small.cid, Presence::DontHave)],
    };
    for (i, revision) in Revision::ALL.into_iter().enumerate() {
        let framed: Vec<u8> =
            message.encode(revision).expect("small").pieces.iter().flatten().copied().collect();
        let prefix = framed.iter().position(|byte| *byte < 0x80).expect("a length") + 1;
        put("bitswap", &format!("message{i}"), &framed[prefix..]);
    }

    let entry = IpnsEntry {
        value: (&b"/ipfs/bafkqaaa"[..]).into(),
        sequence: 3,
        validity: Duration::from_secs(1_800_000_000),
        ttl: Duration::from_secs(300),
    };
    let record = IpnsRecord::create(&[7; 32], entry, true).expect("a record");
    put("ipns", "record", record.bytes());
    put("ipns", "name", record.name().to_string().as_bytes());

    let entries = [("index.html", "<p>"), ("a b", "words"), ("d", "{}")];
    let inputs = entries.map(|(name, text)| (name.to_owned(), Input::reader(text.as_bytes())));
    let tree = Input::directory([("site".to_owned(), Input::directory(inputs))]);
    let root = ImportOptions::unixfs_v1_2025().import(tree, &store, &mut |_| ()).expect("an import").cid;
    let value = Ipld::Map([("site".to_owned(), Ipld::List(vec![Ipld::Link(root), Ipld::Null]))].into());
    let value = Block::new(DAG_CBOR, Codec::DagCbor.encode(&value).expect("a value"));
    let value = value.cid();
    for (name, request) in [
        ("listing", format!("/ipfs/{root}/")),
        ("index", format!("/ipfs/{root}/site/\nIf-None-Match: \"x\", W/\"y\"")),
        ("file", format!("/ipfs/{root}/site/a%20b?filename=x.txt&download=true\nRange: bytes=0-1,-2\nIf-Range: \"x\"")),
        ("car", format!("/ipfs/{root}/site?format=car&dag-scope=entity&entity-bytes=-5:*&car-dups=y")),
        ("accept", format!("/ipfs/{root}\nAccept: application/vnd.ipld.car; version=1; order=dfs; dups=n")),
        ("tar", format!("/ipfs/{root}?format=tar\nCache-Control: only-if-cached")),
        ("value", format!("/ipfs/{value}/site/0/site/d?format=json")),
        ("page", format!("/ipfs/{value}\nAccept: text/html")),
        ("name", "/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8/x?format=ipns-record".to_owned()),
    ] {
        put("gateway", name, request.as_bytes());
    }

    let part = |name: &str, kind: &str, content: &str| {
        let name = format!("Content-Disposition: form-data; name=\"file?mode=0644&mtime=1\"; filename=\"{name}\"");
        format!("--b\r\n{name}\r\nContent-Type: {kind}\r\n\r\n{content}\r\n")
    };
    let (file, dir, link) = ("application/octet-stream", "application/x-directory", "application/symlink");
    let tree = [part("d", dir, ""), part("d/a%20b", file, "x"), part("d/l", link, "../t"), part("e", file, "")].concat();
    for (name, request) in [
        ("add", format!("add?wrap-with-directory=true&preserve-mode=true&chunker=size-1\n{tree}--b--")),
        ("add_v1", format!("add?cid-version=1&progress=true&pin=false&inline=true&hash=sha2-512\n{tree}--b--")),
        ("block", format!("block/put?cid-codec=dag-cbor&pin=true&mhlen=32\n{}--b--\r\n", part("", file, "x"))),
        ("write", format!("files/write?arg=/d/f&create=1&parents=1&offset=3&count=9\n{}--b--", part("f", file, "x"))),
        ("mkdir", "files/mkdir?arg=/a/../b&parents=1&cid-version=1\n".to_owned()),
        ("dag", format!("dag/put?store-codec=dag-cbor\n{}--b--", part("", file, "{\"a\":[1,null]}"))),
        ("ls", "pin/ls?type=all&stream=true&names=1\n".to_owned()),
        ("cat", "cat?arg=/ipfs/bafkqaaa/x&arg=ipfs://bafkqaaa&offset=-1&length=0x10&cid-base=base36\n".to_owned()),
    ] {
        put("rpc", name, request.as_bytes());
    }
}
