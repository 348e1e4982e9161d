//! A network of one process for the examples and benches about contracts: a real chain in memory whose genesis holds the
//! contracts, one authority, and a clock that only moves when a block is sealed.

use std::{error::Error, sync::Arc};

use alloy_consensus::TxEip1559;
use alloy_primitives::{TxKind, U256};
use lightstreams_acl::{Call, ContentRegistry, ContractAcl};
use lightstreams_chain::{
    BlockId, BuildAttributes, Chain, Clique, DEV_ACCOUNTS, DevAccount, HeaderRules, LocalSigner, MemoryKv,
    MinedReceipt, Signer, Slot,
};
use lightstreams_node::{
    adapters::ChainBackend,
    init::{NewNetwork, REGISTRY},
};

pub(crate) const CHAIN_ID: u64 = 161;

/// The chain, and the authority that seals its blocks.
pub(crate) struct LocalNetwork {
    pub(crate) chain: Arc<Chain>,
    rules: Arc<Clique>,
    authority: LocalSigner,
}

impl LocalNetwork {
    /// A network whose ten development accounts have 100 ether each; the last of them seals.
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let [.., authority] = DEV_ACCOUNTS;
        let genesis = NewNetwork {
            chain_id: CHAIN_ID,
            authorities: vec![authority.address],
            period_ms: 1_000,
            empty_ms: Some(10_000),
            alloc: DEV_ACCOUNTS.map(|account| (account.address, ether(100))).to_vec(),
            dev: false,
            timestamp: 1_800_000_000,
        }
        .genesis()?;
        let rules = Arc::new(Clique::for_genesis(&genesis));
        let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), rules.clone())?;
        Ok(Self { chain: Arc::new(chain), rules, authority: authority.signer()? })
    }

    /// Runs contract calls on the chain's states.
    pub(crate) fn backend(&self) -> ChainBackend {
        ChainBackend::new(self.chain.clone())
    }

    /// Answers who may read, by the registry on this chain.
    pub(crate) fn access(&self) -> ContractAcl<ChainBackend> {
        ContractAcl::new(self.backend(), ContentRegistry::at(REGISTRY))
    }

    /// Signs `call` as `from`, sends it, and seals the block that it is in.
    pub(crate) fn send<T>(&self, from: &DevAccount, call: &Call<T>) -> Result<MinedReceipt, Box<dyn Error>> {
        let transaction = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: self.chain.next_nonce(from.address)?,
            gas_limit: 1_000_000,
            max_fee_per_gas: 10_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(call.to),
            value: call.value,
            input: call.data.clone(),
            ..TxEip1559::default()
        };
        let hash = self.chain.submit(&from.signer()?.sign_raw_transaction(transaction)?)?;
        self.seal(1)?;
        let mined = self.chain.receipt(&hash)?.ok_or("the transaction is not in the block")?;
        if !mined.receipt.status() {
            return Err(format!("transaction {hash} was reverted").into());
        }
        Ok(mined)
    }

    /// Seals a block of what waits, `seconds` after the one before, and returns its time.
    pub(crate) fn seal(&self, seconds: u64) -> Result<u64, Box<dyn Error>> {
        let head = self.chain.head();
        let now = head.header.timestamp + seconds;
        let author = self.authority.address();
        let attributes = BuildAttributes { parent: head.hash, author, now, with_transactions: true };
        let mut block = self.chain.build(&attributes)?;
        let slot = Slot::Clique { number: block.header.number, parent: head.hash };
        let seal = self.authority.sign(&slot, self.rules.seal_hash(&block.header))?;
        Clique::write_seal(&mut block.header, &seal);
        self.chain.import(block, now)?;
        Ok(self.chain.header(BlockId::Latest)?.ok_or("no head")?.header.timestamp)
    }
}

/// `amount` ether in wei.
pub(crate) fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(1_000_000_000_000_000_000u64)
}
