//! The checks of a release, one by one, over a chain made up block by block.

use std::collections::BTreeSet;
use std::sync::Arc;

use lightstreams_crypto::{FileKey, PayloadNonce};
use lightstreams_store::testing::FaultyDisk;
use lightstreams_store::{Block, MemoryStore};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use secp256k1::SecretKey;

use super::*;
use crate::vault::made_up::{Facts, MadeUp, REGISTRY, Row, SMART};
use crate::vault::{leaf_of, merkle, read_log};

const NOW: u64 = 1_800_000_000;
const OWNER: Address = Address::repeat_byte(0x22);
const ACCOUNT: Address = Address::repeat_byte(0x33);

/// One content in custody, one reader with a grant, four blocks of which the second is final.
struct Case {
    chain: MadeUp,
    store: MemoryStore,
    engine: ReleaseEngine,
    disk: FaultyDisk,
    file_key: FileKey,
    manifest: Manifest,
    reader: SecretKey,
    one_time: X25519Identity,
    request: KeyRequest,
    domain: Domain,
    after: Option<B256>,
    /// Instead of the reader's ECDSA signature.
    sig: Option<Vec<u8>>,
    now: u64,
    rng: StdRng,
}

const HOLDER: [u8; 32] = [7; 32];

fn custodian() -> Custodian {
    Custodian {
        account: ACCOUNT,
        holder: SigningKey::from_seed(&HOLDER),
        identity: X25519Identity::from_bytes([8; 32]),
    }
}

fn engine(disk: &FaultyDisk) -> ReleaseEngine {
    let log = ReleaseLog::open(Arc::new(disk.clone()), NOW).unwrap();
    ReleaseEngine::new(custodian(), Box::new(|_, owner| *owner == OWNER), log)
}

/// A manifest of `place` around a key, a nonce and a header that may belong to another content.
fn manifest_at(place: Place, commitment: [u8; 32], nonce: &PayloadNonce, header: &Block) -> Manifest {
    Manifest {
        size: 5,
        nonce: *nonce.as_bytes(),
        commitment,
        payload: *Block::raw(vec![1; 21]).cid(),
        header: *header.cid(),
        leaf_chunks: 4,
        version: VersionInfo { version: 1, epoch: 0, revision: 0 },
        previous: None,
        place,
        metadata: Vec::new(),
        card: None,
        author: OWNER,
        sig: vec![0; 65],
    }
}

impl Case {
    fn new() -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let (file_key, nonce) = (FileKey::generate(&mut rng), PayloadNonce::generate(&mut rng));
        let domain = Domain { chain_id: 161, registry: REGISTRY };
        let place = Place { domain, content: ContentId(B256::repeat_byte(0xc0)) };
        let header = Header::wrap(&file_key, &[&custodian().identity.recipient()], &mut rng).unwrap();
        let header = Block::raw(header.to_block(&nonce));
        let commitment = lightstreams_crypto::commitment(&file_key, &nonce, &place.ctx(0, 1));
        let manifest = manifest_at(place, commitment, &nonce, &header);
        let store = MemoryStore::default();
        store.put_many(&[header, manifest.to_block()]).unwrap();

        let reader = SecretKey::from_byte_array([9; 32]).unwrap();
        let account = signature::account_of(&reader);
        let state = ContentState { owner: OWNER, flags: 0, is_public: false, custody: vec![ACCOUNT] };
        let facts = Facts {
            time: 0,
            contents: [(place.content, state)].into(),
            versions: [((place.content, manifest.digest()), manifest.version)].into(),
            version_custody: vec![ACCOUNT],
            rows: [((place.content, account), Row::default())].into(),
            revoked: BTreeSet::new(),
            accepted: Some(b"smart".to_vec()),
        };
        let blocks = (0..4).map(|n| Facts { time: NOW - 10 + 3 * n, ..facts.clone() }).collect();
        let disk = FaultyDisk::new(1);
        let one_time = X25519Identity::generate(&mut rng);
        Self {
            chain: MadeUp::new(blocks, 1),
            engine: engine(&disk),
            disk,
            store,
            file_key,
            request: KeyRequest {
                content: place.content.0,
                manifest: manifest.digest(),
                reader: account,
                recipient: [&[1][..], one_time.recipient().as_bytes()].concat(),
                holder: B256::new(custodian().holder.public()),
                not_after: NOW + 300,
                nonce: B256::repeat_byte(5),
            },
            manifest,
            reader,
            one_time,
            domain,
            after: None,
            sig: None,
            now: NOW,
            rng,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut signed = Signed { domain: self.domain, msg: self.request.clone(), sig: Vec::new() };
        signed.sig = match &self.sig {
            Some(sig) => sig.clone(),
            None => signature::sign(&self.reader, &signed.digest()).to_vec(),
        };
        ReleaseRequest { signed, after: self.after }.encode()
    }

