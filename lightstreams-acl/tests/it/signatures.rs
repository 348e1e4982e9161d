//! Signed commands: whoever brings them, they do what the signer may do, once, in time, on one contract of one chain.

use lightstreams_acl::abi::ContentRegistry as abi;
use lightstreams_acl::typed_data::{self, Domain, Grant, Publish, Register, Revoke, Rewrap, SetPublic};
use lightstreams_acl::{Address, B256, Bytes, Call, ContentId, Event, U256, content_id, hex};

use crate::world::{Account, CHAIN, TestWallet, World};

const DEADLINE: u64 = 2_000;

struct Signed {
    world: World,
    id: ContentId,
}

impl Signed {
    fn new() -> Self {
        let world = World::new(4);
        let id =
            world.send(world.who(0), &world.at.registry.register(B256::ZERO, manifest(1), 0)).unwrap().into();
        Self { world, id }
    }

    fn domain(&self) -> Domain {
        typed_data::domain(CHAIN, self.world.at.registry.address())
    }

    fn owner(&self) -> &Account {
        &self.world.accounts[0]
    }

    fn grant(&self, nonce: u64) -> Grant {
        Grant {
            id: self.id.as_u256(),
            by: self.owner().address,
            who: self.world.who(1),
            level: 1,
            notBefore: 0,
            expires: 0,
            fromEpoch: 0,
            generation: 0,
            revocations: 0,
            nonce: U256::from(nonce),
            deadline: DEADLINE,
        }
    }

    /// A stranger brings it.
    fn bring(&self, grant: &Grant, sig: Bytes) -> Result<(), String> {
        self.world
            .send(self.world.who(3), &Call::command(self.world.at.registry.address(), &by_sig(grant, sig)))
    }

    fn sign(&self, grant: &Grant) -> Bytes {
        self.owner().sign(typed_data::signing_hash(grant, &self.domain()))
    }
}

fn manifest(n: u8) -> B256 {
    B256::repeat_byte(n)
}

fn by_sig(g: &Grant, sig: Bytes) -> abi::grantBySigCall {
    abi::grantBySigCall {
        id: g.id,
        by: g.by,
        who: g.who,
        level: g.level,
        notBefore: g.notBefore,
        expires: g.expires,
        fromEpoch: g.fromEpoch,
        generation: g.generation,
        revocations: g.revocations,
        nonce: g.nonce,
        deadline: g.deadline,
        sig,
    }
}

#[test]
fn all_six_commands_work_when_a_stranger_brings_them() {
    let world = World::new(4);
    let (registry, owner, stranger) = (world.at.registry, world.accounts[0].clone(), world.who(3));
    let domain = typed_data::domain(CHAIN, registry.address());
    let by = owner.address;
    let id = content_id(CHAIN, registry.address(), by, B256::ZERO);
    let nonce = |n: u64| U256::from(n) << 8; // Each in a word of its own.

    let m = Register {
        salt: B256::ZERO,
        owner: by,
        manifest: manifest(1),
        flags: 1,
        gate: Address::repeat_byte(7),
        gateData: vec![1, 2, 3].into(),
        nonce: nonce(0),
        deadline: DEADLINE,
    };
    let call = abi::registerBySigCall {
        salt: m.salt,
        owner: m.owner,
        manifest: m.manifest,
        flags: m.flags,
        gate: m.gate,
        gateData: m.gateData.clone(),
        nonce: m.nonce,
        deadline: m.deadline,
        sig: owner.sign(typed_data::signing_hash(&m, &domain)),
    };
    let (answer, receipt) = world.receipt(stranger, &Call::new(registry.address(), &call)).unwrap();
    assert_eq!(ContentId::from(answer), id);
    assert_eq!(world.ask(&registry.owner_of(id)), by);
    let events: Vec<_> = receipt.logs.iter().map(|log| Event::decode(log).unwrap().unwrap()).collect();
    let registered = events.iter().find(|event| event.name() == "Registered").unwrap();
    assert_eq!((registered.content(), registered.actor()), (Some(id), Some(by)));
    let gate = world.ask(&Call::new(registry.address(), &abi::gateOfCall { id: id.as_u256() }));
    assert_eq!((gate.gate, gate.data), (m.gate, m.gateData));

    let m = Publish {
        id: id.as_u256(),
        by,
        manifest: manifest(2),
        expectedVersion: 1,
        expectedEpoch: 0,
        nonce: nonce(1),
        deadline: DEADLINE,
    };
    let call = abi::publishBySigCall {
        id: m.id,
        by,
        manifest: m.manifest,
        expectedVersion: 1,
        expectedEpoch: 0,
        nonce: m.nonce,
        deadline: DEADLINE,
        sig: owner.sign(typed_data::signing_hash(&m, &domain)),
    };
    world.send(stranger, &Call::command(registry.address(), &call)).unwrap();

    let m = Rewrap {
        id: id.as_u256(),
        by,
        manifest: manifest(3),
        expectedVersion: 2,
        expectedRevision: 0,
        nonce: nonce(2),
        deadline: DEADLINE,
    };
    let call = abi::rewrapBySigCall {
        id: m.id,
        by,
        manifest: m.manifest,
        expectedVersion: 2,
        expectedRevision: 0,
        nonce: m.nonce,
        deadline: DEADLINE,
        sig: owner.sign(typed_data::signing_hash(&m, &domain)),
    };
    world.send(stranger, &Call::command(registry.address(), &call)).unwrap();
    let head = world.ask(&registry.head(id));
    assert_eq!((head.version, head.revision, head.manifest), (2, 1, manifest(3)));

    let who = world.who(1);
    let g = Grant { nonce: nonce(3), id: id.as_u256(), ..Signed::new().grant(0) };
    let sig = owner.sign(typed_data::signing_hash(&g, &domain));
    world.send(stranger, &Call::command(registry.address(), &by_sig(&g, sig))).unwrap();
    assert_eq!(world.ask(&registry.level_of(id, who)), 1);

    let m = Revoke { id: id.as_u256(), by, who, nonce: nonce(4), deadline: DEADLINE };
    let sig = owner.sign(typed_data::signing_hash(&m, &domain));
    let call = abi::revokeBySigCall { id: m.id, by, who, nonce: m.nonce, deadline: DEADLINE, sig };
    world.send(stranger, &Call::command(registry.address(), &call)).unwrap();
    assert_eq!(world.ask(&registry.level_of(id, who)), 0);

    let m = SetPublic { id: id.as_u256(), by, on: true, nonce: nonce(5), deadline: DEADLINE };
    let sig = owner.sign(typed_data::signing_hash(&m, &domain));
    let call = abi::setPublicBySigCall { id: m.id, by, on: true, nonce: m.nonce, deadline: DEADLINE, sig };
    world.send(stranger, &Call::command(registry.address(), &call)).unwrap();
    assert_eq!(world.ask(&registry.level_of(id, who)), 1);
}

