//! Networks of one process: chains under Clique, sealed by hand or driven by a machine as a node drives it.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::{Address, Bytes, U256};
use lightstreams_chain::{
    Block, BuildAttributes, Chain, Clique, DEV_ACCOUNTS, EngineKind, EngineSwitch, FeePolicy, Genesis,
    HeaderRules, ImportError, Imported, LocalSigner, MemoryKv, NetworkConfig, Signer, Slot,
    consensus::{ConsensusMachine, DevMachine, Input, Output, Pacing},
};

pub(crate) const START: u64 = 1_750_000_000;

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A development network whose authorities are the first `authorities` dev accounts, all of them rich.
pub(crate) fn genesis(chain_id: u64, authorities: usize) -> Genesis {
    let mut signers: Vec<Address> =
        DEV_ACCOUNTS[..authorities].iter().map(|account| account.address).collect();
    signers.sort();
    let mut extra = vec![0; 32];
    signers.iter().for_each(|signer| extra.extend_from_slice(signer.as_slice()));
    extra.extend_from_slice(&[0; 65]);
    let network = NetworkConfig {
        engines: vec![EngineSwitch { at: 0, engine: EngineKind::Dev }],
        block_period_ms: 0,
        empty_block_ms: None,
        fee_policy: FeePolicy::Market,
        fee_recipient: None,
        contracts: Default::default(),
    };
    let mut genesis = Genesis::for_network(chain_id, network, Bytes::from(extra), START).unwrap();
    for account in DEV_ACCOUNTS {
        genesis.fund(account.address, U256::from(10).pow(U256::from(22)));
    }
    genesis
}

/// A chain and its rules.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) chain: Arc<Chain>,
    pub(crate) rules: Arc<Clique>,
}

impl Node {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let rules = Arc::new(Clique::for_genesis(genesis));
        let chain = Chain::open(genesis.clone(), Arc::new(MemoryKv::default()), rules.clone()).unwrap();
        Self { chain: Arc::new(chain), rules }
    }

    /// Builds a block of what waits, for dev account `author` at `now`, and signs it.
    pub(crate) fn build(&self, author: usize, now: u64) -> Block {
        let signer = DEV_ACCOUNTS[author].signer().unwrap();
        let parent = self.chain.head().hash;
        let attributes =
            BuildAttributes { parent, author: DEV_ACCOUNTS[author].address, now, with_transactions: true };
        let mut block = self.chain.build(&attributes).unwrap();
        self.sign(&mut block, &signer);
        block
    }

    pub(crate) fn sign(&self, block: &mut Block, signer: &LocalSigner) {
        let slot = Slot::Clique { number: block.header.number, parent: block.header.parent_hash };
        let seal = signer.sign(&slot, self.rules.seal_hash(&block.header)).unwrap();
        Clique::write_seal(&mut block.header, &seal);
    }

    /// Seals the next block as dev account `author`.
    #[track_caller]
    pub(crate) fn seal_as(&self, author: usize) -> Block {
        let now = self.chain.head().header.timestamp + 1;
        let block = self.build(author, now);
        let imported = self.import(block.clone()).unwrap();
        assert!(matches!(imported, Imported::Head(_)), "{imported:?}");
        block
    }

    pub(crate) fn seal(&self) -> Block {
        self.seal_as(0)
    }

    pub(crate) fn import(&self, block: Block) -> Result<Imported, ImportError> {
        self.chain.import(block, START + 1_000_000)
    }
}

/// A machine in a thread, driven as a node drives it. It stops when dropped.
pub(crate) struct Driver {
    inbox: Sender<Option<Wake>>,
    thread: Option<JoinHandle<()>>,
}

enum Wake {
    Head,
    Pool,
}

impl Driver {
    /// Seals for the network of `node` as dev account 0, at once.
    pub(crate) fn start(node: &Node) -> Self {
        let (inbox, wakes) = channel();
        let (on_head, on_pool) = (inbox.clone(), inbox.clone());
        node.chain.observe_head(move |_| drop(on_head.send(Some(Wake::Head))));
        node.chain.observe_pool(move |_| drop(on_pool.send(Some(Wake::Pool))));
        let Node { chain, rules } = node.clone();
        let signer = DEV_ACCOUNTS[0].signer().unwrap();
        let mut machine = DevMachine::new(rules.clone(), Pacing::for_genesis(chain.genesis()));
        let thread = std::thread::spawn(move || {
            let mut timer_ms = None;
            drive(
                &chain,
                &rules,
                &signer,
                &mut machine,
                Input::head(&chain, &rules, now_ms()).unwrap(),
                &mut timer_ms,
            );
            loop {
                let wait = timer_ms.map_or(60_000, |at_ms: u64| at_ms.saturating_sub(now_ms()));
                let input = match wakes.recv_timeout(Duration::from_millis(wait)) {
                    Ok(Some(Wake::Head)) => Input::head(&chain, &rules, now_ms()).unwrap(),
                    Ok(Some(Wake::Pool)) => {
                        Input::PoolChanged { now_ms: now_ms(), pending: chain.pool_size().0 > 0 }
                    }
                    Err(RecvTimeoutError::Timeout) => Input::Tick { now_ms: now_ms() },
                    Ok(None) | Err(RecvTimeoutError::Disconnected) => return,
                };
                drive(&chain, &rules, &signer, &mut machine, input, &mut timer_ms);
            }
        });
        Self { inbox, thread: Some(thread) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.inbox.send(None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Steps `machine` with `input` and with all that follows from it.
fn drive(
    chain: &Chain,
    _rules: &Clique,
    signer: &LocalSigner,
    machine: &mut dyn ConsensusMachine,
    input: Input,
    timer_ms: &mut Option<u64>,
) {
    let mut inputs = vec![input];
    while let Some(input) = (!inputs.is_empty()).then(|| inputs.remove(0)) {
        for output in machine.step(input, signer) {
            match output {
                Output::Timer { at_ms } => *timer_ms = Some(at_ms),
                Output::Build { parent, author, now_ms } => {
                    let attributes =
                        BuildAttributes { parent, author, now: now_ms / 1_000, with_transactions: true };
                    let block = chain.build(&attributes).ok().map(Box::new);
                    inputs.push(Input::Built { now_ms, block });
                }
                Output::Persist { .. } => inputs.push(Input::Persisted { now_ms: now_ms() }),
                Output::Import(block) => {
                    let hash = block.header.hash_slow();
                    let accepted = chain.import(*block, now_ms() / 1_000).is_ok();
                    inputs.push(Input::Imported { now_ms: now_ms(), hash, accepted });
                }
                Output::Broadcast(_) | Output::Alarm { .. } => {}
                other => panic!("unknown output {other:?}"),
            }
        }
    }
}
