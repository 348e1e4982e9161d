//! Running transactions: in blocks, in calls, and in the making of a genesis.
//!
//! Building a block and checking one run the same [`Executor`]; they differ in where transactions come from and in what
//! becomes of one that does not fit.

use std::collections::BTreeMap;

use alloy_consensus::{Eip658Value, Header, Transaction as _, Typed2718};
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, logs_bloom};
use revm::{
    Context, Database, DatabaseCommit, DatabaseRef, ExecuteEvm, MainBuilder, MainContext, MainnetEvm,
    SystemCallCommitEvm,
    bytecode::Bytecode,
    context::{BlockEnv, CfgEnv, ContextSetters, ContextTr, JournalTr, TxEnv},
    context_interface::{
        CreateScheme,
        block::BlobExcessGasAndPrice,
        either::Either,
        journaled_state::account::JournaledAccountTr,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    },
    database::{BundleState, CacheDB, State, WrapDatabaseRef, states::bundle_state::BundleRetention},
    database_interface::{EmptyDB, bal::EvmDatabaseError},
    handler::{EthFrame, EvmTr, FrameResult, Handler, MainnetContext, MainnetHandler, post_execution},
    interpreter::{FrameInput, GasTracker, interpreter_action::FrameInit},
    primitives::{KECCAK_EMPTY, eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE, hardfork::SpecId},
    state::AccountInfo,
};

use crate::{
    CallOutcome, HeadInfo, KvError, Receipt, StateError, Transaction, genesis,
    rules::{Forks, Rules},
    state::{ChangeLog, ReadError, Staged, TipState, changes_of, write},
};

/// Gas of a constructor that runs for a genesis.
const CONSTRUCTOR_GAS: u64 = 1 << 34;

type Evm<DB> = MainnetEvm<MainnetContext<DB>>;
type TipDb<'a, 'kv> = State<WrapDatabaseRef<TipState<'a, 'kv>>>;

/// Runs the transactions of one block over a staged state.
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
}

/// What a block came to.
pub(crate) struct Executed {
    pub(crate) root: B256,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) gas_used: u64,
    pub(crate) log: ChangeLog,
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
        let state = State::builder().with_database_ref(TipState(staged)).with_bundle_update().build();
        let mut cfg = CfgEnv::new_with_spec(forks.spec);
        cfg.chain_id = rules.chain_id();
        let evm = Context::mainnet()
            .with_db(state)
            .with_cfg(cfg)
            .with_block(block_env(header, forks, author))
            .build_mainnet();
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
        };
        executor.record_parent(parent.hash)?;
        Ok(executor)
    }

    /// Gas that is left in the block.
    pub(crate) fn gas_left(&self) -> u64 {
        self.gas_limit.saturating_sub(self.gas_used)
    }

    /// Runs `transaction`, signed by `sender`. After an error the block is as it was before.
    pub(crate) fn transact(&mut self, transaction: &Transaction, sender: Address) -> Result<(), TxError> {
        if transaction.gas_limit() > self.gas_left() {
            return Err(TxError::NoRoom);
        }
        if transaction.is_eip4844() {
            return Err(TxError::Invalid("blob transactions are not part of this chain".into()));
        }
        if transaction.is_legacy() && transaction.chain_id().is_some() && !self.forks.eip155 {
            return Err(TxError::Invalid("signed for a chain id before EIP-155".into()));
        }
        let result =
            self.handler.transact(&mut self.evm, tx_env(transaction, sender)).map_err(
                |error| match error {
                    EVMError::Database(error) => TxError::Storage(storage(error)),
                    EVMError::Transaction(error) => TxError::Invalid(error.to_string()),
                    error => TxError::Invalid(error.to_string()),
                },
            )?;
        self.gas_used = self.gas_used.saturating_add(result.tx_gas_used());
        let status = if self.forks.byzantium {
            Eip658Value::Eip658(result.is_success())
        } else {
            Eip658Value::PostState(self.flush().map_err(TxError::Storage)?)
        };
        let logs = result.into_logs();
        let receipt = alloy_consensus::Receipt { status, cumulative_gas_used: self.gas_used, logs };
        let receipt = receipt.with_bloom();
        self.receipts.push(match transaction.ty() {
            0 => Receipt::Legacy(receipt),
            1 => Receipt::Eip2930(receipt),
            4 => Receipt::Eip7702(receipt),
            _ => Receipt::Eip1559(receipt),
        });
        Ok(())
    }

    /// Ends the block, paying `rewards`.
    pub(crate) fn finish(mut self, rewards: &[(Address, U256)]) -> Result<Executed, KvError> {
        for (address, amount) in rewards {
            self.evm.ctx.journal_mut().load_account_mut(*address).map_err(storage)?.incr_balance(*amount);
        }
        let state = self.evm.finalize();
        self.evm.ctx.db_mut().commit(state);
        let root = self.flush()?;
        Ok(Executed { root, receipts: self.receipts, gas_used: self.gas_used, log: self.log })
    }

    /// EIP-2935: the parent's hash goes into the history contract, where there is one.
    fn record_parent(&mut self, parent: B256) -> Result<(), KvError> {
        if !self.forks.prague {
            return Ok(());
        }
        let contract = self.evm.ctx.db_mut().basic(HISTORY_STORAGE_ADDRESS).map_err(storage)?;
        if contract.is_none_or(|contract| contract.code_hash == KECCAK_EMPTY) {
            return Ok(());
        }
        match self.evm.system_call_commit(HISTORY_STORAGE_ADDRESS, parent.0.into()) {
            Err(EVMError::Database(error)) => Err(storage(error)),
            // A system call that fails has no effect and does not concern the block.
            _ => Ok(()),
        }
    }

    /// Stages what ran so far, and returns the root of the state.
    fn flush(&mut self) -> Result<B256, KvError> {
        let state = self.evm.ctx.db_mut();
        state.merge_transitions(BundleRetention::PlainState);
        let bundle: BundleState = state.take_bundle();
        let changes = changes_of(self.staged, &bundle);
        self.root = write(self.staged, changes, self.root, Some(&mut self.log))?;
        Ok(self.root)
    }
}

