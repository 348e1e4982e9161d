//! Requests to Kubo's gateway, and its answers.

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use lightstreams_store::{
    AllowAll, Gate, ImportOptions, Input, MemoryStore,
    gateway::{Gateway, GatewayConfig},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::{input, kubo_import};
use crate::{
    report::{Outcome, Report, Stop, ensure, failed, list, number, text},
    tar,
};

const DEFECT: &str = "Kubo's answer is marked as a defect; ours is asserted in the tests of the gateway";

/// The suite `kubo-gateway`.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let folder = root.join("kubo");
    if !folder.join("gateway.json").is_file() {
        return;
    }
    let (requests, cases) =
        (report.json(&folder.join("gateway.json")), report.json(&folder.join("cases.json")));
    let store = Arc::new(MemoryStore::default());
    for (name, content) in requests["content"].as_object().into_iter().flatten() {
        let row = list(&cases["rows"]).iter().find(|row| row["name"] == **name);
        if let Err(Stop::Failed(why)) = fill(&store, content, row) {
            report.case(format_args!("content {name}"), || failed(why));
        }
    }
    let cors = &requests["cors_on_every_answer_unless_given"];
    answer(&store, cors, GatewayConfig::default(), &requests["rows"], report);
    for group in list(&requests["other_settings"]) {
        let mut config = GatewayConfig::default();
        config.codec_conversion = group["settings"]["Gateway.AllowCodecConversion"] == true;
        config.deserialized = group["settings"]["Gateway.DeserializedResponses"] != false;
        answer(&store, cors, config, &group["rows"], report);
    }
}

/// Puts the blocks of a piece of content into the store.
fn fill(store: &MemoryStore, content: &Value, row: Option<&Value>) -> Outcome {
    let (options, tree, wrap) = match row {
        Some(row) => {
            let name = row["file"]["name"].as_str().or(row["root_is"].as_str()).unwrap_or("d");
            (kubo_import::options(row)?, input::of_row(row)?, (row["wrap"] == true).then(|| name.to_owned()))
        }
        None => {
            let recipe = &content["recipe"];
            let mut options = ImportOptions::unixfs_v1_2025();
            if list(&recipe["kubo"]["args"]).contains(&Value::from("--cid-version=1")) {
                // What Kubo does when no profile is chosen.
                options.chunker = "size-262144".parse().or_else(failed)?;
                options.max_links = 174;
            }
            (options, input::of_row(recipe)?, None)
        }
    };
    let mut input = tree.input();
    if let Some(name) = wrap {
        input = Input::directory([(name, input)]);
    }
    let built = options.import(input, store, &mut |_| ()).or_else(failed)?;
    ensure(content["root_cid"] == built.cid.to_string(), format_args!("its root is {}", built.cid))
}

fn answer(store: &Arc<MemoryStore>, cors: &Value, config: GatewayConfig, rows: &Value, report: &mut Report) {
    let gate = Gate::new(store.clone(), Arc::new(AllowAll));
    let router = Gateway::new(gate, config).router();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    for row in list(rows) {
        report.case(text(row, "id").unwrap_or_default(), || {
            let runtime = runtime.as_ref().or_else(failed)?;
            if row["defect"].is_string() {
                return Err(Stop::Skipped(DEFECT));
            }
            check(row, cors, &runtime.block_on(ask(&router, &row["request"]))?)
        });
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// A header, whose bytes the vectors give one character each.
    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| value.as_bytes().iter().copied().map(char::from).collect())
    }
}

async fn ask(router: &Router, request: &Value) -> Result<Answer, Stop> {
    let mut asked = Request::builder().method(text(request, "method")?).uri(text(request, "path")?);
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        asked = asked.header(name, value.as_str().unwrap_or_default());
    }
    let asked = asked.body(Body::empty()).or_else(failed)?;
    let Ok(response) = router.clone().oneshot(asked).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.or_else(failed)?.to_vec();
    Ok(Answer { status, headers, body })
}

