//! The verbs around a chain: files, checks, copies, and what another genesis changes.

use std::{fs, path::PathBuf, process::Stdio};

use lightstreams_chain::{Batch, FjallKv, Kv, Table};
use lightstreams_node::config::{Config, States, Storage};
use serde_json::Value;

use crate::support::{Home, Running, storage, wait_for};

/// The JSON of a verb that succeeds, or the error of one that fails.
fn verb(home: &Home, words: &[&str]) -> Result<Value, (i32, String)> {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    let output = home.verb(&words).stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        return Ok(serde_json::from_str(&text).unwrap_or_else(|_| panic!("{words:?}: {text:?}")));
    }
    Err((output.status.code().unwrap_or(-1), text + &String::from_utf8_lossy(&output.stderr)))
}

#[track_caller]
fn done(home: &Home, words: &[&str]) -> Value {
    verb(home, words).unwrap_or_else(|error| panic!("{words:?}: {error:?}"))
}

#[track_caller]
fn refused(home: &Home, words: &[&str], exit: i32, said: &[&str]) {
    let (code, text) = verb(home, words).expect_err("it is refused");
    assert_eq!(code, exit, "{text}");
    for word in said {
        assert!(text.contains(word), "{word:?} missing in {text}");
    }
}

fn beside(home: &Home, name: &str) -> PathBuf {
    home.dir().root().with_file_name(name)
}

fn head(node: &Running) -> u64 {
    node.status()["head"]["number"].as_u64().unwrap()
}

fn grown(node: &Running, to: u64) {
    wait_for("blocks", || (head(node) >= to).then_some(()));
}

#[test]
fn a_chain_goes_out_to_a_file_and_into_another_directory() {
    let home = Home::new().with_authority().found(200);
    let node = home.start();
    grown(&node, 4);
    refused(&home, &["chain", "check"], 1, &["data_dir_locked", &node.id().to_string()]);
    node.stop();
    let file = beside(&home, "chain.rlp");
    let file = file.to_str().unwrap();
    let exported = done(&home, &["chain", "export", file]);
    let last = exported["last"].as_u64().unwrap();
    assert_eq!(exported["blocks"].as_u64().unwrap(), last + 1);
    assert_eq!(exported["bytes"].as_u64().unwrap(), fs::metadata(file).unwrap().len());
    refused(&home, &["chain", "export", file], 2, &["already_exists"]);
    refused(&home, &["chain", "export", &format!("{file}.2"), "--to", "99999"], 2, &["bad_range", "99999"]);
    assert!(!fs::exists(format!("{file}.2")).unwrap() && !fs::exists(format!("{file}.2.part")).unwrap());

    let other = Home::new().join(&home, "/ip4/127.0.0.1/tcp/1");
    let imported = done(&other, &["chain", "import", file]);
    assert_eq!((imported["blocks"].as_u64(), imported["known"].as_u64()), (Some(last + 1), Some(1)));
    assert_eq!(imported["head"]["number"].as_u64(), Some(last));
    let again = done(&other, &["chain", "import", file]);
    assert_eq!(again["known"], again["blocks"], "blocks that are here are passed over");
    for deep in [&["chain", "check"][..], &["chain", "check", "--deep"]] {
        let report = done(&other, deep);
        assert_eq!((&report["sound"], report["blocks"].as_u64()), (&Value::Bool(true), Some(last + 1)));
    }
    let stranger = Home::new().with_authority().found(300);
    refused(&stranger, &["chain", "import", file], 1, &["another chain", "block 0 of the file"]);
    let whole = fs::read(file).unwrap();
    fs::write(file, &whole[..whole.len() - 9]).unwrap();
    let words = ["ends in the middle", "begins at byte", &format!("block {last} of the file")];
    refused(&Home::new().join(&home, "/ip4/127.0.0.1/tcp/1"), &["chain", "import", file], 1, &words);
}

