//! The private API bounds what it takes and says what is wrong with it.

use crate::support::{Home, Reply, blocks, car, exchange};
use lightstreams_node::config::Config;
use lightstreams_store::Block;
use serde_json::json;
use std::net::TcpStream;

#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) {
    let answer = reply.json();
    assert_eq!((reply.status, answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    assert!(!answer["error"]["message"].as_str().unwrap().contains('\n'));
}

#[test]
fn blocks_that_were_put_are_there_and_hostile_streams_are_refused() {
    let home = Home::new().with_authority().found(1000);
    let node = home.start();
    let put =
        |body: &[u8]| node.put("/v1/blocks?origin=published", "application/vnd.ipld.car", body).unwrap();

    let some = blocks(40, 100_000);
    let stored = put(&car(&some)).json();
    assert_eq!((stored["blocks"].as_u64(), stored["bytes"].as_u64()), (Some(40), Some(4_000_000)));
    let cids: Vec<_> = some.iter().map(|block| *block.cid()).collect();
    let held = node.held(&cids);
    assert_eq!(held.len(), 40);
    assert!(held.iter().zip(&some).all(|(held, put)| held == put));

    let whole = car(&blocks(3, 1000));
    let mut wrong = whole.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let mut huge = whole.clone();
    huge.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x7f]);
    for body in [&b""[..], b"\x00", b"{}", &whole[..whole.len() - 1], &wrong, &huge, &[0xff; 64]] {
        refused(&put(body), 400, "bad_car");
    }
    refused(&node.put("/v1/blocks?origin=stolen", "", &whole).unwrap(), 400, "bad_request");
    let absent = Block::raw(b"never put".to_vec());
    assert!(node.held(&[*absent.cid()]).is_empty());
    node.stop();
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let home = Home::new().with_authority().found(1000);
    let node = home.start();
    let zero = format!("0x{}", "00".repeat(32));
    let payload = |s: u64, k: u8, offset: u64| {
        let p = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
        json!({ "content": zero, "payload": { "p": p, "s": s, "k": k, "offset": offset } })
    };
    for (path, body, status, code) in [
        ("/v1/nothing", json!({}), 404, "no_route"),
        ("/v1/contents", json!({}), 400, "bad_request"),
        ("/v1/contents", json!({ "uri": "x", "manifest": "y", "origin": "published" }), 400, "bad_uri"),
        ("/v1/custodian", json!({ "account": format!("0x{}", "22".repeat(20)) }), 403, "not_operator"),
        ("/v1/delegation", json!({ "message": "0xa0" }), 403, "malformed"),
        ("/v1/delegation", json!({ "message": format!("0x{}", "00".repeat(5000)) }), 400, "bad_request"),
        ("/v1/release", json!({ "holder": zero, "endpoints": [], "request": "0x" }), 502, "no_endpoint"),
        ("/v1/fetch", json!({ "content": zero }), 400, "bad_request"),
        ("/v1/fetch", json!({ "content": zero, "cids": ["x"] }), 400, "bad_request"),
        ("/v1/fetch", json!({ "content": zero, "cids": [], "surprise": 1 }), 400, "bad_request"),
        ("/v1/fetch", payload(10, 2, 0), 400, "bad_request"),
        ("/v1/fetch", payload(u64::MAX, 4, 0), 400, "bad_request"),
        ("/v1/fetch", payload(10, 4, 10), 400, "bad_request"),
        ("/v1/fetch", payload(10, 4, 0), 404, "blocks_missing"),
        ("/v1/peers", json!({ "addr": "nowhere" }), 400, "bad_address"),
        ("/v1/peers", json!({ "addr": "/ip4/127.0.0.1/tcp/1" }), 502, "peer_unreachable"),
        ("/v1/contents", json!({ "pad": "x".repeat(2 << 20) }), 400, "bad_request"),
    ] {
        refused(&node.post(path, &body), status, code);
    }
    refused(&node.try_get(&format!("/v1/kept/{zero}/1")).unwrap(), 404, "not_kept");
    // A key request that is none is answered by a signed refusal, not by an error.
    let own = node.status()["holder"].clone();
    let answer = node.post("/v1/release", &json!({ "holder": own, "endpoints": [], "request": "0xa0" }));
    assert_eq!(answer.status, 200);
    assert!(answer.json()["answer"].as_str().unwrap().starts_with("0x82"));
    node.stop();
}

#[test]
fn the_api_over_tcp_wants_the_token() {
    let home = Home::new().with_authority().found(1000);
    let config = Config::load(&home.dir()).unwrap();
    Config { private: "127.0.0.1:0".parse().ok(), ..config }.save(&home.dir()).unwrap();
    let node = home.start();
    let address = node.status()["private"].as_str().unwrap().to_owned();
    let token = std::fs::read_to_string(home.dir().token()).unwrap();
    let ask = |extra: &str| {
        exchange(TcpStream::connect(&address).unwrap(), "GET", "/v1/status", "", extra, &[]).unwrap().status
    };
    assert_eq!(ask(&format!("authorization: Bearer {}\r\n", token.trim())), 200);
    assert_eq!(ask(""), 401);
    assert_eq!(ask("authorization: Bearer \r\n"), 401);
    assert_eq!(ask(&format!("authorization: Bearer {}0\r\n", token.trim())), 401);
    node.stop();
}

