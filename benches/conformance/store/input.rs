//! Inputs that vectors describe by recipe.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher},
};
use lightstreams_store::{Input, Metadata, Mtime};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::report::{Stop, bytes, failed, list, number, text};

/// A file tree in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    pub(crate) metadata: Metadata,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    File(Vec<u8>),
    Symlink(String),
    Directory(BTreeMap<String, Tree>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

impl Tree {
    pub(crate) fn file(bytes: Vec<u8>) -> Self {
        Self { kind: Kind::File(bytes), ..Self::default() }
    }

    pub(crate) fn directory(entries: impl IntoIterator<Item = (String, Tree)>) -> Self {
        Self { kind: Kind::Directory(entries.into_iter().collect()), ..Self::default() }
    }

    pub(crate) fn is_empty_directory(&self) -> bool {
        matches!(&self.kind, Kind::Directory(entries) if entries.is_empty())
    }

    pub(crate) fn input(&self) -> Input<'_> {
        let input = match &self.kind {
            Kind::File(bytes) => Input::reader(&bytes[..]),
            Kind::Symlink(target) => Input::symlink(target.as_bytes()),
            Kind::Directory(entries) => {
                Input::directory(entries.iter().map(|(name, tree)| (name.clone(), tree.input())))
            }
        };
        input.with_metadata(self.metadata)
    }

    /// The place of `path`, with the directories on the way to it.
    fn at(&mut self, path: &str) -> Result<&mut Tree, Stop> {
        let mut tree = self;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Kind::Directory(entries) = &mut tree.kind else { return failed("an entry below a file") };
            tree = entries
                .entry(name.to_owned())
                .or_insert_with(|| Tree { metadata: Metadata::new(Some(0o755), None), ..Tree::default() });
        }
        Ok(tree)
    }

    /// Puts what links of the root point to in their place.
    pub(crate) fn follow_links(&mut self) {
        let Kind::Directory(entries) = &mut self.kind else { return };
        let before = entries.clone();
        for tree in entries.values_mut() {
            if let Kind::Symlink(target) = &tree.kind
                && let Some(target) = before.get(target)
            {
                *tree = target.clone();
            }
        }
    }
}

/// The input of a row of the suites `unixfs-cids` and `kubo`, without what wraps it.
pub(crate) fn of_row(row: &Value) -> Result<Tree, Stop> {
    if row["file"].is_object() {
        let mut tree = Tree::file(generate(&row["file"])?);
        tree.metadata = metadata(&row["file"], 0o644)?;
        return Ok(tree);
    }
    let root_is = text(row, "root_is").unwrap_or("d");
    let mut root = Tree { metadata: Metadata::new(Some(0o755), None), ..Tree::default() };
    if let Some(recipe) = row["dir_recipe"].as_str() {
        return numbered(recipe);
    }
    for entry in list(&row["dir"]) {
        let path_of = |path: &str| path.strip_prefix(root_is).unwrap_or(path).to_owned();
        if entry["gen"] == "many" {
            let (first, digits) = (number(entry, "first")?, number(entry, "digits")? as usize);
            for i in first..first + number(entry, "count")? {
                let path = format!("{}{i:0digits$}{}", text(entry, "prefix")?, text(entry, "suffix")?);
                let mut file = Tree::file(each(&entry["each"], i)?);
                file.metadata = metadata(entry, 0o644)?;
                *root.at(&path_of(&path))? = file;
            }
            continue;
        }
        let path = path_of(text(entry, "path")?);
        let place = root.at(&path)?;
        match entry["type"].as_str() {
            Some("dir") => place.metadata = metadata(entry, 0o755)?,
            Some("symlink") => {
                let target = text(entry, "target")?.to_owned();
                *place = Tree { metadata: metadata(entry, 0o777)?, kind: Kind::Symlink(target) };
            }
            _ => *place = Tree { metadata: metadata(entry, 0o644)?, kind: Kind::File(generate(entry)?) },
        }
    }
    Ok(root)
}

