//! What is derived from the file key beside the payload: commitment, item keys, metadata.

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use lightstreams_crypto::{
    CollectionKey, Error, FileKey, METADATA_LEN_MAX, PayloadNonce, commitment, item_key, open_metadata,
    rand_core::TryRng, seal_metadata, verify_commitment,
};
use sha2::{Digest, Sha256};

use crate::{rng, text};

fn bytes<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from + i as u8)
}

fn key() -> FileKey {
    FileKey::from_bytes(bytes(0))
}

fn nonce() -> PayloadNonce {
    PayloadNonce::from_bytes(bytes(16))
}

// The values were computed with another implementation of HKDF.
#[test]
fn known_commitments() {
    let with = commitment(&key(), &nonce(), &bytes::<92>(0));
    assert_eq!(hex::encode(with), "b57a2cd1c6c4b566a269e08a297c198b2f9a190dba2a55af936e39ed6bb10406");
    let without = commitment(&key(), &nonce(), b"");
    assert_eq!(hex::encode(without), "b89db102c20b73a1e4cf55afeff9ad565eb2f9be68ef158de6b87dd829bc0772");
}

#[test]
fn known_item_key() {
    let collection = CollectionKey::from_bytes(bytes(0));
    let item = item_key(&collection, &bytes(100), 7, 9, &nonce());
    assert_eq!(hex::encode(item.expose()), "c9544d3df43d1fcf94a9c73cf7844f3e");
}

#[test]
fn an_item_key_follows_from_each_of_its_inputs() {
    let derived = |collection, item, epoch, version, nonce| {
        let collection = CollectionKey::from_bytes([collection; 32]);
        *item_key(&collection, &[item; 32], epoch, version, &PayloadNonce::from_bytes([nonce; 16])).expose()
    };
    // Epoch and version stand side by side: neither may pass for the other, nor bytes move from one to the other.
    let inputs = [
        (1, 1, 0, 1, 1),
        (2, 1, 0, 1, 1),
        (1, 2, 0, 1, 1),
        (1, 1, 1, 0, 1),
        (1, 1, 1, 1, 1),
        (1, 1, 0, 256, 1),
        (1, 1, 1 << 24, 1, 1),
        (1, 1, 0, 1, 2),
    ];
    let keys: std::collections::HashSet<_> = inputs
        .map(|(collection, item, epoch, version, nonce)| derived(collection, item, epoch, version, nonce))
        .into();
    assert_eq!(keys.len(), inputs.len());
    assert!(!keys.contains(&[1; 16]), "no part of the collection key comes out");
}

#[test]
fn a_commitment_says_nothing_that_another_derived_value_says() {
    // The contexts are free bytes: none of them may turn a public commitment into a secret of the same file.
    let public = commitment(&key(), &nonce(), b"");
    let sealed = seal_metadata(&key(), &nonce(), b"", b"name", &mut rng(5)).unwrap();
    let (box_nonce, body) = sealed.split_first_chunk::<24>().unwrap();
    let opened =
        XChaCha20Poly1305::new(&public.into()).decrypt_in_place(box_nonce.into(), b"", &mut body.to_vec());
    assert!(opened.is_err());
    let two_contexts =
        [b"lightstreams".as_slice(), b"lightstreams\0"].map(|ctx| commitment(&key(), &nonce(), ctx));
    assert_ne!(two_contexts[0], two_contexts[1]);
}

#[test]
fn a_commitment_holds_for_its_key_nonce_and_context_alone() {
    let ctx = bytes::<92>(0);
    let public = commitment(&key(), &nonce(), &ctx);
    verify_commitment(&key(), &nonce(), &ctx, &public).unwrap();
    let mut elsewhere = ctx;
    elsewhere[91] ^= 1;
    let mut altered = public;
    altered[0] ^= 1;
    let other_key = FileKey::from_bytes(bytes(1));
    let other_nonce = PayloadNonce::from_bytes(bytes(17));
    for outcome in [
        verify_commitment(&other_key, &nonce(), &ctx, &public),
        verify_commitment(&key(), &other_nonce, &ctx, &public),
        verify_commitment(&key(), &nonce(), &elsewhere, &public),
        verify_commitment(&key(), &nonce(), b"", &public),
        verify_commitment(&key(), &nonce(), &ctx, &altered),
    ] {
        assert!(matches!(outcome, Err(Error::CommitmentMismatch)));
    }
}

/// Gives out 0, 1, 2, ..: for known answers only.
struct Counting(u8);

