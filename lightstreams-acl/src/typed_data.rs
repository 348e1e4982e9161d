//! What people sign (EIP-712): the commands that a registry takes `…BySig`, and the messages that custodians and nodes check.
//!
//! Each struct here is one type of the format, with the fields in the order of its type string. This crate makes the hash;
//! whoever holds a key signs it, and whoever holds a signature recovers it.
//!
//! ```
//! use lightstreams_acl::{Address, B256, U256, typed_data};
//!
//! let domain = typed_data::domain(161, Address::repeat_byte(0x11));
//! let request = typed_data::KeyRequest {
//!     contentId: U256::from(7),
//!     manifest: B256::repeat_byte(1),
//!     reader: Address::repeat_byte(2),
//!     recipient: [vec![1], vec![9; 32]].concat().into(),
//!     holder: B256::repeat_byte(3),
//!     notAfter: 1_800_000_000,
//!     nonce: B256::repeat_byte(4),
//! };
//! let hash = typed_data::signing_hash(&request, &domain);
//! # assert_ne!(hash, B256::ZERO);
//! ```

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolStruct, sol};

/// The EIP-712 domain type, borrowed from `alloy-sol-types`.
pub use alloy_sol_types::Eip712Domain as Domain;

/// The domain of a contract on a chain; for the types that no contract checks, `verifying_contract` is the registry.
pub fn domain(chain: u64, verifying_contract: Address) -> Domain {
    Domain::new(
        Some("Lightstreams".into()),
        Some("1".into()),
        Some(U256::from(chain)),
        Some(verifying_contract),
        None,
    )
}

/// The 32 bytes to sign: `keccak256(0x1901 ‖ domain separator ‖ struct hash)`.
pub fn signing_hash<T: SolStruct>(message: &T, domain: &Domain) -> B256 {
    message.eip712_signing_hash(domain)
}

sol! {
    /// Signed by a manifest's author over the sha2-256 of the map without `sig`.
    #[derive(Debug, PartialEq, Eq)]
    struct Manifest {
        bytes32 digest;
    }

    /// A reader asks a custodian to wrap the key of a version to `recipient`.
    #[derive(Debug, PartialEq, Eq)]
    struct KeyRequest {
        uint256 contentId;
        bytes32 manifest;
        address reader;
        bytes recipient;
        bytes32 holder;
        uint64 notAfter;
        bytes32 nonce;
    }

    /// An account lets a libp2p peer speak for it, for at most a day.
    #[derive(Debug, PartialEq, Eq)]
    struct PeerDelegation {
        bytes peerId;
        address account;
        uint64 notBefore;
        uint64 notAfter;
        bytes32 nonce;
    }

    /// An account lets the holder of this message speak for it at one HTTP origin, for at most a day.
    #[derive(Debug, PartialEq, Eq)]
    struct HttpDelegation {
        string origin;
        address account;
        uint64 notBefore;
        uint64 notAfter;
        bytes32 nonce;
    }

    /// A reader that keeps the ciphertext offers to serve it to other readers.
    #[derive(Debug, PartialEq, Eq)]
    struct SeedOffer {
        uint256 contentId;
        bytes peerId;
        address account;
        uint64 notAfter;
        bytes32 nonce;
    }

    /// `registerBySig`.
    #[derive(Debug, PartialEq, Eq)]
    struct Register {
        bytes32 salt;
        address owner;
        bytes32 manifest;
        uint8 flags;
        address gate;
        bytes gateData;
        uint256 nonce;
        uint64 deadline;
    }

    /// `publishBySig`.
    #[derive(Debug, PartialEq, Eq)]
    struct Publish {
        uint256 id;
        address by;
        bytes32 manifest;
        uint32 expectedVersion;
        uint32 expectedEpoch;
        uint256 nonce;
        uint64 deadline;
    }

    /// `rewrapBySig`.
    #[derive(Debug, PartialEq, Eq)]
    struct Rewrap {
        uint256 id;
        address by;
        bytes32 manifest;
        uint32 expectedVersion;
        uint32 expectedRevision;
        uint256 nonce;
        uint64 deadline;
    }

    /// `grantBySig`: dead once the content was transferred or `who` was revoked after it was signed.
    #[derive(Debug, PartialEq, Eq)]
    struct Grant {
        uint256 id;
        address by;
        address who;
        uint8 level;
        uint64 notBefore;
        uint64 expires;
        uint32 fromEpoch;
        uint32 generation;
        uint32 revocations;
        uint256 nonce;
        uint64 deadline;
    }

    /// `revokeBySig`.
    #[derive(Debug, PartialEq, Eq)]
    struct Revoke {
        uint256 id;
        address by;
        address who;
        uint256 nonce;
        uint64 deadline;
    }

    /// `setPublicBySig`.
    #[derive(Debug, PartialEq, Eq)]
    struct SetPublic {
        uint256 id;
        address by;
        bool on;
        uint256 nonce;
        uint64 deadline;
    }
}
