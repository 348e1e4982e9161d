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
//!
//! # The bytes
//!
//! ```text
//! age-encryption.org/v1\n                       header: see Header
//! -> X25519 <share>\n<wrapped file key>\n       one stanza for each recipient
//! --- <MAC>\n                                   HMAC-SHA-256, key HKDF(file key, salt "", "header")
//! N                                             16 random bytes, the payload nonce
//! c0 | c1 | .. | cn                             payload: chunks of 65536 + 16 bytes, the last shorter
//!
//! cj = ChaCha20-Poly1305(key  = HKDF(file key, salt N, "payload"),
//!                        nonce = j as 11 bytes | 1 if last else 0,   no associated data)
//!
//! X25519 stanza   share = X25519(e, 9) of a one-time secret e
//!                 key   = HKDF(X25519(e, recipient), salt share | recipient, "age-encryption.org/v1/X25519")
//! scrypt stanza   key   = scrypt(passphrase, "age-encryption.org/v1/scrypt" | salt, N = 2^w, r = 8, p = 1)
//! mlkem768x25519  HPKE base mode (RFC 9180) of X-Wing, HKDF-SHA-256, ChaCha20-Poly1305; see HybridRecipient
//!                 the first two: wrapped file key = ChaCha20-Poly1305(key, nonce 0, file key), 32 bytes
//! commitment      HKDF(file key, salt N, "lightstreams/v1/key-commitment" | context)
//! item key        HKDF(collection key, salt item | epoch | version | N, "lightstreams/v1/item"), 16 bytes
//! ```
//!
//! HKDF is HKDF-SHA-256 with 32 bytes of output, integers are big-endian. The last chunk is empty only in an
//! empty file, so that `s` bytes make `s + 16 * max(1, ceil(s / 65536))` bytes of payload, and byte `p` of the
//! plaintext lies in chunk `p / 65536`.

mod aead;
mod armor;
mod bech32;
pub mod ed25519;
mod error;
mod file;
mod header;
#[cfg(feature = "hybrid")]
mod hybrid;
mod key;
pub mod keystore;
mod metadata;
#[cfg(feature = "parallel")]
mod parallel;
mod payload;
mod recipient;
mod run;
mod scrypt;
mod seek;
#[cfg(feature = "testing")]
pub mod testing;
mod wrap;
mod x25519;

pub use rand_core;

pub use armor::{ArmorReader, ArmorWriter, MaybeArmored};
pub use error::{Error, ParseKeyError};
pub use file::{decrypt, decryptor, encrypt, rewrap};
pub use header::{Header, Stanza};
#[cfg(feature = "hybrid")]
pub use hybrid::{HybridIdentity, HybridRecipient};
pub use key::{CollectionKey, FileKey, PayloadNonce, commitment, item_key, verify_commitment};
pub use metadata::{METADATA_LEN_MAX, open_metadata, seal_metadata};
#[cfg(feature = "parallel")]
pub use parallel::{ParallelDecryptor, ParallelEncryptor};
pub use payload::{
    CHUNK, PayloadDecryptor, PayloadEncryptor, PayloadKey, TAG, chunk_count, payload_len, plaintext_len,
};
pub use recipient::{Identity, Recipient};
pub use scrypt::{ScryptIdentity, ScryptRecipient};
pub use seek::{ReadAt, SeekableReader};
pub use x25519::{X25519Identity, X25519Recipient};
