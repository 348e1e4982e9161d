//! Whatever branches came in whatever order, the state is what a slow reference says, built from nothing for every block.

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::Transaction as _;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_trie::{HashBuilder, KECCAK_EMPTY, Nibbles, TrieAccount};
use lightstreams_chain::{
    Ancestry, Block, BlockId, Chain, DEV_ACCOUNTS, FeePolicy, Genesis, Kv, MemoryKv, Table, testing::NoSeal,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::dev::{genesis, seal_as, send};

const NOW: u64 = 4_000_000_000;
/// Stores the second word of its input in the slot that the first one names.
const WRITER: Address = Address::repeat_byte(0x71);
/// Branches that grow at the same time.
const TIPS: usize = 3;

/// Balance, nonce, code hash and slots of every account.
type Model = BTreeMap<Address, (U256, u64, B256, BTreeMap<U256, U256>)>;

/// The root of the state that the tables hold, by a builder that knows nothing of updates.
#[track_caller]
pub(crate) fn assert_root_of_tables(kv: &dyn Kv, root: B256) {
    let mut slots: BTreeMap<B256, Vec<(B256, Vec<u8>)>> = BTreeMap::new();
    for (key, value) in kv.scan(Table::Slots, &[], usize::MAX).unwrap() {
        slots.entry(B256::from_slice(&key[..32])).or_default().push((B256::from_slice(&key[32..]), value));
    }
    let mut state = HashBuilder::default();
    for (key, record) in kv.scan(Table::Accounts, &[], usize::MAX).unwrap() {
        let mut storage = HashBuilder::default();
        for (slot, value) in slots.remove(&B256::from_slice(&key)).unwrap_or_default() {
            storage.add_leaf(Nibbles::unpack(slot), &value);
        }
        let account: TrieAccount = alloy_rlp::Decodable::decode(&mut record.as_slice()).unwrap();
        assert_eq!(account.storage_root, storage.root());
        state.add_leaf(Nibbles::unpack(&key), &record);
    }
    assert!(slots.is_empty(), "there are slots without an account");
    assert_eq!(state.root(), root);
}

fn root_of(model: &Model) -> B256 {
    let mut sorted: Vec<_> = model.iter().map(|(address, account)| (keccak256(address), account)).collect();
    sorted.sort_by_key(|(hash, _)| *hash);
    let mut state = HashBuilder::default();
    for (address, (balance, nonce, code_hash, slots)) in sorted {
        let mut slots: Vec<_> =
            slots.iter().map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), value)).collect();
        slots.sort();
        let mut storage = HashBuilder::default();
        for (slot, value) in slots {
            storage.add_leaf(Nibbles::unpack(slot), &alloy_rlp::encode(value));
        }
        let account = TrieAccount::new(*nonce, *balance, storage.root(), *code_hash);
        state.add_leaf(Nibbles::unpack(address), &alloy_rlp::encode(account));
    }
    state.root()
}

fn genesis_with_writer() -> Genesis {
    let mut genesis = genesis(FeePolicy::Zero);
    // SSTORE(CALLDATALOAD(0), CALLDATALOAD(32)), returned by a constructor
    let runtime = [0x60, 32, 0x35, 0x5f, 0x35, 0x55];
    let constructor = [&[0x60, 6, 0x60, 10, 0x5f, 0x39, 0x60, 6, 0x5f, 0xf3][..], &runtime].concat();
    genesis.predeploy(WRITER, constructor.into(), Address::ZERO).unwrap();
    genesis
}

fn open(kv: Arc<dyn Kv>) -> Chain {
    Chain::open(genesis_with_writer(), kv, Arc::new(NoSeal::default())).unwrap()
}

fn model_of_genesis(genesis: &Genesis) -> Model {
    let accounts = genesis.file().alloc.iter();
    accounts
        .map(|(address, account)| {
            let code_hash = account.code.as_ref().map_or(KECCAK_EMPTY, keccak256);
            (*address, (account.balance, account.nonce.unwrap_or(0), code_hash, BTreeMap::new()))
        })
        .collect()
}

/// A branch: a chain that follows it alone, and what its state is.
struct Tip {
    chain: Chain,
    models: Vec<Model>,
}

