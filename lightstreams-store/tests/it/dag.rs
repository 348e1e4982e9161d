//! What is exported of a DAG is what was asked for, in the order of gateways, and bounded.

use std::io;

use cid::multibase::Base;
use lightstreams_store::{
    Block, BlockStore, CarLimits, Cid, Codec, DAG_CBOR, DAG_PB, DagError, DagPath, DagScope, DagSelection,
    EntityBytes, FileBuilder, FixedChunker, Ipld, MemoryStore, ReadError, import_car, parse_cid,
    testing::Seeded,
};

use crate::support::{json, vectors};

fn taken(
    store: &MemoryStore,
    root: &Cid,
    path: &str,
    selection: &DagSelection,
) -> Result<Vec<Cid>, DagError> {
    let mut taken = Vec::new();
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    DagPath::resolve(store, root, &names)?.export(store, selection, &mut |block| {
        taken.push(*block.cid());
        Ok(())
    })?;
    Ok(taken)
}

fn cbor(store: &MemoryStore, value: Ipld) -> Cid {
    let block = Block::new(DAG_CBOR, Codec::DagCbor.encode(&value).unwrap());
    store.put(&block).unwrap();
    *block.cid()
}

fn map(fields: &[(&str, Ipld)]) -> Ipld {
    Ipld::Map(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

#[test]
fn small_cars_of_kubo_are_exported_to_the_same_bytes() {
    let Some(folder) = vectors("kubo") else { return };
    let store = MemoryStore::default();
    let mut cars = 0;
    let mut names = Vec::new();
    for row in json(folder.join("cases.json"))["rows"].as_array().unwrap() {
        let Some(base64) = row["car"]["base64"].as_str() else { continue };
        let car = Base::Base64Pad.decode(base64).unwrap();
        // Those of hash functions that are not built in are left out.
        if import_car(&car[..], CarLimits::default(), &store, &mut |_| ()).is_err() {
            continue;
        }
        let root = parse_cid(row["root_cid"].as_str().unwrap()).unwrap();
        let path = DagPath::resolve::<&str>(&store, &root, &[]).unwrap();
        let as_kubo = DagSelection { identity: true, ..DagSelection::default() };
        let exported = path.write_car(&store, &as_kubo, Vec::new()).unwrap();
        assert!(exported == car, "{}", row["name"]);
        names.push(row["name"].clone());
        cars += 1;
    }
    // Requests of a gateway for the same content.
    let mut requests = 0;
    for row in json(folder.join("gateway.json"))["rows"].as_array().unwrap() {
        let Some(order) = row["car"]["order"].as_array().filter(|_| names.contains(&row["case"])) else {
            continue;
        };
        let url = row["request"]["path"].as_str().unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let (root, path) = path
            .trim_start_matches("/ipfs/")
            .split_once('/')
            .unwrap_or((path.trim_start_matches("/ipfs/"), ""));
        let accept = row["request"]["headers"]["Accept"].as_str().unwrap_or_default();
        let mut selection = DagSelection { duplicates: accept.contains("dups=y"), ..DagSelection::default() };
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match (key, value) {
                ("dag-scope", "block") => selection.scope = DagScope::Block,
                ("dag-scope", "entity") => selection.scope = DagScope::Entity,
                ("entity-bytes", range) => {
                    let (from, to) = range.split_once(':').unwrap();
                    selection.bytes = Some(EntityBytes { from: from.parse().unwrap(), to: to.parse().ok() });
                }
                _ => {}
            }
        }
        let found: Vec<String> = taken(&store, &parse_cid(root).unwrap(), path, &selection)
            .unwrap()
            .iter()
            .map(Cid::to_string)
            .collect();
        assert_eq!(
            &found,
            &order.iter().map(|cid| cid.as_str().unwrap()).collect::<Vec<_>>(),
            "{}",
            row["id"]
        );
        requests += 1;
    }
    println!("kubo: {cars} CARs exported, {requests} requests answered");
    assert!(cars > 0);
}

#[test]
fn a_range_of_a_file_takes_the_blocks_that_hold_it() {
    let store = MemoryStore::default();
    let bytes = Seeded::new(1).bytes(10_050);
    let chunker = FixedChunker::new(100).unwrap();
    let root = FileBuilder::new(chunker).import(&mut &bytes[..], &store, &mut |_| ()).unwrap().cid;
    let leaf = |at: usize| *Block::raw(bytes[at..(at + 100).min(bytes.len())].to_vec()).cid();
    let entity = |from, to| {
        let bytes = Some(EntityBytes { from, to });
        taken(&store, &root, "", &DagSelection { scope: DagScope::Entity, bytes, ..DagSelection::default() })
            .unwrap()
    };
    for (from, to, leaves) in [
        (0, Some(0), vec![0]),
        (99, Some(100), vec![0, 100]),
        (100, Some(199), vec![100]),
        (10_000, None, vec![10_000]),
        (10_049, Some(i64::MAX), vec![10_000]),
        (10_050, None, vec![]),
        (i64::MAX, None, vec![]),
        (200, Some(100), vec![]),
        (-1, None, vec![10_000]),
        (-51, None, vec![9_900, 10_000]),
        (-150, Some(-51), vec![9_900]),
        (0, Some(-10_050), vec![0]),
        (0, Some(-10_051), vec![]),
        (i64::MIN, Some(5), vec![0]),
        (0, Some(i64::MIN), vec![]),
    ] {
        let expected: Vec<Cid> = std::iter::once(root).chain(leaves.into_iter().map(leaf)).collect();
        assert_eq!(entity(from, to), expected, "{from}:{to:?}");
    }
    assert_eq!(entity(0, None).len(), 102);
    let all = taken(&store, &root, "", &DagSelection::default()).unwrap();
    assert_eq!((all.len(), all[0]), (102, root));
}

#[test]
fn paths_lead_through_fields_and_links() {
    let store = MemoryStore::default();
    let leaf = cbor(&store, map(&[("end", Ipld::Integer(1))]));
    let inner = cbor(&store, map(&[("list", Ipld::List(vec![Ipld::Null, Ipld::Link(leaf)]))]));
    let root = cbor(&store, map(&[("a", map(&[("b", Ipld::Link(inner))])), ("again", Ipld::Link(leaf))]));
    let block = DagSelection { scope: DagScope::Block, ..DagSelection::default() };
    let entity = DagSelection { scope: DagScope::Entity, ..DagSelection::default() };
    for (path, expected) in [
        ("", vec![root]),
        ("a", vec![root]),
        ("a/b", vec![root, inner]),
        ("/a//b/", vec![root, inner]),
        ("a/b/list/1", vec![root, inner, leaf]),
        ("a/b/list/0", vec![root, inner]),
        ("a/b/list/1/end", vec![root, inner, leaf]),
    ] {
        assert_eq!(taken(&store, &root, path, &block).unwrap(), expected, "{path}");
        assert_eq!(taken(&store, &root, path, &entity).unwrap(), expected, "{path}");
    }
    assert_eq!(taken(&store, &root, "", &DagSelection::default()).unwrap(), [root, inner, leaf]);
    let twice = DagSelection { duplicates: true, ..DagSelection::default() };
    assert_eq!(taken(&store, &root, "", &twice).unwrap(), [root, inner, leaf, leaf]);
    for path in ["b", "a/c", "a/b/list/2", "a/b/list/x", "a/b/list/-1", "a/b/list/0/x", "a/b/list/1/end/x"] {
        let found = taken(&store, &root, path, &block);
        assert!(matches!(found, Err(DagError::NotFound { .. })), "{path}: {found:?}");
    }
    assert!(matches!(taken(&store, &root, &"a/".repeat(40_000), &block), Err(DagError::Limit { .. })));
}

#[test]
fn hostile_graphs_are_bounded() {
    let store = MemoryStore::default();
    // Each block names the one below it many times: 100^10 paths.
    let mut cid = cbor(&store, Ipld::Null);
    for _ in 0..10 {
        cid = cbor(&store, Ipld::List(vec![Ipld::Link(cid); 100]));
    }
    assert_eq!(taken(&store, &cid, "", &DagSelection::default()).unwrap().len(), 11);
    let twice = DagSelection { duplicates: true, blocks_max: 5000, ..DagSelection::default() };
    assert!(matches!(taken(&store, &cid, "", &twice), Err(DagError::Limit { what: "blocks" })));
    // A chain without end, and blocks that are nothing but links.
    let mut chain = cbor(&store, Ipld::Null);
    for _ in 0..2000 {
        chain = cbor(&store, Ipld::List(vec![Ipld::Link(chain)]));
    }
    assert!(matches!(taken(&store, &chain, "", &DagSelection::default()), Err(DagError::Limit { .. })));
    let wide = cbor(&store, Ipld::List(vec![Ipld::Link(cid); 40_000]));
    let mut deep = wide;
    for i in 0..10 {
        let mut list = vec![Ipld::Link(deep)];
        list.extend(vec![Ipld::Link(wide); 39_000 + i]);
        deep = cbor(&store, Ipld::List(list));
    }
    assert!(matches!(taken(&store, &deep, "", &DagSelection::default()), Err(DagError::Limit { .. })));
}

#[test]
fn what_is_missing_malformed_or_not_taken_is_an_error() {
    let store = MemoryStore::default();
    let gone = *Seeded::new(2).block(9).cid();
    let root = cbor(&store, Ipld::List(vec![Ipld::Link(gone)]));
    match taken(&store, &root, "", &DagSelection::default()) {
        Err(DagError::Read(ReadError::Missing { cid })) => assert_eq!(cid, gone),
        other => panic!("{other:?}"),
    }
    for (codec, bytes) in [(DAG_CBOR, &b"\xff"[..]), (DAG_PB, b"\x12\x00")] {
        let bad = Block::new(codec, bytes.to_vec());
        store.put(&bad).unwrap();
        assert!(taken(&store, bad.cid(), "x", &DagSelection::default()).is_err());
        assert!(matches!(
            taken(&store, bad.cid(), "", &DagSelection::default()),
            Err(DagError::Decode { .. })
        ));
        // As one block it is what it is.
        let block = DagSelection { scope: DagScope::Block, ..DagSelection::default() };
        assert_eq!(taken(&store, bad.cid(), "", &block).unwrap(), [*bad.cid()]);
    }
    let leaf = cbor(&store, Ipld::Null);
    let path = DagPath::resolve::<&str>(&store, &leaf, &[]).unwrap();
    let full = path.export(&store, &DagSelection::default(), &mut |_| Err(io::Error::other("full")));
    assert!(matches!(full, Err(DagError::Write(_))));
}
