//! Questions about the chain: transactions, receipts, calls, logs.

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, Log, U256, keccak256};
use revm::{
    context::TxEnv,
    primitives::{TxKind, eip7825},
};

use super::Chain;
use crate::{
    Account, BlockId, BlockRef, CallError, CallOutcome, CallRequest, HeadInfo, KvError, LogEntry, LogFilter,
    LogsError, MinedReceipt, MinedTransaction, Receipt, StateError, Table,
    execute::{Message, MessageError, run_message},
    rules::Forks,
    state::{PastState, decode_account},
    tables,
};

/// Gas of a plain transfer, the least that anything costs.
const TRANSFER_GAS: u64 = 21_000;

pub(super) fn tip_account(chain: &Chain, address: Address) -> Result<Option<Account>, KvError> {
    let Some(record) = chain.kv().get(Table::Accounts, keccak256(address).as_slice())? else {
        return Ok(None);
    };
    let account = decode_account(&record)?;
    Ok(Some(Account {
        nonce: account.nonce,
        balance: account.balance,
        code_hash: account.code_hash,
        storage_root: account.storage_root,
    }))
}

/// Number of the block and index in it of a canonical transaction.
fn place(chain: &Chain, hash: &B256) -> Result<Option<(BlockRef, usize)>, KvError> {
    let Some(record) = chain.kv().get(Table::Transactions, hash.as_slice())? else { return Ok(None) };
    let (number, index) = record
        .split_at_checked(8)
        .ok_or_else(|| KvError::corrupt(Table::Transactions, "a place has another length"))?;
    let number = tables::decode_number(Table::Transactions, number)?;
    let index = tables::decode_number(Table::Transactions, index)? as usize;
    Ok(chain.canonical_at(number)?.map(|hash| (BlockRef { number, hash }, index)))
}

fn mined(chain: &Chain, block: BlockRef) -> Result<Option<Vec<MinedTransaction>>, KvError> {
    let blocks = chain.blocks();
    let (Some(body), Some(senders)) = (blocks.body(block)?, blocks.senders(block)?) else { return Ok(None) };
    let (base_fee, timestamp) = (body.header.base_fee_per_gas, body.header.timestamp);
    Ok(Some(
        body.body
            .transactions
            .into_iter()
            .zip(senders)
            .zip(0..)
            .map(|((transaction, sender), index)| MinedTransaction {
                transaction,
                sender,
                block,
                index,
                base_fee,
                timestamp,
            })
            .collect(),
    ))
}

pub(super) fn transaction(chain: &Chain, hash: &B256) -> Result<Option<MinedTransaction>, KvError> {
    let Some((block, index)) = place(chain, hash)? else { return Ok(None) };
    Ok(mined(chain, block)?.and_then(|transactions| transactions.into_iter().nth(index)))
}

pub(super) fn receipt(chain: &Chain, hash: &B256) -> Result<Option<MinedReceipt>, KvError> {
    let Some((block, index)) = place(chain, hash)? else { return Ok(None) };
    Ok(block_receipts(chain, block.into())?.and_then(|receipts| receipts.into_iter().nth(index)))
}

pub(super) fn block_receipts(chain: &Chain, id: BlockId) -> Result<Option<Vec<MinedReceipt>>, KvError> {
    let Some(block) = chain.resolve(id)? else { return Ok(None) };
    let (Some(transactions), Some(receipts)) = (mined(chain, block)?, chain.blocks().receipts(block)?) else {
        return Ok(None);
    };
    let mut cumulative = 0;
    let mut first_log_index = 0u64;
    let mined = transactions.into_iter().zip(receipts).map(|(transaction, receipt)| {
        let gas_used = receipt.cumulative_gas_used().saturating_sub(cumulative);
        cumulative = receipt.cumulative_gas_used();
        let first = first_log_index;
        first_log_index = first.saturating_add(receipt.logs().len() as u64);
        let inner = &transaction.transaction;
        MinedReceipt {
            gas_used,
            effective_gas_price: inner.effective_gas_price(transaction.base_fee),
            contract_address: inner.kind().is_create().then(|| transaction.sender.create(inner.nonce())),
            first_log_index: first,
            receipt,
            transaction,
        }
    });
    Ok(Some(mined.collect()))
}

