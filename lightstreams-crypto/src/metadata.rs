use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305};
use rand_core::CryptoRng;
use zeroize::Zeroize;

use crate::{Error, FileKey, PayloadNonce};

const INFO: &[u8] = b"lightstreams/v1/metadata";
const PAD_TO: usize = 256;
const NONCE: usize = 24;
const TAG: usize = 16;

/// Length above which a metadata box is refused; the manifest around it has at most 64 KiB.
pub const METADATA_LEN_MAX: usize = 64 * 1024;

/// Encrypts a small text that belongs to a file, such as its name and type, bound to `aad`.
///
/// ```text
/// nonce, 24 bytes | XChaCha20-Poly1305 of: metadata | 0x80 | zeros to a multiple of 256 | tag, 16 bytes
/// ```
pub fn seal_metadata(
    file_key: &FileKey,
    nonce: &PayloadNonce,
    aad: &[u8],
    metadata: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Vec<u8>, Error> {
    // One byte of padding at least.
    let padded = (metadata.len() / PAD_TO).saturating_add(1).saturating_mul(PAD_TO);
    if padded.saturating_add(NONCE + TAG) > METADATA_LEN_MAX {
        return Err(Error::TooLarge { what: "a metadata box", len_max: METADATA_LEN_MAX });
    }
    let mut box_nonce = [0; NONCE];
    rng.fill_bytes(&mut box_nonce);
    let mut sealed = Vec::with_capacity(NONCE + padded + TAG);
    sealed.extend_from_slice(&box_nonce);
    sealed.extend_from_slice(metadata);
    sealed.push(0x80);
    sealed.resize(NONCE + padded, 0);
    let (_, body) = sealed.split_at_mut(NONCE);
    let tag = cipher(file_key, nonce)
        .encrypt_inout_detached(&box_nonce.into(), aad, body.into())
        .map_err(|_| Error::Unsupported("the cipher refused the metadata"))?;
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

/// Opens what [`seal_metadata`] made.
pub fn open_metadata(
    file_key: &FileKey,
    nonce: &PayloadNonce,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, Error> {
    if sealed.len() > METADATA_LEN_MAX {
        return Err(Error::DamagedMetadata);
    }
    let (box_nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or(Error::DamagedMetadata)?;
    let (body, tag) = rest.split_last_chunk::<TAG>().ok_or(Error::DamagedMetadata)?;
    if body.is_empty() || !body.len().is_multiple_of(PAD_TO) {
        return Err(Error::DamagedMetadata);
    }
    let mut plain = body.to_vec();
    cipher(file_key, nonce)
        .decrypt_inout_detached(&(*box_nonce).into(), aad, plain.as_mut_slice().into(), &Tag::from(*tag))
        .map_err(|_| Error::DamagedMetadata)?;
    let end = plain.iter().rposition(|&b| b != 0);
    match end {
        // Padding has one form only: its mark stands in the last 256 bytes.
        Some(end) if plain.get(end) == Some(&0x80) && plain.len() - end <= PAD_TO => {
            plain.truncate(end);
            Ok(plain)
        }
        _ => {
            plain.zeroize();
            Err(Error::DamagedMetadata)
        }
    }
}

fn cipher(file_key: &FileKey, nonce: &PayloadNonce) -> XChaCha20Poly1305 {
    let key = file_key.derive(nonce.as_bytes(), &[INFO]);
    XChaCha20Poly1305::new((&*key).into())
}