    fn ask(&mut self) -> Result<Release, RefusalCode> {
        let bytes = self.bytes();
        self.ask_bytes(&bytes).0
    }

    fn ask_bytes(&mut self, bytes: &[u8]) -> (Result<Release, RefusalCode>, Option<Fault>) {
        let (chain, store) = (&self.chain, &self.store);
        let seeders = ["/ip4/127.0.0.1/tcp/4001".to_owned()];
        let answered = self.engine.answer(bytes, chain, store, &seeders, self.now * 1000, &mut self.rng);
        let travelled = Answer::decode(&answered.answer.encode()).unwrap();
        assert_eq!(travelled, answered.answer);
        let holder = B256::new(SigningKey::from_seed(&HOLDER).public());
        let digest = ReleaseRequest::decode(bytes).map(|request| request.signed.digest()).unwrap_or_default();
        assert!(travelled.verify(&holder, &digest), "every answer is signed and about its request");
        assert!(!travelled.verify(&B256::repeat_byte(1), &digest), "and not somebody else's");
        let result = match travelled {
            Answer::Release(release) => Ok(release),
            Answer::Refusal(refusal) => Err(refusal.refusal.code),
        };
        (result, answered.fault)
    }

    fn account(&self) -> Address {
        self.request.reader
    }

    fn content(&self) -> ContentId {
        ContentId(self.request.content)
    }

    /// Changes the facts of some blocks.
    fn facts(&mut self, blocks: impl IntoIterator<Item = usize>, change: impl Fn(&mut Facts)) {
        blocks.into_iter().for_each(|n| change(&mut self.chain.blocks[n]));
    }

    fn state(&mut self, blocks: impl IntoIterator<Item = usize>, change: impl Fn(&mut ContentState)) {
        let content = self.content();
        self.facts(blocks, |facts| change(facts.contents.get_mut(&content).unwrap()));
    }

    fn row(&mut self, blocks: impl IntoIterator<Item = usize>, row: Option<Row>) {
        let key = (self.content(), self.account());
        self.facts(blocks, |facts| {
            match row {
                Some(row) => facts.rows.insert(key, row),
                None => facts.rows.remove(&key),
            };
        });
    }

    fn logged(&self) -> u64 {
        let mut count = 0;
        read_log(Arc::new(self.disk.clone()), &mut |_, _| count += 1).unwrap();
        count
    }
}

/// Changes a case that would be answered, and expects this refusal and nothing in the log.
#[track_caller]
fn refused(code: RefusalCode, change: impl FnOnce(&mut Case)) {
    let mut case = Case::new();
    change(&mut case);
    assert_eq!(case.ask(), Err(code));
    assert_eq!(case.logged(), 0, "a refusal records nothing");
    assert_eq!(case.engine.refusals().get(&code), Some(&1), "refusals are counted");
}

#[track_caller]
fn released(change: impl FnOnce(&mut Case)) {
    let mut case = Case::new();
    change(&mut case);
    let release = case.ask().unwrap();
    assert_eq!(release.header.len(), 168);
    assert_eq!(case.logged(), 1);
}

#[test]
fn a_reader_with_a_final_grant_gets_the_key_and_a_receipt() {
    let mut case = Case::new();
    let release = case.ask().unwrap();
    let (header, consumed) = Header::parse(&release.header).unwrap();
    assert_eq!((consumed, release.header.len()), (168, 168));
    assert!(header.unwrap(&[&case.one_time]).unwrap() == case.file_key);
    assert!(header.unwrap(&[&custodian().identity]).is_err(), "only the one-time key opens it");

    let receipt = &release.receipt;
    assert_eq!(receipt.final_block, MadeUp::point(1));
    assert_eq!(receipt.head, MadeUp::point(3));
    assert_eq!((receipt.version, receipt.revision, receipt.epoch), (1, 0, 0));
    assert_eq!((receipt.reader, receipt.at_ms), (case.account(), NOW * 1000));
    let (size, root) = case.engine.log_root();
    let (proof, _, _) = case.engine.inclusion_proof(0).unwrap();
    assert!(merkle::verify_inclusion(&leaf_of(receipt, &release.sig), 0, size, &proof, &root));
}

