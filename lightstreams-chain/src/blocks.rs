//! Reading and staging blocks, whatever lies beneath.

use alloy_consensus::{Eip658Value, Header, TxReceipt, TxType, Typed2718};
use alloy_primitives::{Address, B256, Log, U256};
use alloy_rlp::{Decodable, Encodable};

use crate::{
    Ancestry, Block, BlockRef, HeadInfo, Kv, KvError, KvView, Receipt, Table,
    state::{Staged, forget},
    tables,
};

/// Blocks whose states are forgotten with one commit, or twice as many as it adds.
const PRUNE_MAX: u64 = 64;

/// Something to read tables from.
pub(crate) trait Read {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
}

impl Read for &dyn Kv {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.get(table, key)
    }
}

impl Read for &dyn KvView {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.get(table, key)
    }
}

impl Read for &Staged<'_> {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.get(table, key)
    }
}

/// The blocks in some tables.
pub(crate) struct Blocks<R>(pub(crate) R);

impl<R: Read> Blocks<R> {
    pub(crate) fn number(&self, hash: &B256) -> Result<Option<u64>, KvError> {
        let record = self.0.read(Table::Numbers, hash.as_slice())?;
        record.map(|record| tables::decode_number(Table::Numbers, &record)).transpose()
    }

    pub(crate) fn info(&self, block: BlockRef) -> Result<Option<HeadInfo>, KvError> {
        let Some(record) = self.0.read(Table::Headers, &tables::block(block))? else { return Ok(None) };
        let damaged = || KvError::corrupt(Table::Headers, "a header does not decode");
        let (difficulty, mut header) = record.split_first_chunk::<32>().ok_or_else(damaged)?;
        Ok(Some(HeadInfo {
            header: Header::decode(&mut header).map_err(|_| damaged())?,
            hash: block.hash,
            total_difficulty: U256::from_be_bytes(*difficulty),
        }))
    }

    pub(crate) fn body(&self, block: BlockRef) -> Result<Option<Block>, KvError> {
        let Some(record) = self.0.read(Table::Bodies, &tables::block(block))? else { return Ok(None) };
        let Some(info) = self.info(block)? else { return Ok(None) };
        let body = Decodable::decode(&mut record.as_slice())
            .map_err(|_| KvError::corrupt(Table::Bodies, "a body does not decode"))?;
        Ok(Some(Block::new(info.header, body)))
    }

    pub(crate) fn senders(&self, block: BlockRef) -> Result<Option<Vec<Address>>, KvError> {
        let Some(record) = self.0.read(Table::Senders, &tables::block(block))? else { return Ok(None) };
        Ok(Some(record.chunks_exact(20).map(Address::from_slice).collect()))
    }

    pub(crate) fn receipts(&self, block: BlockRef) -> Result<Option<Vec<Receipt>>, KvError> {
        let Some(record) = self.0.read(Table::Receipts, &tables::block(block))? else { return Ok(None) };
        decode_receipts(&record)
            .map(Some)
            .map_err(|_| KvError::corrupt(Table::Receipts, "receipts do not decode"))
    }
}

impl<R: Read> Ancestry for Blocks<R> {
    fn header(&self, hash: &B256) -> Result<Option<HeadInfo>, KvError> {
        match self.number(hash)? {
            Some(number) => self.info(BlockRef { number, hash: *hash }),
            None => Ok(None),
        }
    }

    fn canonical_hash(&self, number: u64) -> Result<Option<B256>, KvError> {
        let record = self.0.read(Table::Canon, &tables::number(number))?;
        record.map(|record| tables::decode_hash(Table::Canon, &record)).transpose()
    }

    fn record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.0.read(Table::Engine, key)
    }
}

/// Stages a block as known: header, body, senders. It may be canonical or not.
pub(crate) fn stage_known(staged: &Staged<'_>, info: &HeadInfo, block: &Block, senders: &[Address]) {
    let key = tables::block(info.block_ref());
    let mut header = info.total_difficulty.to_be_bytes::<32>().to_vec();
    alloy_rlp::Encodable::encode(&info.header, &mut header);
    staged.put(Table::Headers, key.clone(), header);
    staged.put(Table::Numbers, info.hash.as_slice(), tables::number(info.number()));
    staged.put(Table::Bodies, key.clone(), alloy_rlp::encode(&block.body));
    staged.put(Table::Senders, key, senders.concat());
}

/// Forgets a block that turned out invalid.
pub(crate) fn unstage_known(staged: &Staged<'_>, block: BlockRef) {
    let key = tables::block(block);
    for table in [Table::Headers, Table::Bodies, Table::Senders, Table::Receipts] {
        staged.remove(table, key.clone());
    }
    staged.remove(Table::Numbers, block.hash.as_slice());
}

