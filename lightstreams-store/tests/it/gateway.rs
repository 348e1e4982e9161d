//! What a client of the gateway gets, and what it does not. (Kubo's own answers are held against ours by the suite `kubo-gateway`.)

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
    response::Response,
};
use http_body_util::BodyExt;
use lightstreams_store::{
    AllowAll, Block, BlockStore, Bytes, Cid, Codec, DAG_CBOR, FileBuilder, FixedChunker, Gate, ImportOptions,
    Input, Ipld, IpnsEntry, IpnsName, IpnsRecord, MemoryStore, Requester, ServePolicy, StoreError,
    gateway::{Gateway, GatewayConfig, IpnsRecords},
    testing::Seeded,
};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tower::ServiceExt;

const SECRET: [u8; 32] = [7; 32];

struct Site {
    store: Arc<MemoryStore>,
    gateway: Gateway,
    runtime: Runtime,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Site {
    fn new() -> Self {
        Self::with(GatewayConfig::default(), Arc::new(AllowAll))
    }

    fn with(config: GatewayConfig, policy: Arc<dyn ServePolicy>) -> Self {
        let store = Arc::new(MemoryStore::default());
        let gateway = Gateway::new(Gate::new(store.clone(), policy), config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { store, gateway, runtime }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        self.runtime.block_on(self.gateway.router().oneshot(request)).unwrap()
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let response = self.send(method, path, headers);
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.runtime.block_on(to_bytes(response.into_body(), usize::MAX)).unwrap();
        Answer { status, headers, body }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// A file in pieces of 1,000 bytes.
    fn file(&self, len: usize) -> (Cid, Vec<u8>) {
        let bytes = Seeded::new(len as u64).bytes(len);
        let builder = FileBuilder::new(FixedChunker::new(1000).unwrap());
        (builder.import(&mut &bytes[..], &*self.store, &mut |_| ()).unwrap().cid, bytes)
    }

    fn tree(&self, entries: &[(&str, &str)]) -> Cid {
        let inputs = entries.iter().map(|(name, text)| ((*name).to_owned(), Input::reader(text.as_bytes())));
        let mut options = ImportOptions::unixfs_v1_2025();
        options.hidden = true;
        options.import(Input::directory(inputs), &*self.store, &mut |_| ()).unwrap().cid
    }
}

#[test]
fn ranges_give_exactly_what_they_name() {
    let site = Site::new();
    let (cid, bytes) = site.file(10_500);
    let path = format!("/ipfs/{cid}");
    let range = |range: &str| site.ask("GET", &path, &[("range", range)]);
    for (asked, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=999-1000", 999, 1000),
        ("bytes=10499-", 10_499, 10_499),
        ("bytes=5000-99999999999999999999999", 5000, 10_499),
        ("bytes=-1", 10_499, 10_499),
        ("bytes= -2000 ", 8500, 10_499),
        // A suffix longer than the file is all of it (RFC 9110, section 14.1.2).
        ("bytes=-20000", 0, 10_499),
        ("bytes=20000-,7-8", 7, 8),
    ] {
        let answer = range(asked);
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{asked}");
        assert_eq!(answer.header("content-range"), format!("bytes {from}-{to}/10500"), "{asked}");
        assert_eq!(answer.header("content-length"), (to - from + 1).to_string(), "{asked}");
        assert_eq!(answer.body, bytes[from..=to], "{asked}");
    }
    for asked in ["bytes=10500-", "bytes=-0", "bytes=20000-30000,10500-"] {
        let answer = range(asked);
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE, "{asked}");
        assert_eq!(answer.header("content-range"), "bytes */10500");
    }
    for asked in ["bytes=", "bytes=,", "bytes=x-1", "bytes=+1-2", "bytes=1", "bytes=2-1", "lines=0-1"] {
        assert_eq!(range(asked).status, StatusCode::BAD_REQUEST, "{asked}");
    }
    let many = format!("bytes={}", vec!["1-2"; 17].join(","));
    assert_eq!((range(&many).status, range(&many).body), (StatusCode::OK, bytes.clone().into()));

    let answer = range("bytes=0-1,1500-1501,-1");
    let boundary = answer.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (from, to) in [(0, 1), (1500, 1501), (10_499, 10_499)] {
        let head = format!(
            "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {from}-{to}/10500\r\n\r\n"
        );
        expected.extend(head.into_bytes());
        expected.extend(&bytes[from..=to]);
        expected.extend(b"\r\n");
    }
    expected.extend(format!("--{boundary}--\r\n").into_bytes());
    assert_eq!(answer.body, expected);
    assert_eq!(answer.header("content-length"), expected.len().to_string());

    // A range is of the entity that the client has, or there is none.
    for (tag, status) in
        [(format!("\"{cid}\""), 206), (format!("W/\"{cid}\""), 200), ("\"x\"".to_owned(), 200)]
    {
        let answer = site.ask("GET", &path, &[("range", "bytes=100-199"), ("if-range", &tag)]);
        assert_eq!(answer.status.as_u16(), status, "{tag}");
        assert_eq!(answer.body, if status == 200 { &bytes[..] } else { &bytes[100..200] });
    }
    let head = site.ask("HEAD", &path, &[("range", "bytes=10-19")]);
    assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (206, "10", 0));
}

/// Denies what is in the set.
#[derive(Default)]
struct Except(Mutex<BTreeSet<Cid>>);

impl ServePolicy for Except {
    fn allows(&self, requester: &Requester, cid: &Cid) -> bool {
        assert_eq!(*requester, Requester::Http { account: None });
        !self.0.lock().unwrap().contains(cid)
    }
}

#[test]
fn what_is_denied_looks_like_what_is_not_here() {
    let policy = Arc::new(Except::default());
    let site = Site::with(GatewayConfig::default(), policy.clone());
    let block = Block::raw(&b"secret"[..]);
    let forms = |cid: &Cid| {
        let queries =
            ["", "?format=raw", "?format=car", "?format=tar", "?format=dag-json", "?format=json", "/x"];
        let mut answers: Vec<(StatusCode, HeaderMap, Bytes)> = Vec::new();
        for query in queries {
            for (method, cached) in [("GET", ""), ("HEAD", ""), ("GET", "only-if-cached")] {
                let path = format!("/ipfs/{cid}{query}");
                let answer = site.ask(method, &path, &[("cache-control", cached)]);
                assert!(!answer.status.is_success() || method == "HEAD", "{path}: {}", answer.status);
                answers.push((answer.status, answer.headers, answer.body));
            }
        }
        answers
    };
    let absent = forms(block.cid());
    site.store.put(&block).unwrap();
    assert_eq!(site.get(&format!("/ipfs/{}", block.cid())).body, "secret");
    policy.0.lock().unwrap().insert(*block.cid());
    assert_eq!(forms(block.cid()), absent);

    // And below a root that is allowed.
    let root = site.tree(&[("open", "all may read this"), ("shut", "secret")]);
    assert_eq!(site.get(&format!("/ipfs/{root}/open")).status, StatusCode::OK);
    assert_eq!(site.get(&format!("/ipfs/{root}/shut")).status, StatusCode::NOT_FOUND);
    assert_eq!(site.get(&format!("/ipfs/{root}?format=car")).status, StatusCode::NOT_FOUND);
}

#[test]
fn an_answer_that_cannot_be_completed_is_no_answer() {
    let site = Site::new();
    let (cid, bytes) = site.file(3_000_000);
    let leaf = |i: usize| *Block::raw(bytes[i * 1000..(i + 1) * 1000].to_vec()).cid();
    for query in ["", "?format=car", "?format=tar"] {
        let path = format!("/ipfs/{cid}{query}");
        assert_eq!(site.get(&path).status, StatusCode::OK);
        site.store.remove_many(&[leaf(2500)]).unwrap();
        let response = site.send("GET", &path, &[]);
        assert_eq!(response.status(), StatusCode::OK);
        let body = site.runtime.block_on(response.into_body().collect());
        assert!(body.is_err(), "{query}: a part must not look like the whole");
        // Early enough, it is said by the status.
        site.store.remove_many(&[leaf(3)]).unwrap();
        assert_eq!(site.get(&path).status, StatusCode::NOT_FOUND, "{query}");
        for i in [3, 2500] {
            site.store.put(&Block::raw(bytes[i * 1000..(i + 1) * 1000].to_vec())).unwrap();
        }
    }
    // What lies beside the gap is served.
    site.store.remove_many(&[leaf(0), leaf(2500)]).unwrap();
    let range = site.ask("GET", &format!("/ipfs/{cid}"), &[("range", "bytes=2499990-2499999")]);
    assert_eq!((range.status.as_u16(), &range.body[..]), (206, &bytes[2_499_990..2_500_000]));
}

#[test]
fn a_listing_is_text_whatever_the_names() {
    let site = Site::new();
    let evil = "<script>alert('1')<script> & \"more\"";
    let root = site.tree(&[(evil, "x"), ("é ü%2F", "y"), ("plain.txt", "z")]);
    let page = site.get(&format!("/ipfs/{root}/"));
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").starts_with("sandbox"));
    let text = page.text();
    assert!(!text.contains("<script>"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;script&gt; &amp; &#34;more&#34;"));
    assert!(text.contains(&format!("href=\"/ipfs/{root}/%C3%A9%20%C3%BC%252F\"")), "{text}");
    // Each link leads to its entry.
    for link in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let found = site.get(link).status;
        assert!(found == StatusCode::OK || found == StatusCode::MOVED_PERMANENTLY, "{link}: {found}");
    }
    assert!(!text.contains(">..<"), "a root has nothing above it");
    let config = {
        let mut config = GatewayConfig::default();
        config.listing_max = 2;
        config
    };
    let short = Gateway::new(Gate::new(site.store.clone(), Arc::new(AllowAll)), config);
    let short = Site { gateway: short, ..site };
    assert!(short.get(&format!("/ipfs/{root}/")).text().contains("more than these 2 entries"));
}

#[test]
fn types_follow_names_then_bytes() {
    let site = Site::new();
    let root = site.tree(&[
        ("a.html", "<p>"),
        ("b.svg", "<svg/>"),
        ("page", "<!DOCTYPE html><script>1</script>"),
        ("data", "{\"a\": [1, 2]}\n"),
        ("words", "just words"),
        (".css", "words"),
        ("zero", "\0\0"),
        ("image", "\u{89}not really"),
    ]);
    for (name, expected) in [
        ("a.html", "text/html; charset=utf-8"),
        ("b.svg", "image/svg+xml"),
        ("page", "text/plain; charset=utf-8"),
        ("data", "application/json"),
        ("words", "text/plain; charset=utf-8"),
        (".css", "text/plain; charset=utf-8"),
        ("zero", "application/octet-stream"),
        ("words?filename=x.css", "text/css; charset=utf-8"),
    ] {
        let answer = site.get(&format!("/ipfs/{root}/{name}"));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::OK, expected),
            "{name}: {:?}",
            answer.body
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("content-security-policy"), "sandbox", "{name}");
    }
    let answer = site.get(&format!("/ipfs/{root}/words?filename=%22%0d%0aX%3A%20%C3%A9.txt&download=true"));
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"%22%0D%0AX%3A%20_.txt\"; filename*=UTF-8''%22%0D%0AX%3A%20%C3%A9.txt"
    );
}