#[test]
fn requests_of_a_wrong_shape_are_malformed() {
    let mut case = Case::new();
    let good = case.bytes();
    for bytes in [&b""[..], b"\xa0", &good[..good.len() - 1], &[&good[..], b"\0"].concat()] {
        assert_eq!(case.ask_bytes(bytes).0, Err(RefusalCode::Malformed));
    }
    assert_eq!(case.ask_bytes(&vec![0; 17 * 1024]).0, Err(RefusalCode::Malformed));
    // A low-order point would give everybody the same shared secret.
    refused(RefusalCode::Malformed, |case| case.request.recipient = [&[1][..], &[0; 32]].concat());
    refused(RefusalCode::Malformed, |case| case.request.not_after = NOW + 661);
    refused(RefusalCode::Malformed, |case| case.request.not_after = u64::MAX);
    refused(RefusalCode::Malformed, |case| case.after = Some(B256::ZERO));
}

#[test]
fn time_has_a_minute_of_skew_on_both_sides() {
    released(|case| case.request.not_after = NOW + 660);
    released(|case| case.request.not_after = NOW - 60);
    refused(RefusalCode::RequestExpired, |case| case.request.not_after = NOW - 61);
    refused(RefusalCode::RequestExpired, |case| case.request.not_after = 0);
}

#[test]
fn only_requests_for_this_custodian_are_answered() {
    refused(RefusalCode::WrongHolder, |case| case.request.holder = B256::ZERO);
    refused(RefusalCode::UnknownContent, |case| case.domain.chain_id = 1);
    refused(RefusalCode::UnknownContent, |case| case.domain.registry = OWNER);
    refused(RefusalCode::UnknownContent, |case| case.request.content = B256::ZERO);
    refused(RefusalCode::WrongHolder, |case| case.state(0..4, |state| state.custody = vec![OWNER]));
    refused(RefusalCode::Withheld, |case| case.state(0..4, |state| state.owner = SMART));
    refused(RefusalCode::NotFinal, |case| case.state(0..2, |state| state.custody.clear()));
    refused(RefusalCode::NotFinal, |case| case.facts(0..2, |facts| facts.contents.clear()));
}

#[test]
fn a_stale_or_unknown_view_refuses() {
    refused(RefusalCode::StaleView, |case| case.now = NOW + 30);
    refused(RefusalCode::StaleView, |case| case.chain.fails = true);
    released(|case| {
        case.chain.stale_after_ms = None;
        case.now = NOW + 299;
    });
}

#[test]
fn ecdsa_counts_first_and_a_contract_must_agree_twice() {
    refused(RefusalCode::BadSignature, |case| case.sig = Some(vec![1; 65]));
    refused(RefusalCode::BadSignature, |case| case.sig = Some(Vec::new()));
    refused(RefusalCode::BadSignature, |case| case.reader = SecretKey::from_byte_array([10; 32]).unwrap());
    refused(RefusalCode::BadSignature, |case| {
        // The same signature with the other s and v: valid ECDSA, but not the one accepted form.
        let bytes = case.bytes();
        let signed = ReleaseRequest::decode(&bytes).unwrap().signed;
        let mut sig =
            secp256k1::ecdsa::Signature::from_compact(&signed.sig[..64]).unwrap().serialize_compact();
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let n: alloy_primitives::U256 = alloy_primitives::U256::from_str_radix(order, 16).unwrap();
        let s = alloy_primitives::U256::from_be_slice(&sig[32..]);
        sig[32..].copy_from_slice(&(n - s).to_be_bytes::<32>());
        case.sig = Some([&sig[..], &[27 + 28 - signed.sig[64]]].concat());
    });
    let smart = |case: &mut Case| {
        let row = (case.content(), SMART);
        case.request.reader = SMART;
        case.sig = Some(b"smart".to_vec());
        case.facts(0..4, |facts| {
            facts.rows.insert(row, Row::default());
        });
    };
    released(smart);
    for block in [1, 3] {
        refused(RefusalCode::BadSignature, |case| {
            smart(case);
            case.facts([block], |facts| facts.accepted = None);
        });
    }
}

