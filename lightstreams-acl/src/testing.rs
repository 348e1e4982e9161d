//! For tests: a chain in memory that executes real bytecode, and the check that every [`AccessControl`] passes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A check fails by panicking.

use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use revm::context::result::{ExecutionResult, Output};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext};

use crate::{
    AccessControl, AclError, At, BlockRef, Call, ContentId, ContentRegistry, ContractAcl, ContractBackend,
    Custodians, Decision, Denial, Log, LogFilter, Market, MemoryAcl, Permission, Refused, Request, Revert,
    Term, error_name,
};

/// A chain of one node in memory: each transaction is a block, gas costs nothing, any account sends without a signature, and only the
/// newest state is kept.
#[derive(Debug)]
pub struct EvmChain {
    chain: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    db: CacheDB<EmptyDB>,
    number: u64,
    time: u64,
    logs: Vec<Log>,
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The transaction's hash.
    pub transaction: B256,
    /// What the contract returned, or the deployed code.
    pub output: Bytes,
    /// The deployed contract.
    pub created: Option<Address>,
    /// Gas used, refunds taken off.
    pub gas: u64,
    /// What was said.
    pub logs: Vec<Log>,
}

/// The fixed gas limit of a transaction: what Osaka allows one.
const GAS_LIMIT: u64 = 1 << 24;

impl EvmChain {
    /// An empty chain with this id, at second 1.
    pub fn new(chain: u64) -> Self {
        let state = State { db: CacheDB::new(EmptyDB::default()), number: 0, time: 1, logs: Vec::new() };
        Self { chain, state: Mutex::new(state) }
    }

    /// The chain id.
    pub fn chain_id(&self) -> u64 {
        self.chain
    }

    /// The time of the blocks to come (unix seconds).
    pub fn set_time(&self, time: u64) {
        self.state().time = time;
    }

    /// Sets the balance of an account.
    pub fn fund(&self, account: Address, balance: U256) {
        let mut state = self.state();
        let mut info = state.db.load_account(account).map(|known| known.info.clone()).unwrap_or_default();
        info.balance = balance;
        state.db.insert_account_info(account, info);
    }

    /// The balance of an account.
    pub fn balance(&self, account: Address) -> U256 {
        self.state().db.load_account(account).map(|known| known.info.balance).unwrap_or_default()
    }

    /// Puts runtime code at an address, without a constructor.
    pub fn set_code(&self, account: Address, code: Bytes) {
        let info = AccountInfo::from_bytecode(revm::bytecode::Bytecode::new_raw(code));
        self.state().db.insert_account_info(account, info);
    }

    /// Runs a constructor; panics where it fails.
    #[track_caller]
    pub fn deploy(&self, from: Address, init_code: Bytes) -> Address {
        let request = Request { from: Some(from), to: TxKind::Create, value: U256::ZERO, data: init_code };
        let receipt = self.execute(&request).expect("the constructor runs");
        receipt.created.expect("the constructor made a contract")
    }

    /// Executes a transaction in a block of its own.
    pub fn execute(&self, request: &Request) -> Result<Receipt, AclError> {
        let mut state = self.state();
        let state = &mut *state;
        state.number = state.number.saturating_add(1);
        let tx = self.tx(request, nonce(&mut state.db, request));
        let result = self.context(state.number, state.time, &mut state.db).transact_commit(tx);
        let transaction = keccak256([request.data.as_ref(), &state.number.to_be_bytes()].concat());
        let hash = block_hash(state.number);
        match result.map_err(|error| AclError::Backend(format!("{error:?}").into()))? {
            ExecutionResult::Success { gas, logs, output, .. } => {
                let logs: Vec<_> = (0..)
                    .zip(logs)
                    .map(|(index, log)| Log {
                        address: log.address,
                        topics: log.data.topics().to_vec(),
                        data: log.data.data.clone(),
                        block_number: state.number,
                        block_hash: hash,
                        transaction,
                        index,
                    })
                    .collect();
                state.logs.extend(logs.iter().cloned());
                let created = match &output {
                    Output::Create(_, created) => *created,
                    Output::Call(_) => None,
                };
                Ok(Receipt { transaction, output: output.into_data(), created, gas: gas.tx_gas_used(), logs })
            }
            ExecutionResult::Revert { output, .. } => Err(AclError::Reverted(Revert(output))),
            ExecutionResult::Halt { reason, .. } => Err(AclError::Backend(format!("{reason:?}").into())),
        }
    }

