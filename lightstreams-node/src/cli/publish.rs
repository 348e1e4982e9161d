//! `publish`: encrypt, store, register, and offer for sale if asked.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use alloy_primitives::{Address, B256, Bytes};
use cid::Cid;
use indicatif::ProgressBar;
use lightstreams_acl::{ContentId, ContentRegistry, ContentUri, Custodians, content_id};
use lightstreams_crypto::{
    FileKey, Header, PayloadEncryptor, PayloadKey, PayloadNonce, Recipient, X25519Recipient, commitment,
};
use lightstreams_store::{
    Block, CarWriter, EnvelopeChunker, FileBuilder, StoreError, StoreOp, readable_root,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::PublishArgs,
    content, market, pipe,
    session::{Sent, Session, Status},
    wallet::Wallet,
};
use crate::{
    config::Config,
    error::{NodeError, Result, io_error},
    units,
    vault::{Domain, Manifest, Metadata, Place, VersionInfo},
};

/// What the encrypting side learned.
struct Sealed {
    manifest: Manifest,
    readable: Cid,
}

/// What the node stored.
#[derive(Deserialize)]
struct Stored {
    blocks: u64,
}

/// Runs `publish`.
pub(super) async fn run(session: &Session, arguments: &PublishArgs) -> Result<()> {
    let status = session.status().await?;
    let path = arguments.file.canonicalize().map_err(|error| io_error("read", &arguments.file, error))?;
    let len = path.metadata().map_err(|error| io_error("read", &path, error))?.len();
    let wallet = session.wallet()?;
    let owner = wallet.address();
    let mut transactions = Vec::new();

    let custodians = custody(session, &status, &wallet, arguments, &mut transactions).await?;
    let recipients = recipients(session, &status, arguments, &custodians).await?;
    let salt = B256::from(rand::random::<[u8; 32]>());
    let registry = status.registry()?;
    let id = content_id(status.chain_id, registry, owner, salt);
    let uri = ContentUri { chain: status.chain_id, registry, content: id, version: None };

    let bar = session.out().bytes("encrypting", len);
    let job = Job {
        place: Place { domain: Domain { chain_id: status.chain_id, registry }, content: id },
        recipients,
        leaf_chunks: arguments.k,
        metadata: Metadata {
            name: name(arguments, &path),
            media_type: arguments.media_type.clone(),
            ext: None,
        },
        path: path.clone(),
        bar: bar.clone(),
    };
    let (wallet, sealed, stored) = upload(session, wallet, job, id).await?;
    bar.finish_and_clear();
    let manifest = &sealed.manifest;
    let digest = manifest.digest();
    let indexed = json!({ "uri": uri.to_string(), "manifest": Manifest::cid_of(&digest).to_string(), "origin": "published" });
    let _: Value = session.client().post("/v1/contents", &indexed).await?;

    transactions.push(register(session, &status, &wallet, arguments, &custodians, salt, id, digest).await?);
    let mut plan = None;
    if let Some(price) = arguments.terms.price {
        let (listed, id) = market::list(session, &status, &wallet, &uri, price, &arguments.terms).await?;
        transactions.push(("list".to_owned(), listed));
        plan = Some(id);
    }
    if let Some((_, last)) = transactions.last() {
        session.finality(last.block).await?;
    }

    let mut lines = vec![
        uri.to_string(),
        format!(
            "  {} in {} blocks, manifest {}",
            units::bytes(manifest.size),
            stored.blocks,
            Manifest::cid_of(&digest)
        ),
    ];
    lines.extend(
        transactions.iter().map(|(what, sent)| format!("  {what}: {} in block {}", sent.hash, sent.block)),
    );
    let rows: Vec<Value> = transactions
        .iter()
        .map(|(what, sent)| json!({ "what": what, "hash": sent.hash, "block": sent.block }))
        .collect();
    session.out().result(
        &lines,
        &json!({
            "uri": uri.to_string(),
            "content": id.to_string(),
            "version": 1,
            "source": path.display().to_string(),
            "digest": digest,
            "manifest": Manifest::cid_of(&digest).to_string(),
            "header": manifest.header.to_string(),
            "payload": manifest.payload.to_string(),
            "readable": sealed.readable.to_string(),
            "bytes": manifest.size,
            "blocks": stored.blocks,
            "transactions": rows,
            "plan": plan.map(|plan| plan.to_string()),
        }),
    )
}

