//! The account that signs, unlocked in this process and nowhere else.

use alloy_primitives::{Address, B256};
use lightstreams_chain::LocalSigner;
use zeroize::Zeroizing;

use crate::error::{NodeError, Result};

/// One account's key; wiped when dropped.
pub(crate) struct Wallet {
    secret: Zeroizing<[u8; 32]>,
    signer: LocalSigner,
}

impl Wallet {
    pub(crate) fn from_secret(secret: Zeroizing<[u8; 32]>) -> Result<Self> {
        let signer = LocalSigner::from_bytes(&secret)
            .map_err(|error| NodeError::usage("bad_key", "the key is no account's key").because(error))?;
        Ok(Self { secret, signer })
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    pub(crate) fn signer(&self) -> &LocalSigner {
        &self.signer
    }

    /// Signs an EIP-712 digest: r, s, and v as 27 or 28, as contracts take it.
    pub(crate) fn sign_typed(&self, digest: B256) -> Result<[u8; 65]> {
        self.signer
            .sign_digest(digest)
            .map(|signature| signature.as_bytes())
            .map_err(|error| NodeError::new("sign", "signing failed").because(error))
    }
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet").field("address", &self.address()).finish_non_exhaustive()
    }
}
