//! Roots that the tests of Kubo and of js-ipfs-unixfs state.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use lightstreams_store::{CidVersion, DirectorySize, FileLayout, ImportOptions, Input, Metadata};
use serde_json::Value;

use super::input::{Keystream, Kind, Tree, mtime};
use crate::report::{Outcome, Report, Stop, ensure, failed, list, number, text};

/// The letters of random names; `0` stands twice.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz01234567890-_";

pub(crate) fn run(root: &Path, report: &mut Report) {
    for path in report.files(root, "unixfs-import", "vectors.json") {
        let cases = report.json(&path);
        let folder = path.parent().unwrap_or(root);
        for case in list(&cases) {
            report.case(case["id"].as_str().unwrap_or_default(), || check(folder, case));
        }
    }
}

fn check(folder: &Path, case: &Value) -> Outcome {
    let options = options(&case["options"])?;
    let input = &case["input"];
    let tree;
    let input = if input["chacha20"].is_object() {
        let recipe = &input["chacha20"];
        Input::reader(Keystream::new(text(recipe, "seed")?, number(recipe, "size")?))
    } else if let Some(n) = input["zeros"].as_u64() {
        Input::reader(io::repeat(0).take(n))
    } else {
        tree = tree_of(folder, input)?;
        tree.input()
    };
    let built = options.build(input, &mut |_| Ok(())).or_else(failed)?;
    // One root is written in base58.
    let expected = text(case, "cid")?.parse().or_else(failed)?;
    ensure(built.cid == expected, format_args!("the root is {}", built.cid))
}

fn tree_of(folder: &Path, input: &Value) -> Result<Tree, Stop> {
    if let Some(text) = input["utf8"].as_str() {
        return Ok(Tree::file(text.into()));
    }
    if let Some(name) = input["file"].as_str() {
        return fs::read(folder.join(name)).map(Tree::file).or_else(failed);
    }
    if let Some(target) = input["symlink"].as_str() {
        return Ok(Tree { kind: Kind::Symlink(target.to_owned()), ..Tree::default() });
    }
    if let Some(entries) = input["tree"].as_object() {
        let entries = entries.iter().map(|(name, input)| Ok((name.clone(), tree_of(folder, input)?)));
        return Ok(Tree::directory(entries.collect::<Result<Vec<_>, Stop>>()?));
    }
    if input["names"].is_object() {
        return named(&input["names"]);
    }
    if let Ok(names) = text(&input["tree_sequence"], "names") {
        // `file1 .. file2000`, each with its number and a newline.
        let (first, last) = names.split_once(" .. ").unwrap_or_default();
        let prefix = first.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let number = |name: &str| name.trim_start_matches(prefix).parse::<u64>().or_else(failed);
        let entry = |i| (format!("{prefix}{i}"), Tree::file(format!("{i}\n").into()));
        return Ok(Tree::directory((number(first)?..=number(last)?).map(entry)));
    }
    failed("an input of an unknown kind")
}

/// Files with one content and names of a key stream, or numbered in a template.
fn named(recipe: &Value) -> Result<Tree, Stop> {
    let (count, content) = (number(recipe, "count")?, text(recipe, "content")?);
    let file = |name: String| {
        let content = content.replace("{name}", &name);
        (name, Tree::file(content.into()))
    };
    if let Some(template) = recipe["template"].as_str() {
        let first = recipe["first"].as_u64().unwrap_or(0);
        return Ok(Tree::directory(
            (first..first + count).map(|i| file(template.replace("{i}", &i.to_string()))),
        ));
    }
    let mut stream = Vec::new();
    Keystream::new(text(recipe, "seed")?, 1 << 20).read_to_end(&mut stream).or_else(failed)?;
    let letters: String =
        stream.iter().map(|&byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])).collect();
    let (len, last_len) = (number(recipe, "name_len")? as usize, number(recipe, "last_name_len")? as usize);
    let name = |i: usize| {
        let len_here = if i + 1 == count as usize { last_len } else { len };
        letters[i * len..i * len + len_here].to_owned()
    };
    Ok(Tree::directory((0..count as usize).map(|i| file(name(i)))))
}

fn options(given: &Value) -> Result<ImportOptions, Stop> {
    let mut options = match number(given, "cid_version")? {
        0 => ImportOptions::unixfs_v0_2015(),
        _ => ImportOptions::unixfs_v1_2025(),
    };
    options.cid_version = CidVersion::try_from(number(given, "cid_version")?).or_else(failed)?;
    options.hash = text(given, "hash")?.parse().or_else(failed)?;
    options.chunker = format!("size-{}", number(given, "chunk_size")?).parse().or_else(failed)?;
    options.max_links = number(given, "max_links")? as usize;
    let mode = given["mode"].as_u64().map(|mode| mode as u32);
    options.metadata = Metadata::new(mode, mtime(&given["mtime"]));
    // A file of one block with a mode or time is a node, even where raw leaves are asked for.
    options.raw_leaves = given["raw_leaves"] == true && options.metadata.is_empty();
    options.layout = match text(given, "layout")? {
        "trickle" => FileLayout::Trickle,
        // All leaves below the root, which the links allow.
        "balanced" | "flat" => FileLayout::Balanced,
        other => return failed(format_args!("layout {other:?}")),
    };
    if let Some(rule) = given["dir"].as_str() {
        options.sharding.estimate = match rule {
            rule if rule.contains("serialized") => DirectorySize::Block,
            _ => DirectorySize::Links,
        };
        if rule.contains("forced") {
            options.sharding.threshold = 0;
        }
    }
    Ok(options)
}