#[derive(Default)]
struct Records(Mutex<HashMap<IpnsName, Bytes>>);

impl IpnsRecords for Records {
    fn record(&self, name: &IpnsName) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }
}

#[test]
fn names_lead_where_their_keys_say() {
    let records = Arc::new(Records::default());
    let mut site = Site::new();
    site.gateway = site.gateway.with_names(records.clone());
    let root = site.tree(&[("file", "found")]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let publish = |secret: &[u8; 32], value: String, validity: Duration| {
        let entry = IpnsEntry { value: value.into(), sequence: 1, validity, ttl: Duration::from_secs(1800) };
        let record = IpnsRecord::create(secret, entry, true).unwrap();
        records.0.lock().unwrap().insert(*record.name(), record.bytes().clone());
        *record.name()
    };
    let hour = Duration::from_secs(3600);
    let name = publish(&SECRET, format!("/ipfs/{root}"), now + hour);
    let answer = site.get(&format!("/ipns/{name}/file"));
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "found"));
    assert_eq!(answer.header("cache-control"), "public, max-age=1800");
    assert!(answer.header("x-ipfs-roots").starts_with(&root.to_string()));
    let record = site.get(&format!("/ipns/{name}?format=ipns-record"));
    assert_eq!(record.header("content-type"), "application/vnd.ipfs.ipns-record");
    assert_eq!(Some(&record.body), records.0.lock().unwrap().get(&name));

    // One name has one URL.
    let peer = lightstreams_store::multibase::Base::Base58Btc.encode(name.to_peer_id());
    let moved = site.get(&format!("/ipns/{peer}/file?a=b"));
    assert_eq!((moved.status.as_u16(), moved.header("location")), (302, &*format!("/ipns/{name}/file?a=b")));

    // A name of a name, with a path in between; and a circle.
    let second = publish(&[8; 32], format!("/ipns/{name}/file"), now + hour);
    assert_eq!(site.get(&format!("/ipns/{second}")).text(), "found");
    publish(&SECRET, format!("/ipns/{second}"), now + hour);
    assert_eq!(site.get(&format!("/ipns/{second}")).status, StatusCode::BAD_GATEWAY);

    // Nothing that is expired, of another key, or unknown is believed.
    publish(&SECRET, format!("/ipfs/{root}"), now - Duration::from_secs(1));
    assert_eq!(site.get(&format!("/ipns/{name}/file")).status, StatusCode::BAD_GATEWAY);
    let foreign = records.0.lock().unwrap()[&second].clone();
    records.0.lock().unwrap().insert(name, foreign);
    assert_eq!(site.get(&format!("/ipns/{name}?format=ipns-record")).status, StatusCode::BAD_GATEWAY);
    let unknown = IpnsName::from_ed25519(&[1; 32]);
    assert_eq!(site.get(&format!("/ipns/{unknown}")).status, StatusCode::BAD_GATEWAY);
    assert_eq!(site.get("/ipns/example.com/").status, StatusCode::BAD_GATEWAY);
}