impl Chain {
    /// Runs `request` on the state after block `at`, in a block like it.
    pub fn call(&self, at: BlockId, request: &CallRequest) -> Result<CallOutcome, CallError> {
        let (head, forks) = self.call_block(at)?;
        let gas = request.gas.unwrap_or(u64::MAX).min(self.options().call_gas_max);
        self.run(&head, forks, request, gas)
    }

    /// The least gas with which `request` succeeds on the state after block `at`.
    pub fn estimate_gas(&self, at: BlockId, request: &CallRequest) -> Result<u64, CallError> {
        let (head, forks) = self.call_block(at)?;
        let mut most = head.header.gas_limit.min(self.options().call_gas_max);
        if forks.osaka {
            most = most.min(eip7825::TX_GAS_LIMIT_CAP);
        }
        let mut most = request.gas.filter(|gas| *gas >= TRANSFER_GAS).map_or(most, |gas| gas.min(most));
        if let (Some(price), Some(from)) = (request.gas_price.filter(|price| *price > 0), request.from) {
            // What the caller can pay for is the most it can have.
            let balance = self.state(head.hash.into())?.balance(from)?.saturating_sub(request.value);
            let affordable = balance.checked_div(U256::from(price)).unwrap_or_default();
            most = most.min(affordable.saturating_to());
        }
        let outcome = self.run(&head, forks, request, most)?;
        if !matches!(outcome, CallOutcome::Success { .. }) {
            return Err(CallError::Fails(outcome));
        }
        let mut least = outcome.gas_used().saturating_sub(1).max(TRANSFER_GAS - 1);
        // Most calls need just what they used, or a 64th and a stipend more (EIP-150).
        let mut guess = outcome.gas_used();
        let mut tries = 0;
        while least.saturating_add(1) < most {
            let enough = match self.run(&head, forks, request, guess) {
                Ok(outcome) => matches!(outcome, CallOutcome::Success { .. }),
                Err(CallError::Refused(_)) => false,
                Err(error) => return Err(error),
            };
            if enough {
                most = guess;
            } else {
                least = guess;
            }
            tries += 1;
            let middle = least.midpoint(most);
            guess = match tries {
                1 => outcome.gas_used().saturating_add(outcome.gas_used() / 63).saturating_add(2_300),
                _ => middle,
            };
            if guess <= least || guess >= most {
                guess = middle;
            }
        }
        Ok(most)
    }

    fn call_block(&self, at: BlockId) -> Result<(HeadInfo, Forks), CallError> {
        let head = self.header(at).map_err(StateError::from)?.ok_or(StateError::UnknownBlock)?;
        let before = head.total_difficulty.saturating_sub(head.header.difficulty);
        let forks = self.rules().forks(head.header.number, head.header.timestamp, before);
        Ok((head, forks))
    }

    fn run(
        &self,
        head: &HeadInfo,
        forks: Forks,
        request: &CallRequest,
        gas: u64,
    ) -> Result<CallOutcome, CallError> {
        let state = self.state(head.hash.into())?;
        let from = request.from.unwrap_or_default();
        let tx = TxEnv {
            tx_type: u8::from(!request.access_list.0.is_empty()),
            caller: from,
            gas_limit: gas,
            gas_price: request.gas_price.unwrap_or(0),
            kind: request.to.map_or(TxKind::Create, TxKind::Call),
            value: request.value,
            data: request.data.clone(),
            nonce: request.nonce.unwrap_or(0),
            chain_id: Some(self.chain_id()),
            access_list: request.access_list.clone(),
            ..TxEnv::default()
        };
        let message = Message {
            header: &head.header,
            forks,
            // The genesis has no author.
            author: self.engine().author(&head.header).unwrap_or(head.header.beneficiary),
            tx,
            check_nonce: request.nonce.is_some(),
        };
        run_message(self.rules(), PastState(state), message).map_err(|error| match error {
            MessageError::Refused(error) => CallError::Refused(error.to_string()),
            MessageError::Other(error) => CallError::Refused(error),
            MessageError::State(error) => CallError::State(error),
        })
    }

