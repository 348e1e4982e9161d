//! Running transactions: in blocks, in calls, and in the making of a genesis.
//!
//! Building a block and checking one run the same [`Executor`]; they differ in where transactions come from and in what
//! becomes of one that does not fit.

use std::collections::BTreeMap;

use alloy_consensus::{Eip658Value, Header, ReceiptWithBloom, Transaction as _, Typed2718};
use alloy_eips::{
    eip2935::HISTORY_STORAGE_ADDRESS,
    eip4788::BEACON_ROOTS_ADDRESS,
    eip4895::Withdrawal,
    eip7002::{WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, WITHDRAWAL_REQUEST_TYPE},
    eip7251::{CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, CONSOLIDATION_REQUEST_TYPE},
    eip7685::Requests,
};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bloom, BloomInput, Bytes, Log, TxKind, U256, utils::keccak256_cached};
use revm::{
    Context, Database, DatabaseRef, ExecuteEvm, MainBuilder, MainContext, SystemCallEvm,
    bytecode::{Bytecode, opcode::SSTORE},
    context::{BlockEnv, CfgEnv, ContextSetters, ContextTr, JournalTr, TxEnv},
    context_interface::{
        CreateScheme, Host,
        block::BlobExcessGasAndPrice,
        cfg::gas_params::GasId,
        context::SStoreResult,
        either::Either,
        journaled_state::{StateLoad, account::JournaledAccountTr},
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, ResultGas},
    },
    database::{CacheDB, WrapDatabaseRef},
    database_interface::EmptyDB,
    handler::{
        EthFrame, EvmTr, FrameResult, Handler, ItemOrResult, MainnetContext, MainnetHandler,
        instructions::EthInstructions,
    },
    interpreter::{
        FrameInput, GasTracker, Instruction, InstructionContext, InstructionResult, InterpreterTypes,
        instructions::host::sstore_with_gas_accounting, interpreter::EthInterpreter,
        interpreter_action::FrameInit,
    },
    primitives::KECCAK_EMPTY,
    state::{AccountInfo, EvmState},
};

use crate::{
    CallOutcome, HeadInfo, InvalidBlock, KvError, Receipt, StateError, Transaction, dao, deposits, genesis,
    native::Precompiles,
    rules::{Forks, Rules},
    state::{ChangeLog, ReadError, Staged, TipState, changes_of, write},
};

/// Gas of a constructor that runs for a genesis.
const CONSTRUCTOR_GAS: u64 = 1 << 34;

type Evm<DB> = revm::context::Evm<
    MainnetContext<DB>,
    (),
    EthInstructions<EthInterpreter, MainnetContext<DB>>,
    Precompiles,
    EthFrame<EthInterpreter>,
>;
type TipDb<'a, 'kv> = WrapDatabaseRef<TipState<'a, 'kv>>;

/// Runs the transactions of one block over a staged state.
///
/// The machine's journal holds what they change until [`flush`](Self::flush), so that a transaction finds there what those before it met.
pub(crate) struct Executor<'a, 'kv> {
    staged: &'a Staged<'kv>,
    forks: Forks,
    gas_limit: u64,
    handler: BlockHandler<TipDb<'a, 'kv>>,
    evm: Evm<TipDb<'a, 'kv>>,
    root: B256,
    log: ChangeLog,
    receipts: Vec<Receipt>,
    gas_used: u64,
    blob_gas_used: u64,
    /// Whose logs are deposits, where there are requests.
    deposit_contract: Option<Address>,
    requests: bool,
    blobs: bool,
}

/// What a block came to.
pub(crate) struct Executed {
    pub(crate) root: B256,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) gas_used: u64,
    pub(crate) blob_gas_used: u64,
    /// EIP-7685: what the block asks of the beacon chain; empty where that is not permitted.
    pub(crate) requests: Requests,
    pub(crate) log: ChangeLog,
}

/// What a transaction came to.
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "a block has it in its receipts"))]
pub(crate) struct Ran {
    /// Gas it spent, before refunds too.
    pub(crate) gas: ResultGas,
    /// What its outermost call returned.
    pub(crate) output: Bytes,
}

/// Why a block could not be begun or ended.
pub(crate) enum BlockError {
    /// It cannot stand here.
    Invalid(InvalidBlock),
    Storage(KvError),
}

impl From<KvError> for BlockError {
    fn from(error: KvError) -> Self {
        Self::Storage(error)
    }
}