fn name(arguments: &PublishArgs, path: &Path) -> String {
    let of_file = || path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    arguments.name.clone().unwrap_or_else(of_file)
}

/// Chooses the custodians; this node's operator is one, and its record on chain is brought up to date first.
async fn custody(
    session: &Session,
    status: &Status,
    wallet: &Wallet,
    arguments: &PublishArgs,
    transactions: &mut Vec<(String, Sent)>,
) -> Result<Vec<Address>> {
    let mut custodians = Vec::new();
    if status.operator == Some(wallet.address()) {
        custodians.push(wallet.address());
        #[derive(Deserialize)]
        struct Signed {
            record: Bytes,
        }
        let fresh: Signed =
            session.client().post("/v1/custodian", &json!({ "account": wallet.address() })).await?;
        let contract = Custodians::at(status.custodians()?);
        if session.call(contract.record_of(wallet.address())).await? != fresh.record {
            let sent =
                session.send(wallet, "record this custodian", contract.set_record(fresh.record)).await?;
            transactions.push(("custodian".to_owned(), sent));
        }
    }
    for account in &arguments.custodians {
        if !custodians.contains(account) {
            custodians.push(*account);
        }
    }
    if custodians.is_empty() {
        return Err(NodeError::usage("no_custodian", "nobody would release the key of this content")
            .hint("publish with the account that operates this node, or name a custodian with --custodian"));
    }
    Ok(custodians)
}

/// Who the key is wrapped to: this directory's identity, the recovery recipients, the custodians.
async fn recipients(
    session: &Session,
    status: &Status,
    arguments: &PublishArgs,
    custodians: &[Address],
) -> Result<Vec<X25519Recipient>> {
    let parse = |text: &str| {
        text.parse::<X25519Recipient>().map_err(|error| {
            NodeError::usage("bad_recipient", format!("{text} is no age recipient")).because(error)
        })
    };
    let own = Config::load_or_default(session.dir())?.recipient.or_else(|| status.recipient.clone());
    let own = own.ok_or_else(|| {
        NodeError::not_found("no_identity", "neither this data directory nor the node has an age identity")
            .hint("`lightstreams account new` makes one")
    })?;
    let mut recipients = vec![parse(&own)?];
    let mut add = |recipient: X25519Recipient| {
        if !recipients.iter().any(|known| known.as_bytes() == recipient.as_bytes()) {
            recipients.push(recipient);
        }
    };
    for text in &arguments.recovery {
        add(parse(text)?);
    }
    for account in custodians {
        let record = content::custodian(session, status, *account).await?.ok_or_else(|| {
            NodeError::not_found(
                "no_custodian",
                format!("{account} has no custodian's record on chain that can be believed"),
            )
            .hint("its operator publishes one with the first `lightstreams publish`")
        })?;
        let keys = record.recipients.iter().filter_map(|key| match key.split_first() {
            Some((1, key)) => {
                <[u8; 32]>::try_from(key).ok().and_then(|key| X25519Recipient::from_bytes(key).ok())
            }
            _ => None,
        });
        keys.for_each(&mut add);
    }
    Ok(recipients)
}

/// All that the encrypting thread needs.
struct Job {
    place: Place,
    recipients: Vec<X25519Recipient>,
    leaf_chunks: u8,
    metadata: Metadata,
    path: std::path::PathBuf,
    bar: ProgressBar,
}

/// Encrypts in one thread while the blocks travel in another; returns when all of them are durable.
async fn upload(
    session: &Session,
    wallet: Wallet,
    job: Job,
    id: ContentId,
) -> Result<(Wallet, Sealed, Stored)> {
    let (mut writer, stream) = pipe::writer();
    let wallet = Arc::new(wallet);
    let signer = Arc::clone(&wallet);
    let work = tokio::task::spawn_blocking(move || {
        let sealed = seal(&job, &signer, &mut writer);
        match sealed {
            Ok(sealed) => writer
                .finish()
                .map(|()| sealed)
                .map_err(|error| NodeError::new("upload", "sending the blocks failed").because(error)),
            Err(error) => {
                writer.fail("encryption stopped");
                Err(error)
            }
        }
    });
    let path = format!("/v1/blocks?content={id}&origin=published");
    let stored = session.client().put_stream(&path, "application/vnd.ipld.car", stream).await;
    let sealed =
        work.await.map_err(|error| NodeError::new("encrypt", "encryption stopped").because(error))?;
    let wallet =
        Arc::try_unwrap(wallet).map_err(|_| NodeError::new("encrypt", "the wallet is still in use"))?;
    // Where the node refused, its word is the reason; the broken pipe on this side only follows from it.
    let stored: Stored = stored?;
    Ok((wallet, sealed?, stored))
}