#[test]
fn values_are_blocks_and_pages() {
    let site = Site::new();
    let value = Ipld::Map([("<b>".to_owned(), Ipld::Integer(1))].into());
    let block = Block::new(DAG_CBOR, Codec::DagCbor.encode(&value).unwrap());
    site.store.put(&block).unwrap();
    let path = format!("/ipfs/{}", block.cid());
    assert_eq!(site.get(&path).body, *block.data());
    assert_eq!(site.get(&format!("{path}?format=cbor")).header("content-type"), "application/cbor");
    assert_eq!(site.get(&format!("{path}?format=dag-json")).status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(site.get(&format!("{path}/%3Cb%3E")).status, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(site.get(&format!("{path}/c")).status, StatusCode::NOT_FOUND);
    let page = site.ask("GET", &format!("{path}/"), &[("accept", "text/html,*/*;q=0.8")]);
    assert!(page.header("etag").contains("DagIndex-"));
    assert!(page.text().contains("{&#34;&lt;b&gt;&#34;:1}"), "{}", page.text());
}

#[test]
fn a_client_that_does_not_read_gives_its_turn_to_the_next() {
    let mut config = GatewayConfig::default();
    config.requests_max = 1;
    config.patience = Duration::from_millis(300);
    let site = Site::with(config, Arc::new(AllowAll));
    let (cid, bytes) = site.file(3_000_000);
    let path = format!("/ipfs/{cid}");
    let stuck = site.send("GET", &path, &[]);
    assert_eq!(stuck.status(), StatusCode::OK);
    // Its turn ends when it has not taken anything for as long as the next one waits.
    let next = (0..20).map(|_| site.ask("GET", &path, &[])).find(|answer| answer.status == StatusCode::OK);
    assert_eq!(next.unwrap().body, bytes);
    assert!(site.runtime.block_on(stuck.into_body().collect()).is_err(), "what was broken off is not whole");
}

proptest! {
    #[test]
    fn any_request_is_answered(
        path in "/ip[fn]s/[a-zA-Z0-9%/._-]{0,80}",
        query in "[a-z=&%0-9:*-]{0,60}",
        accept in "[a-z/.;=, *-]{0,60}",
        range in "bytes=[0-9,-]{0,20}",
    ) {
        let site = Site::new();
        let root = site.tree(&[("a", "x")]);
        for path in [path, format!("/ipfs/{root}/a")] {
            let Ok(uri) = format!("{path}?{query}").parse::<axum::http::Uri>() else { continue };
            let answer = site.ask("GET", &uri.to_string(), &[("accept", &accept), ("range", &range)]);
            prop_assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