/// Why a transaction did not run.
pub(crate) enum TxError {
    /// It cannot stand here.
    Invalid(String),
    /// The block has no room for its gas.
    NoRoom,
    Storage(KvError),
}

impl<'a, 'kv> Executor<'a, 'kv> {
    /// Begins the block of `header`, sealed by `author`, on `parent`, whose state is at the tip of `staged`.
    pub(crate) fn begin(
        rules: &Rules,
        staged: &'a Staged<'kv>,
        parent: &HeadInfo,
        header: &Header,
        author: Address,
    ) -> Result<Self, KvError> {
        let forks = rules.forks_of(header, parent);
        let db = WrapDatabaseRef(TipState(staged));
        let evm = machine(db, rules, cfg_env(rules, forks), block_env(header, forks, author), forks);
        let mut executor = Self {
            staged,
            forks,
            gas_limit: header.gas_limit,
            handler: BlockHandler::new(rules.fee_recipient(author)),
            evm,
            root: parent.header.state_root,
            log: ChangeLog::default(),
            receipts: Vec::new(),
            gas_used: 0,
            blob_gas_used: 0,
            deposit_contract: rules.deposit_contract(),
            requests: forks.prague && rules.permits().requests,
            blobs: rules.permits().blobs,
        };
        if rules.moves_the_dao(header.number) {
            executor.move_the_dao()?;
        }
        if let Some(root) =
            header.parent_beacon_block_root.filter(|_| forks.cancun && rules.permits().beacon_root)
        {
            // EIP-4788
            executor.tell(BEACON_ROOTS_ADDRESS, root)?;
        }
        if forks.prague {
            // EIP-2935
            executor.tell(HISTORY_STORAGE_ADDRESS, parent.hash)?;
        }
        Ok(executor)
    }

    /// Gas that is left in the block.
    pub(crate) fn gas_left(&self) -> u64 {
        self.gas_limit.saturating_sub(self.gas_used)
    }

    /// Runs `transaction`, signed by `sender`. After an error the block is as it was before.
    pub(crate) fn transact(&mut self, transaction: &Transaction, sender: Address) -> Result<Ran, TxError> {
        if transaction.gas_limit() > self.gas_left() {
            return Err(TxError::NoRoom);
        }
        let blob_gas_used =
            self.blob_gas_used.saturating_add(transaction.blob_gas_used().unwrap_or_default());
        if transaction.is_eip4844() {
            let Some(params) = self.forks.blobs.filter(|_| self.blobs) else {
                return Err(TxError::Invalid("blob transactions are not part of this chain".into()));
            };
            if blob_gas_used > params.max_blob_gas_per_block() {
                return Err(TxError::NoRoom);
            }
        }
        if transaction.is_legacy() && transaction.chain_id().is_some() && !self.forks.eip155 {
            return Err(TxError::Invalid("signed for a chain id before EIP-155".into()));
        }
        self.evm.ctx.set_tx(tx_env(transaction, sender));
        let result = self.handler.run(&mut self.evm).map_err(|error| match error {
            EVMError::Database(error) => TxError::Storage(storage(error)),
            EVMError::Transaction(error) => TxError::Invalid(error.to_string()),
            error => TxError::Invalid(error.to_string()),
        })?;
        self.gas_used = self.gas_used.saturating_add(result.tx_gas_used());
        self.blob_gas_used = blob_gas_used;
        let ran = Ran { gas: *result.gas(), output: result.output().cloned().unwrap_or_default() };
        let status = if self.forks.byzantium {
            Eip658Value::Eip658(result.is_success())
        } else {
            Eip658Value::PostState(self.flush().map_err(TxError::Storage)?)
        };
        let logs = result.into_logs();
        let receipt = alloy_consensus::Receipt { status, cumulative_gas_used: self.gas_used, logs };
        let bloom = bloom(&receipt.logs);
        let receipt = ReceiptWithBloom::new(receipt, bloom);
        self.receipts.push(match transaction.ty() {
            0 => Receipt::Legacy(receipt),
            1 => Receipt::Eip2930(receipt),
            3 => Receipt::Eip4844(receipt),
            4 => Receipt::Eip7702(receipt),
            _ => Receipt::Eip1559(receipt),
        });
        Ok(ran)
    }

