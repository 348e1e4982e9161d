//! `account`: the keys of a data directory. Works without a node.

use std::path::{Path, PathBuf};

use alloy_primitives::Address;
use lightstreams_crypto::keystore;
use serde_json::json;
use zeroize::Zeroizing;

use super::{args::AccountVerb, session::Session, wallet::Wallet};
use crate::{
    config::Config,
    datadir::{DataDir, make_private_dir, read_text_bounded, write_private_new},
    error::{NodeError, Result, io_error},
    secrets::{NodeIdentity, Password, PasswordSource, derivation_turn},
};

/// No keystore is longer.
const KEYSTORE_LEN_MAX: u64 = 16 * 1024;
/// A data directory is read for at most this many accounts.
const ACCOUNTS_MAX: usize = 1024;

/// Runs `account …`.
pub(crate) fn run(session: &Session, verb: &AccountVerb) -> Result<()> {
    match verb {
        AccountVerb::New => {
            let mut secret = Zeroizing::new([0; 32]);
            rand::Rng::fill_bytes(&mut rand::rng(), secret.as_mut());
            add(session, secret)
        }
        AccountVerb::List => list(session),
        AccountVerb::Import { file, import_password_file } => {
            let secret = read_key(file, import_password_file.clone())?;
            add(session, secret)
        }
    }
}

/// Writes a keystore for `secret`, and the node's identity if there is none.
fn add(session: &Session, secret: Zeroizing<[u8; 32]>) -> Result<()> {
    let dir = session.dir();
    let wallet = Wallet::from_secret(secret)?;
    let address = wallet.address();
    if find(dir, address)?.is_some() {
        return Err(NodeError::usage(
            "account_exists",
            format!("{address} is in {} already", dir.keystore().display()),
        ));
    }
    dir.create()?;
    make_private_dir(&dir.keystore())?;
    let password = session.password_source().read("password for keystore and identity", true)?;
    let had_identity = dir.identity().exists();
    let path = dir.keystore().join(format!("{}.json", hex::encode(address)));
    let identity = if had_identity {
        // One password unlocks both: a keystore under another would lock the node out of one of them.
        let identity = session.keyring().unlock_identity(&dir.identity(), password.clone())?;
        write_private_new(&path, seal(wallet.secret(), address, &password)?.as_bytes())?;
        identity
    } else {
        let identity = NodeIdentity::generate(&mut rand::rng());
        identity.save_new(&dir.identity(), &password, &mut rand::rng())?;
        write_private_new(&path, seal(wallet.secret(), address, &password)?.as_bytes())?;
        session.keyring().keep_identity(password, identity)
    };
    session.keyring().keep_wallet(&wallet);

    let public = identity.public()?;
    let mut config = Config::load_or_default(dir)?;
    config.recipient = Some(public.recipient.to_string());
    config.holder = Some(public.holder);
    // The first account is the one that acts unless told; `--account` names another.
    config.account = config.account.or(Some(address));
    config.save(dir)?;
    let mut lines = vec![format!("account    {address}"), format!("keystore   {}", path.display())];
    lines.push(format!(
        "recipient  {}{}",
        public.recipient,
        if had_identity { "" } else { " (new, in identity.age)" }
    ));
    session.out().result(
        &lines,
        &json!({
            "address": address.to_string(),
            "keystore": path.display().to_string(),
            "recipient": public.recipient.to_string(),
            "peer_id": public.peer_id.to_string(),
            "identity_created": !had_identity,
        }),
    )
}

fn seal(secret: &[u8; 32], address: Address, password: &Password) -> Result<String> {
    let _turn = derivation_turn();
    keystore::encrypt(secret, Some(&address.into_array()), password.expose().as_bytes(), &mut rand::rng())
        .map_err(|error| NodeError::new("keystore", "cannot encrypt the keystore").because(error))
}

fn list(session: &Session) -> Result<()> {
    let accounts = accounts(session.dir())?;
    let default = Config::load_or_default(session.dir())?.account;
    let lines: Vec<String> = accounts
        .iter()
        .map(|(address, path)| {
            let mark = if default == Some(*address) { "  (default)" } else { "" };
            format!("{address}  {}{mark}", path.display())
        })
        .collect();
    let rows: Vec<_> = accounts
        .iter()
        .map(|(address, path)| {
            json!({
                "address": address.to_string(),
                "keystore": path.display().to_string(),
                "default": default == Some(*address),
            })
        })
        .collect();
    session.out().result(&lines, &json!({ "accounts": rows }))
}

/// The accounts of a data directory with their keystore files, in order of the addresses.
pub(crate) fn accounts(dir: &DataDir) -> Result<Vec<(Address, PathBuf)>> {
    let path = dir.keystore();
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", &path, error)),
    };
    let mut found = Vec::new();
    for entry in entries.take(ACCOUNTS_MAX) {
        let path = entry.map_err(|error| io_error("read", &path, error))?.path();
        if let Some(address) = address_of(&path) {
            found.push((address, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The keystore file of `account`, if the directory has one.
pub(crate) fn find(dir: &DataDir, account: Address) -> Result<Option<PathBuf>> {
    Ok(accounts(dir)?.into_iter().find(|(address, _)| *address == account).map(|(_, path)| path))
}

/// The address that a keystore states; files of other tools carry it inside, ours in the name, too.
fn address_of(path: &Path) -> Option<Address> {
    #[derive(serde::Deserialize)]
    struct Named {
        address: String,
    }
    let text = read_text_bounded(path, KEYSTORE_LEN_MAX).ok()?;
    serde_json::from_str::<Named>(&text).ok()?.address.parse().ok()
}

fn open(path: &Path, text: &str, password: &Password) -> Result<Zeroizing<[u8; 32]>> {
    let _turn = derivation_turn();
    let opened = keystore::decrypt(text.as_bytes(), password.expose().as_bytes()).map_err(|error| {
        NodeError::usage("wrong_password", format!("cannot open {}", path.display()))
            .because(error)
            .hint("the password is wrong, or the file is damaged")
    })?;
    Ok(opened.key())
}

/// Reads a private key in hexadecimal, or a keystore of any tool.
fn read_key(path: &Path, password_file: Option<PathBuf>) -> Result<Zeroizing<[u8; 32]>> {
    let text = Zeroizing::new(read_text_bounded(path, KEYSTORE_LEN_MAX)?);
    if text.trim_start().starts_with('{') {
        let source = match password_file {
            Some(file) => PasswordSource::File(file),
            None => PasswordSource::choose(None, None),
        };
        return open(path, &text, &source.read(&format!("password of {}", path.display()), false)?);
    }
    let digits = text.trim();
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), key.as_mut()).map_err(|_| {
        NodeError::usage("bad_key", format!("{} is neither 64 hex digits nor a keystore", path.display()))
    })?;
    Ok(key)
}
