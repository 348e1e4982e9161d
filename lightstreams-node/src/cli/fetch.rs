//! `get`, `open`, `fetch`, `export` and `import`: a content's key and blocks on their way to its reader.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

use alloy_primitives::{B256, Bytes};
use cid::Cid;
use lightstreams_acl::ContentUri;
use lightstreams_crypto::{FileKey, Header, PayloadNonce, Recipient, X25519Identity, X25519Recipient};
use lightstreams_store::{Block, CarWriter};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    args::{ExportArgs, FetchArgs, GetArgs, ImportArgs},
    content::{self, Recorded},
    payload::{self, Moved, Source},
    pipe,
    session::{Session, Status},
    wallet::Wallet,
};
use crate::{
    adapters::now_s,
    config::Config,
    error::{Exit, NodeError, Result, io_error},
    units::{self, ByteRange},
    vault::{
        Answer, CustodianRecord, Domain, KeyRequest, Manifest, Metadata, PeerDelegation, RefusalCode,
        Release, Signed,
    },
};

/// How long a request for a key may be answered; the format allows ten minutes.
const REQUEST_SECONDS: u64 = 300;
/// How long this account lets the node speak for it.
const DELEGATION_SECONDS: u64 = 3600;

/// A content that is about to be read: what the chain and its author say of it, and who may give it.
struct Target {
    uri: ContentUri,
    recorded: Recorded,
    manifest: Manifest,
    custodians: Vec<CustodianRecord>,
    source: Source,
}

/// Runs `get`.
pub(super) async fn get(session: &Session, arguments: &GetArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let wallet = session.wallet()?;
    let target = resolve(session, &status, uri, !arguments.no_keep).await?;
    delegate(session, &status, &wallet).await?;
    let (release, file_key) = release(session, &status, &wallet, &target).await?;

    let metadata = Metadata::open(&target.manifest, &file_key).ok();
    let output = Output::choose(arguments, metadata.as_ref().map(|metadata| metadata.name.as_str()))?;
    let own = own_recipient(session, &status)?;
    let done = write(session, &target.source, &target.manifest, &file_key, arguments, &own, output).await?;
    if !arguments.no_keep {
        keep(session, &target, &file_key, &own).await?;
    }
    let receipt = &release.receipt;
    let mut lines = vec![format!("{} ({})", done.name, units::bytes(done.bytes))];
    lines.push(format!(
        "  released by {} at block {} ({}), version {}",
        hex::encode(receipt.holder),
        receipt.final_block.number,
        receipt.finality.as_str(),
        receipt.version
    ));
    if !arguments.no_keep {
        lines.push(format!(
            "  kept: lightstreams open {} works without chain, custodian and network",
            target.uri
        ));
    }
    session.out().result(
        &lines,
        &json!({
            "output": done.name,
            "bytes": done.bytes,
            "version": receipt.version,
            "name": metadata.as_ref().map(|metadata| metadata.name.clone()),
            "type": metadata.as_ref().map(|metadata| metadata.media_type.clone()),
            "holder": hex::encode(receipt.holder),
            "final_block": receipt.final_block.number,
            "finality": receipt.finality.as_str(),
            "receipt": hex::encode(Sha256::digest(receipt.encode())),
            "blocks_fetched": done.moved.blocks,
            "bytes_fetched": done.moved.bytes,
            "kept": !arguments.no_keep,
        }),
    )
}

/// Runs `open`: from the kept header and the node's own blocks alone.
pub(super) async fn open(session: &Session, arguments: &GetArgs) -> Result<()> {
    let uri: ContentUri = arguments.content.parse().map_err(|error| {
        NodeError::usage("bad_uri", format!("{} names no content", arguments.content)).because(error)
    })?;
    let kept = kept(session, &uri).await?;
    let source = Source { content: uri.to_string(), providers: Vec::new(), keep: true };
    let manifest = match payload::blocks(session, &source, &[kept.manifest]).await?.pop() {
        Some(block) => Manifest::decode(block.data())
            .map_err(|error| NodeError::new("bad_manifest", "the kept manifest is damaged").because(error))?,
        None => {
            return Err(NodeError::not_found(
                "no_manifest",
                "the manifest of the kept header is not in this store",
            ));
        }
    };
    let identity = session.identity()?;
    let (header, _) = Header::parse(&kept.header)
        .map_err(|error| NodeError::new("bad_header", "the kept header is damaged").because(error))?;
    let file_key = header
        .unwrap(&[identity.age()])
        .map_err(|error| NodeError::new("wrong_identity", "the kept header does not open").because(error))?;
    committed(&manifest, &file_key)?;

    let metadata = Metadata::open(&manifest, &file_key).ok();
    let output = Output::choose(arguments, metadata.as_ref().map(|metadata| metadata.name.as_str()))?;
    let own = identity.age().recipient();
    let done = write(session, &source, &manifest, &file_key, arguments, &own, output).await?;
    session.out().result(
        &[format!("{} ({}), from what was kept", done.name, units::bytes(done.bytes))],
        &json!({ "output": done.name, "bytes": done.bytes, "version": manifest.version.version }),
    )
}