#[test]
fn the_same_request_gets_the_same_release_while_its_reader_may_read() {
    let mut case = Case::new();
    let first = case.ask().unwrap();
    case.now += 5;
    assert_eq!(case.ask(), Ok(first.clone()), "an answer that was lost can be asked for again");
    assert_eq!(case.logged(), 1);

    // Opened again, the log still knows it.
    case.engine = engine(&case.disk);
    assert_eq!(case.ask(), Ok(first));

    case.row(0..4, None);
    case.facts(3..4, |facts| facts.revoked = facts.rows.keys().map(|(_, account)| *account).collect());
    assert_eq!(case.ask(), Err(RefusalCode::NotGranted));
}

#[test]
fn a_nonce_serves_one_request_of_one_reader() {
    let mut case = Case::new();
    case.ask().unwrap();
    case.request.not_after += 1;
    assert_eq!(case.ask(), Err(RefusalCode::Replayed));
    case.engine = engine(&case.disk);
    assert_eq!(case.ask(), Err(RefusalCode::Replayed), "also after a restart");

    // Another reader's nonces are its own.
    let mut other = Case::new();
    other.ask().unwrap();
    other.reader = SecretKey::from_byte_array([10; 32]).unwrap();
    other.request.reader = signature::account_of(&other.reader);
    other.row(0..4, Some(Row::default()));
    other.ask().unwrap();

    // A request that was refused used nothing up.
    let mut early = Case::new();
    early.row(0..2, None);
    assert_eq!(early.ask(), Err(RefusalCode::NotFinal));
    early.row(0..2, Some(Row::default()));
    early.ask().unwrap();
}

#[test]
fn answers_are_forgotten_a_minute_after_their_end_and_not_before() {
    let mut case = Case::new();
    case.chain.stale_after_ms = None;
    let first = case.ask().unwrap();
    case.now = case.request.not_after + 60;
    assert_eq!(case.ask(), Ok(first));
    case.now += 1;
    assert_eq!(case.ask(), Err(RefusalCode::RequestExpired));
    // The nonce is free again, for a request that is made now.
    case.request.not_after = case.now + 10;
    case.ask().unwrap();
    assert_eq!(case.logged(), 2);
}

#[test]
fn a_reader_has_64_open_answers_at_most() {
    let mut case = Case::new();
    case.chain.stale_after_ms = None;
    for n in 0..64u8 {
        case.request.nonce = B256::with_last_byte(n);
        case.request.not_after = NOW + 100 + u64::from(n);
        case.ask().unwrap();
    }
    case.request.nonce = B256::repeat_byte(0xff);
    let bytes = case.bytes();
    let chain = &case.chain;
    let answered = case.engine.answer(&bytes, chain, &case.store, &[], NOW * 1000, &mut case.rng);
    let Answer::Refusal(refusal) = answered.answer else { panic!("the 65th was answered") };
    assert_eq!(refusal.refusal.code, RefusalCode::RateLimited);
    assert_eq!(refusal.refusal.retry_s, Some(161), "when the first of them is forgotten");
    case.now = NOW + 161;
    case.ask().unwrap();
}

#[test]
fn versions_are_looked_up_never_claimed() {
    refused(RefusalCode::WrongVersion, |case| case.request.manifest = B256::ZERO);
    refused(RefusalCode::WrongVersion, |case| case.facts(0..4, |facts| facts.versions.clear()));
    refused(RefusalCode::NotFinal, |case| case.facts(0..2, |facts| facts.versions.clear()));
    // The chain has recorded the digest as something else than the manifest says.
    for other in [(2, 0, 0), (1, 1, 0), (1, 0, 1)] {
        refused(RefusalCode::WrongVersion, |case| {
            let (version, epoch, revision) = other;
            let info = VersionInfo { version, epoch, revision };
            case.facts(0..4, |facts| facts.versions.values_mut().for_each(|version| *version = info));
        });
    }
}

#[test]
fn permission_must_hold_from_the_final_block_to_the_head() {
    refused(RefusalCode::NotGranted, |case| case.row(0..4, None));
    refused(RefusalCode::NotFinal, |case| case.row(0..2, None));
    // Revoked after the final block, and granted again: the second grant is not final.
    refused(RefusalCode::NotFinal, |case| case.row(2..3, None));
    refused(RefusalCode::Revoked, |case| {
        let account = case.account();
        case.row(3..4, None);
        case.facts(3..4, |facts| facts.revoked = [account].into());
    });
    released(|case| case.row(0..1, None));
}

