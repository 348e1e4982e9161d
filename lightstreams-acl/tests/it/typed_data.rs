//! What people sign has the hash that wallets compute; the vectors come from ethers.

use lightstreams_acl::alloy_sol_types::SolStruct;
use lightstreams_acl::typed_data::{self as t, Domain};
use lightstreams_acl::{Address, B256, Bytes, U256, content_id, version_ctx};
use serde_json::Value;

/// A field of a vector's message, read as its type wants it.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no text {name}"))
    }

    fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str) -> T {
        self.text(name).parse().unwrap()
    }

    fn uint(&self, name: &str) -> U256 {
        U256::from_str_radix(self.text(name), 10).unwrap()
    }
}

fn hash(type_string: &str, m: &Fields<'_>, domain: &Domain) -> B256 {
    fn done<T: SolStruct>(type_string: &str, message: T, domain: &Domain) -> B256 {
        assert_eq!(T::eip712_encode_type(), type_string);
        t::signing_hash(&message, domain)
    }
    let (b32, address, bytes) = (|n| m.parse::<B256>(n), |n| m.parse::<Address>(n), |n| m.parse::<Bytes>(n));
    let name = type_string.split('(').next().unwrap();
    match name {
        "Manifest" => done(type_string, t::Manifest { digest: b32("digest") }, domain),
        "KeyRequest" => {
            let message = t::KeyRequest {
                contentId: m.uint("contentId"),
                manifest: b32("manifest"),
                reader: address("reader"),
                recipient: bytes("recipient"),
                holder: b32("holder"),
                notAfter: m.parse("notAfter"),
                nonce: b32("nonce"),
            };
            done(type_string, message, domain)
        }
        "PeerDelegation" => {
            let message = t::PeerDelegation {
                peerId: bytes("peerId"),
                account: address("account"),
                notBefore: m.parse("notBefore"),
                notAfter: m.parse("notAfter"),
                nonce: b32("nonce"),
            };
            done(type_string, message, domain)
        }
        "HttpDelegation" => {
            let message = t::HttpDelegation {
                origin: m.text("origin").into(),
                account: address("account"),
                notBefore: m.parse("notBefore"),
                notAfter: m.parse("notAfter"),
                nonce: b32("nonce"),
            };
            done(type_string, message, domain)
        }
        "SeedOffer" => {
            let message = t::SeedOffer {
                contentId: m.uint("contentId"),
                peerId: bytes("peerId"),
                account: address("account"),
                notAfter: m.parse("notAfter"),
                nonce: b32("nonce"),
            };
            done(type_string, message, domain)
        }
        "Register" => {
            let message = t::Register {
                salt: b32("salt"),
                owner: address("owner"),
                manifest: b32("manifest"),
                flags: m.parse("flags"),
                gate: address("gate"),
                gateData: bytes("gateData"),
                nonce: m.uint("nonce"),
                deadline: m.parse("deadline"),
            };
            done(type_string, message, domain)
        }
        "Publish" => {
            let message = t::Publish {
                id: m.uint("id"),
                by: address("by"),
                manifest: b32("manifest"),
                expectedVersion: m.parse("expectedVersion"),
                expectedEpoch: m.parse("expectedEpoch"),
                nonce: m.uint("nonce"),
                deadline: m.parse("deadline"),
            };
            done(type_string, message, domain)
        }
        "Rewrap" => {
            let message = t::Rewrap {
                id: m.uint("id"),
                by: address("by"),
                manifest: b32("manifest"),
                expectedVersion: m.parse("expectedVersion"),
                expectedRevision: m.parse("expectedRevision"),
                nonce: m.uint("nonce"),
                deadline: m.parse("deadline"),
            };
            done(type_string, message, domain)
        }
        "Grant" => {
            let message = t::Grant {
                id: m.uint("id"),
                by: address("by"),
                who: address("who"),
                level: m.parse("level"),
                notBefore: m.parse("notBefore"),
                expires: m.parse("expires"),
                fromEpoch: m.parse("fromEpoch"),
                generation: m.parse("generation"),
                revocations: m.parse("revocations"),
                nonce: m.uint("nonce"),
                deadline: m.parse("deadline"),
            };
            done(type_string, message, domain)
        }
        "Revoke" => {
            let message = t::Revoke {
                id: m.uint("id"),
                by: address("by"),
                who: address("who"),
                nonce: m.uint("nonce"),
                deadline: m.parse("deadline"),
            };
            done(type_string, message, domain)
        }
        "SetPublic" => {
            let message = t::SetPublic {
                id: m.uint("id"),
                by: address("by"),
                on: m.0["on"].as_bool().unwrap(),
                nonce: m.uint("nonce"),
                deadline: m.parse("deadline"),
            };
            done(type_string, message, domain)
        }
        other => panic!("unknown type {other}"),
    }
}

#[test]
fn every_type_has_the_hash_that_ethers_computes() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/typed_data.json")).unwrap();
    assert_eq!(vectors.len(), 33);
    for vector in &vectors {
        let contract = vector["verifyingContract"].as_str().unwrap().parse().unwrap();
        let domain = t::domain(vector["chainId"].as_u64().unwrap(), contract);
        let type_string = vector["encodeType"].as_str().unwrap();
        let digest: B256 = vector["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(hash(type_string, &Fields(&vector["message"]), &domain), digest, "{type_string}");
    }
}

#[test]
fn a_domain_separates_chains_and_contracts() {
    let message = t::Manifest { digest: B256::repeat_byte(1) };
    let [a, b] = [1, 2].map(Address::repeat_byte);
    let hashes =
        [(161, a), (162, a), (161, b)].map(|(chain, at)| t::signing_hash(&message, &t::domain(chain, at)));
    assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
}

#[test]
fn the_context_of_a_version_is_its_place_in_92_bytes() {
    let id = content_id(161, Address::repeat_byte(0x11), Address::repeat_byte(0x22), B256::repeat_byte(0x33));
    let ctx = version_ctx(161, Address::repeat_byte(0x11), id, 2, 3);
    assert_eq!(ctx[..31], [0; 31]);
    assert_eq!(ctx[31], 161);
    assert_eq!(ctx[32..52], [0x11; 20]);
    assert_eq!(ctx[52..84], *id.as_bytes());
    assert_eq!(ctx[84..], [0, 0, 0, 2, 0, 0, 0, 3]);
}