/// Runs `fetch`: the encrypted blocks, without a key.
pub(super) async fn fetch(session: &Session, arguments: &FetchArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let wallet = session.wallet()?;
    let target = resolve(session, &status, uri, true).await?;
    delegate(session, &status, &wallet).await?;
    let since = Instant::now();
    let first = if arguments.absent {
        vec![*Block::raw(rand::random::<[u8; 32]>().to_vec()).cid()]
    } else {
        vec![target.manifest.header, target.manifest.payload]
    };
    let found = payload::blocks(session, &target.source, &first).await?;
    let ms = since.elapsed().as_millis() as u64;
    let mut fetched = found.len() as u64;
    let mut wanted = first.len() as u64;
    if !arguments.absent && found.len() == first.len() {
        let bar = session.out().bytes("fetching", target.manifest.size);
        let (_, moved) = payload::copy(session, &target.source, &target.manifest, io::sink(), &bar).await?;
        bar.finish_and_clear();
        fetched = moved.blocks + 1;
        wanted = payload::shape(&target.manifest)?.block_count() + 1;
    }
    let answer = if fetched == 0 { "absent" } else { "given" };
    session.out().result(
        &[format!("{fetched} of {wanted} blocks: {answer}")],
        &json!({ "wanted": wanted, "fetched": fetched, "answer": answer, "ms": ms }),
    )
}

/// Runs `export`: manifest, header and payload that this node holds, as a CAR file.
pub(super) async fn export(session: &Session, arguments: &ExportArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let recorded = content::recorded(session, &status, &uri).await?;
    let source = Source { content: uri.to_string(), providers: Vec::new(), keep: true };
    let manifest = content::manifest(session, &uri, &recorded, &source).await?;
    let absent = || {
        NodeError::not_found("not_here", "this node does not hold all blocks of the content")
            .hint("`lightstreams fetch` gets them, if the chain allows it")
    };
    let header = payload::blocks(session, &source, &[manifest.header]).await?.pop().ok_or_else(absent)?;
    let manifest_block = manifest.to_block();
    let part = part_of(&arguments.output);
    let file = File::create(&part).map_err(|error| io_error("write", &part, error))?;
    let mut car = CarWriter::new(BufWriter::new(file), &[*manifest_block.cid()])
        .map_err(|error| io_error("write", &part, error))?;
    for block in [&manifest_block, &header] {
        car.write(block).map_err(|error| io_error("write", &part, error))?;
    }
    let bar = session.out().bytes("exporting", manifest.size);
    let (car, moved) = payload::car(session, &source, &manifest, car, &bar).await?;
    bar.finish_and_clear();
    let finished = car
        .finish()
        .and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error))
        .and_then(|file| file.sync_all());
    finished
        .and_then(|()| std::fs::rename(&part, &arguments.output))
        .map_err(|error| io_error("write", &arguments.output, error))?;
    let blocks = moved.blocks + 2;
    session.out().result(
        &[format!("{blocks} encrypted blocks in {}", arguments.output.display())],
        &json!({ "blocks": blocks, "output": arguments.output.display().to_string() }),
    )
}

/// Runs `import`.
pub(super) async fn import(session: &Session, arguments: &ImportArgs) -> Result<()> {
    #[derive(Deserialize)]
    struct Stored {
        blocks: u64,
        bytes: u64,
    }
    let path = arguments.file.clone();
    let file = File::open(&path).map_err(|error| io_error("read", &path, error))?;
    let len = file.metadata().map_err(|error| io_error("read", &path, error))?.len();
    let bar = session.out().bytes("importing", len);
    let (writer, stream) = pipe::writer();
    let progress = bar.clone();
    // The file goes as it is: the node reads it block by block, and says which one it cannot take.
    let work = tokio::task::spawn_blocking(move || {
        let mut writer = writer;
        match io::copy(&mut progress.wrap_read(file), &mut writer) {
            Ok(_) => writer.finish(),
            Err(error) => {
                writer.fail("reading the CAR file stopped");
                Err(error)
            }
        }
    });
    let stored =
        session.client().put_stream::<Stored, _>("/v1/blocks", "application/vnd.ipld.car", stream).await;
    let copied = work.await.map_err(|error| NodeError::new("import", "reading stopped").because(error))?;
    bar.finish_and_clear();
    let stored = match (copied, stored) {
        // A pipe that the node closed only follows from what it answered.
        (Err(error), Err(_)) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(io_error("read", &path, error));
        }
        (_, stored) => stored?,
    };
    session.out().result(
        &[format!("{} blocks, {}", stored.blocks, units::bytes(stored.bytes))],
        &json!({ "blocks": stored.blocks, "bytes": stored.bytes }),
    )
}

