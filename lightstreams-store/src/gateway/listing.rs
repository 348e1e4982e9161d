//! Pages for people.

use std::fmt::Write;

use cid::Cid;
use percent_encoding::utf8_percent_encode;

use super::{
    ask::{Ask, Namespace},
    reply::SEGMENT,
};
use crate::{Codec, DirectoryEntry};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:64em;padding:0 1em;color:#222}\
    a{color:#0550ae;text-decoration:none}a:hover{text-decoration:underline}h1{font-size:1.2em;overflow-wrap:anywhere}\
    table{border-collapse:collapse;width:100%}td{padding:.25em .5em;border-top:1px solid #ddd;overflow-wrap:anywhere}\
    td:last-child{text-align:right;white-space:nowrap}.ipfs-hash{font-family:monospace;color:#666}\
    pre{overflow-x:auto;background:#f6f8fa;padding:1em}\
    @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#79b8ff}td{border-color:#333}pre{background:#222}}";

/// Text in a page, with nothing left in it that means something there.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&#34;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The paths of a request and of what lies above it, encoded.
struct Crumbs {
    /// Path and name of each step: the root of the namespace, then the names.
    steps: Vec<(String, String)>,
    kind: &'static str,
}

impl Crumbs {
    fn new(ask: &Ask) -> Self {
        let (kind, key) = match &ask.namespace {
            Namespace::Ipfs(cid) => ("ipfs", cid.to_string()),
            Namespace::Ipns(name) => ("ipns", name.to_string()),
        };
        let mut path = format!("/{kind}/{key}");
        let mut steps = vec![(path.clone(), key)];
        for name in &ask.names {
            let _ = write!(path, "/{}", utf8_percent_encode(name, SEGMENT));
            steps.push((path.clone(), name.clone()));
        }
        Self { steps, kind }
    }

    fn here(&self) -> &str {
        self.steps.last().map(|(path, _)| &**path).unwrap_or_default()
    }

    fn links(&self) -> String {
        let links = self.steps.iter().map(|(path, name)| format!("<a href=\"{path}\">{}</a>", Escaped(name)));
        format!("/{}/{}", self.kind, links.collect::<Vec<_>>().join("/"))
    }
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head>\n\
         <body>\n{body}</body></html>\n",
        Escaped(title)
    )
}

/// The page of a directory; `more` says that not all of its entries are there.
pub(super) fn directory(ask: &Ask, cid: &Cid, entries: &[DirectoryEntry], more: bool) -> String {
    let crumbs = Crumbs::new(ask);
    let here = crumbs.here();
    let mut body = format!(
        "<h1>Index of {}</h1>\n<p class=\"ipfs-hash\" translate=\"no\">{cid}</p>\n<table>\n",
        crumbs.links()
    );
    if !ask.names.is_empty() {
        let _ = writeln!(body, "<tr><td colspan=\"3\"><a href=\"{here}/..\">..</a></td></tr>");
    }
    for DirectoryEntry { name, cid, tsize } in entries {
        let encoded = utf8_percent_encode(name, SEGMENT).to_string();
        // A name in a query is encoded twice: once as a name, once as a value.
        let value = utf8_percent_encode(&encoded, SEGMENT);
        let _ = writeln!(
            body,
            "<tr><td><a href=\"{here}/{encoded}\">{}</a></td>\
             <td><a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/{cid}?filename={value}\">{cid}</a></td>\
             <td title=\"bytes of all blocks\">{}</td></tr>",
            Escaped(name),
            size(*tsize)
        );
    }
    body.push_str("</table>\n");
    if more {
        let _ = writeln!(
            body,
            "<p>There are more than these {} entries. Ask for <a href=\"{here}?format=car&amp;dag-scope=entity\">a CAR</a> \
             of the directory to have them all.</p>",
            entries.len()
        );
    }
    page(here, &body)
}

/// The page of a value: where to get its block, and a preview as dag-json.
pub(super) fn value(ask: &Ask, cid: &Cid, codec: &str, preview: Option<&str>) -> String {
    let crumbs = Crumbs::new(ask);
    let here = crumbs.here();
    let mut body = format!(
        "<h1>{}</h1>\n<p class=\"ipfs-hash\" translate=\"no\">{cid}</p>\n\
         <p>{codec}: <a href=\"{here}?format=raw\">block</a>, <a href=\"{here}?format=car\">CAR</a></p>\n",
        crumbs.links()
    );
    if let Some(preview) = preview {
        let _ = writeln!(body, "<pre>{}</pre>", Escaped(preview));
    }
    page(here, &body)
}

/// What a person can read of a block's value.
pub(super) fn preview(codec: Codec, block: &[u8]) -> Option<String> {
    let json = Codec::DagJson.encode(&codec.decode(block).ok()?).ok()?;
    String::from_utf8(json).ok()
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}