    /// Executes a typed call as `from`, and reads its answer.
    pub fn send_call<T>(&self, from: Address, call: &Call<T>) -> Result<(T, Receipt), AclError> {
        let receipt = self.execute(&call.request(Some(from)))?;
        Ok((call.decode(&receipt.output)?, receipt))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tx(&self, request: &Request, nonce: u64) -> TxEnv {
        TxEnv {
            caller: request.from.unwrap_or_default(),
            kind: request.to,
            value: request.value,
            data: request.data.clone(),
            gas_limit: GAS_LIMIT,
            gas_price: 0,
            nonce,
            chain_id: Some(self.chain),
            ..TxEnv::default()
        }
    }

    fn context<'a>(&self, number: u64, time: u64, db: &'a mut CacheDB<EmptyDB>) -> Evm<'a> {
        let mut block =
            BlockEnv { number: U256::from(number), timestamp: U256::from(time), ..BlockEnv::default() };
        block.prevrandao = Some(B256::ZERO);
        let cfg = CfgEnv::new_with_spec(SpecId::OSAKA).with_chain_id(self.chain);
        Context::mainnet().with_db(db).with_cfg(cfg).with_block(block).build_mainnet()
    }
}

type Evm<'a> = revm::MainnetEvm<revm::handler::MainnetContext<&'a mut CacheDB<EmptyDB>>>;

fn nonce(db: &mut CacheDB<EmptyDB>, request: &Request) -> u64 {
    db.load_account(request.from.unwrap_or_default()).map(|known| known.info.nonce).unwrap_or_default()
}

fn block_hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

impl ContractBackend for EvmChain {
    fn call(&self, request: &Request, block: BlockRef) -> Result<Bytes, AclError> {
        let mut state = self.state();
        let state = &mut *state;
        if !state.has(block) {
            return Err(AclError::UnknownBlock(block));
        }
        let tx = self.tx(request, nonce(&mut state.db, request));
        let result = self.context(state.number, state.time, &mut state.db).transact(tx);
        match result.map_err(|error| AclError::Backend(format!("{error:?}").into()))?.result {
            ExecutionResult::Success { output, .. } => Ok(output.into_data()),
            ExecutionResult::Revert { output, .. } => Err(AclError::Reverted(Revert(output))),
            ExecutionResult::Halt { reason, .. } => Err(AclError::Backend(format!("{reason:?}").into())),
        }
    }

    fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, AclError> {
        let state = self.state();
        let number = |block| match block {
            BlockRef::Number(number) => Ok(number),
            BlockRef::Head | BlockRef::Final => Ok(state.number),
            BlockRef::Hash(_) => Err(AclError::UnknownBlock(block)),
        };
        let (from, to) = (number(filter.from)?, number(filter.to)?);
        let logs = state.logs.iter().filter(|log| (from..=to).contains(&log.block_number));
        Ok(logs.filter(|log| filter.matches(log.address, &log.topics)).cloned().collect())
    }

    fn send(&self, request: &Request) -> Result<B256, AclError> {
        Ok(self.execute(request)?.transaction)
    }
}

impl State {
    /// Only the newest state is kept.
    fn has(&self, block: BlockRef) -> bool {
        match block {
            BlockRef::Head | BlockRef::Final => true,
            BlockRef::Number(number) => number == self.number,
            BlockRef::Hash(hash) => hash == block_hash(self.number),
        }
    }
}

/// The three contracts, deployed on an [`EvmChain`].
#[derive(Clone, Copy, Debug)]
pub struct Deployed {
    /// The registry.
    pub registry: ContentRegistry,
    /// The custodians' records.
    pub custodians: Custodians,
    /// The market of that registry.
    pub market: Market,
}

