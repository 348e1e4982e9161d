//! The last step of every recipient: the file key under a one-time wrapping key.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Tag};

use crate::{Error, FileKey};

/// Length of a wrapped file key: the key and a Poly1305 tag.
pub(crate) const WRAPPED_LEN: usize = FileKey::LEN + 16;

/// Encrypts the file key. The nonce is fixed, since `key` is used once.
pub(crate) fn wrap_file_key(key: &[u8; 32], file_key: &FileKey) -> Result<Vec<u8>, Error> {
    let mut body = file_key.expose().to_vec();
    let tag = ChaCha20Poly1305::new(&(*key).into())
        .encrypt_inout_detached(&[0; 12].into(), b"", body.as_mut_slice().into())
        .map_err(|_| Error::Unsupported("the cipher refused a file key"))?;
    body.extend_from_slice(&tag);
    Ok(body)
}

/// Decrypts a file key, or `None` if it was wrapped under another key.
pub(crate) fn unwrap_file_key(key: &[u8; 32], body: &[u8; WRAPPED_LEN]) -> Option<FileKey> {
    let (wrapped, tag) = body.split_first_chunk::<{ FileKey::LEN }>()?;
    let mut plain = zeroize::Zeroizing::new(*wrapped);
    let tag = Tag::try_from(tag).ok()?;
    ChaCha20Poly1305::new(&(*key).into())
        .decrypt_inout_detached(&[0; 12].into(), b"", plain.as_mut_slice().into(), &tag)
        .ok()?;
    Some(FileKey::from_bytes(*plain))
}