    /// The logs that `filter` describes, ascending.
    pub fn logs(&self, filter: &LogFilter) -> Result<Vec<LogEntry>, LogsError> {
        let head = self.head().number();
        let number = |id: BlockId| match id {
            // A range may reach beyond the head; there is nothing there.
            BlockId::Number(number) => Ok(number),
            _ => match self.resolve(id)? {
                Some(block) if self.canonical_at(block.number)? == Some(block.hash) => Ok(block.number),
                _ => Err(LogsError::UnknownBlock),
            },
        };
        let (from, to) = (number(filter.from)?, number(filter.to)?);
        if from > to {
            return Err(LogsError::Range { from, to });
        }
        let to = to.min(head);
        let groups = index_groups(filter);
        let blocks = to.saturating_sub(from);
        let limit = self.options().log_blocks_max;
        if groups.is_empty() && blocks >= limit {
            return Err(LogsError::TooManyBlocks { blocks: blocks.saturating_add(1), limit });
        }
        let mut found = Vec::new();
        let mut next = from;
        while let Some(number) = self.next_candidate(&groups, next, to)? {
            let before = found.len();
            self.logs_of(number, filter, &mut found)?;
            let limit = self.options().logs_max;
            // One block alone is answered whatever it holds, or no query could get past it.
            if found.len() > limit && before > 0 {
                return Err(LogsError::TooManyLogs { limit, next: number });
            }
            match number.checked_add(1) {
                Some(number) => next = number,
                None => break,
            }
        }
        Ok(found)
    }

    /// The first block from `from` to `to` that has, for each group, one of its keys in the log index.
    fn next_candidate(&self, groups: &[Vec<Vec<u8>>], from: u64, to: u64) -> Result<Option<u64>, KvError> {
        let mut at = from;
        'again: while at <= to {
            for group in groups {
                let mut nearest = None;
                for key in group {
                    let entry = self.kv().scan(Table::LogIndex, &tables::dated(key, at), 1)?.pop();
                    let Some((found, _)) = entry else { continue };
                    let Some(number) = found.strip_prefix(key.as_slice()).filter(|rest| rest.len() == 8)
                    else {
                        continue;
                    };
                    let number = tables::decode_number(Table::LogIndex, number)?;
                    nearest = Some(nearest.map_or(number, |nearest: u64| nearest.min(number)));
                }
                match nearest {
                    None => return Ok(None),
                    Some(number) if number > at => {
                        at = number;
                        continue 'again;
                    }
                    Some(_) => {}
                }
            }
            return Ok(Some(at));
        }
        Ok(None)
    }

    fn logs_of(&self, number: u64, filter: &LogFilter, found: &mut Vec<LogEntry>) -> Result<(), KvError> {
        let Some(hash) = self.canonical_at(number)? else { return Ok(()) };
        let block = BlockRef { number, hash };
        let Some(receipts) = self.blocks().receipts(block)? else { return Ok(()) };
        if !receipts.iter().any(|receipt| receipt.logs().iter().any(|log| matches(filter, log))) {
            return Ok(());
        }
        let Some(body) = self.blocks().body(block)? else { return Ok(()) };
        let mut log_index = 0;
        let pairs = body.body.transactions.iter().zip(&receipts).zip(0..);
        for ((transaction, receipt), transaction_index) in pairs {
            let receipt: &Receipt = receipt;
            for log in receipt.logs() {
                if matches(filter, log) {
                    found.push(LogEntry {
                        log: log.clone(),
                        block,
                        timestamp: body.header.timestamp,
                        transaction_hash: *transaction.tx_hash(),
                        transaction_index,
                        log_index,
                    });
                }
                log_index += 1;
            }
        }
        Ok(())
    }
}

/// What of `filter` the log index knows: groups of keys of which a block must have one each.
fn index_groups(filter: &LogFilter) -> Vec<Vec<Vec<u8>>> {
    let addresses = filter.addresses.iter().map(|address| tables::log_address(*address)).collect();
    let topics = filter.topics.iter().map(|any| any.iter().map(|topic| tables::log_topic(*topic)).collect());
    std::iter::once(addresses).chain(topics).filter(|group: &Vec<_>| !group.is_empty()).collect()
}

fn matches(filter: &LogFilter, log: &Log) -> bool {
    let topics = log.topics();
    (filter.addresses.is_empty() || filter.addresses.contains(&log.address))
        && filter
            .topics
            .iter()
            .enumerate()
            .all(|(place, any)| any.is_empty() || topics.get(place).is_some_and(|topic| any.contains(topic)))
}