    /// Ends the block, paying `withdrawals` and `rewards`.
    pub(crate) fn finish(
        mut self,
        withdrawals: &[Withdrawal],
        rewards: &[(Address, U256)],
    ) -> Result<Executed, BlockError> {
        // EIP-4895 counts in gwei.
        let withdrawn = withdrawals.iter().map(|withdrawal| (withdrawal.address, withdrawal.amount_wei()));
        for (address, amount) in withdrawn.chain(rewards.iter().copied()) {
            self.evm.ctx.journal_mut().load_account_mut(address).map_err(storage)?.incr_balance(amount);
        }
        let requests = if self.requests { self.collect_requests()? } else { Requests::default() };
        let root = self.flush()?;
        Ok(Executed {
            root,
            receipts: self.receipts,
            gas_used: self.gas_used,
            blob_gas_used: self.blob_gas_used,
            requests,
            log: self.log,
        })
    }

    /// Runs a block's first system calls: `contract` is told `word`, if it has code.
    fn tell(&mut self, contract: Address, word: B256) -> Result<(), KvError> {
        if !self.has_code(contract)? {
            return Ok(());
        }
        match self.evm.system_call_one(contract, word.0.into()) {
            Err(EVMError::Database(error)) => Err(storage(error)),
            // A system call that fails has no effect and does not concern the block.
            _ => Ok(()),
        }
    }

    /// EIP-7685: deposits from the logs, withdrawals and consolidations from their contracts.
    fn collect_requests(&mut self) -> Result<Requests, BlockError> {
        let mut requests = Requests::default();
        if let Some(contract) = self.deposit_contract {
            let logs = self.receipts.iter().flat_map(|receipt| receipt.logs());
            let deposits = deposits::in_logs(contract, logs).map_err(BlockError::Invalid)?;
            requests.push_request_with_type(deposits::TYPE, deposits);
        }
        let contracts = [
            (WITHDRAWAL_REQUEST_TYPE, WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
            (CONSOLIDATION_REQUEST_TYPE, CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
        ];
        for (kind, contract) in contracts {
            requests.push_request_with_type(kind, self.ask(contract)?);
        }
        Ok(requests)
    }

    /// EIP-7002, EIP-7251: a system contract at the end of a block, without which or in whose failure there is no block.
    fn ask(&mut self, contract: Address) -> Result<Bytes, BlockError> {
        let failed =
            |reason: &'static str| BlockError::Invalid(InvalidBlock::SystemCall { contract, reason });
        if !self.has_code(contract)? {
            return Err(failed("there is no contract"));
        }
        match self.evm.system_call_one(contract, Bytes::new()) {
            Ok(ExecutionResult::Success { output, .. }) => Ok(output.into_data()),
            Ok(_) => Err(failed("the call did not succeed")),
            Err(EVMError::Database(error)) => Err(storage(error).into()),
            Err(_) => Err(failed("the call could not be run")),
        }
    }

    /// Whether there is code at `address`. To load it into the journal would make it warm for the next transaction.
    fn has_code(&mut self, address: Address) -> Result<bool, KvError> {
        let hash = match self.evm.ctx.journal().inner.state.get(&address) {
            Some(account) if account.is_selfdestructed_locally() => None,
            Some(account) => Some(account.info.code_hash),
            None => self.evm.ctx.db_mut().basic(address).map_err(storage)?.map(|info| info.code_hash),
        };
        Ok(hash.is_some_and(|hash| hash != KECCAK_EMPTY && !hash.is_zero()))
    }

    /// EIP-779: all balances of The DAO and its children go to the contract that refunds.
    fn move_the_dao(&mut self) -> Result<(), KvError> {
        let journal = self.evm.ctx.journal_mut();
        let mut sum = U256::ZERO;
        for address in dao::ACCOUNTS {
            let mut account = journal.load_account_mut(address).map_err(storage)?;
            sum = sum.saturating_add(*account.balance());
            account.set_balance(U256::ZERO);
        }
        journal.load_account_mut(dao::REFUND).map_err(storage)?.incr_balance(sum);
        let mut state = self.evm.finalize();
        for account in state.values_mut().filter(|account| account.is_empty()) {
            // Before EIP-161 an account without anything stays.
            account.mark_touch();
            account.mark_created();
        }
        self.stage(state)
    }

    /// Stages what ran so far, and returns the root of the state.
    fn flush(&mut self) -> Result<B256, KvError> {
        let state = self.evm.finalize();
        self.stage(state)?;
        Ok(self.root)
    }

    fn stage(&mut self, state: EvmState) -> Result<(), KvError> {
        let changes = changes_of(self.staged, state);
        self.root = write(self.staged, changes, self.root, Some(&mut self.log))?;
        Ok(())
    }
}

/// Bloom over `logs`: their addresses and topics, most of which were met before.
fn bloom(logs: &[Log]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in logs {
        bloom.accrue(BloomInput::Hash(keccak256_cached(log.address)));
        for topic in log.topics() {
            bloom.accrue(BloomInput::Hash(keccak256_cached(topic)));
        }
    }
    bloom
}

/// Bloom over all logs of a block.
pub(crate) fn block_bloom(receipts: &[Receipt]) -> Bloom {
    receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom())
}

/// Settings of a message that is run outside a block.
pub(crate) struct Message<'a> {
    pub(crate) header: &'a Header,
    pub(crate) forks: Forks,
    pub(crate) author: Address,
    pub(crate) tx: TxEnv,
    pub(crate) check_nonce: bool,
}

