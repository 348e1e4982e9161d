//! The mutable file system, `files/*`.

use std::collections::BTreeMap;

use lightstreams_store::Metadata;

use super::*;

/// The tree as it must be: a file has content, a directory has entries.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    File(Vec<u8>),
    Folder(BTreeMap<String, Model>),
}

impl Model {
    fn input(&self) -> Input<'_> {
        match self {
            Self::File(content) => Input::reader(&content[..]),
            Self::Folder(entries) => {
                Input::directory(entries.iter().map(|(name, entry)| (name.clone(), entry.input())))
            }
        }
    }

    fn folder(&mut self) -> Option<&mut BTreeMap<String, Model>> {
        match self {
            Self::File(_) => None,
            Self::Folder(entries) => Some(entries),
        }
    }

    fn at(&mut self, path: &[String]) -> Option<&mut Model> {
        path.iter().try_fold(self, |at, name| at.folder()?.get_mut(name))
    }

    /// Where the last name of `path` stands or may stand; directories on the way come to be if `parents`.
    fn around(&mut self, path: &[String], parents: bool) -> Option<&mut BTreeMap<String, Model>> {
        let mut at = self;
        for name in &path[..path.len() - 1] {
            let folder = at.folder()?;
            if !folder.contains_key(name) {
                if !parents {
                    return None;
                }
                folder.insert(name.clone(), Self::Folder(BTreeMap::new()));
            }
            at = folder.get_mut(name)?;
        }
        at.folder()
    }
}

fn root(site: &Site) -> String {
    site.post("files/stat?arg=/").value()["Hash"].as_str().unwrap().to_owned()
}

#[track_caller]
fn check_is(site: &Site, model: &Model) {
    let options = ImportOptions::unixfs_v0_2015();
    let expected = options.import(model.input(), &MemoryStore::default(), &mut |_| ()).unwrap();
    assert_eq!(root(site), expected.cid.to_string(), "{model:?}");
}

fn write(site: &Site, query: &str, content: &[u8]) -> Answer {
    site.upload(&format!("files/write?{query}"), &[("f", FILE, content)])
}

/// Each operation on the tree and on the model: both do it or both refuse it, and the tree is always the one that an import of the
/// model makes.
#[test]
fn random_histories_end_as_the_model_says() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..6 {
        let site = Site::new();
        let mut seeded = Seeded::new(seed);
        let mut model = Model::Folder(BTreeMap::new());
        for _ in 0..80 {
            let mut path = || -> Vec<String> {
                (0..1 + seeded.below(3))
                    .map(|_| ["a", "b", "\u{e4} c"][seeded.below(3) as usize].to_owned())
                    .collect()
            };
            let (one, two) = (path(), path());
            let text = |path: &[String]| {
                form_urlencoded::byte_serialize(format!("/{}", path.join("/")).as_bytes()).collect::<String>()
            };
            let mut after = model.clone();
            let parents = seeded.below(2) == 0;
            let (answer, fits) = match seeded.below(6) {
                0 => {
                    let fits = after.around(&one, parents).is_some_and(|folder| {
                        let there = folder.contains_key(&one[one.len() - 1]);
                        let entry = folder.entry(one[one.len() - 1].clone());
                        let entry = entry.or_insert_with(|| Model::Folder(BTreeMap::new()));
                        !there || (parents && entry.folder().is_some())
                    });
                    (site.post(&format!("files/mkdir?arg={}&parents={parents}", text(&one))), fits)
                }
                1 | 2 => {
                    let len = [3, 400, 300_000][seeded.below(3) as usize];
                    let content = seeded.bytes(len);
                    let (offset, truncate) = ([0, 0, 2, 500][seeded.below(4) as usize], seeded.below(2) == 0);
                    let fits = after.around(&one, parents).is_some_and(|folder| {
                        let entry = folder.entry(one[one.len() - 1].clone());
                        let Model::File(old) = entry.or_insert_with(|| Model::File(Vec::new())) else {
                            return false;
                        };
                        if truncate {
                            old.clear();
                        }
                        old.resize(old.len().max(offset + content.len()), 0);
                        old[offset..offset + content.len()].copy_from_slice(&content);
                        true
                    });
                    let query = format!(
                        "arg={}&create=true&parents={parents}&offset={offset}&truncate={truncate}",
                        text(&one)
                    );
                    (write(&site, &query, &content), fits)
                }
                3 => {
                    let fits = after.at(&one).cloned().is_some_and(|from| {
                        after
                            .around(&two, parents)
                            .is_some_and(|folder| folder.insert(two[two.len() - 1].clone(), from).is_none())
                    });
                    (
                        site.post(&format!(
                            "files/cp?arg={}&arg={}&parents={parents}",
                            text(&one),
                            text(&two)
                        )),
                        fits,
                    )
                }
                4 => {
                    let mut into = two.clone();
                    if one != two && after.at(&two).is_some_and(|there| there.folder().is_some()) {
                        into.push(one[one.len() - 1].clone());
                    }
                    let fits = after.at(&one).cloned().is_some_and(|moved| {
                        one == into
                            || !into.starts_with(&one)
                                && after.around(&into, false).is_some_and(|folder| {
                                    let before = folder.insert(into[into.len() - 1].clone(), moved);
                                    !matches!(before, Some(Model::Folder(_)))
                                })
                                && after.around(&one, false).unwrap().remove(&one[one.len() - 1]).is_some()
                    });
                    (site.post(&format!("files/mv?arg={}&arg={}", text(&one), text(&two))), fits)
                }
                _ => {
                    let fits = after.at(&one).is_some_and(|found| parents || found.folder().is_none());
                    if fits {
                        after.around(&one, false).unwrap().remove(&one[one.len() - 1]);
                    }
                    (site.post(&format!("files/rm?arg={}&recursive={parents}", text(&one))), fits)
                }
            };
            assert_eq!(answer.status == 200, fits, "{}", answer.text());
            if fits {
                model = after;
                done += 1;
            } else {
                answer.error(500);
                refused += 1;
            }
            check_is(&site, &model);
            if seeded.below(10) == 0 {
                site.gc();
            }
            if let Some(Model::File(content)) = model.at(&one) {
                assert_eq!(site.post(&format!("files/read?arg={}", text(&one))).body, *content);
            }
        }
    }
    println!("{done} done, {refused} refused");
    assert!(done > 100 && refused > 100);
}