#[test]
fn terms_begin_by_the_final_block_and_end_by_the_later_clock() {
    let row = |starts, ends| Some(Row { starts, ends, ..Row::default() });
    // The blocks have the times NOW - 10, - 7, - 4, - 1; the second is final.
    released(|case| case.row(0..4, row(NOW - 7, 0)));
    refused(RefusalCode::NotYetValid, |case| case.row(0..4, row(NOW - 6, 0)));
    refused(RefusalCode::NotYetValid, |case| case.row(0..4, row(NOW + 100, 0)));
    released(|case| case.row(0..4, row(0, NOW + 1)));
    refused(RefusalCode::Expired, |case| case.row(0..4, row(0, NOW)));
    // By the head's time, where our clock is behind.
    refused(RefusalCode::Expired, |case| {
        case.row(0..4, row(0, NOW - 1));
        case.now = NOW - 5;
    });
    // By our clock, where the chain is idle.
    refused(RefusalCode::Expired, |case| {
        case.row(0..4, row(0, NOW + 5));
        case.now = NOW + 5;
    });
}

#[test]
fn a_grant_for_later_epochs_does_not_open_this_version() {
    refused(RefusalCode::NotGranted, |case| case.row(0..4, Some(Row { from_epoch: 1, ..Row::default() })));
}

#[test]
fn flags_that_cannot_be_satisfied_refuse() {
    refused(RefusalCode::AuditRequired, |case| case.state(0..4, |state| state.flags = FLAG_STRICT_AUDIT));
    refused(RefusalCode::AuditRequired, |case| case.state(3..4, |state| state.flags = FLAG_STRICT_AUDIT));
    refused(RefusalCode::PqRequired, |case| case.state(0..4, |state| state.flags = FLAG_PQ_ONLY));
}

#[test]
fn who_bought_is_served_after_custody_ended() {
    let bought = Some(Row { bought: true, ..Row::default() });
    released(|case| {
        case.state(0..4, |state| state.custody.clear());
        case.row(0..4, bought);
    });
    refused(RefusalCode::WrongHolder, |case| case.state(0..4, |state| state.custody.clear()));
    refused(RefusalCode::WrongHolder, |case| {
        case.state(0..4, |state| state.custody.clear());
        case.row(0..4, bought);
        case.facts(0..4, |facts| facts.version_custody.clear());
    });
}

#[test]
fn a_copied_payload_under_another_id_is_a_commitment_mismatch() {
    // A stranger registers the same payload, nonce, commitment and header under an id of its own, is admitted, names our
    // custodian, grants itself, and asks.
    let mut case = Case::new();
    let place = Place { content: ContentId(B256::repeat_byte(0xba)), domain: case.domain };
    let copy = Manifest { place, ..case.manifest.clone() };
    case.store.put(&copy.to_block()).unwrap();
    let state = ContentState { owner: OWNER, flags: 0, is_public: false, custody: vec![ACCOUNT] };
    let account = case.account();
    case.facts(0..4, |facts| {
        facts.contents.insert(place.content, state.clone());
        facts.versions.insert((place.content, copy.digest()), copy.version);
        facts.rows.insert((place.content, account), Row::default());
    });
    case.request.content = place.content.0;
    case.request.manifest = copy.digest();
    assert_eq!(case.ask(), Err(RefusalCode::CommitmentMismatch));

    // Registering the very manifest of the victim does not help: it names another place.
    let victim = case.manifest.digest();
    case.facts(0..4, |facts| {
        facts.versions.insert((place.content, victim), copy.version);
    });
    case.request.manifest = victim;
    assert_eq!(case.ask(), Err(RefusalCode::WrongVersion));
    assert_eq!(case.logged(), 0);
}

/// Puts a manifest with a changed header block in the place of the case's.
fn with_header(case: &mut Case, header: Vec<u8>) {
    let block = Block::raw(header);
    let manifest = Manifest { header: *block.cid(), ..case.manifest.clone() };
    case.store.put_many(&[block, manifest.to_block()]).unwrap();
    let key = (case.content(), manifest.digest());
    case.facts(0..4, |facts| {
        facts.versions.insert(key, manifest.version);
    });
    case.request.manifest = manifest.digest();
}