#[test]
fn a_snapshot_of_a_running_node_starts_another_that_goes_on() {
    let home = Home::new().with_authority().found(200);
    let node = home.start();
    grown(&node, 3);
    let listen = node.status()["listen"][0].as_str().unwrap().to_owned();
    let copy = beside(&home, "snapshot");
    let copy = copy.to_str().unwrap();
    let made = done(&home, &["chain", "snapshot", copy]);
    let at = made["head"]["number"].as_u64().unwrap();
    assert!(at >= 3 && made["storage"] == storage().name(), "{made}");
    refused(&home, &["chain", "snapshot", copy], 2, &["already_exists", "not there yet"]);
    grown(&node, at + 2);

    let other = Home::new();
    let started = [
        "init",
        "--snapshot",
        copy,
        "--peer",
        &listen,
        "--rpc",
        "127.0.0.1:0",
        "--p2p",
        "/ip4/127.0.0.1/tcp/0",
    ];
    done(&other, &started);
    refused(&other, &started, 2, &["already_initialised", "this network already"]);
    let report = done(&other, &["chain", "check", "--deep"]);
    assert_eq!((&report["sound"], report["blocks"].as_u64()), (&Value::Bool(true), Some(at + 1)));
    let follower = other.start();
    grown(&follower, at + 4);
    follower.stop();
    node.stop();
    // Without a node the same verb copies by itself; a copy without its manifest is none.
    let second = beside(&home, "second");
    done(&home, &["chain", "snapshot", second.to_str().unwrap()]);
    fs::remove_file(second.join("snapshot.json")).unwrap();
    refused(
        &Home::new(),
        &["init", "--snapshot", second.to_str().unwrap()],
        4,
        &["snapshot.json does not exist"],
    );
}

#[test]
fn damage_is_named_with_its_remedy_and_a_non_zero_exit() {
    if storage() != Storage::Fjall {
        return;
    }
    let home = Home::new().with_authority().found(200);
    let node = home.start();
    grown(&node, 3);
    node.stop();
    done(&home, &["chain", "check", "--deep"]);
    let kv = FjallKv::open(home.dir().chain_db()).unwrap();
    let (key, _) = kv.scan(Table::Receipts, &[], 2).unwrap().pop().unwrap();
    let mut batch = Batch::default();
    batch.remove(Table::Receipts, key);
    kv.commit(batch).unwrap();
    drop(kv);
    refused(
        &home,
        &["chain", "check"],
        1,
        &["damaged", "\"table\":\"receipts\"", "1 (0x", "chain export", "chain import"],
    );
}

#[test]
fn another_genesis_is_compared_field_by_field() {
    let home = Home::new().with_authority().found(200);
    refused(&home, &["chain", "genesis-diff"], 4, &["no_chain"]);
    home.start().stop();
    let same = done(&home, &["chain", "genesis-diff"]);
    assert_eq!((same["differences"].as_array().unwrap().len(), &same["usable"]), (0, &Value::Bool(true)));
    let mut file: Value = serde_json::from_str(&fs::read_to_string(home.dir().genesis()).unwrap()).unwrap();
    file["config"]["lightstreams"]["emptyBlockMs"] = 5_000.into();
    let given = beside(&home, "given.json");
    fs::write(&given, file.to_string()).unwrap();
    let given = given.to_str().unwrap();
    let found = done(&home, &["chain", "genesis-diff", given]);
    assert_eq!(found["differences"][0]["field"], "config.lightstreams.emptyBlockMs");
    assert_eq!(
        (&found["differences"][0]["stored"], &found["differences"][0]["given"]),
        (&"200".into(), &"5000".into())
    );
    file["config"]["chainId"] = 7.into();
    file["timestamp"] = "0x1".into();
    fs::write(given, file.to_string()).unwrap();
    refused(
        &home,
        &["chain", "genesis-diff", given],
        2,
        &["config.chainId", "timestamp", "changes what happened"],
    );
    fs::copy(given, home.dir().genesis()).unwrap();
    let (_, said) = home.fails();
    assert!(said.contains("genesis-diff") && said.contains("is 7, but"), "{said}");
}

#[test]
fn an_archive_may_be_made_a_pruned_node_and_says_what_is_gone() {
    let home = Home::new().with_authority().found(200);
    let config = Config::load(&home.dir()).unwrap();
    Config { states: Some(States::All), ..config.clone() }.save(&home.dir()).unwrap();
    let node = home.start();
    grown(&node, 2);
    assert_eq!(node.status()["oldest_state"], 0);
    node.stop();
    Config { states: Some(States::Newest(128)), ..config }.save(&home.dir()).unwrap();
    let node = home.start();
    assert_eq!(node.status()["oldest_state"], 0, "so young a chain has nothing to forget");
    node.stop();
}