/// Looks the content up on chain, and fetches and checks its manifest.
async fn resolve(session: &Session, status: &Status, uri: ContentUri, keep: bool) -> Result<Target> {
    let recorded = content::recorded(session, status, &uri).await?;
    let custodians = content::custodians(session, status, &uri, recorded.version.version).await?;
    let mut providers: Vec<String> = Vec::new();
    for endpoint in custodians.iter().flat_map(|record| &record.endpoints) {
        if !providers.contains(endpoint) {
            providers.push(endpoint.clone());
        }
    }
    let source = Source { content: uri.to_string(), providers, keep };
    let manifest = content::manifest(session, &uri, &recorded, &source).await?;
    Ok(Target { uri, recorded, manifest, custodians, source })
}

/// Lets this node speak for the account to its peers, so that they serve it what the account may read.
async fn delegate(session: &Session, status: &Status, wallet: &Wallet) -> Result<()> {
    let peer: libp2p::PeerId = status.peer_id.parse().map_err(|_| {
        NodeError::new("node_answer", "the node's status names no peer id").exit(Exit::Unreachable)
    })?;
    let now = now_s();
    let msg = PeerDelegation {
        peer_id: peer.to_bytes(),
        account: wallet.address(),
        not_before: now.saturating_sub(60),
        not_after: now.saturating_add(DELEGATION_SECONDS),
        nonce: B256::from(rand::random::<[u8; 32]>()),
    };
    let signed = sign(wallet, Domain { chain_id: status.chain_id, registry: status.registry()? }, msg)?;
    let message = json!({ "message": Bytes::from(signed.encode()) });
    let _: Value = session.client().post("/v1/delegation", &message).await?;
    Ok(())
}

fn sign<T: crate::vault::Message>(wallet: &Wallet, domain: Domain, msg: T) -> Result<Signed<T>> {
    let mut signed = Signed { domain, msg, sig: Vec::new() };
    signed.sig = wallet.sign_typed(signed.digest())?.to_vec();
    Ok(signed)
}

