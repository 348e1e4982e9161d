//! Blocks: building and sealing them as an authority, and importing them as everybody else.
//!
//! A block holds one transaction of each of 200 senders. `seal` executes it out of the pool and commits it; `import`
//! recovers the senders, checks the seal, executes and commits. Both end with the block durable.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, sol};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lightstreams_chain::{
    Block, BlockId, BuildAttributes, Chain, Clique, EngineKind, EngineSwitch, FeePolicy, FjallKv, Genesis,
    HeaderRules, Kv, LocalSigner, MemoryKv, NetworkConfig, Signer, Slot,
};

sol!(Token, "../lightstreams-acl/tests/artifacts/TestToken.json");

const CHAIN_ID: u64 = 161;
const START: u64 = 1_800_000_000;
const TRANSACTIONS: usize = 200;
const TOKEN: Address = Address::repeat_byte(0x70);
const WRITER: Address = Address::repeat_byte(0x71);
/// Slots that one call of the writer fills.
const SLOTS: u8 = 4;

#[derive(Clone, Copy, Debug)]
enum Work {
    /// One wei to an account that is new.
    Transfer,
    /// An OpenZeppelin ERC-20, one unit to an account that had none.
    Erc20,
    /// New storage slots.
    Storage,
}

const WORKS: [(&str, Work); 3] =
    [("transfer", Work::Transfer), ("erc20", Work::Erc20), ("storage_slots4", Work::Storage)];

/// What chains are made from, their sole authority, and the senders with the nonce of what they send next.
struct Bench {
    rules: Arc<Clique>,
    authority: LocalSigner,
    senders: Vec<LocalSigner>,
    genesis: Genesis,
    nonce: Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        let authority = LocalSigner::from_bytes(&[9; 32]).unwrap();
        let key = |index: usize| keccak256(index.to_be_bytes()).0;
        let senders: Vec<_> =
            (0..TRANSACTIONS).map(|index| LocalSigner::from_bytes(&key(index)).unwrap()).collect();
        let network = NetworkConfig {
            engines: vec![EngineSwitch { at: 0, engine: EngineKind::Clique }],
            block_period_ms: 1_000,
            empty_block_ms: Some(1_000),
            fee_policy: FeePolicy::Zero,
            fee_recipient: None,
            contracts: Default::default(),
        };
        let extra_data = [&[0; 32], authority.address().as_slice(), &[0; 65]].concat();
        let mut genesis = Genesis::for_network(CHAIN_ID, network, extra_data.into(), START).unwrap();
        senders.iter().for_each(|sender| genesis.fund(sender.address(), U256::from(10).pow(U256::from(20))));
        genesis.predeploy(TOKEN, Token::BYTECODE.clone(), Address::ZERO).unwrap();
        genesis.predeploy(WRITER, writer(), Address::ZERO).unwrap();
        Self {
            rules: Arc::new(Clique::for_genesis(&genesis)),
            authority,
            senders,
            genesis,
            nonce: Cell::new(0),
        }
    }

    /// The chain in `kv`, at its genesis.
    fn open(&self, kv: Arc<dyn Kv>) -> Chain {
        Chain::open(self.genesis.clone(), kv, self.rules.clone()).unwrap()
    }

    /// Puts one transaction of each sender into the pool of `chain`.
    fn submit(&self, chain: &Chain, call: impl Fn(&LocalSigner, B256) -> (Address, u64, Bytes)) {
        let nonce = self.nonce.replace(self.nonce.get() + 1);
        for sender in &self.senders {
            let fresh = keccak256([&nonce.to_be_bytes()[..], sender.address().as_slice()].concat());
            let (to, value, input) = call(sender, fresh);
            let transaction = TxEip1559 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 120_000,
                max_fee_per_gas: 1_000_000_000,
                to: TxKind::Call(to),
                value: U256::from(value),
                input,
                ..TxEip1559::default()
            };
            chain.submit(&sender.sign_raw_transaction(transaction).unwrap()).unwrap();
        }
    }

    fn submit_work(&self, chain: &Chain, work: Work) {
        self.submit(chain, |_, fresh| match work {
            Work::Transfer => (Address::from_word(fresh), 1, Bytes::new()),
            Work::Erc20 => {
                let call = Token::transferCall { to: Address::from_word(fresh), value: U256::ONE };
                (TOKEN, 0, call.abi_encode().into())
            }
            Work::Storage => (WRITER, 0, fresh.0.into()),
        });
    }

    /// Builds, seals and commits a block of what waits.
    fn seal(&self, chain: &Chain) -> Block {
        let head = chain.head();
        let (author, now) = (self.authority.address(), head.header.timestamp + 1);
        let attributes = BuildAttributes { parent: head.hash, author, now, with_transactions: true };
        let mut block = chain.build(&attributes).unwrap();
        let slot = Slot::Clique { number: block.header.number, parent: head.hash };
        let seal = self.authority.sign(&slot, self.rules.seal_hash(&block.header)).unwrap();
        Clique::write_seal(&mut block.header, &seal);
        chain.import(block.clone(), now).unwrap();
        block
    }

    /// The first block, which gives every sender tokens.
    fn mint(&self, chain: &Chain) -> Block {
        self.submit(chain, |sender, _| {
            let call = Token::mintCall { to: sender.address(), amount: U256::from(u64::MAX) };
            (TOKEN, 0, call.abi_encode().into())
        });
        self.seal(chain)
    }
}