fn check(row: &Value, cors: &Value, answer: &Answer) -> Outcome {
    let told = String::from_utf8_lossy(answer.body.get(..200).unwrap_or(&answer.body)).into_owned();
    ensure(
        number(row, "status")? == u64::from(answer.status.as_u16()),
        format_args!("{} {told}", answer.status),
    )?;
    for (name, value) in cors.as_object().into_iter().flatten() {
        let value = row["headers"].get(name).unwrap_or(value);
        ensure(answer.header(name).as_deref() == value.as_str(), format_args!("{name}"))?;
    }
    let several = row["note"].as_str().is_some_and(|note| note.contains("only the first range"));
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        let expected = value.as_str().unwrap_or_default();
        let found = answer.header(name).unwrap_or_default();
        if several && matches!(&**name, "content-type" | "content-length" | "content-range") {
            continue;
        }
        ensure(
            same_header(row, answer, name, expected, &found),
            format_args!("{name} is {found:?}, not {expected:?}"),
        )?;
    }
    if several {
        return every_range(row, answer);
    }
    if !answer.status.is_success() || row["request"]["method"] == "HEAD" {
        return Ok(());
    }
    if row["tar"].is_array() {
        return same_members(row, &answer.body);
    }
    let body = &row["body"];
    if body["any"].is_string() || !body["sha256"].is_string() {
        return Ok(());
    }
    ensure(number(body, "length")? == answer.body.len() as u64, format_args!("{} bytes", answer.body.len()))?;
    ensure(text(body, "sha256")? == hex::encode(Sha256::digest(&answer.body)), "other bytes")
}

/// Whether a header says the same, as far as it is not Kubo's own choice of words.
fn same_header(row: &Value, answer: &Answer, name: &str, expected: &str, found: &str) -> bool {
    let essence = |media: &str| media.split(';').next().unwrap_or_default().to_owned();
    let refused = answer.status.is_client_error() || answer.status.is_server_error();
    match name {
        // Texts of errors are our own, and so is what is said of them.
        "content-type"
        | "content-length"
        | "etag"
        | "cache-control"
        | "content-disposition"
        | "content-location"
            if refused =>
        {
            true
        }
        // A redirection has no body here, and a listing another one.
        "content-type" | "content-length" if answer.status.is_redirection() => true,
        "transfer-encoding" => true,
        "content-type" if expected.starts_with("application/vnd.ipld.car") => expected == found,
        // Of a range without a name, Kubo looks at the range.
        "content-type"
            if row["request"]["headers"]["Range"].is_string() && essence(expected) == "text/plain" =>
        {
            true
        }
        "content-type" => essence(expected) == essence(found),
        // A listing and a CAR: the hash is the gateway's own.
        "etag" => match (expected.split_once(".car."), expected.split_once("_CID-")) {
            (Some((start, _)), _) => found.starts_with(&format!("{start}.car.")),
            (_, Some((_, end))) => {
                found.starts_with("\"DirIndex-") && found.ends_with(&format!("_CID-{end}"))
            }
            _ => expected == found,
        },
        "content-length" if row["body"]["any"].is_string() => true,
        _ => expected == found,
    }
}

/// All ranges come, where Kubo gives the first.
fn every_range(row: &Value, answer: &Answer) -> Outcome {
    let kind = answer.header("content-type").unwrap_or_default();
    ensure(kind.starts_with("multipart/byteranges; boundary="), kind)?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let first = text(&row["headers"], "content-range")?;
    ensure(body.contains(&format!("\r\nContent-Range: {first}\r\n\r\n")), "the first range is not there")?;
    let ranges = text(&row["request"]["headers"], "Range")?.split(',').count();
    ensure(body.matches("\r\nContent-Range: ").count() == ranges, "a range is not there")
}

/// The archive has the members, times aside that Kubo takes from its clock.
fn same_members(row: &Value, tar: &[u8]) -> Outcome {
    let members: Vec<_> = tar::members(tar).collect();
    let expected = list(&row["tar"]);
    ensure(members.len() == expected.len(), format_args!("{} members", members.len()))?;
    for member in expected {
        let name = text(member, "name")?;
        let found = members.iter().find(|member| member.name.trim_end_matches('/') == name);
        let Some(found) = found else { return failed(format!("no {name}")) };
        let kind = match found.kind {
            b'0' => "file",
            b'2' => "symlink",
            b'5' => "dir",
            _ => return failed("an entry of another type"),
        };
        let (mode, mtime, link) = (found.mode, found.mtime, &found.link);
        let same = member["type"] == kind
            && member["size"] == found.bytes.len()
            && u64::from_str_radix(text(member, "mode")?, 8).ok() == Some(mode)
            && (member["mtime"] == "now" || member["mtime"] == mtime)
            && member["link"].as_str().unwrap_or_default() == link;
        ensure(same, format_args!("{name}: {kind} {} {mode:o} {mtime} {link}", found.bytes.len()))?;
    }
    Ok(())
}