/// Asks the custodians in turn for the key, and believes none that does not match the manifest.
async fn release(
    session: &Session,
    status: &Status,
    wallet: &Wallet,
    target: &Target,
) -> Result<(Release, FileKey)> {
    #[derive(Deserialize)]
    struct Relayed {
        answer: Bytes,
    }
    let mut last = NodeError::not_found("no_custodian", format!("nobody is in custody of {}", target.uri))
        .hint("ask its owner to name a custodian");
    for custodian in &target.custodians {
        let one_time = X25519Identity::generate(&mut rand::rng());
        let mut recipient = vec![1];
        recipient.extend_from_slice(one_time.recipient().as_bytes());
        let msg = KeyRequest {
            content: target.uri.content.0,
            manifest: target.recorded.digest,
            reader: wallet.address(),
            recipient,
            holder: custodian.holder,
            not_after: now_s().saturating_add(REQUEST_SECONDS),
            nonce: B256::from(rand::random::<[u8; 32]>()),
        };
        let signed = sign(wallet, Domain { chain_id: status.chain_id, registry: target.uri.registry }, msg)?;
        let request = json!({
            "holder": custodian.holder,
            "endpoints": custodian.endpoints,
            "request": Bytes::from(signed.encode()),
        });
        let waiting = session.out().wait(format!("asking {} for the key", custodian.account));
        let relayed = session.client().post::<Relayed>("/v1/release", &request).await;
        waiting.finish_and_clear();
        let relayed = match relayed {
            Ok(relayed) => relayed,
            Err(error) => {
                last = error;
                continue;
            }
        };
        match answered(&relayed.answer, custodian, &signed, target, &one_time) {
            Ok(released) => return Ok(released),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads a custodian's answer: a key that matches, or the reason that it signed.
fn answered(
    answer: &[u8],
    custodian: &CustodianRecord,
    request: &Signed<KeyRequest>,
    target: &Target,
    one_time: &X25519Identity,
) -> Result<(Release, FileKey)> {
    let lies =
        |what: &str| NodeError::new("bad_release", format!("the custodian's answer {what}")).exit(Exit::Peer);
    let answer = Answer::decode(answer).map_err(|error| lies("makes no sense").because(error))?;
    if !answer.verify(&custodian.holder, &request.digest()) {
        return Err(lies("is not signed by it for this request"));
    }
    let release = match answer {
        Answer::Release(release) => release,
        Answer::Refusal(signed) => return Err(refused(signed.refusal.code, &target.uri)),
    };
    let receipt = &release.receipt;
    let told = (receipt.content, receipt.reader, receipt.version, receipt.revision, receipt.epoch);
    let version = target.recorded.version;
    if told != (target.uri.content.0, request.msg.reader, version.version, version.revision, version.epoch) {
        return Err(lies("carries a receipt of something else"));
    }
    let (header, used) =
        Header::parse(&release.header).map_err(|error| lies("carries no header").because(error))?;
    if used != release.header.len()
        || receipt.header_hash.as_slice() != Sha256::digest(&release.header).as_slice()
    {
        return Err(lies("carries another header than its receipt says"));
    }
    let file_key = header
        .unwrap(&[one_time])
        .map_err(|error| lies("carries a header that does not open").because(error))?;
    committed(&target.manifest, &file_key)?;
    Ok((release, file_key))
}

/// A typed refusal as the error of a verb.
fn refused(code: RefusalCode, uri: &ContentUri) -> NodeError {
    let hint = match code {
        RefusalCode::NotGranted => format!("buy it (`lightstreams buy {uri}`) or ask its owner for a grant"),
        RefusalCode::NotFinal
        | RefusalCode::StaleView
        | RefusalCode::RateLimited
        | RefusalCode::Unavailable => "try again in a few seconds".to_owned(),
        RefusalCode::Expired => format!("buy it again (`lightstreams buy {uri}`) or ask its owner"),
        RefusalCode::Revoked => "its owner took the grant back; ask them".to_owned(),
        RefusalCode::WrongVersion => "name a version that is recorded, or none for the newest".to_owned(),
        _ => "ask the operator of the custodian's node".to_owned(),
    };
    NodeError::new(code.as_str(), format!("the custodian refuses to release the key: {}", code.as_str()))
        .exit(Exit::Refused)
        .hint(hint)
}

fn committed(manifest: &Manifest, file_key: &FileKey) -> Result<()> {
    if manifest.commits_to(file_key) {
        return Ok(());
    }
    Err(NodeError::new("commitment_mismatch", "the key is not the one that the manifest commits to")
        .exit(Exit::Peer))
}

/// The recipient of this data directory's identity: kept headers are wrapped to it.
fn own_recipient(session: &Session, status: &Status) -> Result<X25519Recipient> {
    let text = Config::load_or_default(session.dir())?.recipient.or_else(|| status.recipient.clone());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        NodeError::not_found("no_identity", "this data directory has no age identity to keep the key for")
            .hint("`lightstreams account new` makes one; --no-keep goes without")
    })
}

/// Gives the node a header that this directory's identity opens, to keep.
async fn keep(session: &Session, target: &Target, file_key: &FileKey, own: &X25519Recipient) -> Result<()> {
    let header = wrap(file_key, own)?;
    let path = format!("/v1/kept/{}/{}", target.uri.content, target.recorded.version.version);
    let body = json!({
        "uri": target.uri.to_string(),
        "manifest": Manifest::cid_of(&target.recorded.digest).to_string(),
        "header": Bytes::from(header.as_bytes().to_vec()),
    });
    let _: Value = session.client().put(&path, &body).await?;
    Ok(())
}

fn wrap(file_key: &FileKey, own: &X25519Recipient) -> Result<Header> {
    Header::wrap(file_key, &[own as &dyn Recipient], &mut rand::rng())
        .map_err(|error| NodeError::new("wrap", "cannot wrap the key for this identity").because(error))
}

/// A header that this reader kept.
struct KeptHeader {
    manifest: Cid,
    header: Vec<u8>,
}

async fn kept(session: &Session, uri: &ContentUri) -> Result<KeptHeader> {
    #[derive(Deserialize)]
    struct List {
        kept: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        content: B256,
        version: u32,
    }
    #[derive(Deserialize)]
    struct One {
        manifest: String,
        header: Bytes,
    }
    let list: List = session.client().get("/v1/kept").await?;
    let newest = list
        .kept
        .iter()
        .filter(|row| {
            row.content == uri.content.0 && uri.version.is_none_or(|version| version == row.version)
        })
        .map(|row| row.version)
        .max();
    let version = newest.ok_or_else(|| {
        NodeError::not_found("not_kept", format!("no header of {uri} is kept here"))
            .hint(format!("`lightstreams get {uri}` asks for the key, and keeps it"))
    })?;
    let one: One = session.client().get(&format!("/v1/kept/{}/{version}", uri.content)).await?;
    let manifest = one
        .manifest
        .parse()
        .map_err(|_| NodeError::new("bad_header", "the kept header names no manifest"))?;
    Ok(KeptHeader { manifest, header: one.header.to_vec() })
}

/// Where plaintext goes.
enum Output {
    Stdout,
    File { path: PathBuf, part: PathBuf, file: File },
}

impl Output {
    fn choose(arguments: &GetArgs, published: Option<&str>) -> Result<Self> {
        let path = match &arguments.output {
            Some(path) if path.as_os_str() == "-" => return Ok(Self::Stdout),
            Some(path) => path.clone(),
            None => {
                // A published name is somebody else's word: only its last part counts, and nothing is overwritten.
                let name = published.and_then(|name| Path::new(name).file_name()).ok_or_else(|| {
                    NodeError::usage("no_output", "the content has no name to write to")
                        .hint("name a file with --output")
                })?;
                let path = PathBuf::from(name);
                if path.exists() {
                    return Err(NodeError::usage("output_exists", format!("{} exists", path.display()))
                        .hint("name another file with --output"));
                }
                path
            }
        };
        let part = part_of(&path);
        let file = File::create(&part).map_err(|error| io_error("write", &part, error))?;
        Ok(Self::File { path, part, file })
    }
}

/// The name under which a file is written until it is whole.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

struct Done {
    name: String,
    bytes: u64,
    moved: Moved,
}

/// Writes plaintext, or with `--age` the encrypted file, to where it goes. A file appears under its name when it is whole.
async fn write(
    session: &Session,
    source: &Source,
    manifest: &Manifest,
    file_key: &FileKey,
    arguments: &GetArgs,
    own: &X25519Recipient,
    output: Output,
) -> Result<Done> {
    match output {
        Output::Stdout => {
            let (_, bytes, moved) =
                write_to(session, source, manifest, file_key, arguments, own, io::stdout()).await?;
            Ok(Done { name: "-".to_owned(), bytes, moved })
        }
        Output::File { path, part, file } => {
            let written = write_to(session, source, manifest, file_key, arguments, own, file).await;
            let (file, bytes, moved) = match written {
                Ok(written) => written,
                Err(error) => {
                    // What is there is not whole; the error says why.
                    let _ = std::fs::remove_file(&part);
                    return Err(error);
                }
            };
            file.sync_all()
                .and_then(|()| std::fs::rename(&part, &path))
                .map_err(|error| io_error("write", &path, error))?;
            Ok(Done { name: path.display().to_string(), bytes, moved })
        }
    }
}

async fn write_to<W: Write + Send + 'static>(
    session: &Session,
    source: &Source,
    manifest: &Manifest,
    file_key: &FileKey,
    arguments: &GetArgs,
    own: &X25519Recipient,
    mut out: W,
) -> Result<(W, u64, Moved)> {
    let wanted = wanted(arguments.range, manifest.size)?;
    let bar = session.out().bytes("decrypting", wanted.end - wanted.start);
    let (out, bytes, moved) = if arguments.age {
        let head = wrap(file_key, own)?.to_block(&PayloadNonce::from_bytes(manifest.nonce));
        out.write_all(&head)
            .map_err(|error| NodeError::new("output", "cannot write the output").because(error))?;
        let (out, moved) = payload::copy(session, source, manifest, out, &bar).await?;
        let payload = payload::shape(manifest)?.payload_len();
        (out, head.len() as u64 + payload, moved)
    } else {
        let bytes = wanted.end - wanted.start;
        let (out, moved) = payload::decrypt(session, source, manifest, file_key, wanted, out, &bar).await?;
        (out, bytes, moved)
    };
    bar.finish_and_clear();
    Ok((out, bytes, moved))
}

fn wanted(range: Option<ByteRange>, size: u64) -> Result<Range<u64>> {
    match range {
        None => Ok(0..size),
        Some(range) if range.last < size => Ok(range.first..range.last + 1),
        Some(range) => Err(NodeError::usage(
            "bad_range",
            format!("the file has {size} bytes, and the range ends at byte {}", range.last),
        )),
    }
}
