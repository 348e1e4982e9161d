//! A command at work: what it was asked, what it reads, and what it answers.

use std::{
    io,
    ops::RangeInclusive,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use cid::Cid;
use serde_json::Value;

use super::{
    Inner, add,
    ask::{self, Ask, Root},
    blocks,
    body::Upload,
    dag, door, files, links,
    multipart::Multipart,
    mutable, node, pin,
    refusal::{RpcError, Stop},
    repo,
    room::Room,
};
use crate::{
    BlockStore, DagPath, Hold,
    gateway::{
        names,
        out::{Head, Out},
    },
};

const X_CHUNKED_OUTPUT: HeaderName = HeaderName::from_static("x-chunked-output");
const X_STREAM_OUTPUT: HeaderName = HeaderName::from_static("x-stream-output");
const X_CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-content-length");

pub(super) type Done = Result<(), Stop>;

/// A command that is known here.
pub(super) struct Command {
    name: &'static str,
    args: RangeInclusive<usize>,
    pub(super) takes_files: bool,
    pub(super) run: fn(&mut Work<'_>) -> Done,
}

/// The most arguments of those that take any number.
const MANY: usize = 1024;

const fn command(name: &'static str, args: RangeInclusive<usize>, run: fn(&mut Work<'_>) -> Done) -> Command {
    Command { name, args, takes_files: false, run }
}

const fn upload(name: &'static str, run: fn(&mut Work<'_>) -> Done) -> Command {
    Command { name, args: 0..=0, takes_files: true, run }
}

static COMMANDS: &[Command] = &[
    upload("add", add::add),
    upload("block/put", blocks::put),
    upload("dag/import", dag::import),
    upload("dag/put", dag::put),
    Command { args: 1..=1, ..upload("files/write", mutable::write) },
    command("block/get", 1..=1, blocks::get),
    command("block/rm", 1..=MANY, blocks::rm),
    command("block/stat", 1..=1, blocks::stat),
    command("cat", 1..=MANY, files::cat),
    command("dag/export", 1..=1, dag::export),
    command("dag/get", 1..=1, dag::get),
    command("dag/resolve", 1..=1, dag::resolve),
    command("dag/stat", 1..=MANY, dag::stat),
    command("files/cp", 2..=2, mutable::cp),
    command("files/flush", 0..=1, mutable::flush),
    command("files/ls", 0..=1, files::mutable_ls),
    command("files/mkdir", 1..=1, mutable::mkdir),
    command("files/mv", 2..=2, mutable::mv),
    command("files/read", 1..=1, files::mutable_read),
    command("files/rm", 1..=MANY, mutable::rm),
    command("files/stat", 1..=1, files::mutable_stat),
    command("get", 1..=1, files::get),
    command("id", 0..=1, node::id),
    command("ls", 1..=MANY, files::ls),
    command("pin/add", 1..=MANY, pin::add),
    command("pin/ls", 0..=MANY, pin::ls),
    command("pin/rm", 1..=MANY, pin::rm),
    command("pin/update", 2..=2, pin::update),
    command("pin/verify", 0..=0, pin::verify),
    command("refs", 1..=MANY, links::refs),
    command("refs/local", 0..=0, repo::local),
    command("repo/gc", 0..=0, repo::gc),
    command("repo/ls", 0..=0, repo::local),
    command("repo/stat", 0..=0, repo::stat),
    command("repo/verify", 0..=0, repo::verify),
    command("resolve", 1..=1, node::resolve),
    command("swarm/peers", 0..=0, node::peers),
    command("version", 0..=0, node::version),
];

/// The command of this name.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Command {
    /// Refuses a wrong number of arguments, and answers in other forms than JSON.
    pub(super) fn check(&self, ask: &Ask) -> Result<(), RpcError> {
        if !self.args.contains(&ask.args.len()) {
            let (min, max) = (self.args.start(), self.args.end());
            let count = if min == max { min.to_string() } else { format!("{min} to {max}") };
            let found = ask.args.len();
            return Err(RpcError::client(format!("{} takes {count} arguments, not {found}", self.name)));
        }
        match ask.text(&["enc", "encoding"])? {
            None | Some("json") => Ok(()),
            Some(_) => Err(RpcError::client("answers are json here")),
        }
    }
}