/// Writes P, H, R and M to `out` as a CAR and gives what names them.
fn seal(job: &Job, wallet: &Wallet, out: &mut pipe::PipeWriter) -> Result<Sealed> {
    let rng = &mut rand::rng();
    let broken = |error: io::Error| NodeError::new("upload", "sending the blocks failed").because(error);
    let crypto =
        |error: lightstreams_crypto::Error| NodeError::new("encrypt", "encryption failed").because(error);
    let file_key = FileKey::generate(rng);
    let nonce = PayloadNonce::generate(rng);

    // The root is not known yet; the reader of this stream asks for none.
    let placeholder = Cid::default();
    let mut car = CarWriter::new(out, &[placeholder]).map_err(broken)?;
    let file = File::open(&job.path).map_err(|error| io_error("read", &job.path, error))?;
    let mut read = 0;
    let counted = Counted { file, read: &mut read, bar: &job.bar };
    let mut payload = PayloadEncryptor::new(PayloadKey::derive(&file_key, &nonce), counted);
    let chunker = EnvelopeChunker::new(job.leaf_chunks)
        .ok_or_else(|| NodeError::usage("bad_leaf", "a leaf holds 1, 4 or 15 chunks"))?;
    let mut sink = |block: Block| {
        car.write(&block).map_err(|error| StoreError::new(StoreOp::Put, error).on(block.cid()))
    };
    let root = FileBuilder::new(chunker).build(&mut payload, &mut sink).map_err(|error| {
        NodeError::new("encrypt", format!("cannot encrypt {}", job.path.display())).because(error)
    })?;
    drop(payload);

    let wraps: Vec<&dyn Recipient> =
        job.recipients.iter().map(|recipient| recipient as &dyn Recipient).collect();
    let header = Header::wrap(&file_key, &wraps, rng).map_err(crypto)?;
    let header = Block::raw(header.to_block(&nonce));
    let readable = readable_root(&header, &root.cid, root.size, root.tsize);
    let version = VersionInfo { version: 1, epoch: 0, revision: 0 };
    let mut manifest = Manifest {
        size: read,
        nonce: *nonce.as_bytes(),
        commitment: commitment(&file_key, &nonce, &job.place.ctx(version.epoch, version.version)),
        payload: root.cid,
        header: *header.cid(),
        leaf_chunks: job.leaf_chunks,
        version,
        previous: None,
        place: job.place,
        metadata: Vec::new(),
        card: None,
        author: wallet.address(),
        sig: Vec::new(),
    };
    let sealed = job.metadata.seal(&file_key, &nonce, &job.place.content, version.version, rng);
    manifest.metadata = sealed.map_err(|error| {
        NodeError::usage("bad_metadata", "name and type do not fit into the metadata").because(error)
    })?;
    manifest.sig = wallet.sign_typed(manifest.signing_hash())?.to_vec();
    for block in [&header, &readable, &manifest.to_block()] {
        car.write(block).map_err(broken)?;
    }
    car.finish().map_err(broken)?;
    Ok(Sealed { readable: *readable.cid(), manifest })
}

/// Counts what the encryption reads, for the manifest and the progress bar.
struct Counted<'a> {
    file: File,
    read: &'a mut u64,
    bar: &'a ProgressBar,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        *self.read += n as u64;
        self.bar.inc(n as u64);
        Ok(n)
    }
}

/// Registers the content, its custody and, for a sale, the market: in one transaction.
#[expect(clippy::too_many_arguments, reason = "one transaction says all of it")]
async fn register(
    session: &Session,
    status: &Status,
    wallet: &Wallet,
    arguments: &PublishArgs,
    custodians: &[Address],
    salt: B256,
    id: ContentId,
    digest: B256,
) -> Result<(String, Sent)> {
    let registry = ContentRegistry::at(status.registry()?);
    let mut calls =
        vec![registry.register(salt, digest, 0).data, registry.set_custody(id, custodians.to_vec()).data];
    if arguments.terms.price.is_some() {
        calls.push(registry.set_module(id, status.market()?, true).data);
    }
    let sent = session.send(wallet, "register the content", registry.multicall(calls)).await?;
    Ok(("register".to_owned(), sent))
}
