//! Contracts of native code, which a team adds to its chain beside Ethereum's precompiles.
//!
//! ```
//! use std::sync::Arc;
//!
//! use lightstreams_chain::{
//!     BlockId, CallOutcome, CallRequest, Chain, Genesis, MemoryKv, NativeCall, NativeContract, NativeError, NativeOutput, Options,
//!     alloy_primitives::{Address, Bytes, address},
//!     testing::NoSeal,
//! };
//!
//! /// Says what it is told, backwards.
//! #[derive(Debug)]
//! struct Backwards;
//!
//! impl NativeContract for Backwards {
//!     fn address(&self) -> Address {
//!         address!("0x0000000000000000000000000000000000009001")
//!     }
//!
//!     fn run(&self, call: &NativeCall<'_>) -> Result<NativeOutput, NativeError> {
//!         let output: Vec<u8> = call.input.iter().rev().copied().collect();
//!         Ok(NativeOutput { gas_used: 15 + 3 * call.input.len() as u64, output: output.into() })
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let genesis = Genesis::from_json(br#"{ "config": { "chainId": 7 }, "difficulty": "0x1", "gasLimit": "0x1c9c380", "alloc": {} }"#)?;
//! let options = Options { natives: vec![Arc::new(Backwards)], ..Options::default() };
//! let chain = Chain::open_with(genesis, Arc::new(MemoryKv::default()), Arc::new(NoSeal::default()), options)?;
//! let call = CallRequest::new(Backwards.address(), Bytes::from_static(b"olleh"));
//! let outcome = chain.call(BlockId::Latest, &call)?;
//! assert!(matches!(outcome, CallOutcome::Success { output, .. } if output == b"hello"[..]));
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256};
use revm::{
    context::Cfg,
    context_interface::{Block, ContextTr},
    handler::{EthPrecompiles, PrecompileProvider, precompile_output_to_interpreter_result},
    interpreter::{CallInputs, InterpreterResult},
    precompile::{PrecompileHalt, PrecompileOutput, PrecompileStatus},
    primitives::{AddressSet, hardfork::SpecId},
};

/// A contract of native code at an address of its own, given to a chain by [`Options::natives`](crate::Options::natives).
///
/// It is part of the rules of the chain: all nodes have the same ones, and each gives the same answer to the same call, for ever. It
/// neither reads nor writes the state; value that is sent to it stays there. As with Ethereum's precompiles its address is always
/// warm (EIP-2929) and has no code, so that Solidity calls it by `address.call`, or by an interface once the genesis puts code there.
pub trait NativeContract: std::fmt::Debug + Send + Sync {
    /// Where it is. Not among the addresses up to 0x1ff, which are for Ethereum's precompiles (RIP-7587).
    fn address(&self) -> Address;

    /// The first block in which it is there; before, calls find what the state has at its address.
    fn first_block(&self) -> u64 {
        0
    }

    /// Answers `call`.
    fn run(&self, call: &NativeCall<'_>) -> Result<NativeOutput, NativeError>;
}

// A chain is given several.
const _: Option<&dyn NativeContract> = None;

/// A call of a [`NativeContract`].
#[derive(Clone, Copy, Debug)]
pub struct NativeCall<'a> {
    /// What the caller sent.
    pub input: &'a [u8],
    /// Gas that may be used.
    pub gas: u64,
    /// Who calls.
    pub caller: Address,
    /// Value of the call in wei.
    pub value: U256,
    /// Number of the block.
    pub block_number: u64,
    /// Time of the block, in Unix seconds.
    pub timestamp: u64,
}

/// What a [`NativeContract`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeOutput {
    /// Gas that the call cost; more than it was given is [`NativeError::OutOfGas`].
    pub gas_used: u64,
    /// What the caller gets.
    pub output: Bytes,
}

/// How the call of a [`NativeContract`] fails. It has no effect then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NativeError {
    /// As by REVERT (EIP-140): the caller keeps the gas that is left, and gets the output.
    Revert(NativeOutput),
    /// The gas does not suffice; all of it is gone.
    OutOfGas,
}

/// Highest address that is kept for Ethereum's precompiles (RIP-7587).
const RESERVED_MAX: U256 = U256::from_limbs([0x1ff, 0, 0, 0]);

/// Why `natives` cannot stand beside each other, if they cannot, with the address.
pub(crate) fn conflict(natives: &[Arc<dyn NativeContract>]) -> Option<(Address, &'static str)> {
    let mut seen = AddressSet::default();
    natives.iter().map(|native| native.address()).find_map(|address| {
        if U256::from_be_bytes(address.into_word().0) <= RESERVED_MAX {
            return Some((address, "the addresses up to 0x1ff are for Ethereum's precompiles"));
        }
        (!seen.insert(address)).then_some((address, "two have the same address"))
    })
}

/// Ethereum's precompiles, and those of a team.
pub(crate) struct Precompiles {
    ethereum: EthPrecompiles,
    /// Those of the block.
    natives: Vec<Arc<dyn NativeContract>>,
    /// All addresses, where there are natives.
    warm: AddressSet,
}

impl Precompiles {
    /// What is there in block `number`.
    pub(crate) fn new(spec: SpecId, natives: &[Arc<dyn NativeContract>], number: u64) -> Self {
        let natives = natives.iter().filter(|native| native.first_block() <= number).cloned().collect();
        let mut this = Self { ethereum: EthPrecompiles::new(spec), natives, warm: AddressSet::default() };
        this.set_warm();
        this
    }

    fn set_warm(&mut self) {
        if !self.natives.is_empty() {
            self.warm.clone_from(self.ethereum.warm_addresses());
            self.warm.extend(self.natives.iter().map(|native| native.address()));
        }
    }
}

impl<CTX: ContextTr<Cfg: Cfg<Spec = SpecId>>> PrecompileProvider<CTX> for Precompiles {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        let changed = PrecompileProvider::<CTX>::set_spec(&mut self.ethereum, spec);
        if changed {
            self.set_warm();
        }
        changed
    }

    fn run(&mut self, context: &mut CTX, inputs: &CallInputs) -> Result<Option<InterpreterResult>, String> {
        let native = self.natives.iter().find(|native| native.address() == inputs.bytecode_address);
        let Some(native) = native else { return self.ethereum.run(context, inputs) };
        let block = context.block();
        let (block_number, timestamp) = (block.number().saturating_to(), block.timestamp().saturating_to());
        let result = native.run(&NativeCall {
            input: &inputs.input.as_bytes(context),
            gas: inputs.gas_limit,
            caller: inputs.caller,
            value: inputs.value.get(),
            block_number,
            timestamp,
        });
        let (status, NativeOutput { gas_used, output: bytes }) = match result {
            Ok(output) => (PrecompileStatus::Success, output),
            Err(NativeError::Revert(output)) => (PrecompileStatus::Revert, output),
            Err(NativeError::OutOfGas) => {
                let output = NativeOutput { gas_used: inputs.gas_limit, output: Bytes::new() };
                (PrecompileStatus::Halt(PrecompileHalt::OutOfGas), output)
            }
        };
        let output = PrecompileOutput {
            status,
            gas_used,
            gas_refunded: 0,
            state_gas_used: 0,
            state_gas_spilled: 0,
            reservoir: inputs.reservoir,
            bytes,
        };
        Ok(Some(precompile_output_to_interpreter_result(output, inputs.gas_limit)))
    }

    fn warm_addresses(&self) -> &AddressSet {
        if self.natives.is_empty() { self.ethereum.warm_addresses() } else { &self.warm }
    }
}