/// Stages an executed block as the canonical one of its number, and the head.
pub(crate) fn stage_canonical(staged: &Staged<'_>, info: &HeadInfo, block: &Block, receipts: &[Receipt]) {
    let number = tables::number(info.number());
    staged.put(Table::Receipts, tables::block(info.block_ref()), encode_receipts(receipts));
    staged.put(Table::Canon, number.clone(), info.hash.as_slice());
    for (index, transaction) in block.body.transactions.iter().enumerate() {
        let place = tables::dated(&number, index as u64);
        staged.put(Table::Transactions, transaction.tx_hash().as_slice(), place);
    }
    for key in log_keys(receipts, info.number()) {
        staged.put(Table::LogIndex, key, []);
    }
    staged.put(Table::Meta, tables::HEAD, tables::encode_ref(info.block_ref()));
}

/// Takes back what [`stage_canonical`] staged, all but the head.
pub(crate) fn unstage_canonical(staged: &Staged<'_>, info: &HeadInfo, block: &Block, receipts: &[Receipt]) {
    staged.remove(Table::Canon, tables::number(info.number()));
    staged.remove(Table::Receipts, tables::block(info.block_ref()));
    for transaction in &block.body.transactions {
        staged.remove(Table::Transactions, transaction.tx_hash().as_slice());
    }
    for key in log_keys(receipts, info.number()) {
        staged.remove(Table::LogIndex, key);
    }
}

/// Forgets what only states and branches below block `to` need: history, and side blocks up to there. `oldest` is the oldest block
/// with a state, the one afterwards is returned. Where fewer states are kept than before, they go some with every commit, which adds
/// `added` blocks.
pub(crate) fn prune(staged: &Staged<'_>, oldest: u64, to: u64, added: u64) -> Result<u64, KvError> {
    let last = to.min(oldest.saturating_add(PRUNE_MAX.max(added.saturating_mul(2))));
    for old in oldest.saturating_add(1)..=last {
        forget(staged, old)?;
        let canonical = Blocks(staged).canonical_hash(old)?;
        for (key, _) in staged.with_prefix(Table::Headers, &tables::number(old))? {
            let block = tables::decode_ref(Table::Headers, &key)?;
            if Some(block.hash) != canonical {
                unstage_known(staged, block);
            }
        }
    }
    Ok(oldest.max(last))
}

/// Receipts as they are stored: without the blooms, which follow from the logs.
fn encode_receipts(receipts: &[Receipt]) -> Vec<u8> {
    let list = |payload_length| alloy_rlp::Header { list: true, payload_length };
    let payload = |receipt: &Receipt| {
        receipt.ty().length()
            + receipt.status_or_post_state().length()
            + receipt.cumulative_gas_used().length()
            + alloy_rlp::list_length(receipt.logs())
    };
    let sum = receipts.iter().map(|receipt| list(payload(receipt)).length_with_payload()).sum();
    let mut record = Vec::with_capacity(list(sum).length_with_payload());
    list(sum).encode(&mut record);
    for receipt in receipts {
        list(payload(receipt)).encode(&mut record);
        receipt.ty().encode(&mut record);
        receipt.status_or_post_state().encode(&mut record);
        receipt.cumulative_gas_used().encode(&mut record);
        alloy_rlp::encode_list(receipt.logs(), &mut record);
    }
    record
}

fn decode_receipts(mut record: &[u8]) -> alloy_rlp::Result<Vec<Receipt>> {
    #[derive(alloy_rlp::RlpDecodable)]
    struct Stored {
        ty: u8,
        status: Eip658Value,
        cumulative_gas_used: u64,
        logs: Vec<Log>,
    }

    let stored: Vec<Stored> = Decodable::decode(&mut record)?;
    let receipts = stored.into_iter().map(|stored| {
        let Stored { ty, status, cumulative_gas_used, logs } = stored;
        let ty = TxType::try_from(ty).map_err(|_| alloy_rlp::Error::Custom("no such type"))?;
        let receipt = alloy_consensus::Receipt { status, cumulative_gas_used, logs };
        Ok(Receipt::from_typed(ty, receipt.with_bloom()))
    });
    receipts.collect()
}

pub(crate) fn log_keys(receipts: &[Receipt], number: u64) -> impl Iterator<Item = Vec<u8>> {
    receipts.iter().flat_map(|receipt| receipt.logs()).flat_map(move |log| {
        std::iter::once(tables::log_address(log.address))
            .chain(log.topics().iter().map(|topic| tables::log_topic(*topic)))
            .map(move |key| tables::dated(&key, number))
    })
}
