//! What a client of the RPC gets, and what it does not. (The real `kubo-rpc-client` is in `rpc_client.rs`.)

mod mutable;

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt;
use lightstreams_store::{
    Block, BlockStore, Bytes, CarReader, Cid, FileDisk, HashFunction, ImportOptions, Input, MemoryStore, Pin,
    PinnedStore,
    rpc::{Authorization, NodeIdentity, NodeInfo, NodePeer, Rpc, RpcConfig},
    testing::Seeded,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::{
    support::{json as read_json, vectors},
    unixfs::generate,
};

const HELLO_V0: &str = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD";
const HELLO_V1: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
const EMPTY_DIR: &str = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";
const BOUNDARY: &str = "x-7";

pub(crate) type Store = PinnedStore<Arc<dyn BlockStore>>;

struct Site {
    store: Arc<Store>,
    rpc: Rpc,
    runtime: Runtime,
    _folder: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn value(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{}", self.text());
        lines.remove(0)
    }

    /// The message of an error of this status.
    #[track_caller]
    fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let error: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(error["Type"], "error");
        error["Message"].as_str().unwrap().to_owned()
    }
}

/// A part of a form: name, media type, content.
type Part<'a> = (&'a str, &'a str, &'a [u8]);
const FILE: &str = "application/octet-stream";
const DIR: &str = "application/x-directory";
const LINK: &str = "application/symlink";

fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, kind, content) in parts {
        body.extend(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n").bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

pub(crate) fn pinned(folder: &TempDir) -> Arc<Store> {
    let blocks: Arc<dyn BlockStore> = Arc::new(MemoryStore::default());
    Arc::new(PinnedStore::open(blocks, Arc::new(FileDisk::open(folder.path()).unwrap())).unwrap())
}

impl Site {
    fn new() -> Self {
        Self::with(RpcConfig::default())
    }

    fn with(config: RpcConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = pinned(&folder);
        let rpc = Rpc::new(store.clone(), config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { store, rpc, runtime, _folder: folder }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v0/{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.runtime.block_on(self.rpc.router().oneshot(request.body(body).unwrap())).unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.runtime.block_on(to_bytes(response.into_body(), usize::MAX)).unwrap();
        Answer { status, headers, body }
    }

    fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, &[], Body::empty())
    }

    fn upload(&self, path: &str, parts: &[Part<'_>]) -> Answer {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.ask("POST", path, &[("content-type", &kind)], Body::from(form(parts)))
    }

    /// Adds a file; returns its CID.
    fn add(&self, content: &[u8]) -> String {
        self.upload("add", &[("f", FILE, content)]).value()["Hash"].as_str().unwrap().to_owned()
    }

    fn gc(&self) -> Vec<String> {
        let lines = self.post("repo/gc").lines();
        lines.iter().map(|line| line["Key"]["/"].as_str().unwrap().to_owned()).collect()
    }
}

fn cid(text: &str) -> Cid {
    text.parse().unwrap()
}

#[test]
fn files_get_the_cids_that_kubo_gives_them() {
    let site = Site::new();
    for (query, expected) in [
        ("add", Some(HELLO_V0)),
        ("add?cid-version=1", Some(HELLO_V1)),
        ("add?raw-leaves=true", Some(HELLO_V1)),
        ("add?cid-version=1&raw-leaves=false", None),
        ("add?hash=sha2-512", None),
        ("add?trickle=true&chunker=size-4", None),
        ("add?inline=true", None),
    ] {
        let line = site.upload(query, &[("f", FILE, b"hello world")]).value();
        if let Some(expected) = expected {
            assert_eq!(line["Hash"], expected, "{query}");
        }
        assert_eq!(line["Name"], "f");
        let cat = site.post(&format!("cat?arg={}", line["Hash"].as_str().unwrap()));
        assert_eq!(cat.body, "hello world", "{query}");
    }
    let unnamed = site.upload("add", &[("", FILE, b"hello world")]).value();
    assert_eq!((&unnamed["Name"], &unnamed["Size"]), (&json!(HELLO_V0), &json!("19")));
    let wrapped = site.upload("add?wrap-with-directory=true", &[("f", FILE, b"hello world")]).lines();
    let expected = ImportOptions::unixfs_v0_2015();
    let input = Input::directory([("f".to_owned(), Input::reader(&b"hello world"[..]))]);
    let expected = expected.import(input, &MemoryStore::default(), &mut |_| ()).unwrap();
    assert_eq!(wrapped[1]["Hash"], expected.cid.to_string());
    assert_eq!((&wrapped[0]["Name"], &wrapped[1]["Name"]), (&json!("f"), &json!("")));
}

#[test]
fn the_arguments_of_kubo_give_the_answers_of_kubo() {
    let Some(folder) = vectors("kubo") else { return };
    let site = Site::new();
    let mut checked = 0;
    for row in read_json(folder.join("cases.json"))["rows"].as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let args: Vec<&str> =
            row["kubo"]["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        // What is configured, or comes from a file system, no argument says; a CID holds identity digests of 64 bytes.
        let is_said = ["config", "profile_applied"].iter().all(|key| row["kubo"].get(key).is_none())
            && args.iter().all(|arg| !arg.starts_with("--preserve") && !arg.starts_with("--deref"))
            && row["inline_limit"].as_u64().is_none_or(|limit| limit <= 64)
            && row["multihash"].as_str().unwrap().parse::<HashFunction>().is_ok();
        let hidden = args.contains(&"--hidden");
        let files = match row["dir"].as_array() {
            Some(entries) => entries.clone(),
            None => vec![row["file"].clone()],
        };
        let mut parts = Vec::new();
        if let Some(root) = row["root_is"].as_str() {
            parts.push(Some((root.to_owned(), DIR, Vec::new())));
        }
        for file in &files {
            let path = file["path"].as_str().or(file["name"].as_str()).unwrap_or("f");
            let escaped: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
            let part = match file["type"].as_str() {
                Some("dir") => Some((escaped, DIR, Vec::new())),
                Some("symlink") => Some((escaped, LINK, file["target"].as_str().unwrap().into())),
                _ => generate(file).map(|content| (escaped, FILE, content)),
            };
            if hidden || !path.split('/').any(|name| name.starts_with('.')) {
                parts.push(part);
            }
        }
        let Some(parts) = parts.into_iter().collect::<Option<Vec<_>>>().filter(|_| is_said) else { continue };
        let parts: Vec<Part<'_>> =
            parts.iter().map(|(name, kind, content)| (&**name, *kind, &**content)).collect();
        let options = args.iter().map(|arg| arg.trim_start_matches("--"));
        let options: Vec<String> = options
            .map(|arg| if arg.contains('=') { arg.to_owned() } else { format!("{arg}=true") })
            .collect();
        let lines = site.upload(&format!("add?{}", options.join("&")), &parts).lines();
        let root = lines.last().unwrap()["Hash"].as_str().unwrap();
        assert_eq!(root, row["root_cid"].as_str().unwrap(), "{name}: {args:?}");
        let stat = site.post(&format!("files/stat?arg=/ipfs/{root}")).value();
        for (ours, theirs) in [
            ("Size", "size"),
            ("CumulativeSize", "cumulative_size"),
            ("Blocks", "child_blocks"),
            ("Type", "type"),
        ] {
            let expected = &row["files_stat"][theirs];
            assert!(
                expected.is_null() || stat[ours] == *expected,
                "{name}: {ours} {} not {expected}",
                stat[ours]
            );
        }
        let stat = site.post(&format!("dag/stat?arg={root}")).value();
        for (ours, theirs) in [("Size", "size"), ("NumBlocks", "blocks")] {
            let (found, expected) = (&stat["DagStats"][0][ours], &row["dag_stat"][theirs]);
            assert!(expected.is_null() || found == expected, "{name}: {ours} {found} not {expected}");
        }
        checked += 1;
    }
    println!("kubo: {checked} adds");
    assert!(checked > 0);
}

#[test]
fn a_tree_is_what_its_paths_say_in_whatever_order_they_come() {
    let site = Site::new();
    let parts: [Part<'_>; 7] = [
        ("t", DIR, b""),
        ("t/b%2Fc+d", FILE, b"bc"),
        ("t/link", LINK, b"../x"),
        ("t/e", DIR, b""),
        ("t%2Fa", FILE, b"a"),
        ("t/b/x/y", FILE, b"y"),
        ("other", FILE, b"alone"),
    ];
    let mut options = ImportOptions::unixfs_v0_2015();
    options.hidden = true;
    let file = |bytes: &'static [u8]| Input::reader(bytes);
    let tree = Input::directory([
        ("a".to_owned(), file(b"a")),
        (
            "b".to_owned(),
            Input::directory([
                ("c d".to_owned(), file(b"bc")),
                ("x".to_owned(), Input::directory([("y".to_owned(), file(b"y"))])),
            ]),
        ),
        ("e".to_owned(), Input::directory([])),
        ("link".to_owned(), Input::symlink("../x")),
    ]);
    let expected = options.import(tree, &MemoryStore::default(), &mut |_| ()).unwrap();
    let lines = site.upload("add", &parts).lines();
    let named =
        |name: &str| lines.iter().find(|line| line["Name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("t")["Hash"], expected.cid.to_string());
    assert_eq!(named("t")["Size"], expected.tsize.to_string());
    assert_eq!(named("t/e")["Hash"], EMPTY_DIR);
    assert_eq!(lines.len(), 9, "{lines:?}");
    assert_eq!(site.store.pins(None, 10).len(), 2, "the tree and the file beside it");

    // What is in a directory may come after something else of the tree; a directory alone may be stated late.
    let mixed: [Part<'_>; 6] = [parts[4], parts[5], parts[2], parts[1], parts[3], parts[0]];
    let again = site.upload("add", &mixed).lines();
    assert_eq!(again.last().unwrap()["Hash"], expected.cid.to_string());

    let without = site.upload("add?empty-dirs=false", &[("t", DIR, b""), ("t/e", DIR, b"")]).lines();
    assert_eq!(without.len(), 1);
    assert_eq!(without[0]["Hash"], EMPTY_DIR);
}

#[test]
fn modes_and_times_are_kept_when_asked_for() {
    let site = Site::new();
    let body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file?mode=0640&mtime=5&mtime-nsecs=7\"; filename=\"f\"\r\n\r\nx\r\n--{BOUNDARY}--"
    );
    let kind = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
    let add =
        |query: &str| site.ask("POST", query, &[("content-type", &kind)], Body::from(body.clone())).value();
    let kept = add("add?preserve-mode=true&preserve-mtime=true");
    assert_eq!((&kept["Mode"], &kept["Mtime"], &kept["MtimeNsecs"]), (&json!("0640"), &json!(5), &json!(7)));
    let stat = site.post(&format!("files/stat?arg=/ipfs/{}", kept["Hash"].as_str().unwrap())).value();
    assert_eq!((&stat["Mode"], &stat["Mtime"], &stat["MtimeNsecs"]), (&json!("0640"), &json!(5), &json!(7)));
    let given = add("add?mode=0755&mtime=-9");
    assert_eq!((&given["Mode"], &given["Mtime"]), (&json!("0755"), &json!(-9)));
    assert!(add("add").get("Mode").is_none());
    let refused = |query: &str| {
        site.ask("POST", query, &[("content-type", &kind)], Body::from(body.clone())).error(400)
    };
    refused("add?mode=0755&raw-leaves=true");
    refused("add?mtime-nsecs=5");
}

#[test]
fn what_is_only_hashed_is_not_here_and_progress_is_told() {
    let site = Site::new();
    let big = Seeded::new(1).bytes(1_000_000);
    let lines = site.upload("add?only-hash=true&progress=true", &[("f", FILE, &big)]).lines();
    let told: Vec<u64> = lines.iter().filter_map(|line| line["Bytes"].as_u64()).collect();
    assert!(told.len() >= 3 && told.is_sorted() && told.last() == Some(&1_000_000), "{told:?}");
    let hash = lines.last().unwrap()["Hash"].as_str().unwrap();
    assert!(site.store.cids(None, 9).unwrap().is_empty());
    assert!(site.post(&format!("cat?arg={hash}")).error(500).contains(hash));
    assert_eq!(site.add(&big), hash);
    assert_eq!(site.upload("add?silent=true", &[("f", FILE, b"x")]).body, "");
}

#[test]
fn files_are_read_whole_and_in_part() {
    let site = Site::new();
    let bytes = Seeded::new(2).bytes(700_000);
    let (one, two) = (site.add(&bytes), site.add(b"hello world"));
    let cat = |query: &str| site.post(&format!("cat?{query}")).body;
    assert_eq!(cat(&format!("arg={one}")), bytes);
    assert_eq!(cat(&format!("arg=/ipfs/{one}&offset=262140&length=10")), bytes[262_140..262_150]);
    assert_eq!(
        cat(&format!("arg={one}&offset=699999&arg={two}&length=6")),
        [&bytes[699_999..], b"hello"].concat()
    );
    assert_eq!(cat(&format!("arg={one}&length=0")), "");
    assert_eq!(cat(&format!("arg={two}&offset=99")), "");
    assert!(site.post(&format!("cat?arg={one}&offset=-1")).error(400).contains("negative"));
    let answer = site.post(&format!("cat?arg={one}"));
    assert_eq!(
        (answer.headers["x-content-length"].to_str().unwrap(), &answer.headers["x-stream-output"]),
        ("700000", &"1".parse().unwrap())
    );
    assert_eq!(site.post(&format!("cat?arg={EMPTY_DIR}")).status, 500);
    let dir = site.upload("add?wrap-with-directory=true", &[("f", FILE, b"hello world")]).lines()[1]["Hash"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(site.post(&format!("cat?arg={dir}")).error(500).contains("directory"));
    assert_eq!(cat(&format!("arg={dir}/f")), "hello world");
    assert!(site.post(&format!("cat?arg={dir}/g")).error(500).contains("\"g\""));

    assert_eq!(site.post(&format!("files/read?arg=/ipfs/{two}&offset=6&count=3")).body, "wor");
    assert_eq!(site.post("files/read?arg=/x").error(500), "file does not exist");
    assert_eq!(site.post(&format!("files/read?arg=/ipfs/{two}&offset=12")).status, 500);

    let tar = site.post(&format!("get?arg=/ipfs/{dir}&archive=true"));
    assert_eq!(tar.headers["content-type"], "application/x-tar");
    assert!(tar.body.starts_with(format!("{dir}/").as_bytes()));
    assert!(tar.body.windows(11).any(|window| window == b"hello world"));
    assert!(site.post(&format!("get?arg={dir}&compress=true")).error(400).contains("compress"));
}

#[test]
fn directories_are_listed() {
    let site = Site::new();
    let parts: [Part<'_>; 4] =
        [("d/b", FILE, b"bb"), ("d/a/x", FILE, b"x"), ("d/l", LINK, b"to"), ("d/r", FILE, b"r")];
    let dir = site.upload("add", &parts).lines().last().unwrap()["Hash"].as_str().unwrap().to_owned();
    let listed = site.post(&format!("ls?arg={dir}")).value();
    let links = listed["Objects"][0]["Links"].as_array().unwrap();
    let row = |link: &Value| {
        (link["Name"].clone(), link["Type"].clone(), link["Size"].clone(), link["Target"].clone())
    };
    let rows: Vec<_> = links.iter().map(row).collect();
    let expected = [("a", 1, 0, ""), ("b", 2, 2, ""), ("l", 4, 0, "to"), ("r", 2, 1, "")]
        .map(|(name, kind, size, to)| (json!(name), json!(kind), json!(size), json!(to)));
    assert_eq!(rows, expected);
    let streamed = site.post(&format!("ls?arg={dir}&stream=true")).lines();
    assert_eq!(
        streamed.iter().map(|line| line["Objects"][0]["Links"][0].clone()).collect::<Vec<_>>(),
        *links
    );
    assert_eq!(streamed[0]["Objects"][0]["Hash"], dir);
    let file = site.add(b"x");
    assert_eq!(site.post(&format!("ls?arg={file}")).value()["Objects"][0]["Links"], json!([]));

    let entries = site.post(&format!("files/ls?arg=/ipfs/{dir}&long=true")).value();
    let names: Vec<_> = entries["Entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["Name"].clone(), e["Type"].clone()))
        .collect();
    assert_eq!(names.len(), 4);
    assert!(names.contains(&(json!("a"), json!(1))) && names.contains(&(json!("b"), json!(0))));
    let stat = site.post(&format!("files/stat?arg=/ipfs/{dir}")).value();
    assert_eq!(
        (&stat["Type"], &stat["Blocks"], &stat["Hash"]),
        (&json!("directory"), &json!(4), &json!(dir))
    );
    assert!(site.post("files/ls").value()["Entries"].as_array().unwrap().is_empty());

    let refs = |query: &str| -> Vec<String> {
        let lines = site.post(&format!("refs?arg={dir}{query}")).lines();
        lines
            .iter()
            .map(|line| format!("{}{}", line["Ref"].as_str().unwrap(), line["Err"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(refs("").len(), 4);
    assert_eq!(refs("&recursive=true").len(), 5);
    assert!(refs("&format=%3Clinkname%3E").contains(&"b".to_owned()));
    assert_eq!(refs("&recursive=true&max-depth=1").len(), 4);
    assert!(refs("&edges=true")[0].starts_with(&format!("{dir} -> Qm")));
    assert_eq!(site.post(&format!("refs?arg={dir}&edges=true&format=x")).status, 400);
    let path = site.post(&format!("resolve?arg=/ipfs/{dir}/a/x")).value();
    assert_eq!(path["Path"], format!("/ipfs/{}", site.add(b"x")));
}

#[test]
fn blocks_come_and_go_by_their_names() {
    let site = Site::new();
    let put = |query: &str| site.upload(query, &[("data", FILE, b"hello world")]).value();
    assert_eq!(put("block/put"), json!({ "Key": HELLO_V1, "Size": 11 }));
    assert!(put("block/put?cid-codec=dag-cbor")["Key"].as_str().unwrap().starts_with("bafyrei"));
    assert!(put("block/put?format=v0")["Key"].as_str().unwrap().starts_with("Qm"));
    assert!(put("block/put?mhtype=sha2-512")["Key"].as_str().unwrap().starts_with("bafkrgq"));
    assert_eq!(site.post(&format!("block/get?arg={HELLO_V1}")).body, "hello world");
    assert_eq!(
        site.post(&format!("block/stat?arg={HELLO_V1}")).value(),
        json!({ "Key": HELLO_V1, "Size": 11 })
    );
    let base = site.post(&format!("block/stat?arg={HELLO_V1}&cid-base=base16")).value();
    assert!(base["Key"].as_str().unwrap().starts_with("f01551220"));
    for wrong in
        ["mhlen=16", "allow-big-block=true", "cid-codec=x", "mhtype=md5", "format=v0&mhtype=sha2-512"]
    {
        site.upload(&format!("block/put?{wrong}"), &[("data", FILE, b"x")]).error(400);
    }
    let long = vec![0; (2 << 20) + 1];
    assert!(site.upload("block/put", &[("data", FILE, &long)]).error(400).contains("2097152"));

    let file = site.add(&Seeded::new(3).bytes(300_000));
    let leaf = site.post(&format!("refs?arg={file}")).lines()[0]["Ref"].as_str().unwrap().to_owned();
    let rm = |query: &str| site.post(&format!("block/rm?{query}")).lines();
    assert_eq!(rm(&format!("arg={leaf}"))[0]["Error"], format!("pinned via {file}"));
    assert_eq!(rm(&format!("arg={file}"))[0]["Error"], "pinned: recursive");
    assert_eq!(rm(&format!("arg={HELLO_V1}")), [json!({ "Hash": HELLO_V1 })]);
    assert!(rm(&format!("arg={HELLO_V1}"))[0]["Error"].as_str().unwrap().contains("not here"));
    assert_eq!(rm(&format!("arg={HELLO_V1}&force=true&quiet=true")), Vec::<Value>::new());
    let held = Block::raw(&b"held"[..]);
    let hold = site.store.hold();
    hold.put(&held).unwrap();
    assert_eq!(rm(&format!("arg={}", held.cid()))[0]["Error"], "in use");
    drop(hold);
    assert_eq!(rm(&format!("arg={}", held.cid())), [json!({ "Hash": held.cid().to_string() })]);
}

#[test]
fn values_and_their_dags_go_both_ways() {
    let site = Site::new();
    let leaf = site.upload("dag/put", &[("", FILE, b"{\"x\":[1,2,{\"y\":\"z\"}]}")]).value();
    let leaf = leaf["Cid"]["/"].as_str().unwrap();
    let node = format!("{{\"leaf\":{{\"/\":\"{leaf}\"}}}}");
    let root = site.upload("dag/put?pin=true", &[("", FILE, node.as_bytes())]).value()["Cid"]["/"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(root.starts_with("bafyrei"));
    let get = |path: &str| site.post(&format!("dag/get?arg={path}"));
    assert_eq!(get(&root).text(), node);
    assert_eq!(get(&format!("{root}/leaf/x/2/y")).text(), "\"z\"");
    assert_eq!(get(&format!("{root}/leaf/x&output-codec=dag-cbor")).body[0], 0x83);
    assert!(get(&format!("{root}/leaf/q")).error(500).contains("\"q\""));
    assert_eq!(get(&format!("{root}&output-codec=json")).status, 400);
    let resolved = site.post(&format!("dag/resolve?arg={root}/leaf/x/2")).value();
    assert_eq!(resolved, json!({ "Cid": { "/": leaf }, "RemPath": "/x/2" }));
    assert_eq!(site.upload("dag/put", &[("", FILE, b"{")]).status, 400);
    assert_eq!(site.upload("dag/put?store-codec=dag-pb", &[("", FILE, b"1")]).status, 400);

    let stat = site.post(&format!("dag/stat?arg={root}&arg={leaf}")).value();
    assert_eq!((&stat["UniqueBlocks"], &stat["DagStats"][0]["NumBlocks"]), (&json!(2), &json!(2)));
    assert_eq!(stat["SharedSize"], stat["DagStats"][1]["Size"]);

    let car = site.post(&format!("dag/export?arg={root}"));
    assert_eq!(car.headers["content-type"], "application/vnd.ipld.car");
    let blocks: Vec<Block> = CarReader::new(&car.body[..]).unwrap().map(Result::unwrap).collect();
    assert_eq!(blocks.iter().map(|block| block.cid().to_string()).collect::<Vec<_>>(), [root.as_str(), leaf]);
    let other = Site::new();
    let lines = other.upload("dag/import?stats=true", &[("", FILE, &car.body)]).lines();
    assert_eq!(lines[0], json!({ "Root": { "Cid": { "/": root }, "PinErrorMsg": "" } }));
    assert_eq!(lines[1]["Stats"]["BlockCount"], 2);
    assert!(other.gc().is_empty());
    // Without the leaf, the root cannot be pinned, which is said.
    let third = Site::new();
    let mut cut = lightstreams_store::CarWriter::new(Vec::new(), &[cid(&root)]).unwrap();
    cut.write(&blocks[0]).unwrap();
    let lines = third.upload("dag/import", &[("", FILE, &cut.finish().unwrap())]).lines();
    assert!(lines[0]["Root"]["PinErrorMsg"].as_str().unwrap().contains(leaf));
    assert!(
        third.upload("dag/import", &[("", FILE, &car.body[..car.body.len() - 1])]).error(500).contains("CAR")
    );
    assert!(third.upload("dag/import?local-only=true&pin-roots=true", &[("", FILE, b"")]).status == 400);
    assert_eq!(third.gc().len(), 2 - 1);
}

#[test]
fn pins_are_set_shown_and_removed() {
    let mut config = RpcConfig::default();
    config.reserved_pins = Some("node:".to_owned());
    let site = Site::with(config);
    let file = site.upload("add?pin=false", &[("f", FILE, &Seeded::new(4).bytes(300_000))]).value();
    let file = file["Hash"].as_str().unwrap();
    assert!(site.post(&format!("pin/ls?arg={file}")).error(500).contains("is not pinned"));
    assert_eq!(site.post(&format!("pin/add?arg={file}&recursive=false")).value(), json!({ "Pins": [file] }));
    assert_eq!(site.post("pin/ls").value()["Keys"][file]["Type"], "direct");
    site.post(&format!("pin/add?arg={file}&name=n")).value();
    assert_eq!(site.store.pins(None, 9), [Pin::recursive(cid(file), "n")], "one pin for a CID, as in Kubo");
    assert!(site.post(&format!("pin/add?arg={file}&recursive=false")).error(500).contains("already pinned"));
    let all = site.post("pin/ls?names=true").value();
    assert_eq!(all["Keys"][file], json!({ "Type": "recursive", "Name": "n" }));
    assert_eq!(all["Keys"].as_object().unwrap().len(), 3, "and two leaves");
    assert_eq!(
        site.post("pin/ls?type=recursive&stream=true").lines(),
        [json!({ "Cid": file, "Type": "recursive" })]
    );
    assert_eq!(site.post("pin/ls?name=other").value()["Keys"], json!({}));
    let leaf = site.post(&format!("refs?arg={file}")).lines()[0]["Ref"].as_str().unwrap().to_owned();
    let row = site.post(&format!("pin/ls?arg={leaf}")).value();
    assert_eq!(row["Keys"][&leaf]["Type"], format!("indirect through {file}"));
    assert_eq!(site.post("pin/ls?type=x").status, 400);
    assert!(site.post(&format!("pin/rm?arg={leaf}")).error(500).contains("not pinned"));
    assert!(site.post(&format!("pin/rm?arg={file}&recursive=false")).error(500).contains("recursively"));

    assert_eq!(site.post("pin/verify?verbose=true").lines(), [json!({ "Cid": file, "Ok": true })]);
    let other =
        site.upload("add?pin=false", &[("f", FILE, b"other")]).value()["Hash"].as_str().unwrap().to_owned();
    assert_eq!(
        site.post(&format!("pin/update?arg={file}&arg={other}")).value(),
        json!({ "Pins": [file, other] })
    );
    assert_eq!(site.store.pins(None, 9), [Pin::recursive(cid(&other), "n")]);
    assert!(site.post(&format!("pin/update?arg={file}&arg={other}")).error(500).contains("not recursively"));
    site.post(&format!("pin/rm?arg={other}")).value();
    assert!(site.store.pins(None, 9).is_empty());

    // What the node pins for itself stays.
    let own = Pin::recursive(cid(file), "node:1");
    site.store.pin(&own).unwrap();
    assert!(site.post(&format!("pin/add?arg={file}&name=node:2")).error(400).contains("itself"));
    site.post(&format!("pin/add?arg={file}")).value();
    site.post(&format!("pin/rm?arg={file}")).value();
    assert_eq!(site.store.pins(None, 9), [own]);
    assert!(site.post(&format!("pin/rm?arg={file}")).error(500).contains("not pinned"));
    assert!(site.upload("add?pin-name=node:3", &[("f", FILE, b"x")]).status == 400);
    assert!(site.upload("add?pin-name=x&pin=false", &[("f", FILE, b"x")]).status == 400);
    assert!(site.post(&format!("pin/add?arg={HELLO_V0}")).error(500).contains(HELLO_V0));

    site.store.remove_many(&[cid(&leaf)]).unwrap();
    let broken = site.post("pin/verify").lines();
    assert_eq!(broken[0]["BadNodes"][0]["Cid"], leaf);
    let verified = site.ask("POST", "repo/verify", &[("te", "trailers")], Body::empty());
    assert!(verified.text().contains(&leaf), "{}", verified.text());
}

#[test]
fn collection_takes_what_no_pin_holds_and_nothing_that_is_being_added() {
    let site = Site::new();
    let kept = site.add(&Seeded::new(5).bytes(600_000));
    site.upload("add?pin=false", &[("f", FILE, b"loose")]).value();
    assert_eq!(site.post("repo/stat").value()["NumObjects"], 5);
    assert_eq!(site.post("refs/local").lines().len(), 5);
    let removed = site.gc();
    assert_eq!(removed.len(), 1);
    assert!(site.gc().is_empty());
    assert_eq!(site.post(&format!("cat?arg={kept}")).body.len(), 600_000);
    assert_eq!(site.post("repo/verify").lines().last().unwrap()["Progress"], 4);
    assert_eq!(site.post("repo/verify?drop=true").status, 400);

    // An add whose body stops in the middle: what it wrote stays as long as it goes on, and is swept when it was broken off.
    let bytes = Seeded::new(6).bytes(20 << 20);
    let body = form(&[("f", FILE, &bytes)]);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let (first, rest) = body.split_at(18 << 20);
    let (to, from) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let chunks =
        futures::stream::unfold(from, |mut from| async { from.recv().await.map(|chunk| (chunk, from)) });
    let request =
        Request::post("/api/v0/add").header("content-type", kind).body(Body::from_stream(chunks)).unwrap();
    let adding = site.runtime.spawn(site.rpc.router().oneshot(request));
    site.runtime.block_on(to.send(Ok(Bytes::copy_from_slice(first)))).unwrap();
    let begin = Instant::now();
    while site.store.cids(None, 99).unwrap().len() < 10 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(site.gc().is_empty(), "a running add holds what it wrote");
    site.runtime.block_on(to.send(Ok(Bytes::copy_from_slice(rest)))).unwrap();
    drop(to);
    let added = site.runtime.block_on(adding).unwrap().unwrap();
    let line = site.runtime.block_on(added.into_body().collect()).unwrap().to_bytes();
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert!(site.gc().is_empty());
    assert_eq!(site.post(&format!("cat?arg={}", line["Hash"].as_str().unwrap())).body, bytes);
}

#[test]
fn sweeps_beside_adds_take_nothing_that_was_added() {
    let site = Site::new();
    std::thread::scope(|scope| {
        let adds: Vec<_> = (0..2)
            .map(|i| {
                let site = &site;
                scope.spawn(move || {
                    let one = |n: u64| site.add(&Seeded::new(n % 7 + 10 * i).bytes(300_000));
                    (0..25).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        while !adds.iter().all(|add| add.is_finished()) {
            site.upload("add?pin=false", &[("f", FILE, b"loose")]);
            site.gc();
        }
        for add in adds {
            for hash in add.join().unwrap() {
                assert_eq!(site.post(&format!("cat?arg={hash}")).body.len(), 300_000);
            }
        }
    });
    assert_eq!(site.post("pin/verify").lines(), Vec::<Value>::new());
}

#[test]
fn pages_of_foreign_origins_and_clients_without_a_secret_are_kept_out() {
    let mut config = RpcConfig::default();
    config.origins = vec!["http://good:3000".to_owned()];
    let site = Site::with(config);
    let status =
        |method: &str, headers: &[(&str, &str)]| site.ask(method, "version", headers, Body::empty()).status;
    assert_eq!(status("POST", &[]), 200);
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        assert_eq!(status(method, &[]), 405, "{method}");
    }
    for headers in [
        &[("origin", "http://evil")][..],
        &[("origin", "null")],
        &[("referer", "http://evil/x")],
        &[("referer", "nonsense")],
        &[("origin", "http://good:3000"), ("referer", "http://evil/x")],
        &[("user-agent", "Mozilla/5.0 (X11)")],
    ] {
        assert_eq!(status("POST", headers), 403, "{headers:?}");
    }
    for headers in [
        &[("origin", "http://good:3000"), ("user-agent", "Mozilla/5.0")][..],
        &[("referer", "http://good:3000/page?x")],
        &[("user-agent", "Mozilla/5.0 Electron/30")],
        &[("user-agent", "curl/8")],
    ] {
        assert_eq!(status("POST", headers), 200, "{headers:?}");
    }
    let flight = site.ask("OPTIONS", "version", &[("origin", "http://good:3000")], Body::empty());
    assert_eq!(
        (flight.status.as_u16(), &flight.headers["access-control-allow-origin"]),
        (204, &"http://good:3000".parse().unwrap())
    );
    let flight = site.ask("OPTIONS", "version", &[("origin", "http://evil")], Body::empty());
    assert!(!flight.headers.contains_key("access-control-allow-origin"));

    let mut config = RpcConfig::default();
    config.authorizations.push(Authorization::Bearer("secret".to_owned()));
    config.authorizations.push(Authorization::Basic { user: "u".to_owned(), password: "p".to_owned() });
    let closed = Site::with(config);
    for (value, expected) in [
        ("Bearer secret", 200),
        ("Basic dTpw", 200),
        ("Bearer secreT", 403),
        ("Basic dTpx", 403),
        ("secret", 403),
        ("", 403),
    ] {
        let answer = closed.ask("POST", "version", &[("authorization", value)], Body::empty());
        assert_eq!(answer.status, expected, "{value}");
    }
    assert!(!format!("{:?}", closed.rpc).contains("secret"));
}

#[test]
fn wrong_requests_are_refused() {
    let mut config = RpcConfig::default();
    config.entries_max = 300;
    config.body_bytes_max = 1 << 20;
    let site = Site::with(config);
    assert_eq!(site.post("no/such").status, 404);
    assert_eq!(site.post("files/chmod?arg=/x").status, 404);
    site.post("cat").error(400);
    site.post("id?arg=a&arg=b").error(400);
    site.post("version?enc=text").error(400);
    site.post("pin/ls?stream=perhaps").error(400);
    site.post("ls?arg=x&arg=y&stream=1&stream=0").error(400);
    site.post("version?timeout=soon").error(400);
    assert!(site.post("cat?arg=nonsense").error(500).contains("invalid path"));
    assert!(
        site.post("cat?arg=/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8")
            .error(500)
            .contains("no record")
    );
    site.post("add").error(400);
    for (name, value) in [
        ("nocopy", "true"),
        ("to-files", "/x"),
        ("hash", "md5"),
        ("chunker", "size-0"),
        ("cid-version", "2"),
        ("cid-version", "0&hash=sha2-512"),
        ("max-hamt-fanout", "9"),
        ("pin", "maybe"),
    ] {
        site.upload(&format!("add?{name}={value}"), &[("f", FILE, b"x")]).error(400);
    }
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    for body in ["", "--x-7--", "--x-7\r\n\r\n", "--x-7\r\nno header\r\n\r\nx\r\n--x-7--"] {
        let answer = site.ask("POST", "add", &[("content-type", &kind)], Body::from(body));
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
    }
    site.ask("POST", "add", &[("content-type", "text/plain")], Body::from("x")).error(400);
    let deep = vec!["d"; 257].join("/");
    assert!(site.upload("add", &[(&deep, FILE, b"x")]).error(400).contains("deeper"));
    assert!(site.upload("add", &[(&"n".repeat(1025), FILE, b"x")]).error(400).contains("longer"));
    let many: Vec<String> = (0..301).map(|i| format!("d/{i}")).collect();
    let many: Vec<Part<'_>> = many.iter().map(|name| (name.as_str(), FILE, &b""[..])).collect();
    assert!(site.upload("add", &many).error(400).contains("entries"));
    assert!(site.upload("add", &[("d/f", FILE, b"x"), ("d/f/g", FILE, b"x")]).error(400).contains("\"f\""));
    assert!(site.upload("add", &[("d/f", FILE, b"x"), ("d/f", FILE, b"x")]).error(400).contains("two"));
    assert!(site.upload("add", &[("l", LINK, &[b'x'; 4097])]).error(400).contains("target"));
    let long = vec![0; 1 << 20];
    assert!(site.upload("add", &[("f", FILE, &long)]).error(500).contains("longer than allowed"));
    assert!(site.store.pins(None, 1).is_empty());
}

#[test]
fn time_and_turns_are_bounded() {
    let mut config = RpcConfig::default();
    config.requests_max = 1;
    config.patience = Duration::from_millis(200);
    let site = Site::with(config.clone());
    let endless = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let slow = site.ask("POST", "add", &[("content-type", &kind)], endless());
    assert!(slow.error(500).contains("deadline"));

    // What the request allows itself is less than the day that the node would give it.
    config.patience = Duration::from_secs(86_400);
    let site = Site::with(config);
    let late = site.ask("POST", "add?timeout=20ms", &[("content-type", &kind)], endless());
    assert!(late.error(500).contains("context deadline exceeded"));

    let (gone, leaves) = tokio::sync::oneshot::channel::<()>();
    let client = futures::stream::once(async {
        let _ = leaves.await;
        Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    });
    let request = Request::post("/api/v0/add").header("content-type", &kind);
    let request = request.body(Body::from_stream(client)).unwrap();
    let first = site.runtime.spawn(site.rpc.router().oneshot(request));
    let begin = Instant::now();
    let second = loop {
        let answer = site.post("version?timeout=20ms");
        if answer.status != 200 {
            break answer;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "the first never had its turn");
    };
    assert_eq!((second.status.as_u16(), &second.headers["retry-after"]), (429, &"5".parse().unwrap()));
    drop(gone);
    assert_eq!(site.runtime.block_on(first).unwrap().unwrap().status(), 500);
    assert_eq!(site.post("version").status, 200);
}

#[test]
fn an_answer_that_fails_in_the_middle_says_so() {
    let site = Site::new();
    let file = site.add(&Seeded::new(8).bytes(3 << 20));
    let leaves = site.post(&format!("refs?arg={file}")).lines();
    site.store.remove_many(&[cid(leaves.last().unwrap()["Ref"].as_str().unwrap())]).unwrap();
    let ask = |headers: &[(&str, &str)]| {
        let mut request = Request::post(format!("/api/v0/cat?arg={file}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = site.runtime.block_on(site.rpc.router().oneshot(request)).unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["trailer"]),
            (200, &"X-Stream-Error".parse().unwrap())
        );
        site.runtime.block_on(response.into_body().collect())
    };
    assert!(ask(&[]).is_err(), "a part is not taken for the whole");
    let told = ask(&[("te", "trailers")]).unwrap();
    assert!(told.trailers().unwrap()["x-stream-error"].to_str().unwrap().contains("Qm"));
    assert!(told.to_bytes().len() < 3 << 20);
}

#[test]
fn a_node_tells_of_itself() {
    struct Node;
    impl NodeInfo for Node {
        fn identity(&self) -> Option<NodeIdentity> {
            let mut identity = NodeIdentity::new("12D3KooW");
            identity.agent = "a/1".to_owned();
            identity.addresses.push("/ip4/127.0.0.1/tcp/1/p2p/12D3KooW".to_owned());
            Some(identity)
        }
        fn peers(&self) -> Vec<NodePeer> {
            vec![NodePeer { id: "Qm".to_owned(), address: "/ip4/1.2.3.4/tcp/1".to_owned() }]
        }
    }
    let mut site = Site::new();
    assert!(site.post("id").error(500).contains("no identity"));
    assert_eq!(site.post("swarm/peers").value(), json!({ "Peers": [] }));
    site.rpc = site.rpc.clone().with_node(Arc::new(Node));
    let id = site.post("id").value();
    assert_eq!((&id["ID"], &id["AgentVersion"]), (&json!("12D3KooW"), &json!("a/1")));
    assert_eq!(site.post("id?arg=12D3KooX").status, 500);
    assert_eq!(site.post("swarm/peers").value()["Peers"][0]["Peer"], "Qm");
    assert_eq!(site.post("version").value()["Version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_removal_is_refused_while_a_sweep_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = pinned(&folder);
    store.put(&Block::raw(&b"x"[..])).unwrap();
    (0..5000u32).for_each(|i| store.put(&Block::raw(i.to_le_bytes().to_vec())).unwrap());
    let mut refused = 0;
    let start = Instant::now();
    let swept = store.sweep(&|| start.elapsed(), &mut |_| {
        refused += usize::from(store.remove(&[*Block::raw(&b"x"[..]).cid()]).is_err());
        ControlFlow::Continue(())
    });
    assert!(refused > 0 && swept.unwrap().removed == 5001);
}
