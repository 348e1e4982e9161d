//! How do I bring my own consensus? Implement `HeaderRules` and `ForkChoice`, here as authorities that take turns, and
//! the chain builds, executes and imports under them.

use std::{cmp::Ordering, error::Error, sync::Arc};

use alloy_consensus::crypto::secp256k1::recover_signer;
use alloy_primitives::{Address, B256, Bytes, Signature, U256};
use lightstreams_chain::{
    Ancestry, BuildAttributes, Chain, DEV_ACCOUNTS, EngineError, EngineKind, EngineSwitch, FeePolicy,
    ForkChoice, Genesis, HeadInfo, Header, HeaderRules, ImportError, Imported, LocalSigner, MemoryKv,
    NetworkConfig,
};

/// Block n belongs to authority n modulo their number. Its seal, r ‖ s ‖ v, is all of the extra data.
struct RoundRobin(Vec<Address>);

impl HeaderRules for RoundRobin {
    fn verify_genesis(&self, _: &Header) -> Result<(), EngineError> {
        if self.0.is_empty() { Err(EngineError::invalid("extraData", "no authority")) } else { Ok(()) }
    }

    fn verify_header(
        &self,
        header: &Header,
        parent: &HeadInfo,
        _: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError> {
        if header.timestamp > now {
            return Err(EngineError::Future { number: header.number, time: header.timestamp, now });
        }
        let author = self.author(header)?;
        let turn = usize::try_from(header.number).unwrap_or(usize::MAX) % self.0.len();
        let rules = [
            ("extraData", "is not sealed by whose turn it is", self.0.get(turn) == Some(&author)),
            ("timestamp", "is not after the parent's", header.timestamp > parent.header.timestamp),
            ("difficulty", "is not 1", header.difficulty == U256::ONE),
            ("miner", "is not the author", header.beneficiary == author),
        ];
        match rules.iter().find(|(_, _, holds)| !holds) {
            Some((field, rule, _)) => Err(EngineError::invalid(field, *rule)),
            None => Ok(()),
        }
    }

    fn author(&self, header: &Header) -> Result<Address, EngineError> {
        let seal = Signature::try_from(header.extra_data.as_ref());
        let author = seal.ok().and_then(|seal| recover_signer(&seal, self.seal_hash(header)).ok());
        author.ok_or_else(|| EngineError::invalid("extraData", "is not a seal"))
    }

    fn seal_hash(&self, header: &Header) -> B256 {
        Header { extra_data: Bytes::new(), ..header.clone() }.hash_slow()
    }

    fn prepare(
        &self,
        header: &mut Header,
        parent: &HeadInfo,
        author: Address,
        _: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError> {
        header.timestamp = now.max(parent.header.timestamp.saturating_add(1));
        (header.difficulty, header.beneficiary, header.extra_data) = (U256::ONE, author, vec![0; 65].into());
        Ok(())
    }
}

impl ForkChoice for RoundRobin {
    fn compare(&self, a: &HeadInfo, b: &HeadInfo, _: &dyn Ancestry) -> Result<Ordering, EngineError> {
        Ok(a.number().cmp(&b.number()).then_with(|| b.hash.cmp(&a.hash)))
    }

    fn final_number(&self, head: &HeadInfo, _: u64, _: &dyn Ancestry) -> Result<u64, EngineError> {
        // Every authority stands behind a block on which a whole round was sealed.
        Ok(head.number().saturating_sub(self.0.len() as u64))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let keys = DEV_ACCOUNTS.iter().take(3).map(|account| account.signer()).collect::<Result<Vec<_>, _>>()?;
    let engine = Arc::new(RoundRobin(keys.iter().map(LocalSigner::address).collect()));
    let open = || Chain::open(genesis()?, Arc::new(MemoryKv::default()), engine.clone());
    let (sealing, following) = (open()?, open()?);
    let seal = |signer: &LocalSigner, now| -> Result<_, Box<dyn Error>> {
        let parent = sealing.head().hash;
        let author = signer.address();
        let mut block = sealing.build(&BuildAttributes { parent, author, now, with_transactions: true })?;
        let signature = signer.sign_digest(engine.seal_hash(&block.header))?;
        block.header.extra_data = signature.as_bytes().into();
        Ok(block)
    };

    for (number, signer) in (1..=7).zip(keys.iter().cycle().skip(1)) {
        let block = seal(signer, number * 5)?;
        for chain in [&sealing, &following] {
            assert!(matches!(chain.import(block.clone(), number * 5)?, Imported::Head(_)));
        }
        println!("block {number} of {}", block.header.beneficiary);
    }
    assert_eq!(following.head(), sealing.head());
    assert_eq!(following.final_block().number, 4);

    // Out of turn, a sound block with a sound seal is still invalid.
    let out_of_turn = seal(keys.first().ok_or("no key")?, 40)?;
    let Err(ImportError::Invalid { reason, .. }) = following.import(out_of_turn, 40) else {
        return Err("a block out of turn was taken".into());
    };
    println!("block 8 by the authority of block 9: {reason}");
    Ok(())
}

/// A chain without a network: the genesis names the engine `dev`, and the program brings its own.
fn genesis() -> Result<Genesis, lightstreams_chain::GenesisError> {
    let network = NetworkConfig {
        engines: vec![EngineSwitch { at: 0, engine: EngineKind::Dev }],
        block_period_ms: 5_000,
        empty_block_ms: None,
        fee_policy: FeePolicy::Zero,
        fee_recipient: None,
        contracts: Default::default(),
    };
    Genesis::for_network(161, network, Bytes::new(), 0)
}
