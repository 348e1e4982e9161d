//! Encrypted files in the age v1 format whose recipients can change without the payload.
//!
//! ```text
//!           recipients ---wrap--> Header (stanzas, MAC) --+
//! FileKey --+-- + PayloadNonce --> PayloadKey             +--> header | nonce | c0 | c1 | .. = an age file
//!           |      plaintext, 64 KiB chunks --encrypt--> Payload (c0, c1, ..) --+
//!           +-- + PayloadNonce + context --> commitment (public)
//! ```
//!
//! ```
//! use lightstreams_crypto::{Header, Identity, Recipient, X25519Identity, decrypt, encrypt, rewrap};
//! # let rng = &mut rand::rng();
//! let (alice, bob) = (X25519Identity::generate(rng), X25519Identity::generate(rng));
//!
//! let mut file = Vec::new();
//! encrypt(&[&alice.recipient()], &b"a text for Alice"[..], &mut file, rng)?;
//!
//! // Let Bob read it too: a new header, and not a byte of the payload.
//! let (header, len) = Header::parse(&file)?;
//! let header = rewrap(&header, &[&alice], &[&alice.recipient(), &bob.recipient()], rng)?;
//! let for_both = [header.as_bytes(), &file[len..]].concat();
//!
//! let mut text = Vec::new();
//! decrypt(&[&bob], &for_both[..], &mut text)?;
//! assert_eq!(text, b"a text for Alice");
//! # Ok::<(), lightstreams_crypto::Error>(())
//! ```
//!
//! **Promises.** Any age tool opens what is written, and what it writes opens here. There is one way to
//! write a header; every other is refused. Streams take constant memory, and [`SeekableReader`] decrypts
//! only the chunks it is asked for. Nothing is given out that did not verify for its place. A wrong key, a
//! damaged header, a damaged payload, a truncated one and a broken commitment are errors of their own.
//! Secrets are wiped on drop and never printed.
//!
//! **Not here.** Who may read (permissions), where the bytes lie (storage), who a key belongs to. age does
//! not hide the length of a file, nor say who wrote it: the manifest around it is signed for that.

pub mod ed25519;
mod error;
mod file;
mod header;
mod key;
pub mod keystore;
mod metadata;
mod payload;
mod recipient;
mod scrypt;
mod seek;
#[cfg(feature = "testing")]
pub mod testing;
mod wrap;
mod x25519;

pub use rand_core;

pub use error::{Error, ParseKeyError};
pub use file::{decrypt, decryptor, encrypt, rewrap};
pub use header::{Header, Stanza};
pub use key::{CollectionKey, FileKey, PayloadNonce, commitment, item_key, verify_commitment};
pub use metadata::{METADATA_LEN_MAX, open_metadata, seal_metadata};
pub use payload::{
    CHUNK, PayloadDecryptor, PayloadEncryptor, PayloadKey, TAG, chunk_count, payload_len, plaintext_len,
};
pub use recipient::{Identity, Recipient};
pub use scrypt::{ScryptIdentity, ScryptRecipient};
pub use seek::{ReadAt, SeekableReader};
pub use x25519::{X25519Identity, X25519Recipient};