impl Deployed {
    /// Deploys all three.
    #[track_caller]
    pub fn on(chain: &EvmChain) -> Self {
        let deployer = Address::repeat_byte(0xde);
        let registry = ContentRegistry::at(chain.deploy(deployer, ContentRegistry::init_code()));
        let custodians = Custodians::at(chain.deploy(deployer, Custodians::init_code()));
        let market = Market::at(chain.deploy(deployer, Market::init_code(registry.address())));
        Self { registry, custodians, market }
    }
}

/// What [`check_access_control`] needs of a world in which an [`AccessControl`] answers.
pub trait AclFixture {
    /// Who is asked.
    fn acl(&self) -> &dyn AccessControl;
    /// Moves the time of the head.
    fn set_time(&mut self, now: u64);
    /// `owner` registers a content.
    fn register(&mut self, owner: Address, salt: B256, manifest: B256) -> Result<ContentId, String>;
    /// `by` gives `who` a level; the error is the name of what refused.
    fn grant(
        &mut self,
        by: Address,
        id: ContentId,
        who: Address,
        level: Permission,
        term: Term,
    ) -> Result<(), String>;
    /// `by` takes it back.
    fn revoke(&mut self, by: Address, id: ContentId, who: Address) -> Result<(), String>;
    /// `by` makes it public, or no longer.
    fn set_public(&mut self, by: Address, id: ContentId, on: bool) -> Result<(), String>;
    /// `by` begins an epoch.
    fn rotate(&mut self, by: Address, id: ContentId) -> Result<(), String>;
    /// `by` gives the content to `to`.
    fn transfer(&mut self, by: Address, to: Address, id: ContentId) -> Result<(), String>;
}

/// Tells one story of a content to `world`, and panics where its answers are not the rules'.
pub fn check_access_control(world: &mut dyn AclFixture) {
    let [owner, reader, writer, heir, stranger] = [0xa1, 0xa2, 0xa3, 0xa4, 0xa5].map(Address::repeat_byte);
    let head = At::block(BlockRef::Head);
    let forever = Decision::Allow { until: None };
    let missing = ContentId::from(B256::repeat_byte(0x77));

    world.set_time(1_000);
    let id = world.register(owner, B256::ZERO, B256::repeat_byte(1)).unwrap();
    let ask = |world: &dyn AclFixture, who, at| world.acl().decide(id, who, at).unwrap();
    assert_eq!(world.acl().decide(missing, owner, head).unwrap(), Decision::Deny(Denial::UnknownContent));
    assert_eq!(ask(world, owner, head), forever);
    assert_eq!(ask(world, reader, head), Decision::Deny(Denial::NotGranted));

    let term = Term { not_before: 1_100, expires: 1_200, from_epoch: 0 };
    world.grant(owner, id, reader, Permission::Read, term).unwrap();
    assert_eq!(ask(world, reader, head), Decision::Deny(Denial::NotYetValid { at: 1_100 }));
    assert_eq!(ask(world, reader, head.clock(1_100, 1_100)), Decision::Allow { until: Some(1_200) });
    assert_eq!(ask(world, reader, head.clock(1_100, 1_200)), Decision::Deny(Denial::Expired { at: 1_200 }));
    world.set_time(1_199);
    assert_eq!(ask(world, reader, head), Decision::Allow { until: Some(1_200) });
    world.set_time(1_200);
    assert_eq!(ask(world, reader, head), Decision::Deny(Denial::Expired { at: 1_200 }));

    world.rotate(owner, id).unwrap();
    world.grant(owner, id, reader, Permission::Read, Term { from_epoch: 1, ..Term::default() }).unwrap();
    assert_eq!(ask(world, reader, head), Decision::Deny(Denial::OtherEpoch { from: 1 }));
    assert_eq!(ask(world, reader, head.epoch(1)), forever);

    world.grant(owner, id, writer, Permission::Write, Term::default()).unwrap();
    assert_eq!(ask(world, writer, head), forever);
    assert_eq!(world.grant(writer, id, stranger, Permission::Read, Term::default()), Err("Denied".into()));
    assert_eq!(world.grant(owner, id, writer, Permission::Read, Term::default()), Err("WouldLower".into()));

    world.set_public(owner, id, true).unwrap();
    assert_eq!(ask(world, stranger, head), forever);
    world.transfer(owner, heir, id).unwrap();
    assert_eq!(ask(world, stranger, head), Decision::Deny(Denial::NotGranted));
    assert_eq!(ask(world, owner, head), Decision::Deny(Denial::NotGranted));
    assert_eq!(ask(world, writer, head), Decision::Deny(Denial::Revoked));
    assert_eq!(ask(world, reader, head.epoch(1)), forever);
    assert_eq!(ask(world, heir, head), forever);
    assert_eq!(world.revoke(owner, id, reader), Err("Denied".into()));
    world.revoke(heir, id, reader).unwrap();
    assert_eq!(ask(world, reader, head.epoch(1)), Decision::Deny(Denial::Revoked));
}