#[test]
fn headers_that_do_not_carry_the_committed_key_are_refused() {
    let header_of = |key: &FileKey, to: &X25519Identity, nonce: &PayloadNonce, rng: &mut StdRng| {
        Header::wrap(key, &[&to.recipient()], rng).unwrap().to_block(nonce)
    };
    let nonce = |case: &Case| case.manifest.payload_nonce();
    refused(RefusalCode::CommitmentMismatch, |case| {
        let other = FileKey::generate(&mut case.rng);
        let header = header_of(&other, &custodian().identity, &nonce(case), &mut case.rng);
        with_header(case, header);
    });
    refused(RefusalCode::CommitmentMismatch, |case| {
        let other = PayloadNonce::generate(&mut case.rng);
        let header = header_of(&case.file_key.clone(), &custodian().identity, &other, &mut case.rng);
        with_header(case, header);
    });
    refused(RefusalCode::CommitmentMismatch, |case| {
        let mut header =
            header_of(&case.file_key.clone(), &custodian().identity, &nonce(case), &mut case.rng);
        // In the MAC.
        let at = header.len() - 40;
        header[at] = if header[at] == b'A' { b'B' } else { b'A' };
        with_header(case, header);
    });
    refused(RefusalCode::CommitmentMismatch, |case| with_header(case, b"not a header".to_vec()));
    refused(RefusalCode::Unavailable, |case| {
        let header = header_of(
            &case.file_key.clone(),
            &X25519Identity::from_bytes([3; 32]),
            &nonce(case),
            &mut case.rng,
        );
        with_header(case, header);
    });
}

#[test]
fn a_missing_block_is_named_to_the_operator() {
    for missing in [0, 1] {
        let mut case = Case::new();
        let cid = if missing == 0 { Manifest::cid_of(&case.request.manifest) } else { case.manifest.header };
        case.store.remove_many(&[cid]).unwrap();
        let bytes = case.bytes();
        let (result, fault) = case.ask_bytes(&bytes);
        assert_eq!(result, Err(RefusalCode::Unavailable));
        assert!(matches!(fault, Some(Fault::BlockMissing { cid: named }) if named == cid));
    }
}

#[test]
fn a_hybrid_recipient_is_not_answered_by_this_version() {
    refused(RefusalCode::Unavailable, |case| case.request.recipient = [&[2][..], &[1; 1216]].concat());
}

#[test]
fn no_answer_leaves_without_a_durable_receipt() {
    // The power goes in the middle of every disk operation of a release in turn, over many ways to lose what was not
    // synced. Whatever left the engine is in the log afterwards, and the log opens.
    for seed in 0..24 {
        for cut in 1..=16 {
            let mut case = Case::new();
            let disk = FaultyDisk::new(seed);
            case.engine = engine(&disk);
            disk.cut_power_at(cut);
            let answer = case.ask();
            let was_cut = disk.is_off();
            let survived = disk.after_power_cut();
            let mut found = Vec::new();
            read_log(Arc::new(survived.clone()), &mut |_, logged| found.push(logged.release)).unwrap();
            case.engine = engine(&survived);
            match answer {
                Ok(release) => {
                    assert_eq!(found, std::slice::from_ref(&release), "seed {seed}, cut {cut}");
                    assert_eq!(case.ask(), Ok(release), "after the power came back, the same again");
                }
                Err(code) => {
                    assert_eq!(code, RefusalCode::Unavailable, "seed {seed}, cut {cut}");
                    // What was on its way to the disk may have arrived; then it is the answer.
                    let again = case.ask().unwrap();
                    assert!(found.is_empty() || found == [again], "seed {seed}, cut {cut}");
                }
            }
            // With fewer operations than that the release was over before.
            if !was_cut {
                assert!(cut > 1, "a release writes something");
                break;
            }
        }
    }
}

#[test]
fn a_log_that_failed_answers_nothing() {
    let mut case = Case::new();
    case.disk.cut_power_at(1);
    assert_eq!(case.ask(), Err(RefusalCode::Unavailable));
    // The power is off for good on this disk: every later request is refused, none is answered unrecorded.
    case.request.nonce = B256::repeat_byte(6);
    assert_eq!(case.ask(), Err(RefusalCode::Unavailable));
}
