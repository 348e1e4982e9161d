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
//! **Promises.** Any age tool opens what is written, and what it writes opens here: for X25519,
//! post-quantum and Ed25519 SSH keys and passphrases, binary or armored. There is one way to write a
//! header; every other is refused. Streams take constant memory, and [`SeekableReader`] decrypts only the
//! chunks it is asked for. Nothing is given out that did not verify for its place. A wrong key, a damaged
//! header, a damaged payload, a truncated one and a broken commitment are errors of their own. Secrets are
//! wiped on drop and never printed.
//!
//! **Not here.** RSA keys of SSH, plugins and hardware keys of age: put a [`Recipient`] of your own in. Who
//! may read (permissions), where the bytes lie (storage), who a key belongs to. age does not hide the
//! length of a file, nor say who wrote it: the manifest around it is signed for that.
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
//! commitment      HKDF(file key, salt N, "lightstreams/v1/key-commitment" | context)
//! item key        HKDF(collection key, salt item | epoch | version | N, "lightstreams/v1/item"), 16 bytes
//! ```
//!
//! HKDF is HKDF-SHA-256 with 32 bytes of output, integers are big-endian. The last chunk is empty only in an
//! empty file, so that `s` bytes make `s + 16 * max(1, ceil(s / 65536))` bytes of payload, and byte `p` of the
//! plaintext lies in chunk `p / 65536`.
//!
//! **Stanzas.** Arguments are base64 without padding; `e` is a one-time secret, and the body is 32 bytes,
//! `ChaCha20-Poly1305(key, nonce, file key)`, with a nonce of zeros where nothing else is said.
//!
//! ```text
//! -> X25519 <share>                   share = X25519(e, 9)
//!                                     key   = HKDF(X25519(e, recipient), salt share | recipient,
//!                                                  "age-encryption.org/v1/X25519")
//!
//! -> scrypt <salt> <w>                key   = scrypt(passphrase, "age-encryption.org/v1/scrypt" | salt,
//!                                                    N = 2^w, r = 8, p = 1); alone in its header
//!
//! -> mlkem768x25519 <enc>             enc   = ML-KEM-768 ciphertext (1088) | share (32)
//!                                     ss    = SHA3-256(ML-KEM secret | X25519(e, point) | share | point
//!                                                      | 5c 2e 2f 2f 5e 5c)                          X-Wing
//!                                     key, nonce = key schedule of HPKE (RFC 9180, base mode; suite
//!                                                  647a 0001 0003) of ss and the info
//!                                                  "age-encryption.org/mlkem768x25519"
//!
//! -> ssh-ed25519 <tag> <share>        wire  = u32 11 | "ssh-ed25519" | u32 32 | Ed25519 key
//!                                     tag   = first 4 bytes of SHA-256(wire)
//!                                     u     = the key as a point of X25519
//!                                     tweak = HKDF("", salt wire, info)
//!                                     key   = HKDF(X25519(tweak, X25519(e, u)), salt share | u, info),
//!                                             info = "age-encryption.org/v1/ssh-ed25519"
//! ```
//!
//! Stanzas of other kinds are kept and passed over. Of a known kind, arguments and bodies of another length,
//! base64 that is not canonical, and shares of low order are refused with the whole header.
//!
//! **Keys** are Bech32 (BIP 173, without a bound on the length), public ones in lower case, secret ones in upper:
//!
//! ```text
//! age1..                 X25519 point, 32 bytes            AGE-SECRET-KEY-1..        X25519 secret, 32 bytes
//! age1pq1..              ML-KEM-768 key (1184) | point     AGE-SECRET-KEY-PQ-1..     32 bytes; SHAKE-256 makes of
//!                                                                                    them both secrets
//! ssh-ed25519 AAAA..     wire, in base64                   a private key file of OpenSSH, or an Ed25519 seed
//! ```
//!
//! **Armor** is the strict encoding of RFC 7468: see [`ArmorReader`].
//!
//! ```text
//! -----BEGIN AGE ENCRYPTED FILE-----
//! <the file in base64 with padding, 64 columns, the last line shorter>
//! -----END AGE ENCRYPTED FILE-----
//! ```
//!
//! # Features
//!
//! - `hybrid` (default): post-quantum keys. Adds `hpke`, `x-wing`, `ml-kem` and five small crates below them, all
//!   in Rust. Without it their stanzas are of another kind.
//! - `parallel`: one stream on several cores.
//! - `ring`: payloads through the assembly of that crate; the same bytes. Needs a C compiler.
//! - `openssl`: payloads through the OpenSSL of the system (1.1.1 or later), which uses AVX-512; the same bytes. Needs its headers and
//!   `pkg-config`; goes before `ring`. Where the library has no ChaCha20-Poly1305 (FIPS 140), the code in Rust does the work.
//! - `testing`: checks for tests of code that uses this crate, or puts its own kind of recipient into it.

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
mod keylist;
pub mod keystore;
mod metadata;
mod openssh;
#[cfg(feature = "parallel")]
mod parallel;
mod payload;
mod recipient;
mod run;
mod scrypt;
mod seek;
mod ssh;
#[cfg(feature = "testing")]
pub mod testing;
mod wrap;
mod x25519;

pub use rand_core;

pub use armor::{ArmorReader, ArmorWriter, MaybeArmored};
pub use error::{Error, KeyListError, ParseKeyError};
pub use file::{decrypt, decryptor, encrypt, rewrap};
pub use header::{Header, Stanza};
#[cfg(feature = "hybrid")]
pub use hybrid::{HybridIdentity, HybridRecipient};
pub use key::{CollectionKey, FileKey, PayloadNonce, commitment, item_key, verify_commitment};
pub use keylist::{AnyIdentity, AnyRecipient, parse_identities, parse_recipients};
pub use metadata::{METADATA_LEN_MAX, open_metadata, seal_metadata};
#[cfg(feature = "parallel")]
pub use parallel::{ParallelDecryptor, ParallelEncryptor};
pub use payload::{
    CHUNK, PayloadDecryptor, PayloadEncryptor, PayloadKey, TAG, chunk_count, payload_len, plaintext_len,
};
pub use recipient::{Identity, Recipient};
pub use scrypt::{ScryptIdentity, ScryptRecipient};
pub use seek::{ReadAt, SeekableReader};
pub use ssh::{SshIdentity, SshRecipient};
pub use x25519::{X25519Identity, X25519Recipient};