/// Bloom over all logs of a block.
pub(crate) fn block_bloom(receipts: &[Receipt]) -> alloy_primitives::Bloom {
    logs_bloom(receipts.iter().flat_map(|receipt| receipt.logs()))
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
    let mut cfg = CfgEnv::new_with_spec(message.forks.spec);
    cfg.chain_id = rules.chain_id();
    cfg.disable_nonce_check = !message.check_nonce;
    cfg.disable_block_gas_limit = true;
    cfg.disable_eip3607 = true;
    cfg.disable_base_fee = message.tx.gas_price == 0;
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    let mut evm = Context::mainnet()
        .with_db(WrapDatabaseRef(db))
        .with_cfg(cfg)
        .with_block(block_env(message.header, message.forks, message.author))
        .build_mainnet();
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
    let mut cfg = CfgEnv::new_with_spec(forks.spec);
    cfg.chain_id = rules.chain_id();
    cfg.disable_nonce_check = true;
    cfg.disable_block_gas_limit = true;
    cfg.disable_eip3607 = true;
    cfg.disable_base_fee = true;
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    let mut evm = Context::mainnet()
        .with_db(db)
        .with_cfg(cfg)
        .with_block(block_env(header, forks, Address::ZERO))
        .build_mainnet();
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

impl<DB: Database> BlockHandler<DB> {
    fn new(fee_recipient: Option<Address>) -> Self {
        Self { fee_recipient, create_at: None, _db: std::marker::PhantomData }
    }

    /// Runs `tx` and commits what it changed.
    fn transact(
        &mut self,
        evm: &mut Evm<DB>,
        tx: TxEnv,
    ) -> Result<ExecutionResult<HaltReason>, EVMError<DB::Error>>
    where
        DB: DatabaseCommit,
    {
        evm.ctx.set_tx(tx);
        let result = self.run(evm);
        let state = evm.finalize();
        let result = result?;
        evm.ctx.db_mut().commit(state);
        Ok(result)
    }
}

impl<DB: Database> Handler for BlockHandler<DB> {
    type Evm = Evm<DB>;
    type Error = EVMError<DB::Error>;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        exec_result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        use revm::context_interface::{Block, Transaction};

        let Some(recipient) = self.fee_recipient else {
            return post_execution::reward_beneficiary(evm.ctx(), exec_result.gas())
                .map_err(EVMError::Database);
        };
        let (block, tx, _, journal, _, _) = evm.ctx().all_mut();
        let price = U256::from(tx.effective_gas_price(u128::from(block.basefee())));
        let used = exec_result.gas().used().saturating_sub(exec_result.gas().reservoir());
        journal.load_account_mut(recipient)?.incr_balance(price.saturating_mul(U256::from(used)));
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

fn block_env(header: &Header, forks: Forks, author: Address) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: author,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or(0),
        difficulty: header.difficulty,
        prevrandao: forks.paris.then_some(header.mix_hash),
        blob_excess_gas_and_price: forks
            .spec
            .is_enabled_in(SpecId::CANCUN)
            .then(|| BlobExcessGasAndPrice::new(0, BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE)),
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
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
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
fn storage(error: EvmDatabaseError<ReadError>) -> KvError {
    match error {
        EvmDatabaseError::Database(ReadError(StateError::Storage(error))) => error,
        other => KvError::new("read state", None, other),
    }
}