/// Why a message did not run.
pub(crate) enum MessageError {
    Refused(InvalidTransaction),
    Other(String),
    State(StateError),
}

/// Runs a message on `db` and forgets what it changed.
pub(crate) fn run_message<DB: DatabaseRef<Error = ReadError>>(
    rules: &Rules,
    db: DB,
    message: Message<'_>,
) -> Result<CallOutcome, MessageError> {
    let mut cfg = cfg_env(rules, message.forks);
    cfg.disable_nonce_check = !message.check_nonce;
    cfg.disable_block_gas_limit = true;
    cfg.disable_eip3607 = true;
    cfg.disable_base_fee = message.tx.gas_price == 0;
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    let block = block_env(message.header, message.forks, message.author);
    let mut evm = machine(WrapDatabaseRef(db), rules, cfg, block, message.forks);
    let result = evm.transact_one(message.tx).map_err(|error| match error {
        EVMError::Transaction(error) => MessageError::Refused(error),
        EVMError::Database(ReadError(error)) => MessageError::State(error),
        error => MessageError::Other(error.to_string()),
    })?;
    let gas_used = result.tx_gas_used();
    Ok(match result {
        ExecutionResult::Success { output, logs, .. } => {
            CallOutcome::Success { output: output.into_data(), gas_used, logs }
        }
        ExecutionResult::Revert { output, .. } => CallOutcome::Revert { output, gas_used },
        ExecutionResult::Halt { reason, .. } => CallOutcome::Halt { reason: reason.to_string(), gas_used },
    })
}

/// Runs a constructor over the accounts of a genesis and returns those it changed, the sender excepted.
pub(crate) fn construct(
    rules: &Rules,
    header: &Header,
    alloc: &BTreeMap<Address, GenesisAccount>,
    address: Address,
    init_code: Bytes,
    sender: Address,
) -> Result<Vec<(Address, GenesisAccount)>, String> {
    if alloc.get(&address).is_some_and(|account| genesis::code_of(account).is_some()) {
        return Err("a contract stands there already".into());
    }
    let mut db = CacheDB::new(EmptyDB::default());
    for (address, account) in alloc {
        let code = account.code.clone().unwrap_or_default();
        let code = Bytecode::new_raw_checked(code).map_err(|error| error.to_string())?;
        let info = AccountInfo::new(account.balance, account.nonce.unwrap_or(0), code.hash_slow(), code);
        db.insert_account_info(*address, info);
        for (slot, value) in account.storage.iter().flatten() {
            db.insert_account_storage(*address, (*slot).into(), (*value).into())
                .map_err(|e| e.to_string())?;
        }
    }
    let forks = rules.forks(0, header.timestamp, U256::ZERO);
    let mut cfg = cfg_env(rules, forks);
    cfg.disable_nonce_check = true;
    cfg.disable_block_gas_limit = true;
    cfg.disable_eip3607 = true;
    cfg.disable_base_fee = true;
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    let mut evm = machine(db, rules, cfg, block_env(header, forks, Address::ZERO), forks);
    let mut handler = BlockHandler::new(None);
    handler.create_at = Some(address);
    let tx = TxEnv {
        caller: sender,
        gas_limit: CONSTRUCTOR_GAS,
        gas_price: 0,
        kind: TxKind::Create,
        data: init_code,
        chain_id: None,
        ..TxEnv::default()
    };
    evm.ctx.set_tx(tx);
    let result = handler.run(&mut evm).map_err(|error| error.to_string())?;
    match result {
        ExecutionResult::Success { .. } => {}
        ExecutionResult::Revert { output, .. } => return Err(format!("reverted with {output}")),
        ExecutionResult::Halt { reason, .. } => return Err(reason.to_string()),
    }
    let mut changed = Vec::new();
    for (at, account) in evm.finalize() {
        if at == sender || !account.is_touched() || account.is_selfdestructed() {
            continue;
        }
        let mut after = alloc.get(&at).cloned().unwrap_or_default();
        if account.info.is_empty() && !alloc.contains_key(&at) {
            continue;
        }
        after.balance = account.info.balance;
        after.nonce = Some(account.info.nonce).filter(|nonce| *nonce != 0);
        if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty()) {
            after.code = Some(code.original_bytes());
        }
        let mut storage = after.storage.take().unwrap_or_default();
        for (slot, value) in account.storage {
            let slot = B256::from(slot);
            if value.present_value.is_zero() {
                storage.remove(&slot);
            } else {
                storage.insert(slot, value.present_value.into());
            }
        }
        after.storage = Some(storage).filter(|storage| !storage.is_empty());
        changed.push((at, after));
    }
    Ok(changed)
}