#[test]
fn nothing_but_the_tree_stays_and_nobody_else_unpins_it() {
    let site = Site::new();
    assert_eq!(write(&site, "arg=/d/f&create=true&parents=true", b"first").status, 200);
    let (first, f) = (root(&site), site.post("files/stat?arg=/d/f").value()["Hash"].clone());
    assert_eq!(write(&site, "arg=/d/f&truncate=true", b"second").status, 200);
    let gone = site.gc();
    for (name, stays) in [(first, false), (f.as_str().unwrap().to_owned(), false), (root(&site), true)] {
        let key = Cid::new_v1(0x55, *cid(&name).hash()).to_string();
        assert_eq!(gone.contains(&key), !stays, "{name}");
    }
    assert_eq!(site.post("files/read?arg=/d/f").body, "second");
    assert_eq!(site.post("pin/ls").value()["Keys"], json!({}));
    let own = root(&site);
    assert!(site.post(&format!("pin/ls?arg={own}")).error(500).contains("not pinned"));
    assert!(site.post(&format!("pin/rm?arg={own}")).error(500).contains("not pinned"));
    let name = site.store.pins(None, 9)[0].name.replace(' ', "%20");
    assert!(site.post(&format!("pin/add?arg={own}&name={name}")).error(400).contains("set by the node"));
    // Somebody may pin the same.
    site.post(&format!("pin/add?arg={own}&name=mine")).value();
    assert_eq!(site.post("files/rm?arg=/d&recursive=true").status, 200);
    site.gc();
    assert_eq!(site.post(&format!("cat?arg={own}/d/f")).body, "second");
    site.post(&format!("pin/rm?arg={own}")).value();
    assert!(!site.gc().is_empty());
}

#[test]
fn the_tree_is_there_again_as_the_last_change_left_it() {
    let site = Site::new();
    write(&site, "arg=/f&create=true", b"before").text();
    let before = site.store.pins(None, 9).remove(0);
    write(&site, "arg=/f&truncate=true", b"after").text();
    // As if the last change had been cut off before it took the pin of the tree before it away.
    let now = site.store.pins(None, 9).remove(0);
    site.store.pin(&before).unwrap();
    let again = Site { rpc: Rpc::new(site.store.clone(), RpcConfig::default()), ..site };
    assert_eq!(again.post("files/read?arg=/f").body, "after");
    assert_eq!(again.store.pins(None, 9), [now]);
}

#[test]
fn many_writers_lose_nothing_of_one_another() {
    let site = Site::new();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let site = &site;
            scope.spawn(move || {
                for i in 0..10 {
                    let query = format!("arg=/d/{writer}/{i}&create=true&parents=true");
                    assert_eq!(write(site, &query, format!("{writer} {i}").as_bytes()).status, 200);
                    // One sweep runs at a time.
                    if writer == 0 {
                        site.gc();
                    }
                }
            });
        }
    });
    for writer in 0..4 {
        for i in 0..10 {
            let text = format!("{writer} {i}");
            assert_eq!(site.post(&format!("files/read?arg=/d/{writer}/{i}")).body, text);
        }
    }
}

