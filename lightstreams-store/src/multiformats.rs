//! CIDs as bytes and text, without the liberties that would give one thing two names.

use cid::{Cid, Version, multibase};

/// The longest text that is read as a CID: base2 of the longest binary one.
const MAX_CID_TEXT: usize = 8 * 100 + 1;

/// Why a text or bytes are no CID.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no CID: {reason}")]
pub struct CidError {
    /// What is wrong.
    pub reason: &'static str,
}

/// Reads a CID from text: a CIDv0 in base58btc without prefix, or a CIDv1 in any multibase.
///
/// Unlike the conversion of [`Cid`] itself this takes no path in front of it, and no CIDv0 in multibase, which the
/// CID specification reserves (multiformats/cid `README.md`, "Decoding Algorithm").
pub fn parse_cid(text: &str) -> Result<Cid, CidError> {
    if text.len() > MAX_CID_TEXT {
        return Err(CidError { reason: "the text is too long" });
    }
    if text.starts_with('\0') {
        return Err(CidError { reason: "the text is bytes" });
    }
    let bytes = if text.len() == 46 && text.starts_with("Qm") {
        let bytes = multibase::Base::Base58Btc.decode(text);
        bytes.map_err(|_| CidError { reason: "the text is not base58btc" })?
    } else {
        let (_, bytes) =
            multibase::decode(text).map_err(|_| CidError { reason: "the text is in no known multibase" })?;
        // 0x12 would be a CIDv0, which has a form of its own.
        if bytes.first() == Some(&0x12) {
            return Err(CidError { reason: "a CIDv0 stands in multibase" });
        }
        bytes
    };
    exact_cid(&bytes)
}

/// Reads a CID that takes up all of `bytes`.
pub fn exact_cid(bytes: &[u8]) -> Result<Cid, CidError> {
    let mut rest = bytes;
    let cid = Cid::read_bytes(&mut rest).map_err(|_| CidError { reason: "the bytes cannot be read" })?;
    if !rest.is_empty() || cid.encoded_len() != bytes.len() {
        return Err(CidError { reason: "bytes follow it, or a varint is not in its shortest form" });
    }
    if cid.version() == Version::V0 && cid.hash().size() != 32 {
        return Err(CidError { reason: "a CIDv0 has a digest of 32 bytes" });
    }
    Ok(cid)
}