/// Ethereum's way of running a transaction, but for who gets the fees, and where a genesis puts a contract.
struct BlockHandler<DB> {
    /// Gets all fees; without it the base fee is burnt and the tip goes to COINBASE.
    fee_recipient: Option<Address>,
    create_at: Option<Address>,
    _db: std::marker::PhantomData<fn(DB)>,
}

/// What EIP-7610 asks of a state.
trait Accounts: Database {
    /// Whether `address` has storage and neither code nor a nonce.
    fn has_only_storage(&self, address: Address) -> Result<bool, Self::Error>;
}

impl Accounts for TipDb<'_, '_> {
    fn has_only_storage(&self, address: Address) -> Result<bool, Self::Error> {
        Ok(self.0.has_only_storage(address)?)
    }
}

impl Accounts for CacheDB<EmptyDB> {
    fn has_only_storage(&self, _: Address) -> Result<bool, Self::Error> {
        Ok(false)
    }
}

impl<DB: Accounts> BlockHandler<DB> {
    fn new(fee_recipient: Option<Address>) -> Self {
        Self { fee_recipient, create_at: None, _db: std::marker::PhantomData }
    }

    /// Begins a call or a creation; the result if it ends at once.
    fn begin_frame(
        &self,
        evm: &mut Evm<DB>,
        init: FrameInit,
    ) -> Result<Option<FrameResult>, EVMError<DB::Error>> {
        let occupied = match &init.frame_input {
            FrameInput::Create(create) => {
                let nonce = evm.ctx.journal_mut().load_account(create.caller())?.info.nonce;
                Some(create.created_address(nonce))
            }
            _ => None,
        };
        let occupied = match occupied {
            Some(address) if evm.ctx.db().has_only_storage(address)? => Some(address),
            _ => None,
        };
        // EIP-7610: storage stands in the way of a creation as code and a nonce do, and the machine knows of those.
        if let Some(address) = occupied {
            evm.ctx.journal_mut().load_account(address)?;
            set_nonce(evm, address, 1);
        }
        let begun = match evm.frame_init(init)? {
            ItemOrResult::Item(_) => None,
            ItemOrResult::Result(result) => Some(result),
        };
        if let Some(address) = occupied {
            set_nonce(evm, address, 0);
        }
        Ok(begun)
    }
}

/// Sets the nonce of a loaded account, out of the journal's sight.
fn set_nonce<DB: Database>(evm: &mut Evm<DB>, address: Address, nonce: u64) {
    if let Some(account) = evm.ctx.journal_mut().inner.state.get_mut(&address) {
        account.info.nonce = nonce;
    }
}

impl<DB: Accounts> Handler for BlockHandler<DB> {
    type Evm = Evm<DB>;
    type Error = EVMError<DB::Error>;
    type HaltReason = HaltReason;

    fn run_exec_loop(&mut self, evm: &mut Self::Evm, first: FrameInit) -> Result<FrameResult, Self::Error> {
        if let Some(result) = self.begin_frame(evm, first)? {
            return Ok(result);
        }
        loop {
            let result = match evm.frame_run()? {
                ItemOrResult::Item(init) => self.begin_frame(evm, init)?,
                ItemOrResult::Result(result) => Some(result),
            };
            if let Some(result) = result
                && let Some(result) = evm.frame_return_result(result)?
            {
                return Ok(result);
            }
        }
    }

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        use revm::context_interface::{Block, Transaction};