#[test]
fn of_two_writers_at_a_file_the_later_one_is_told() {
    for (truncate, status, expected) in [(false, 500, "12345"), (true, 200, "late")] {
        let site = Site::new();
        assert_eq!(write(&site, "arg=/f&create=true", b"old").status, 200);
        let body = form(&[("f", FILE, b"late")]);
        let (to, from) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let chunks =
            futures::stream::unfold(from, |mut from| async { from.recv().await.map(|chunk| (chunk, from)) });
        let request = Request::post(format!("/api/v0/files/write?arg=/f&truncate={truncate}"))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        let request = request.body(Body::from_stream(chunks)).unwrap();
        let late = site.runtime.spawn(site.rpc.router().oneshot(request));
        // The second piece is taken when the first one was: by then it has looked at the file.
        let (first, rest) = body.split_at(body.len() - 20);
        for piece in [first, &rest[..10], &rest[10..15]] {
            site.runtime.block_on(to.send(Ok(Bytes::copy_from_slice(piece)))).unwrap();
        }
        assert_eq!(write(&site, "arg=/f", b"12345").status, 200);
        site.runtime.block_on(to.send(Ok(Bytes::copy_from_slice(&rest[15..])))).unwrap();
        drop(to);
        assert_eq!(site.runtime.block_on(late).unwrap().unwrap().status(), status);
        assert_eq!(site.post("files/read?arg=/f").body, expected);
    }
}

#[test]
fn large_directories_modes_and_versions_are_kept() {
    let site = Site::new();
    // As Kubo 0.42 names it.
    assert_eq!(site.post("files/mkdir?arg=/k/b&parents=true").status, 200);
    let kubo = "QmWVskCWZ3fAGXMsqeviYvLSwgibjGZXBaxtNRTkrRg319";
    assert_eq!(site.post("files/stat?arg=/k").value()["Hash"], kubo);

    let many: Vec<(String, Vec<u8>)> = (0..40).map(|i| (format!("{i:0>200}"), vec![i])).collect();
    let mut options = ImportOptions::kubo_cid_v1();
    options.raw_leaves = false;
    options.metadata = Metadata::new(Some(0o750), None);
    let input = |parts: &[(String, Vec<u8>)]| {
        let parts: Vec<(String, Vec<u8>)> = parts.to_vec();
        Input::directory(
            parts.into_iter().map(|(name, content)| (name, Input::reader(std::io::Cursor::new(content)))),
        )
    };
    let dir = options.import(input(&many), &*site.store, &mut |_| ()).unwrap();
    assert_eq!(site.post(&format!("files/cp?arg=/ipfs/{}&arg=/d", dir.cid)).status, 200);
    assert_eq!(
        site.post("files/cp?arg=/d/{many}&arg=/d/x".replace("{many}", &many[7].0).as_str()).status,
        200
    );
    let mut more = many.clone();
    more.push(("x".to_owned(), vec![7]));
    let expected = options.import(input(&more), &MemoryStore::default(), &mut |_| ()).unwrap();
    assert_eq!(site.post("files/stat?arg=/d").value()["Hash"], expected.cid.to_string());
    assert_eq!(site.post("files/stat?arg=/d").value()["Mode"], "0750");
    // A file keeps its mode, a new one in a directory of version 1 is of version 1, or of what is asked for.
    assert_eq!(write(&site, "arg=/d/x", b"y").status, 200);
    assert_eq!(site.post("files/stat?arg=/d/x").value()["Mode"], "0750");
    assert_eq!(write(&site, "arg=/d/v1&create=true", b"hello world").status, 200);
    assert_eq!(site.post("files/stat?arg=/d/v1").value()["Hash"], HELLO_V1);
    assert_eq!(write(&site, "arg=/d/v0&create=true&cid-version=0", b"hello world").status, 200);
    assert_eq!(site.post("files/flush?arg=/d/v0").value()["Cid"], HELLO_V0);
    assert_eq!(site.post("files/mkdir?arg=/w&hash=sha2-512").status, 200);
    assert_eq!(cid(site.post("files/stat?arg=/w").value()["Hash"].as_str().unwrap()).hash().code(), 0x13);
    // As deep as a tree may be: what comes to be, and what is changed.
    let deep = "/d".repeat(256);
    for expected in [200, 500] {
        assert_eq!(site.post(&format!("files/mkdir?arg=/x{deep}")).status, 400);
        assert_eq!(
            site.post(&format!("files/mkdir?arg=/w{}&parents={}", &deep[..510], expected == 200)).status,
            expected
        );
    }
    assert_eq!(site.post(&format!("files/rm?arg=/w{}", &deep[..510])).status, 500);
    assert_eq!(site.post(&format!("files/rm?arg=/w{}&recursive=true", &deep[..510])).status, 200);
    let deep = format!("{}f", "d/".repeat(255));
    let added = site.upload("add", &[(&deep, FILE, b"x")]).lines().pop().unwrap();
    assert_eq!(
        site.post(&format!("files/cp?arg=/ipfs/{}&arg=/deep", added["Hash"].as_str().unwrap())).status,
        200
    );
    assert_eq!(site.post(&format!("cat?arg={}/{}", added["Hash"].as_str().unwrap(), &deep[2..])).body, "x");
    assert_eq!(write(&site, "arg=/part&create=true&offset=3&count=2", b"12345").status, 200);
    assert_eq!(site.post("files/read?arg=/part").body, &b"\0\0\x0012"[..]);
    assert_eq!(site.post("files/read?arg=/w/../d/./v1&offset=6&count=3").body, "wor");
}