impl AclFixture for MemoryAcl {
    fn acl(&self) -> &dyn AccessControl {
        self
    }

    fn set_time(&mut self, now: u64) {
        MemoryAcl::set_time(self, now);
    }

    fn register(&mut self, owner: Address, salt: B256, manifest: B256) -> Result<ContentId, String> {
        MemoryAcl::register(self, owner, salt, manifest, 0).map_err(name)
    }

    fn grant(
        &mut self,
        by: Address,
        id: ContentId,
        who: Address,
        level: Permission,
        term: Term,
    ) -> Result<(), String> {
        MemoryAcl::grant(self, by, id, who, level, term).map_err(name)
    }

    fn revoke(&mut self, by: Address, id: ContentId, who: Address) -> Result<(), String> {
        MemoryAcl::revoke(self, by, id, who).map_err(name)
    }

    fn set_public(&mut self, by: Address, id: ContentId, on: bool) -> Result<(), String> {
        MemoryAcl::set_public(self, by, id, on).map_err(name)
    }

    fn rotate(&mut self, by: Address, id: ContentId) -> Result<(), String> {
        MemoryAcl::rotate(self, by, id).map_err(name)
    }

    fn transfer(&mut self, by: Address, to: Address, id: ContentId) -> Result<(), String> {
        MemoryAcl::transfer(self, by, to, id).map_err(name)
    }
}

impl AclFixture for ContractAcl<EvmChain> {
    fn acl(&self) -> &dyn AccessControl {
        self
    }

    fn set_time(&mut self, now: u64) {
        self.backend().set_time(now);
    }

    fn register(&mut self, owner: Address, salt: B256, manifest: B256) -> Result<ContentId, String> {
        let call = self.registry().register(salt, manifest, 0);
        self.backend().send_call(owner, &call).map(|(id, _)| id.into()).map_err(refusal)
    }

    fn grant(
        &mut self,
        by: Address,
        id: ContentId,
        who: Address,
        level: Permission,
        term: Term,
    ) -> Result<(), String> {
        run(self, by, &self.registry().grant(id, who, level, term))
    }

    fn revoke(&mut self, by: Address, id: ContentId, who: Address) -> Result<(), String> {
        run(self, by, &self.registry().revoke(id, who))
    }

    fn set_public(&mut self, by: Address, id: ContentId, on: bool) -> Result<(), String> {
        run(self, by, &self.registry().set_public(id, on))
    }

    fn rotate(&mut self, by: Address, id: ContentId) -> Result<(), String> {
        run(self, by, &self.registry().rotate(id))
    }

    fn transfer(&mut self, by: Address, to: Address, id: ContentId) -> Result<(), String> {
        run(self, by, &self.registry().transfer(by, to, id))
    }
}

fn run(acl: &ContractAcl<EvmChain>, by: Address, call: &Call<()>) -> Result<(), String> {
    acl.backend().send_call(by, call).map(|_| ()).map_err(refusal)
}

fn name(refused: Refused) -> String {
    format!("{refused:?}")
}

/// The name of the error that a contract refused with; panics if the chain failed otherwise.
#[track_caller]
pub fn refusal(error: AclError) -> String {
    match &error {
        AclError::Reverted(revert) => {
            let text = error_name(&revert.0).unwrap_or_else(|| format!("{revert}"));
            text.split([' ', '{']).next().unwrap_or_default().to_owned()
        }
        other => panic!("the chain failed: {other:?}"),
    }
}