/// Init code of a contract that stores the block number in the `SLOTS` slots from the one that its input names.
fn writer() -> Bytes {
    // NUMBER, PUSH1 slot, PUSH0, CALLDATALOAD, ADD, SSTORE
    let runtime: Vec<u8> = (0..SLOTS).flat_map(|slot| [0x43, 0x60, slot, 0x5f, 0x35, 0x01, 0x55]).collect();
    let len = u8::try_from(runtime.len()).unwrap();
    // PUSH1 len, PUSH1 10, PUSH0, CODECOPY, PUSH1 len, PUSH0, RETURN
    [&[0x60, len, 0x60, 10, 0x5f, 0x39, 0x60, len, 0x5f, 0xf3][..], &runtime].concat().into()
}

fn blocks(c: &mut Criterion) {
    for (name, work) in WORKS {
        for kv in ["memory", "fjall"] {
            let dir = tempfile::tempdir().unwrap();
            let open = |bench: &Bench, name: &str| match kv {
                "memory" => bench.open(Arc::new(MemoryKv::default())),
                _ => bench.open(Arc::new(FjallKv::open(dir.path().join(name)).unwrap())),
            };
            let id = format!("work={name} transactions={TRANSACTIONS} kv={kv}");

            let bench = Bench::new();
            let chain = open(&bench, "sealing");
            bench.mint(&chain);
            let mut group = c.benchmark_group("chain::seal");
            group.sample_size(10).throughput(Throughput::Elements(TRANSACTIONS as u64));
            group.bench_function(&id, |b| {
                b.iter_custom(|iterations| {
                    timed(iterations, || bench.submit_work(&chain, work), |()| bench.seal(&chain))
                });
            });
            group.finish();

            let bench = Bench::new();
            let (sealing, following) = (bench.open(Arc::new(MemoryKv::default())), open(&bench, "following"));
            let take = |block: Block| {
                let now = block.header.timestamp;
                following.import(block, now).unwrap()
            };
            take(bench.mint(&sealing));
            let mut group = c.benchmark_group("chain::import");
            group.sample_size(10).throughput(Throughput::Elements(TRANSACTIONS as u64));
            group.bench_function(&id, |b| {
                b.iter_custom(|iterations| {
                    let prepare = || {
                        bench.submit_work(&sealing, work);
                        let block = bench.seal(&sealing);
                        let receipts = sealing.receipts(BlockId::Latest).unwrap().unwrap();
                        assert_eq!(receipts.len(), TRANSACTIONS);
                        assert!(receipts.iter().all(|receipt| receipt.status()), "{work:?} failed");
                        block
                    };
                    timed(iterations, prepare, take)
                });
            });
            group.finish();
        }
    }
}

/// The time that `run` takes, without that of `prepare`.
fn timed<T, R>(iterations: u64, mut prepare: impl FnMut() -> T, mut run: impl FnMut(T) -> R) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        let input = prepare();
        let start = Instant::now();
        std::hint::black_box(run(input));
        total += start.elapsed();
    }
    total
}

criterion_group!(benches, blocks);
criterion_main!(benches);