#[test]
fn the_gateway_gives_away_what_everybody_may_read_and_nothing_else() {
    let home = Home::new().with_authority().found(100);
    let config = Config::load(&home.dir()).unwrap();
    Config { gateway: "127.0.0.1:0".parse().ok(), ..config }.save(&home.dir()).unwrap();
    let node = home.start();
    let address = node.status()["gateway"].as_str().unwrap().to_owned();
    let get = |path: &str| exchange(TcpStream::connect(&address).unwrap(), "GET", path, "", "", &[]).unwrap();
    let file = home.dir().root().join("film");
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    let recipient = node.status()["recipient"].as_str().unwrap().to_owned();
    let published = home
        .verb(&["--json", "--yes", "publish", "--recovery", &recipient, file.to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let published: serde_json::Value = serde_json::from_slice(&published.stdout).unwrap();
    let manifest = published["manifest"].as_str().unwrap();
    assert_eq!(get(&format!("/ipfs/{manifest}?format=raw")).status, 200, "{published}");
    for private in ["payload", "header", "readable"] {
        let cid = published[private].as_str().unwrap();
        for form in ["", "?format=raw", "?format=car"] {
            assert_eq!(get(&format!("/ipfs/{cid}{form}")).status, 404, "{private}{form}");
        }
    }
    assert_eq!(get("/v1/status").status, 404, "the private API is on another port");
    node.stop();
}

#[test]
fn commands_of_kubo_add_and_collect_and_no_content_is_lost_by_it() {
    let home = Home::new().with_authority().found(100);
    let config = Config::load(&home.dir()).unwrap();
    Config { kubo: "127.0.0.1:0".parse().ok(), ..config }.save(&home.dir()).unwrap();
    let mut node = home.start();
    let file = home.dir().root().join("film");
    std::fs::write(&file, vec![7; 3_000_000]).unwrap();
    let recipient = node.status()["recipient"].as_str().unwrap().to_owned();
    let published = home
        .verb(&["--json", "--yes", "publish", "--recovery", &recipient, file.to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let published: serde_json::Value = serde_json::from_slice(&published.stdout).unwrap();
    let [manifest, payload, header, readable] = ["manifest", "payload", "header", "readable"]
        .map(|name| published[name].as_str().unwrap().to_owned());

    let mut address = node.status()["kubo"].as_str().unwrap().to_owned();
    let token =
        format!("authorization: Bearer {}\r\n", std::fs::read_to_string(home.dir().token()).unwrap().trim());
    let ask = |address: &str, path: &str, kind: &str, body: &[u8], extra: &str| {
        exchange(TcpStream::connect(address).unwrap(), "POST", &format!("/api/v0/{path}"), kind, extra, body)
            .unwrap()
    };
    assert_eq!(ask(&address, "repo/gc", "", &[], "").status, 403, "without the token");
    for restarted in [false, true] {
        if restarted {
            // What was claimed while it came is forgotten now; what belongs to contents is walked again.
            node.stop();
            node = home.start();
            address = node.status()["kubo"].as_str().unwrap().to_owned();
        }
        let post = |path: &str| ask(&address, path, "", &[], &token);
        let before = post(&format!("dag/stat?arg={payload}")).json();
        assert!(before["UniqueBlocks"].as_u64() > Some(3), "{before}");
        let add = |query: &str, text: &str| {
            let body =
                format!("--b\r\nContent-Disposition: form-data; filename=\"f\"\r\n\r\n{text}\r\n--b--");
            let kind = "multipart/form-data; boundary=b";
            ask(&address, &format!("add?cid-version=1{query}"), kind, body.as_bytes(), &token).json()
        };
        let (kept, loose) = (add("", "kept"), add("&pin=false", "loose"));
        let loose = loose["Hash"].as_str().unwrap();
        let collected = post("repo/gc");
        assert_eq!(collected.status, 200);
        let collected = String::from_utf8(collected.body).unwrap();
        assert_eq!(collected.lines().count(), 1, "{collected}");
        assert!(collected.contains(loose), "{collected}");
        assert_eq!(post(&format!("cat?arg={}", kept["Hash"].as_str().unwrap())).body, b"kept");
        for cid in [&manifest, &header, &payload] {
            let removed = post(&format!("block/rm?arg={cid}")).json();
            assert_eq!(removed["Error"], "in use", "{cid}");
            assert_eq!(post(&format!("block/stat?arg={cid}")).status, 200);
        }
        assert_eq!(post(&format!("dag/stat?arg={payload}")).json(), before);
        assert_eq!(post(&format!("dag/stat?arg={readable}")).status, 200);
        assert_eq!(post("id").json()["ID"], node.status()["peer_id"]);
    }
    node.stop();
}