        let (block, tx, _, journal, _, _) = evm.ctx().all_mut();
        let price = tx.effective_gas_price(u128::from(block.basefee()));
        let (recipient, price) = match self.fee_recipient {
            Some(recipient) => (recipient, price),
            // EIP-1559: the base fee is burnt. Before London it is zero.
            None => (block.beneficiary(), price.saturating_sub(u128::from(block.basefee()))),
        };
        let used = exec_result.gas().used().saturating_sub(exec_result.gas().reservoir());
        let fee = U256::from(price).saturating_mul(U256::from(used));
        journal.load_account_mut(recipient)?.incr_balance(fee);
        Ok(())
    }

    fn first_frame_input(
        &mut self,
        evm: &mut Self::Evm,
        gas: &mut GasTracker,
    ) -> Result<Option<FrameInit>, Self::Error> {
        let mut default = MainnetHandler::<Self::Evm, Self::Error, EthFrame>::default();
        let mut first = default.first_frame_input(evm, gas)?;
        if let (Some(address), Some(FrameInit { frame_input: FrameInput::Create(create), .. })) =
            (self.create_at, &mut first)
        {
            create.set_scheme(CreateScheme::Custom { address });
        }
        Ok(first)
    }
}

/// The machine of `rules` in the state `db`.
fn machine<DB: Database>(db: DB, rules: &Rules, mut cfg: CfgEnv, block: BlockEnv, forks: Forks) -> Evm<DB> {
    if forks.eip1283 {
        // The prices of EIP-1283 are those of its successor at what reading a slot cost in its day.
        let (read, set, reset) = (200, 20_000, 5_000);
        cfg.gas_params.override_gas([
            (GasId::sstore_static(), read),
            (GasId::sstore_set_without_load_cost(), set - read),
            (GasId::sstore_reset_without_cold_load_cost(), reset - read),
            (GasId::sstore_set_refund(), set - read),
            (GasId::sstore_reset_refund(), reset - read),
        ]);
    }
    let precompiles = Precompiles::new(forks.spec, rules.natives(), block.number.saturating_to());
    let mut evm = Context::mainnet()
        .with_db(db)
        .with_cfg(cfg)
        .with_block(block)
        .build_mainnet()
        .with_precompiles(precompiles);
    if forks.eip1283 {
        evm.instruction.insert_instruction(SSTORE, Instruction::new(sstore_eip1283), 0);
    }
    evm
}

/// SSTORE between Constantinople and Petersburg: net gas metering without the sentry of EIP-2200.
fn sstore_eip1283<IT: InterpreterTypes, H: Host + ?Sized>(
    context: InstructionContext<'_, H, IT>,
) -> Result<(), InstructionResult> {
    sstore_with_gas_accounting(context, |context, _, load: &StateLoad<SStoreResult>| {
        let params = context.host.gas_params();
        let (gas, refund) =
            (params.sstore_dynamic_gas(true, &load.data, false), params.sstore_refund(true, &load.data));
        if !context.interpreter.gas.record_regular_cost(gas) {
            return Err(InstructionResult::OutOfGas);
        }
        context.interpreter.gas.record_refund(refund);
        Ok(())
    })
}

fn cfg_env(rules: &Rules, forks: Forks) -> CfgEnv {
    let mut cfg = CfgEnv::new_with_spec(forks.spec);
    cfg.chain_id = rules.chain_id();
    cfg.max_blobs_per_tx = forks.blobs.map(|params| params.max_blobs_per_tx);
    cfg
}

fn block_env(header: &Header, forks: Forks, author: Address) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: author,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or(0),
        difficulty: header.difficulty,
        prevrandao: forks.paris.then_some(header.mix_hash),
        blob_excess_gas_and_price: forks.blobs.map(|params| {
            let excess_blob_gas = header.excess_blob_gas.unwrap_or(0);
            BlobExcessGasAndPrice { excess_blob_gas, blob_gasprice: params.calc_blob_fee(excess_blob_gas) }
        }),
        ..BlockEnv::default()
    }
}

/// `transaction` as revm takes it.
pub(crate) fn tx_env(transaction: &Transaction, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: transaction.ty(),
        caller: sender,
        gas_limit: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: transaction.max_priority_fee_per_gas(),
        blob_hashes: transaction.blob_versioned_hashes().unwrap_or_default().to_vec(),
        max_fee_per_blob_gas: transaction.max_fee_per_blob_gas().unwrap_or(0),
        authorization_list: transaction
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .cloned()
            .map(Either::Left)
            .collect(),
    }
}

/// A failure to read the state at the tip, which is always one of storage.
fn storage(ReadError(error): ReadError) -> KvError {
    match error {
        StateError::Storage(error) => error,
        other => KvError::new("read state", None, other),
    }
}
