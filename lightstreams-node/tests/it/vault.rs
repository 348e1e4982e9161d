//! Release, gate and audit over a real chain in memory: three Clique authorities, the real contracts in its genesis, so
//! that a block is final when two more stand on it.

use std::sync::Arc;

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_sol_types::SolValue as _;
use lightstreams_acl::{
    Call, ContentId, ContentRegistry, ContractBackend, LogFilter, Market, Permission, Term, abi,
};
use lightstreams_chain::{
    BuildAttributes, Chain, Clique, DEV_ACCOUNTS, HeaderRules as _, LocalSigner, MemoryKv, Signer as _, Slot,
};
use lightstreams_crypto::ed25519::SigningKey;
use lightstreams_crypto::{FileKey, Header, PayloadNonce, X25519Identity, commitment};
use lightstreams_node::adapters::{NodeView, PermissionGate};
use lightstreams_node::init::{CUSTODIANS, MARKET, NewNetwork, REGISTRY};
use lightstreams_node::vault::{
    Answer, AuditAction, AuditEvent, AuditProblem, ChainView as _, ContentIndex, Custodian, CustodianRecord,
    Domain, Evidence, GrantSource, KeyRequest, Manifest, Origin, Place, RefusalCode, Release, ReleaseEngine,
    ReleaseLog, ReleaseRequest, Signed, VersionInfo, audit, read_log, signature,
};
use lightstreams_store::testing::FaultyDisk;
use lightstreams_store::{Block, BlockStore as _, MemoryStore, PeerId, Requester, ServePolicy as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use secp256k1::SecretKey;

const START: u64 = 1_800_000_000;
const DOMAIN: Domain = Domain { chain_id: 162, registry: REGISTRY };
/// A contract that calls every signature good: it returns 0x1626ba7e, whatever it is asked.
const WALLET: Address = Address::repeat_byte(0x57);
/// Pushes the 16 bytes of its code, and returns them.
const WALLET_INIT: [u8; 25] =
    *b"\x6f\x63\x16\x26\xba\x7e\x60\xe0\x1b\x60\x00\x52\x60\x20\x60\x00\xf3\x60\x00\x52\x60\x10\x60\x10\xf3";

/// A contract that deploys what it is given, by CREATE2 with salt 0.
const FACTORY: Address = Address::repeat_byte(0xfa);
const FACTORY_INIT: [u8; 25] =
    *b"\x6f\x36\x60\x00\x60\x00\x37\x60\x00\x36\x60\x00\x60\x00\xf5\x50\x00\x60\x00\x52\x60\x10\x60\x10\xf3";

// Who is who among the funded accounts.
const PUBLISHER: usize = 0;
const BUYER: usize = 1;
const FRIEND: usize = 2;
const STRANGER: usize = 3;

struct World {
    chain: Arc<Chain>,
    rules: Arc<Clique>,
    view: NodeView,
    store: MemoryStore,
    disk: FaultyDisk,
    engine: ReleaseEngine,
    holder: SigningKey,
    rng: StdRng,
    file_key: FileKey,
    manifest: Manifest,
    nonces: u8,
}

fn account(who: usize) -> Address {
    DEV_ACCOUNTS[who].address
}

fn secret(who: usize) -> SecretKey {
    SecretKey::from_byte_array(DEV_ACCOUNTS[who].secret.0).unwrap()
}

fn sealers() -> Vec<LocalSigner> {
    let mut sealers: Vec<_> = DEV_ACCOUNTS[7..10].iter().map(|account| account.signer().unwrap()).collect();
    sealers.sort_by_key(LocalSigner::address);
    sealers
}

/// A manifest over a header for `custodian`, signed by `author`.
fn manifest_of(
    author: usize,
    content: ContentId,
    key: (&FileKey, &PayloadNonce),
    header: &Block,
    commitment: [u8; 32],
) -> Manifest {
    let mut manifest = Manifest {
        size: 5,
        nonce: *key.1.as_bytes(),
        commitment,
        payload: *Block::raw(vec![1; 21]).cid(),
        header: *header.cid(),
        leaf_chunks: 4,
        version: VersionInfo { version: 1, epoch: 0, revision: 0 },
        previous: None,
        place: Place { domain: DOMAIN, content },
        metadata: Vec::new(),
        card: None,
        author: account(author),
        sig: Vec::new(),
    };
    manifest.sig = signature::sign(&secret(author), &manifest.signing_hash()).to_vec();
    manifest
}

impl World {
    /// A network on which the publisher has registered a content, holds custody of it, and sells it.
    fn new() -> Self {
        let network = NewNetwork {
            chain_id: DOMAIN.chain_id,
            authorities: sealers().iter().map(LocalSigner::address).collect(),
            period_ms: 1000,
            empty_ms: Some(10_000),
            alloc: (0..4).map(|who| (account(who), U256::from(10).pow(U256::from(20)))).collect(),
            dev: false,
            timestamp: START,
        };
        let mut genesis = network.genesis().unwrap();
        genesis.predeploy(WALLET, Bytes::from_static(&WALLET_INIT), Address::ZERO).unwrap();
        genesis.predeploy(FACTORY, Bytes::from_static(&FACTORY_INIT), Address::ZERO).unwrap();
        let rules = Arc::new(Clique::for_genesis(&genesis));
        let chain = Arc::new(Chain::open(genesis, Arc::new(MemoryKv::default()), rules.clone()).unwrap());
        let view = NodeView::new(chain.clone()).unwrap();

        let mut rng = StdRng::seed_from_u64(1);
        let (file_key, nonce) = (FileKey::generate(&mut rng), PayloadNonce::generate(&mut rng));
        let identity = X25519Identity::from_bytes([8; 32]);
        let header = Header::wrap(&file_key, &[&identity.recipient()], &mut rng).unwrap();
        let header = Block::raw(header.to_block(&nonce));
        let salt = B256::repeat_byte(1);
        let content = lightstreams_acl::content_id(DOMAIN.chain_id, REGISTRY, account(PUBLISHER), salt);
        let kc = commitment(&file_key, &nonce, &Place { domain: DOMAIN, content }.ctx(0, 1));
        let manifest = manifest_of(PUBLISHER, content, (&file_key, &nonce), &header, kc);
        let store = MemoryStore::default();
        store.put_many(&[header, manifest.to_block(), Block::raw(vec![1; 21])]).unwrap();

        let holder = SigningKey::from_seed(&[7; 32]);
        let disk = FaultyDisk::new(1);
        let log = ReleaseLog::open(Arc::new(disk.clone()), START).unwrap();
        let custodian = Custodian { account: account(PUBLISHER), holder: holder.clone(), identity };
        // The stranger is admitted too: what is refused to it is refused by the other checks.
        let admitted = [account(PUBLISHER), account(STRANGER)];
        let engine = ReleaseEngine::new(custodian, Box::new(move |_, owner| admitted.contains(owner)), log);
        let mut world =
            Self { chain, rules, view, store, disk, engine, holder, rng, file_key, manifest, nonces: 0 };

        let registry = ContentRegistry::at(REGISTRY);
        world.send(PUBLISHER, &registry.register(salt, world.manifest.digest(), 0));
        world.send(PUBLISHER, &registry.set_custody(content, vec![account(PUBLISHER)]));
        world.send(PUBLISHER, &registry.set_module(content, MARKET, true));
        world.send(PUBLISHER, &Market::at(MARKET).list(content, plan()));
        world
            .send(PUBLISHER, &lightstreams_acl::Custodians::at(CUSTODIANS).set_record(world.record().into()));
        world.seal();
        world.seal();
        world.seal();
        world
    }

    fn record(&self) -> Vec<u8> {
        CustodianRecord {
            domain: DOMAIN,
            account: account(PUBLISHER),
            holder: B256::new(self.holder.public()),
            recipients: vec![[&[1][..], X25519Identity::from_bytes([8; 32]).recipient().as_bytes()].concat()],
            endpoints: vec!["/ip4/127.0.0.1/tcp/4001".into()],
        }
        .sign(&self.holder)
    }

    fn content(&self) -> ContentId {
        self.manifest.place.content
    }

    fn send<T>(&mut self, from: usize, call: &Call<T>) {
        let tx = TxEip1559 {
            chain_id: DOMAIN.chain_id,
            nonce: self.chain.next_nonce(account(from)).unwrap(),
            gas_limit: 2_000_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(call.to),
            value: call.value,
            input: call.data.clone(),
            ..TxEip1559::default()
        };
        let raw = DEV_ACCOUNTS[from].signer().unwrap().sign_raw_transaction(tx).unwrap();
        self.chain.submit(&raw).unwrap();
    }

    /// Seals one block of what waits in the pool; every transaction in it succeeds.
    #[track_caller]
    fn seal(&mut self) {
        let head = self.chain.head();
        let now = head.header.timestamp + 1;
        let sealers = sealers();
        let signer = &sealers[(head.number() as usize + 1) % sealers.len()];
        let attributes =
            BuildAttributes { parent: head.hash, author: signer.address(), now, with_transactions: true };
        let mut block = self.chain.build(&attributes).unwrap();
        let slot = Slot::Clique { number: block.header.number, parent: head.hash };
        let seal = signer.sign(&slot, self.rules.seal_hash(&block.header)).unwrap();
        Clique::write_seal(&mut block.header, &seal);
        self.chain.import(block, now).unwrap();
        let receipts = self.chain.receipts(Default::default()).unwrap().unwrap();
        assert!(receipts.iter().all(|receipt| receipt.status()), "a transaction of the test failed");
        assert_eq!(self.chain.pool_size(), (0, 0), "a transaction of the test was left behind");
    }

    /// The same, and two empty ones on it, which make it final.
    #[track_caller]
    fn settle(&mut self) {
        self.seal();
        self.seal();
        self.seal();
    }

    fn request(
        &mut self,
        reader: Address,
        manifest: &Manifest,
        one_time: &X25519Identity,
    ) -> Signed<KeyRequest> {
        self.nonces += 1;
        let msg = KeyRequest {
            content: manifest.place.content.0,
            manifest: manifest.digest(),
            reader,
            recipient: [&[1][..], one_time.recipient().as_bytes()].concat(),
            holder: self.engine.holder(),
            not_after: self.now_s() + 300,
            nonce: B256::repeat_byte(self.nonces),
        };
        Signed { domain: DOMAIN, msg, sig: Vec::new() }
    }

    fn now_s(&self) -> u64 {
        self.chain.head().header.timestamp
    }

    fn answer(&mut self, request: Signed<KeyRequest>) -> Result<Release, RefusalCode> {
        let (digest, bytes) = (request.digest(), ReleaseRequest::from(request).encode());
        let now_ms = self.now_s() * 1000 + 500;
        let answered = self.engine.answer(&bytes, &self.view, &self.store, &[], now_ms, &mut self.rng);
        assert!(answered.answer.verify(&self.engine.holder(), &digest));
        match answered.answer {
            Answer::Release(release) => Ok(release),
            Answer::Refusal(refusal) => Err(refusal.refusal.code),
        }
    }

    /// Asks as one of the accounts, and opens what comes.
    fn ask(&mut self, who: usize) -> Result<Release, RefusalCode> {
        let (manifest, one_time) = (self.manifest.clone(), X25519Identity::generate(&mut self.rng));
        let mut request = self.request(account(who), &manifest, &one_time);
        request.sig = signature::sign(&secret(who), &request.digest()).to_vec();
        let release = self.answer(request)?;
        let (header, _) = Header::parse(&release.header).unwrap();
        assert!(header.unwrap(&[&one_time]).unwrap() == self.file_key);
        Ok(release)
    }

    fn buy(&mut self, who: usize) {
        let price = U256::from(1000);
        let plans = Market::at(MARKET).plans_of(self.content());
        let plans = plans.run(self.view.backend(), lightstreams_acl::BlockRef::Head).unwrap();
        let buy = Market::at(MARKET).buy(plans[0], account(who), price, None, self.manifest.digest());
        self.send(who, &buy.with_value(price));
    }
}

fn plan() -> abi::Market::Plan {
    abi::Market::Plan {
        token: Address::ZERO,
        duration: 0,
        supply: 0,
        price: 1000,
        referrerBps: 0,
        payees: Vec::new(),
    }
}

#[test]
fn a_buyer_gets_the_key_once_the_sale_is_final_and_a_stranger_never() {
    let mut world = World::new();
    assert_eq!(world.ask(BUYER), Err(RefusalCode::NotGranted));
    world.buy(BUYER);
    world.seal();
    assert_eq!(world.ask(BUYER), Err(RefusalCode::NotFinal));
    world.seal();
    assert_eq!(world.ask(BUYER), Err(RefusalCode::NotFinal));
    world.seal();
    let release = world.ask(BUYER).unwrap();
    let (head, settled) = (world.chain.head(), world.chain.final_block());
    assert_eq!(release.receipt.head.hash, head.hash);
    assert_eq!(release.receipt.final_block.hash, settled.hash);
    assert_eq!(head.number() - settled.number, 2);
    assert_eq!(world.ask(STRANGER), Err(RefusalCode::NotGranted));
    world.ask(PUBLISHER).expect("the owner may read");
}

#[test]
fn a_revocation_counts_at_once_and_a_grant_after_it_is_a_new_one() {
    let mut world = World::new();
    let (registry, content) = (ContentRegistry::at(REGISTRY), world.content());
    let grant = registry.grant(content, account(FRIEND), Permission::Read, Term::default());
    world.send(PUBLISHER, &grant);
    world.settle();
    world.ask(FRIEND).unwrap();
    world.send(PUBLISHER, &registry.revoke(content, account(FRIEND)));
    world.seal();
    assert_eq!(world.ask(FRIEND), Err(RefusalCode::Revoked));
    // Granted again: allowed at the final block and at the head, but not in between.
    world.send(PUBLISHER, &grant);
    world.seal();
    assert_eq!(world.ask(FRIEND), Err(RefusalCode::NotFinal));
    world.seal();
    world.seal();
    world.ask(FRIEND).unwrap();
}

#[test]
fn a_term_ends_by_the_custodians_clock_on_an_idle_chain() {
    let mut world = World::new();
    let (content, now) = (world.content(), world.now_s());
    let term = Term { expires: now + 6, ..Term::default() };
    let grant = ContentRegistry::at(REGISTRY).grant(content, account(FRIEND), Permission::Read, term);
    world.send(PUBLISHER, &grant);
    world.settle();
    let release = world.ask(FRIEND).unwrap();
    let one_time = X25519Identity::generate(&mut world.rng);
    let manifest = world.manifest.clone();
    let mut request = world.request(account(FRIEND), &manifest, &one_time);
    request.sig = signature::sign(&secret(FRIEND), &request.digest()).to_vec();
    let bytes = ReleaseRequest::from(request).encode();
    // No block came since, but the clock went on.
    let late = (now + 6) * 1000;
    let answered = world.engine.answer(&bytes, &world.view, &world.store, &[], late, &mut world.rng);
    let Answer::Refusal(refusal) = answered.answer else { panic!("released after the end of the term") };
    assert_eq!(refusal.refusal.code, RefusalCode::Expired);
    assert_eq!(refusal.refusal.head, Some(release.receipt.head));
    // Much later the head itself is too old to be believed.
    let stale = (world.now_s() + 31) * 1000;
    let answered = world.engine.answer(&bytes, &world.view, &world.store, &[], stale, &mut world.rng);
    let Answer::Refusal(refusal) = answered.answer else { panic!("released by a stale view") };
    assert_eq!(refusal.refusal.code, RefusalCode::StaleView);
}

#[test]
fn a_strangers_registration_of_the_same_payload_opens_nothing() {
    let mut world = World::new();
    let salt = B256::repeat_byte(2);
    let id = lightstreams_acl::content_id(DOMAIN.chain_id, REGISTRY, account(STRANGER), salt);
    let place = Place { domain: DOMAIN, content: id };
    let mut copy = Manifest { place, author: account(STRANGER), ..world.manifest.clone() };
    copy.sig = signature::sign(&secret(STRANGER), &copy.signing_hash()).to_vec();
    world.store.put(&copy.to_block()).unwrap();
    let registry = ContentRegistry::at(REGISTRY);
    world.send(STRANGER, &registry.register(salt, copy.digest(), 0));
    world.send(STRANGER, &registry.set_custody(id, vec![account(PUBLISHER)]));
    world.settle();
    let one_time = X25519Identity::generate(&mut world.rng);
    let mut request = world.request(account(STRANGER), &copy, &one_time);
    request.sig = signature::sign(&secret(STRANGER), &request.digest()).to_vec();
    assert_eq!(world.answer(request), Err(RefusalCode::CommitmentMismatch));
}

#[test]
fn a_smart_account_signs_by_its_contract() {
    let mut world = World::new();
    let grant =
        ContentRegistry::at(REGISTRY).grant(world.content(), WALLET, Permission::Read, Term::default());
    world.send(PUBLISHER, &grant);
    world.settle();
    let (manifest, one_time) = (world.manifest.clone(), X25519Identity::generate(&mut world.rng));
    let mut request = world.request(WALLET, &manifest, &one_time);
    request.sig = b"whatever the wallet likes".to_vec();
    world.answer(request).unwrap();
    // An account without code approves of nothing.
    let mut request = world.request(account(BUYER), &manifest, &one_time);
    request.sig = b"whatever the wallet likes".to_vec();
    assert_eq!(world.answer(request), Err(RefusalCode::BadSignature));
}

#[test]
fn a_smart_account_signs_before_it_is_deployed() {
    let mut world = World::new();
    let wallet = FACTORY.create2_from_code(B256::ZERO, WALLET_INIT);
    let grant =
        ContentRegistry::at(REGISTRY).grant(world.content(), wallet, Permission::Read, Term::default());
    world.send(PUBLISHER, &grant);
    world.settle();
    let (manifest, one_time) = (world.manifest.clone(), X25519Identity::generate(&mut world.rng));
    let mut ask = |factory: Address, init: &[u8], reader: Address| {
        let mut request = world.request(reader, &manifest, &one_time);
        let wrapped = (factory, Bytes::copy_from_slice(init), Bytes::from_static(b"sig")).abi_encode_params();
        request.sig = [&wrapped[..], &b"\x64\x92".repeat(16)].concat();
        world.answer(request).map(drop)
    };
    // Whoever asks names the factory, so its own answer must count for nothing.
    assert_eq!(ask(WALLET, &WALLET_INIT, wallet), Err(RefusalCode::BadSignature));
    assert_eq!(ask(FACTORY, b"\x00", wallet), Err(RefusalCode::BadSignature));
    assert_eq!(ask(FACTORY, &WALLET_INIT, account(BUYER)), Err(RefusalCode::BadSignature));
    let magic = [&[0x16, 0x26, 0xba, 0x7e][..], &[0; 60]].concat();
    assert_eq!(ask(FACTORY, &magic, account(BUYER)), Err(RefusalCode::BadSignature));
    assert_eq!(ask(FACTORY, &WALLET_INIT, wallet), Ok(()));
    assert_eq!(ask(FACTORY, &[], WALLET), Err(RefusalCode::NotGranted), "one that is deployed already");
}

#[test]
fn who_bought_is_served_after_custody_was_taken_away() {
    let mut world = World::new();
    let (registry, content) = (ContentRegistry::at(REGISTRY), world.content());
    world.buy(BUYER);
    world.send(PUBLISHER, &registry.grant(content, account(FRIEND), Permission::Read, Term::default()));
    world.settle();
    world.ask(FRIEND).unwrap();
    world.send(PUBLISHER, &registry.set_custody(content, vec![account(STRANGER)]));
    world.settle();
    world.ask(BUYER).expect("what was paid for stays");
    assert_eq!(world.ask(FRIEND), Err(RefusalCode::WrongHolder));
}

#[test]
fn the_gate_follows_the_head() {
    let mut world = World::new();
    let (registry, content) = (ContentRegistry::at(REGISTRY), world.content());
    let index = ContentIndex::open(Arc::new(FaultyDisk::new(2)), &world.store).unwrap();
    let place = world.manifest.place;
    index.add(&place, world.manifest.to_block().cid(), Origin::Published, &world.store).unwrap();
    let chain = world.chain.clone();
    let clock = Arc::new(move || chain.head().header.timestamp * 1000);
    let gate = PermissionGate::new(Arc::new(index), Arc::new(world.view.clone()), clock);
    let peer = |who: usize| Requester::Peer {
        id: PeerId::from_bytes(&[1; 38]).unwrap(),
        account: Some(account(who).0.0),
    };
    let anyone = Requester::Http { account: None };
    let (h, p, m) = (world.manifest.header, world.manifest.payload, *world.manifest.to_block().cid());

    world.send(PUBLISHER, &registry.grant(content, account(FRIEND), Permission::Read, Term::default()));
    assert!(!gate.allows(&peer(FRIEND), &p));
    world.seal();
    for cid in [h, p] {
        assert!(gate.allows(&peer(FRIEND), &cid), "blocks follow the head, not finality");
        assert!(gate.allows(&peer(PUBLISHER), &cid));
        assert!(!gate.allows(&peer(STRANGER), &cid));
        assert!(!gate.allows(&anyone, &cid));
    }
    assert!(gate.allows(&anyone, &m), "a reader must see the manifest before it may ask");
    world.send(PUBLISHER, &registry.revoke(content, account(FRIEND)));
    world.seal();
    assert!(!gate.allows(&peer(FRIEND), &p));
    world.send(PUBLISHER, &registry.set_public(content, true));
    world.seal();
    assert!(gate.allows(&anyone, &p));
}

#[test]
fn the_audit_trail_joins_chain_and_receipts_and_names_what_is_wrong() {
    let mut world = World::new();
    let (registry, content) = (ContentRegistry::at(REGISTRY), world.content());
    world.buy(BUYER);
    world.send(PUBLISHER, &registry.grant(content, account(FRIEND), Permission::Read, Term::default()));
    world.settle();
    world.ask(BUYER).unwrap();
    world.ask(FRIEND).unwrap();
    world.send(PUBLISHER, &registry.revoke(content, account(FRIEND)));
    world.settle();

    let mut releases = Vec::new();
    read_log(Arc::new(world.disk.clone()), &mut |_, logged| releases.push(logged.release)).unwrap();
    // A receipt that was changed, one of a holder that nobody named, one for somebody who had no permission.
    let mut changed = releases[0].clone();
    changed.receipt.at_ms += 1;
    let stranger_key = SigningKey::from_seed(&[9; 32]);
    let mut foreign = releases[0].clone();
    foreign.receipt.holder = B256::new(stranger_key.public());
    foreign.sig = foreign.receipt.sign(&stranger_key);
    let mut ungranted = releases[0].clone();
    ungranted.receipt.reader = account(STRANGER);
    ungranted.sig = ungranted.receipt.sign(&world.holder);
    let mut elsewhere = releases[0].clone();
    elsewhere.receipt.head.hash = B256::ZERO;
    elsewhere.sig = elsewhere.receipt.sign(&world.holder);
    let forged = [changed, foreign, ungranted, elsewhere];
    releases.extend(forged.clone());

    let all = LogFilter {
        addresses: vec![REGISTRY, MARKET],
        from: lightstreams_acl::BlockRef::Number(0),
        to: lightstreams_acl::BlockRef::Head,
        topics: Default::default(),
    };
    let events: Vec<AuditEvent> = world
        .view
        .backend()
        .logs(&all)
        .unwrap()
        .into_iter()
        .map(|log| AuditEvent { log, time: None })
        .collect();
    let record = CustodianRecord::verified(&world.record(), &DOMAIN, account(PUBLISHER)).unwrap();
    let chain = world.chain.clone();
    let trail = audit(&Evidence {
        place: world.manifest.place,
        events: &events,
        releases: &releases,
        custodians: &[record],
        block_hash: &|number| chain.resolve(number.into()).unwrap().map(|block| block.hash),
    })
    .unwrap();

    let names: Vec<_> = trail.lines.iter().map(|line| line.what.name()).collect();
    for name in ["registered", "custody_set", "listed", "granted", "purchased", "released", "revoked"] {
        assert!(names.contains(&name), "{name} is missing from {names:?}");
    }
    let good: Vec<_> = trail
        .lines
        .iter()
        .filter(|line| line.what.name() == "released" && line.problems.is_empty())
        .collect();
    assert_eq!(good.len(), 2);
    for (line, reader, by) in [(good[0], BUYER, MARKET), (good[1], FRIEND, account(PUBLISHER))] {
        assert_eq!((line.who, line.by), (account(reader), Some(account(PUBLISHER))));
        let AuditAction::Released { granted: Some(GrantSource::Row { by: granted, .. }), .. } = line.what
        else {
            panic!("no grant stands behind {line}")
        };
        assert_eq!(granted, by);
    }
    let problems: Vec<_> = trail.problems().map(|line| line.problems.clone()).collect();
    assert_eq!(problems.len(), forged.len());
    for problem in [AuditProblem::Receipt, AuditProblem::Holder, AuditProblem::NoGrant, AuditProblem::Block] {
        assert!(problems.contains(&vec![problem]), "{problem} is missing from {problems:?}");
    }
    assert!(trail.lines.iter().all(|line| !line.to_string().is_empty()));
}

#[test]
fn the_chain_view_answers_what_the_registry_says() {
    let world = World::new();
    let (content, head) = (world.content(), lightstreams_acl::BlockRef::Head);
    let state = world.view.content(content, head).unwrap().unwrap();
    assert_eq!((state.owner, state.custody), (account(PUBLISHER), vec![account(PUBLISHER)]));
    assert_eq!(world.view.content(ContentId(B256::ZERO), head).unwrap(), None);
    let digest = world.manifest.digest();
    assert_eq!(world.view.version_of(content, digest, head).unwrap(), Some(world.manifest.version));
    assert_eq!(world.view.version_of(content, B256::ZERO, head).unwrap(), None);
    let tip = world.view.tip().unwrap();
    assert_eq!((tip.between.len(), tip.head.stale_after_ms), (1, Some(30_000)));
    let sent = world.view.backend().send(&lightstreams_acl::Request {
        from: None,
        to: TxKind::Call(REGISTRY),
        value: U256::ZERO,
        data: Bytes::new(),
    });
    assert!(sent.is_err(), "the node signs nothing");
}