impl Tip {
    fn grow(&mut self, rng: &mut StdRng) -> Block {
        let chain = &self.chain;
        for _ in 0..rng.random_range(0..6) {
            let from = rng.random_range(0..DEV_ACCOUNTS.len());
            let nonce = chain.next_nonce(DEV_ACCOUNTS[from].address).unwrap();
            let raw = if rng.random_bool(0.6) {
                let value = if rng.random_bool(0.4) { 0 } else { rng.random::<u64>() };
                let slot = U256::from(rng.random_range(0..40u64));
                let input = [slot.to_be_bytes::<32>(), U256::from(value).to_be_bytes::<32>()].concat();
                send(chain, from, nonce, TxKind::Call(WRITER), U256::ZERO, input.into(), 60_000)
            } else {
                let to = Address::with_last_byte(rng.random_range(0x50..0x90));
                send(chain, from, nonce, TxKind::Call(to), U256::from(7), Bytes::new(), 21_000)
            };
            chain.submit(&raw).unwrap();
        }
        let author = Address::with_last_byte(rng.random_range(0xa0..0xb0));
        let head = seal_as(chain, author);
        let mut model = self.models.last().unwrap().clone();
        for receipt in chain.block_receipts(head.number().into()).unwrap().unwrap() {
            let mined = &receipt.transaction;
            let fee = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
            let value = mined.transaction.value();
            let sender = model.get_mut(&mined.sender).unwrap();
            sender.0 -= value + fee;
            sender.1 += 1;
            let fresh = || (U256::ZERO, 0, KECCAK_EMPTY, BTreeMap::new());
            model.entry(author).or_insert_with(fresh).0 += fee;
            let to = mined.transaction.to().unwrap();
            model.entry(to).or_insert_with(fresh).0 += value;
            if to == WRITER {
                let word = |at: usize| U256::from_be_slice(&mined.transaction.input()[at..at + 32]);
                let slots = &mut model.get_mut(&WRITER).unwrap().3;
                slots.insert(word(0), word(32));
                slots.retain(|_, value| !value.is_zero());
            }
        }
        // EIP-2935
        let (_, _, _, slots) = model.get_mut(&HISTORY_STORAGE_ADDRESS).unwrap();
        slots.insert(U256::from(head.number() - 1), head.header.parent_hash.into());
        self.models.push(model);
        chain.block(head.hash.into()).unwrap().unwrap()
    }

    /// Another branch, which leaves this one a few blocks below its end.
    fn fork(&self, rng: &mut StdRng) -> Self {
        let end = self.chain.head().number();
        let length = end.saturating_sub(rng.random_range(1..6));
        let chain = open(Arc::new(MemoryKv::default()));
        let blocks = (1..=length).map(|number| self.chain.block(number.into()).unwrap().unwrap());
        assert_eq!(chain.import_many(blocks, NOW).unwrap(), length);
        Self { chain, models: self.models[..=length as usize].to_vec() }
    }
}

#[test]
fn random_branches_in_random_order_lead_to_the_state_of_a_slow_reference() {
    let mut reorgs = 0;
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let kv = Arc::new(MemoryKv::default());
        let subject = open(kv.clone());
        let genesis = model_of_genesis(subject.genesis());
        assert_eq!(root_of(&genesis), subject.head().header.state_root);
        let mut tips =
            vec![Tip { chain: open(Arc::new(MemoryKv::default())), models: vec![genesis.clone()] }];
        let mut models = BTreeMap::from([(subject.genesis_hash(), genesis)]);
        for step in 0..40 {
            if rng.random_bool(0.2) {
                let tip = tips[rng.random_range(0..tips.len())].fork(&mut rng);
                tips.insert(0, tip);
                tips.truncate(TIPS);
            }
            let tip = rng.random_range(0..tips.len());
            let tip = &mut tips[tip];
            let blocks: Vec<Block> = (0..rng.random_range(1..4))
                .map(|_| {
                    let block = tip.grow(&mut rng);
                    models.insert(block.header.hash_slow(), tip.models.last().unwrap().clone());
                    block
                })
                .collect();
            let before = subject.head();
            if rng.random_bool(0.5) {
                assert_eq!(subject.import_many(blocks.clone(), NOW).unwrap(), blocks.len() as u64);
            } else {
                blocks.into_iter().for_each(|block| drop(subject.import(block, NOW).unwrap()));
            }
            let head = subject.head();
            reorgs += u32::from(subject.canonical_hash(before.number()).unwrap() != Some(before.hash));
            let model = &models[&head.hash];
            assert_eq!(root_of(model), head.header.state_root, "seed {seed}, step {step}");
            assert_root_of_tables(kv.as_ref(), head.header.state_root);
            // The state now, and one before.
            let past = rng.random_range(0..=head.number());
            let past = subject.canonical_hash(past).unwrap().unwrap();
            for hash in [head.hash, past] {
                let state = subject.state(BlockId::Hash(hash)).unwrap();
                for address in models.values().flat_map(|model| model.keys()) {
                    let expected = models[&hash].get(address);
                    let found = state.account(*address).unwrap();
                    assert_eq!(
                        found.map(|account| (account.balance, account.nonce, account.code_hash)),
                        expected.map(|account| (account.0, account.1, account.2)),
                        "seed {seed}, step {step}, {address}"
                    );
                }
                for slot in (0..40).map(U256::from) {
                    let expected = models[&hash][&WRITER].3.get(&slot).copied().unwrap_or_default();
                    assert_eq!(state.storage(WRITER, slot).unwrap(), expected, "seed {seed}, step {step}");
                }
            }
        }
    }
    assert!(reorgs >= 8, "{reorgs} reorgs are few");
}