impl TryRng for Counting {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("only bytes are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("only bytes are drawn")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for byte in bytes {
            *byte = self.0;
            self.0 += 1;
        }
        Ok(())
    }
}

impl lightstreams_crypto::rand_core::TryCryptoRng for Counting {}

#[test]
fn known_metadata_box() {
    let sealed = seal_metadata(&key(), &nonce(), &bytes::<36>(0), b"name", &mut Counting(0)).unwrap();
    assert_eq!(sealed.len(), 24 + 256 + 16);
    assert_eq!(
        hex::encode(Sha256::digest(&sealed)),
        "93f840e978aa07d2d6e96491b5c1df1fe50552b6e9e41c16b862f0378888be05"
    );
}

#[test]
fn metadata_opens_at_every_length_and_hides_it_to_256_bytes() {
    for len in [0, 1, 254, 255, 256, 257, 511, 512, 60_000] {
        let metadata = text(len);
        let sealed = seal_metadata(&key(), &nonce(), b"aad", &metadata, &mut rng(1)).unwrap();
        assert_eq!(sealed.len(), 24 + (len / 256 + 1) * 256 + 16);
        assert_eq!(open_metadata(&key(), &nonce(), b"aad", &sealed).unwrap(), metadata);
    }
    // Metadata that looks like padding.
    for metadata in [&[0x80][..], &[0x80, 0, 0], &[0; 300]] {
        let sealed = seal_metadata(&key(), &nonce(), b"aad", metadata, &mut rng(2)).unwrap();
        assert_eq!(open_metadata(&key(), &nonce(), b"aad", &sealed).unwrap(), metadata);
    }
    // The longest that fits: padding takes a byte at least, nonce and tag 40.
    let longest = METADATA_LEN_MAX / 256 * 256 - 256 - 1;
    let sealed = seal_metadata(&key(), &nonce(), b"", &text(longest), &mut rng(3)).unwrap();
    assert!(sealed.len() <= METADATA_LEN_MAX);
    assert_eq!(open_metadata(&key(), &nonce(), b"", &sealed).unwrap(), text(longest));
    for len in [longest + 1, METADATA_LEN_MAX] {
        let outcome = seal_metadata(&key(), &nonce(), b"", &text(len), &mut rng(3));
        assert!(matches!(outcome, Err(Error::TooLarge { len_max: METADATA_LEN_MAX, .. })), "{len}");
    }
}

#[test]
fn metadata_padded_in_another_way_is_refused() {
    // The key of the box, computed with another implementation of HKDF.
    let box_key: [u8; 32] = hex::decode("a0eeeb28735001918fa9aa369095508d7a0a5f25766e53171db7a3712b2e736a")
        .unwrap()
        .try_into()
        .unwrap();
    let sealed = |plain: &[u8]| {
        let mut sealed = plain.to_vec();
        XChaCha20Poly1305::new(&box_key.into())
            .encrypt_in_place(&[9; 24].into(), b"aad", &mut sealed)
            .unwrap();
        [&[9; 24][..], &sealed].concat()
    };
    let mut plain = [0; 512];
    plain[256] = 0x80;
    assert_eq!(open_metadata(&key(), &nonce(), b"aad", &sealed(&plain)).unwrap(), [0; 256]);
    let mut more_than_needed = [0; 512];
    more_than_needed[255] = 0x80;
    for plain in [&more_than_needed[..], &[0; 256], &[1; 256], &[0x80], &[]] {
        let outcome = open_metadata(&key(), &nonce(), b"aad", &sealed(plain));
        assert!(matches!(outcome, Err(Error::DamagedMetadata)), "{plain:?}");
    }
}

#[test]
fn metadata_changed_in_any_bit_or_moved_elsewhere_is_refused() {
    let sealed = seal_metadata(&key(), &nonce(), b"aad", b"name", &mut rng(4)).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let outcome = open_metadata(&key(), &nonce(), b"aad", &damaged);
        assert!(matches!(outcome, Err(Error::DamagedMetadata)), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(open_metadata(&key(), &nonce(), b"aad", &sealed[..len]).is_err(), "{len} bytes");
    }
    assert!(open_metadata(&key(), &nonce(), b"aae", &sealed).is_err());
    assert!(open_metadata(&FileKey::from_bytes(bytes(1)), &nonce(), b"aad", &sealed).is_err());
    assert!(open_metadata(&key(), &nonce(), b"aad", &vec![0; METADATA_LEN_MAX + 1]).is_err());
}
