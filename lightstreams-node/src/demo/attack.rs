//! What a stranger tries, with the same library that honest parties use.

use std::{fs::File, io::BufReader, path::Path, sync::Arc};

use alloy_primitives::{Address, B256};
use lightstreams_acl::{ContentRegistry, ContentUri, content_id};
use lightstreams_crypto::{Error, Header};
use lightstreams_store::{CarReader, CarWriter, RAW};
use serde_json::{Value, json};

use super::promise;
use crate::{
    cli::{args::Common, content, payload::Source, pipe, runtime, session::Session},
    datadir::DataDir,
    error::{NodeError, Result, io_error},
    secrets::{NodeIdentity, PasswordSource},
    vault::{Manifest, VersionInfo},
};

/// Tries the stranger's identity on every header in a copy of the ciphertext; none must open.
pub(super) fn identity_opens_nothing(car: &Path, data: &Path, password: &Path) -> Result<()> {
    let password = PasswordSource::File(password.to_owned()).read("password", false)?;
    let identity = NodeIdentity::load(&DataDir::new(data).identity(), &password)?;
    let file = File::open(car).map_err(|error| io_error("read", car, error))?;
    let broken = |error| NodeError::new("demo", "the copy of the blocks is damaged").because(error);
    let mut headers = 0;
    for block in CarReader::new(BufReader::new(file)).map_err(broken)? {
        let block = block.map_err(broken)?;
        if block.cid().codec() != RAW {
            continue;
        }
        let Ok((header, _)) = Header::parse_block(block.data()) else { continue };
        headers += 1;
        match header.unwrap(&[identity.age()]) {
            Err(Error::NoMatchingIdentity) => {}
            Err(error) => return Err(promise(format!("a header answers a stranger with {error}"))),
            Ok(_) => return Err(promise("a stranger's identity opened the header")),
        }
    }
    if headers == 0 { Err(promise("the copy of the blocks holds no header to try")) } else { Ok(()) }
}

/// Registers the payload, nonce, commitment and header of `original` as a content of the stranger's own, in the
/// custody of the same custodian; gives its URI.
pub(super) fn register_copy(data: &Path, password: &Path, custodian: &str, original: &str) -> Result<String> {
    let common = Common {
        data: Some(data.to_owned()),
        node: None,
        socket: None,
        account: None,
        password_file: Some(password.to_owned()),
        json: true,
        yes: true,
    };
    let custodian: Address =
        custodian.parse().map_err(|_| NodeError::new("demo", format!("{custodian} is no account")))?;
    let session = Session::open(common, Arc::default())?;
    runtime()?.block_on(copy(&session, custodian, original))
}

async fn copy(session: &Session, custodian: Address, original: &str) -> Result<String> {
    let status = session.status().await?;
    let uri = session.content(original, &status)?;
    let wallet = session.wallet()?;
    let recorded = content::recorded(session, &status, &uri).await?;
    let custodians = content::custodians(session, &status, &uri, recorded.version.version).await?;
    let providers = custodians.into_iter().flat_map(|record| record.endpoints).collect();
    let source = Source { content: uri.to_string(), providers, keep: false };
    let victim = content::manifest(session, &uri, &recorded, &source).await?;

    let salt = B256::from(rand::random::<[u8; 32]>());
    let id = content_id(uri.chain, uri.registry, wallet.address(), salt);
    let own = ContentUri { content: id, ..uri };
    let mut manifest = Manifest {
        place: content::place(&own),
        version: VersionInfo { version: 1, epoch: 0, revision: 0 },
        previous: None,
        author: wallet.address(),
        sig: Vec::new(),
        ..victim
    };
    manifest.sig = wallet.sign_typed(manifest.signing_hash())?.to_vec();
    let block = manifest.to_block();

    let (mut writer, stream) = pipe::writer();
    let root = *block.cid();
    let send = tokio::task::spawn_blocking(move || {
        let mut car = CarWriter::new(&mut writer, &[root])?;
        car.write(&block)?;
        car.finish()?;
        writer.finish()
    });
    let path = format!("/v1/blocks?content={id}&origin=published");
    let _: Value = session.client().put_stream(&path, "application/vnd.ipld.car", stream).await?;
    send.await
        .map_err(|error| NodeError::new("demo", "sending stopped").because(error))?
        .map_err(|error| NodeError::new("demo", "sending failed").because(error))?;
    let indexed = json!({ "uri": own.to_string(), "manifest": root.to_string(), "origin": "published" });
    let _: Value = session.client().post("/v1/contents", &indexed).await?;

    let registry = ContentRegistry::at(uri.registry);
    let calls =
        [registry.register(salt, manifest.digest(), 0).data, registry.set_custody(id, vec![custodian]).data];
    let sent = session.send(&wallet, "register a copy", registry.multicall(calls)).await?;
    session.finality(sent.block).await?;
    Ok(own.to_string())
}