#[test]
fn a_signature_counts_once() {
    let s = Signed::new();
    let grant = s.grant(5);
    s.bring(&grant, s.sign(&grant)).unwrap();
    assert_eq!(s.bring(&grant, s.sign(&grant)), Err("NonceUsed".into()));
}

#[test]
fn a_burnt_nonce_cannot_be_used() {
    let s = Signed::new();
    let (registry, owner) = (s.world.at.registry.address(), s.owner().address);
    let burn = Call::command(registry, &abi::burnNonceCall { nonce: U256::from(300) });
    s.world.send(owner, &burn).unwrap();
    assert_eq!(s.world.send(owner, &burn), Err("NonceUsed".into()));
    let used = |n| Call::new(registry, &abi::nonceUsedCall { account: owner, nonce: U256::from(n) });
    assert!(s.world.ask(&used(300)) && !s.world.ask(&used(301)) && !s.world.ask(&used(44)));
    let grant = s.grant(300);
    assert_eq!(s.bring(&grant, s.sign(&grant)), Err("NonceUsed".into()));
}

#[test]
fn a_signature_counts_until_its_deadline() {
    let s = Signed::new();
    let (first, second) = (s.grant(1), s.grant(2));
    s.world.chain.set_time(DEADLINE);
    s.bring(&first, s.sign(&first)).unwrap();
    s.world.chain.set_time(DEADLINE + 1);
    assert_eq!(s.bring(&second, s.sign(&second)), Err("SignatureExpired".into()));
}

#[test]
fn a_grant_signed_before_a_revocation_is_dead_after_it() {
    let s = Signed::new();
    let grant = s.grant(1);
    let sig = s.sign(&grant);
    s.world.send(s.owner().address, &s.world.at.registry.revoke(s.id, grant.who)).unwrap();
    assert_eq!(s.bring(&grant, sig), Err("StaleGrant".into()));
    let again = Grant { revocations: 1, ..grant };
    s.bring(&again, s.sign(&again)).unwrap();
}

#[test]
fn a_grant_signed_before_a_transfer_is_dead_after_it_even_when_the_signer_owns_it_again() {
    let s = Signed::new();
    let (owner, other) = (s.owner().address, s.world.who(2));
    let grant = s.grant(1);
    let sig = s.sign(&grant);
    s.world.send(owner, &s.world.at.registry.transfer(owner, other, s.id)).unwrap();
    assert_eq!(s.bring(&grant, sig.clone()), Err("StaleGrant".into()));
    s.world.send(other, &s.world.at.registry.transfer(other, owner, s.id)).unwrap();
    assert_eq!(s.bring(&grant, sig), Err("StaleGrant".into()));
}

