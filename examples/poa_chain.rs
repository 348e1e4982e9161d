//! How do I run a proof-of-authority chain inside my program, and who checks whom?
//!
//! One chain seals blocks with a Clique machine that is driven by hand; a second one believes none of them before it has
//! checked the seal and executed the transactions itself.

use std::{collections::VecDeque, error::Error, sync::Arc};

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use lightstreams_chain::{
    Block, BlockId, BuildAttributes, Chain, Clique, DEV_ACCOUNTS, EngineKind, EngineSwitch, FeePolicy,
    Genesis, GuardedSigner, ImportError, Imported, MemoryGuard, MemoryKv, NetworkConfig, Signer,
    consensus::{CliqueMachine, ConsensusMachine, Input, Output, Pacing},
};

const CHAIN_ID: u64 = 161;
const START: u64 = 1_800_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let [rich, authority, ..] = DEV_ACCOUNTS;
    let poor = Address::repeat_byte(0xb0);
    let genesis = genesis(&[authority.address], rich.address)?;
    let rules = Arc::new(Clique::for_genesis(&genesis));
    let open = |genesis| Chain::open(genesis, Arc::new(MemoryKv::default()), rules.clone());
    let (sealing, following) = (open(genesis.clone())?, open(genesis.clone())?);
    println!("genesis {}", sealing.genesis_hash());

    // A transfer waits in the pool until its authority seals a block with it.
    let transfer = TxEip1559 {
        chain_id: CHAIN_ID,
        gas_limit: 21_000,
        max_fee_per_gas: 2_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(poor),
        value: U256::from(12_345),
        ..TxEip1559::default()
    };
    let hash = sealing.submit(&rich.signer()?.sign_raw_transaction(transfer)?)?;
    assert_eq!(sealing.pool_size(), (1, 0));

    // The key signs through a guard, which never gives two seals for one place in the chain.
    let signer = GuardedSigner::new(authority.signer()?, MemoryGuard::default());
    let mut machine = CliqueMachine::new(rules.clone(), Pacing::for_genesis(&genesis));
    let mut now_ms = START * 1_000;
    let blocks = (0..3)
        .map(|_| seal_next(&sealing, &rules, &mut machine, &signer, &mut now_ms))
        .collect::<Result<Vec<_>, _>>()?;

    // A block that was tampered with is refused, and the verdict says where it is wrong.
    let mut forged = blocks.first().ok_or("no block was sealed")?.clone();
    forged.header.gas_used += 1;
    match following.import(forged, now_ms / 1_000) {
        Err(ImportError::Invalid { reason, .. }) => println!("a forged block is invalid: {reason}"),
        other => return Err(format!("a forged block was taken: {other:?}").into()),
    }

    // The sealed ones are checked, executed, and become the head.
    for block in blocks {
        let (number, transactions) = (block.header.number, block.body.transactions.len());
        let Imported::Head(change) = following.import(block, now_ms / 1_000)? else {
            return Err("a block that follows the head is not the head".into());
        };
        println!("block {number} {}: {transactions} transactions", change.head.hash);
    }
    assert_eq!(following.head(), sealing.head());

    let mined = following.receipt(&hash)?.ok_or("the transfer is not on the chain")?;
    println!("the transfer stands in block {}, gas {}", mined.transaction.block.number, mined.gas_used);
    assert!(mined.receipt.status());
    assert_eq!(mined.transaction.sender, rich.address);
    assert_eq!(following.state(BlockId::Latest)?.balance(poor)?, U256::from(12_345));
    assert_eq!(following.state(BlockId::Earliest)?.balance(poor)?, U256::ZERO);
    assert_eq!(following.final_block(), following.head().block_ref(), "a sole authority contradicts nobody");
    Ok(())
}

/// A network with `authorities`, a block a second, and one account with 100 ether.
fn genesis(authorities: &[Address], rich: Address) -> Result<Genesis, Box<dyn Error>> {
    let network = NetworkConfig {
        engines: vec![EngineSwitch { at: 0, engine: EngineKind::Clique }],
        block_period_ms: 1_000,
        empty_block_ms: Some(5_000),
        fee_policy: FeePolicy::Market,
        fee_recipient: None,
        contracts: Default::default(),
    };
    // EIP-225: 32 bytes of vanity, the authorities in ascending order, room for a seal.
    let authorities = authorities.iter().flat_map(|authority| authority.0.0);
    let extra_data: Bytes = [0; 32].into_iter().chain(authorities).chain([0; 65]).collect();
    let mut genesis = Genesis::for_network(CHAIN_ID, network, extra_data, START)?;
    genesis.fund(rich, U256::from(100) * U256::from(10).pow(U256::from(18)));
    Ok(genesis)
}

/// Drives `machine` until it announces a block. A node does the same with a real clock, disk and network.
fn seal_next(
    chain: &Chain,
    rules: &Clique,
    machine: &mut dyn ConsensusMachine,
    signer: &dyn Signer,
    now_ms: &mut u64,
) -> Result<Block, Box<dyn Error>> {
    let mut inputs = VecDeque::from([Input::head(chain, rules, *now_ms)?]);
    while let Some(input) = inputs.pop_front() {
        for output in machine.step(input, signer) {
            let answer = match output {
                Output::Timer { at_ms } => {
                    // Nothing else happens in this process: the clock may jump to the next event.
                    *now_ms = at_ms;
                    Input::Tick { now_ms: at_ms }
                }
                Output::Build { parent, author, now_ms } => {
                    let now = now_ms / 1_000;
                    let attributes = BuildAttributes { parent, author, now, with_transactions: true };
                    Input::Built { now_ms, block: Some(Box::new(chain.build(&attributes)?)) }
                }
                // A node writes the record to disk before it answers, so that a crash cannot make it sign twice.
                Output::Persist { .. } => Input::Persisted { now_ms: *now_ms },
                Output::Import(block) => {
                    let hash = block.header.hash_slow();
                    chain.import(*block, *now_ms / 1_000)?;
                    Input::Imported { now_ms: *now_ms, hash, accepted: true }
                }
                Output::Broadcast(block) => return Ok(*block),
                other => return Err(format!("the machine stopped: {other:?}").into()),
            };
            inputs.push_back(answer);
        }
    }
    Err("the machine has no reason to seal".into())
}
