//! What keeps a node from starting is said in one line, with what to do about it.

use crate::support::{Home, blocks, car, storage};
use lightstreams_node::config::{BlockStorage, Config};
use std::fs;
use std::net::TcpListener;

#[track_caller]
fn check(home: &Home, exit: i32, words: &[&str]) {
    let (code, said) = home.fails();
    // Log lines go before; the reason is the error line with its advice.
    let reason: Vec<&str> = said.lines().filter(|line| !line.contains(" INFO ")).collect();
    let reason = reason.join("\n");
    assert_eq!(code, exit, "{said}");
    for word in words {
        assert!(reason.contains(word), "{word:?} missing in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn founded() -> Home {
    Home::new().with_authority().found(200)
}

#[test]
fn a_directory_that_is_not_initialised_is_refused() {
    check(&Home::new(), 4, &["holds no lightstreams.toml", "lightstreams init"]);
}

#[test]
fn a_locked_directory_is_refused() {
    let home = founded();
    let node = home.start();
    check(&home, 1, &["already runs on", &node.id().to_string(), "stop it first"]);
    node.stop();
    home.start().stop();
}

#[test]
fn a_taken_port_is_refused() {
    let home = founded();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config::load(&home.dir()).unwrap();

    Config { rpc: Some(address), ..config.clone() }.save(&home.dir()).unwrap();
    check(&home, 1, &[&address.to_string(), "change `rpc`"]);

    let p2p = format!("/ip4/127.0.0.1/tcp/{}", address.port()).parse().ok();
    Config { p2p, ..config.clone() }.save(&home.dir()).unwrap();
    check(&home, 1, &[&address.port().to_string(), "change `p2p`"]);

    Config { private: Some(address), ..config }.save(&home.dir()).unwrap();
    check(&home, 1, &[&address.to_string(), "change `private`"]);
}

#[test]
fn a_wrong_genesis_is_refused() {
    let (home, other) = (founded(), Home::new().with_authority().found(300));
    home.start().stop();
    fs::copy(other.dir().genesis(), home.dir().genesis()).unwrap();
    check(&home, 2, &["genesis", "another data directory"]);
    fs::write(home.dir().genesis(), "{}").unwrap();
    check(&home, 2, &["no genesis file"]);
}

#[test]
fn a_foreign_database_is_refused() {
    let home = founded();
    fs::create_dir(home.dir().blocks()).unwrap();
    fs::write(home.dir().blocks().join("CURRENT"), "MANIFEST-000001").unwrap();
    check(&home, 1, &["no Lightstreams node wrote", "another data directory"]);
    fs::remove_file(home.dir().blocks().join("CURRENT")).unwrap();
    home.start().stop();
    fs::write(home.dir().blocks().join("FORMAT"), "lightstreams blocks segments 2\n").unwrap();
    check(&home, 1, &["lightstreams blocks segments 2"]);
}

#[test]
fn blocks_are_in_segments_unless_the_configuration_or_the_folder_says_otherwise() {
    let database = storage().name();
    for (kept_in, backend) in [(BlockStorage::Segments, "segments"), (BlockStorage::Database, database)] {
        let home = Home::new().with_authority().found_with(200, kept_in);
        let mark = format!("lightstreams blocks {backend} 1\n");
        let (some, configured) = (blocks(3, 1000), Config::load(&home.dir()).unwrap());
        assert_eq!(configured.blocks, Some(kept_in));
        // A configuration from before there were segments has no such line.
        for named in [Some(kept_in), None] {
            Config { blocks: named, ..configured.clone() }.save(&home.dir()).unwrap();
            let node = home.start();
            assert_eq!(node.status()["store"]["backend"], backend, "{named:?}");
            assert_eq!(node.status()["database"], database);
            let stored = node.put("/v1/blocks", "application/vnd.ipld.car", &car(&some)).unwrap();
            assert_eq!(stored.status, 200);
            let cids: Vec<_> = some.iter().map(|block| *block.cid()).collect();
            assert_eq!(node.held(&cids), some, "{backend}, {named:?}");
            node.stop();
            assert_eq!(fs::read_to_string(home.dir().blocks().join("FORMAT")).unwrap(), mark);
        }
        let other = match kept_in {
            BlockStorage::Segments => BlockStorage::Database,
            BlockStorage::Database => BlockStorage::Segments,
        };
        Config { blocks: Some(other), ..configured }.save(&home.dir()).unwrap();
        check(&home, 1, &[mark.trim(), "`blocks`", "lightstreams.toml"]);
    }
    let home = founded();
    let configured = Config::load(&home.dir()).unwrap();
    Config { blocks: None, ..configured }.save(&home.dir()).unwrap();
    let node = home.start();
    assert_eq!(node.status()["store"]["backend"], "segments", "a new folder");
    node.stop();
}

#[test]
fn a_wrong_line_of_the_configuration_is_named() {
    let home = founded();
    let path = home.dir().config();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}colour = \"red\"\n")).unwrap();
    let line = format!("line {}", text.lines().count() + 1);
    check(&home, 2, &[&line, "colour"]);
}

#[test]
fn an_unknown_authority_and_a_wrong_password_are_refused() {
    let home = Home::new().found(200);
    check(&home, 4, &["holds no key of", "account import"]);
    fs::write(home.dir().root().join("password"), "sesame").unwrap();
    check(&home, 2, &["identity.age", "the password is wrong"]);
    fs::remove_file(home.dir().identity()).unwrap();
    check(&home, 4, &["identity.age", "account new"]);
}