/// A command at work.
pub(super) struct Work<'a> {
    pub(super) rpc: &'a Inner,
    pub(super) ask: &'a Ask,
    pub(super) upload: Upload,
    pub(super) boundary: Option<String>,
    pub(super) until: Instant,
    pub(super) out: &'a mut Out,
}

impl<'a> Work<'a> {
    /// The blocks.
    pub(super) fn room(&self) -> Room<'a> {
        Room { store: &*self.rpc.store, until: self.until }
    }

    /// The blocks, kept from every sweep while they are looked at and written.
    pub(super) fn hold(&self) -> Hold<&'a std::sync::Arc<dyn BlockStore>> {
        self.rpc.store.hold()
    }

    /// Where a path leads.
    pub(super) fn resolve(&self, text: &str) -> Result<DagPath, RpcError> {
        let (root, names) = ask::path(text).map_err(RpcError::failed)?;
        let (root, names) = match root {
            Root::Ipfs(cid) => (cid, names),
            Root::Ipns(name) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let named = names::resolve(&*self.rpc.names, &name, &names, now)?;
                (named.root, named.names)
            }
        };
        Ok(DagPath::resolve(&self.room(), &root, &names)?)
    }

    /// The block that a path leads to.
    pub(super) fn cid(&self, text: &str) -> Result<Cid, RpcError> {
        let path = self.resolve(text)?;
        if path.rest().is_empty() {
            return Ok(*path.cid());
        }
        Err(RpcError::failed(format!("{text} leads into the block {}, not to one", path.cid())))
    }

    /// The parts of the body, and the answer's end.
    pub(super) fn parts(&mut self) -> (Multipart<impl FnMut() -> io::Result<Option<Bytes>> + '_>, &mut Out) {
        let upload = &mut self.upload;
        let boundary = self.boundary.as_deref().unwrap_or_default();
        (Multipart::new(boundary, move || upload.next()), self.out)
    }

    /// Answers with one value.
    pub(super) fn once(&mut self, value: &Value) -> Done {
        self.out.head(head("application/json"))?;
        line(self.out, value)
    }

    /// Says that lines follow.
    pub(super) fn lines(&mut self) -> Done {
        begin_lines(self.out)
    }

    /// Answers with a line.
    pub(super) fn line(&mut self, value: &Value) -> Done {
        line(self.out, value)
    }

    /// Answers with a line that the client gets at once.
    pub(super) fn line_now(&mut self, value: &Value) -> Done {
        line(self.out, value)?;
        Ok(self.out.send_gathered()?)
    }

    /// Says that bytes of this type follow, and how many, where that is known.
    pub(super) fn bytes(&mut self, kind: &str, len: Option<u64>) -> Done {
        let mut head = head(kind);
        head.set(X_STREAM_OUTPUT, "1");
        if let Some(len) = len {
            head.set(X_CONTENT_LENGTH, &len.to_string());
        }
        self.out.head(head)
    }
}

/// Says that lines follow.
pub(super) fn begin_lines(out: &mut Out) -> Done {
    let mut head = head("application/json");
    head.set(X_CHUNKED_OUTPUT, "1");
    out.head(head)
}

pub(super) fn line(out: &mut Out, value: &Value) -> Done {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    Ok(io::Write::write_all(out, &bytes)?)
}

fn head(kind: &str) -> Head {
    let mut head = Head { status: StatusCode::OK, headers: HeaderMap::new(), len: None };
    head.set(header::CONTENT_TYPE, kind);
    head.headers.insert(header::TRAILER, HeaderValue::from_static("X-Stream-Error"));
    head.headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, door::EXPOSED);
    head
}