#[test]
fn wrong_changes_are_refused_and_change_nothing() {
    let mut config = RpcConfig::default();
    config.entries_max = 20;
    config.body_bytes_max = 1 << 16;
    let site = Site::with(config);
    assert_eq!(write(&site, "arg=/d/f&create=true&parents=true", b"x").status, 200);
    let before = root(&site);
    let deep = format!("/{}", "d/".repeat(300));
    let long = format!("/{}", "n".repeat(1025));
    let absent = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    for (command, status, text) in [
        ("mkdir?arg=x", 400, "leading slash"),
        ("mkdir?arg=/", 500, "exists"),
        ("mkdir?arg=/d", 500, "exists"),
        ("mkdir?arg=/d/f&parents=true", 500, "exists"),
        ("mkdir?arg=/d/f/x&parents=true", 500, "not a directory"),
        ("mkdir?arg=/x/y", 500, "does not exist"),
        ("mkdir?arg=/x&cid-version=7", 400, "CID version"),
        ("mkdir?arg=/x&cid-version=0&hash=sha2-512", 400, "CIDv0"),
        ("mkdir?arg=/x&mode=0750", 400, "mode"),
        ("mkdir?arg={deep}&parents=true", 400, "deeper"),
        ("mkdir?arg={long}", 400, "longer"),
        ("cp?arg=/d/f&arg=/.", 500, "root"),
        ("cp?arg=/d/f&arg=/d", 500, "already has"),
        ("cp?arg=/d/f&arg=/d/", 500, "already has"),
        ("cp?arg=/none&arg=/x", 500, "does not exist"),
        ("cp?arg=/ipfs/{absent}&arg=/x", 500, ""),
        ("mv?arg=/&arg=/x", 500, "root"),
        ("mv?arg=/d&arg=/d/e", 500, "into itself"),
        ("mv?arg=/d/f&arg=/x/y", 500, "does not exist"),
        ("rm?arg=/", 500, "root"),
        ("rm?arg=/d", 500, "use -r"),
        ("rm?arg=/none", 500, "does not exist"),
        ("read?arg=/d", 500, "directory"),
        ("flush?arg=/none", 500, "does not exist"),
    ] {
        let command = command.replace("{deep}", &deep).replace("{long}", &long).replace("{absent}", absent);
        let error = site.post(&format!("files/{command}")).error(status);
        assert!(error.contains(text), "{command}: {error}");
    }
    for (query, status, text) in [
        ("arg=/none", 500, "does not exist"),
        ("arg=/x/none&create=true", 500, "does not exist"),
        ("arg=/d", 500, "not a file"),
        ("arg=/", 500, "not a file"),
        ("arg=/d/f&offset=-1", 400, "negative"),
        ("arg=/d/f&offset=9000000000000000000", 400, "too far"),
    ] {
        let error = write(&site, query, b"y").error(status);
        assert!(error.contains(text), "{query}: {error}");
    }
    let long = vec![0; 1 << 17];
    assert!(write(&site, "arg=/d/f", &long).error(500).contains("longer than allowed"));
    assert!(site.upload("files/write?arg=/d/f", &[("x", DIR, b"")]).error(400).contains("file argument"));
    assert_eq!(site.post("files/rm?arg=/none&force=true").status, 200);
    assert_eq!(root(&site), before);
    let full =
        (0..30).map(|i| site.post(&format!("files/mkdir?arg=/{i}"))).find(|answer| answer.status != 200);
    assert!(full.unwrap().error(500).contains("more entries"));
}