/// The mode and the time that a recipe gives.
pub(crate) fn metadata(value: &Value, mode: u32) -> Result<Metadata, Stop> {
    let mode = match value["mode"].as_str() {
        Some(octal) => u32::from_str_radix(octal, 8).or_else(failed)?,
        None => mode,
    };
    Ok(Metadata::new(Some(mode & 0o7777), mtime(&value["mtime"])))
}

/// `[seconds, nanoseconds]`, the latter left out or not.
pub(crate) fn mtime(value: &Value) -> Option<Mtime> {
    let nanos = value.get(1).and_then(Value::as_u64).unwrap_or(0);
    Mtime::new(value.get(0)?.as_i64()?, nanos.try_into().ok()?)
}

/// The content of entry `i` of a numbered series.
fn each(recipe: &Value, i: u64) -> Result<Vec<u8>, Stop> {
    if recipe["gen"] != "lcg" {
        return generate(recipe);
    }
    let more = recipe["size_mod"].as_u64().map_or(0, |modulus| i % modulus.max(1));
    Ok(lcg(number(recipe, "seed")? + i, number(recipe, "size")? + more))
}

/// The bytes of a generator.
fn generate(recipe: &Value) -> Result<Vec<u8>, Stop> {
    let size = || number(recipe, "size");
    Ok(match text(recipe, "gen")? {
        "lin" => (0..size()?).map(|i| (i * 7 + 3) as u8).collect(),
        "lcg" => lcg(number(recipe, "seed")?, size()?),
        "text" => text(recipe, "text")?.as_bytes().to_vec(),
        "rep" => {
            let unit = bytes(recipe, "hex").or_else(|_| text(recipe, "text").map(|text| text.into()))?;
            unit.iter().copied().cycle().take(size()? as usize).collect()
        }
        "cat" => {
            let parts: Result<Vec<_>, _> = list(&recipe["parts"]).iter().map(generate).collect();
            parts?.concat()
        }
        other => return failed(format_args!("no generator {other:?}")),
    })
}

fn lcg(seed: u64, size: u64) -> Vec<u8> {
    let mut x = seed as u32;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..size).map(next).collect()
}

/// `2000 files d/entry-NNNNN.bin (..), file i: lcg, size 1+(i%5), seed i; root is d`.
fn numbered(recipe: &str) -> Result<Tree, Stop> {
    let parsed = || {
        let count: u64 = recipe.split(' ').next()?.parse().ok()?;
        let path = recipe.split(' ').nth(2)?.split_once('/')?.1;
        let digits = path.matches('N').count();
        let (base, rest) = recipe.split_once("lcg, size ")?.1.split_once("+(i%")?;
        let (base, modulus): (u64, u64) = (base.parse().ok()?, rest.split_once(')')?.0.parse().ok()?);
        recipe.contains("seed i").then_some(())?;
        let file = |i: u64| {
            let name = path.replace(&"N".repeat(digits), &format!("{i:0digits$}"));
            (name, Tree::file(lcg(i, base + i % modulus)))
        };
        Some(Tree::directory((0..count).map(file)))
    };
    parsed().ok_or_else(|| Stop::Failed(format!("no such recipe: {recipe}")))
}

/// A ChaCha20 key stream under the sha2-256 of a seed.
pub(crate) struct Keystream {
    cipher: ChaCha20,
    left: u64,
}

impl Keystream {
    pub(crate) fn new(seed: &str, len: u64) -> Self {
        let key: [u8; 32] = Sha256::digest(seed).into();
        Self { cipher: ChaCha20::new(&key.into(), &[0; 12].into()), left: len }
    }
}

impl Read for Keystream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buf[..n].fill(0);
        self.cipher.apply_keystream(&mut buf[..n]);
        self.left -= n as u64;
        Ok(n)
    }
}