#[test]
fn a_signer_without_the_right_signs_in_vain() {
    let s = Signed::new();
    let thief = s.world.accounts[2].clone();
    let grant = Grant { by: thief.address, ..s.grant(1) };
    let sig = thief.sign(typed_data::signing_hash(&grant, &s.domain()));
    assert_eq!(s.bring(&grant, sig), Err("Denied".into()));
}

#[test]
fn every_other_signature_is_refused() {
    let s = Signed::new();
    let grant = s.grant(1);
    let good = s.sign(&grant);
    let hash = typed_data::signing_hash(&grant, &s.domain());
    let refused = |grant: &Grant, sig: Bytes, why: &str| {
        assert_eq!(s.bring(grant, sig), Err("InvalidSignature".into()), "{why}");
    };

    // secp256k1's order minus s, with the other parity, is the same signature in its high form.
    let order: U256 =
        U256::from_be_bytes(hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"));
    let mut high = good.to_vec();
    let low_s = U256::from_be_slice(&good[32..64]);
    high[32..64].copy_from_slice(&(order - low_s).to_be_bytes::<32>());
    high[64] = 27 + 28 - good[64];
    refused(&grant, high.into(), "high s");

    let mut compact = good[..64].to_vec();
    compact[32] |= if good[64] == 28 { 0x80 } else { 0 };
    refused(&grant, compact.into(), "64 bytes (ERC-2098)");
    refused(&grant, Bytes::new(), "none");
    refused(&grant, [&good[..], &[0]].concat().into(), "66 bytes");
    refused(&grant, vec![0; 65].into(), "zeros");
    let zero = Grant { by: Address::ZERO, ..s.grant(1) };
    refused(&zero, vec![0; 65].into(), "zeros, for the zero address");
    let mut v = good.to_vec();
    v[64] -= 27;
    refused(&grant, v.into(), "v of 0 or 1");

    refused(&grant, s.world.accounts[2].sign(hash), "another signer");
    let elsewhere = typed_data::domain(CHAIN, Address::repeat_byte(5));
    refused(&grant, s.owner().sign(typed_data::signing_hash(&grant, &elsewhere)), "another contract");
    let elsewhere = typed_data::domain(CHAIN + 1, s.world.at.registry.address());
    refused(&grant, s.owner().sign(typed_data::signing_hash(&grant, &elsewhere)), "another chain");
    for (field, changed) in [
        ("who", Grant { who: s.world.who(2), ..s.grant(1) }),
        ("level", Grant { level: 2, ..s.grant(1) }),
        ("expires", Grant { expires: 9_999, ..s.grant(1) }),
        ("notBefore", Grant { notBefore: 1, ..s.grant(1) }),
        ("fromEpoch", Grant { fromEpoch: 1, ..s.grant(1) }),
        ("nonce", Grant { nonce: U256::from(2), ..s.grant(1) }),
        ("deadline", Grant { deadline: DEADLINE + 1, ..s.grant(1) }),
    ] {
        refused(&changed, good.clone(), field);
    }
    // A revocation's signature is not a grant's.
    let revoke =
        Revoke { id: grant.id, by: grant.by, who: grant.who, nonce: grant.nonce, deadline: grant.deadline };
    refused(&grant, s.owner().sign(typed_data::signing_hash(&revoke, &s.domain())), "another command");

    // None of that has burnt the nonce.
    s.bring(&grant, good).unwrap();
}

#[test]
fn a_smart_account_signs_by_erc_1271_and_an_account_with_code_by_its_key() {
    let s = Signed::new();
    let (world, registry) = (&s.world, s.world.at.registry);
    let key = &world.accounts[2];
    let constructor = TestWallet::constructorCall { key_: key.address };
    let init = [
        &TestWallet::BYTECODE[..],
        &lightstreams_acl::alloy_sol_types::SolConstructor::abi_encode(&constructor),
    ];
    let wallet = world.chain.deploy(key.address, init.concat().into());
    world.send(s.owner().address, &registry.transfer(s.owner().address, wallet, s.id)).unwrap();

    let grant = Grant { by: wallet, generation: 1, ..s.grant(1) };
    let hash = typed_data::signing_hash(&grant, &s.domain());
    assert_eq!(s.bring(&grant, s.owner().sign(hash)), Err("InvalidSignature".into()));
    s.bring(&grant, key.sign(hash)).unwrap();
    assert_eq!(world.ask(&registry.level_of(s.id, grant.who)), 1);

    // EIP-7702: the owner's account has code (any), and still signs with its key.
    let s = Signed::new();
    let grant = s.grant(1);
    s.world.chain.set_code(s.owner().address, hex!("60006000fd").to_vec().into());
    s.bring(&grant, s.sign(&grant)).unwrap();
}
