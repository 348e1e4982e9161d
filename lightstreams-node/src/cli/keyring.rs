//! The keys that this process has unlocked: a password costs a second of work, so each is derived once.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alloy_primitives::Address;
use zeroize::Zeroizing;

use super::wallet::Wallet;
use crate::{
    error::Result,
    secrets::{NodeIdentity, Password},
};

/// A process unlocks at most this many accounts.
const ACCOUNTS_MAX: usize = 1024;

/// Unlocked keys of one data directory, in memory only; wiped when dropped.
#[derive(Default)]
pub(crate) struct Keyring {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    accounts: HashMap<Address, Zeroizing<[u8; 32]>>,
    identity: Option<(Password, Arc<NodeIdentity>)>,
}

impl Keyring {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account's key, if it is unlocked.
    pub(crate) fn wallet(&self, account: Address) -> Result<Option<Wallet>> {
        let secret = self.held().accounts.get(&account).cloned();
        secret.map(Wallet::from_secret).transpose()
    }

    /// Keeps an account unlocked.
    pub(crate) fn keep_wallet(&self, wallet: &Wallet) {
        let mut held = self.held();
        if held.accounts.len() < ACCOUNTS_MAX {
            held.accounts.insert(wallet.address(), Zeroizing::new(*wallet.secret()));
        }
    }

    /// The identity, if it is unlocked.
    pub(crate) fn identity(&self) -> Option<Arc<NodeIdentity>> {
        self.held().identity.as_ref().map(|(_, identity)| Arc::clone(identity))
    }

    /// The identity at `path`, which `password` must open.
    pub(crate) fn unlock_identity(&self, path: &Path, password: Password) -> Result<Arc<NodeIdentity>> {
        if let Some((known, identity)) = &self.held().identity
            && known.expose() == password.expose()
        {
            return Ok(Arc::clone(identity));
        }
        let identity = NodeIdentity::load(path, &password)?;
        Ok(self.keep_identity(password, identity))
    }

    /// Keeps the identity unlocked, which `password` opens.
    pub(crate) fn keep_identity(&self, password: Password, identity: NodeIdentity) -> Arc<NodeIdentity> {
        let identity = Arc::new(identity);
        self.held().identity = Some((password, Arc::clone(&identity)));
        identity
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_is_open_is_given_for_its_own_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.age");
        let rng = &mut rand::rng();
        let made = NodeIdentity::generate(rng);
        made.save_new(&path, &Password::new("right"), rng).unwrap();
        let keyring = Keyring::default();
        assert!(keyring.identity().is_none());
        keyring.unlock_identity(&path, Password::new("right")).unwrap();
        // The file is gone, so what comes now comes from memory.
        std::fs::remove_file(&path).unwrap();
        let again = keyring.unlock_identity(&path, Password::new("right")).unwrap();
        assert_eq!(again.holder_seed(), made.holder_seed());
        assert!(keyring.unlock_identity(&path, Password::new("wrong")).is_err());
        assert!(keyring.identity().is_some());
        assert_eq!(format!("{keyring:?}"), "Keyring(..)");
    }
}
