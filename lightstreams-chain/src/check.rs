//! Verifying a database: what each record says is held against the records that it must agree with.
//!
//! ```text
//!  quick   meta -- canon -- headers (hash, parent, difficulty) -- bodies, receipts (roots) -- senders, look-ups, log index
//!          change sets -- histories
//!  deep    + seals and signatures recovered, side blocks, records that belong to nothing
//!          + accounts, slots, code and tries from scratch: same root as the head's header
//!          + change sets undone block by block: same roots as the headers'
//! ```
//!
//! Memory is bounded, whatever the size of the chain: tables are read in steps, states are undone as far as their changes fit.

use std::{collections::VecDeque, fmt};

use alloy_consensus::{proofs, transaction::SignerRecoverable};
use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, HashBuilder, KECCAK_EMPTY, Nibbles,
    nodes::{RlpNode, TrieNode},
};

use crate::{
    Ancestry, Batch, Block, BlockRef, Engine, Entry, Genesis, HeadInfo, Kv, KvError, Receipt, Table,
    blocks::{Blocks, log_keys},
    chain::SCHEMA,
    execute::block_bloom,
    state::{Hot, Staged, change_set, decode_account, history_table, unwind},
    tables,
};

/// Findings that are told one by one.
const FINDINGS_MAX: usize = 1_000;
/// Writes that undoing change sets may gather in memory.
const UNDO_WRITES_MAX: usize = 300_000;

/// Something wrong in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The table in which it is.
    pub table: Table,
    /// The record: a block, an account, a name.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: Remedy,
}

/// What mends a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The blocks are whole: export them, and import them into an empty database.
    Rebuild,
    /// Blocks are missing or damaged: fetch the chain again, from peers, a snapshot or a chain file.
    Refetch,
    /// The database is another's: open it with its own genesis, or the version that wrote it.
    Other,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.table.name(), self.place, self.problem)
    }
}

/// What a check has looked at, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong, in the order of finding, at most a thousand.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub further: u64,
    /// Canonical blocks looked at.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Accounts of the head's state, if the check was deep.
    pub accounts: u64,
    /// Slots of the head's state, if the check was deep.
    pub slots: u64,
    /// Older states whose roots were computed, if the check was deep.
    pub states: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// What a check is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckStep {
    /// At what it is: `blocks`, `accounts`, ..
    pub what: &'static str,
    /// How many it has done.
    pub done: u64,
    /// How many there are, if that is known.
    pub total: Option<u64>,
}

/// Verifies the chain of `genesis` in `kv`, which nobody writes to meanwhile; `deep` is worth an import in time. The records of the
/// engine are held against nothing but the headers that a deep check verifies with them.
pub fn check(
    kv: &dyn Kv,
    genesis: &Genesis,
    engine: &dyn Engine,
    deep: bool,
    progress: &mut dyn FnMut(CheckStep),
) -> CheckReport {
    let mut checker =
        Checker { kv, engine, deep, progress, report: CheckReport::default(), counts: Counts::default() };
    if let Some(head) = checker.meta(genesis)
        && let Some(info) = checker.canonical(head)
    {
        checker.changes(&info);
        if deep {
            checker.blocks_beside();
            checker.state(info.header.state_root);
            checker.undo(info);
        }
    }
    checker.report
}

/// Records that canonical blocks account for.
#[derive(Default)]
struct Counts {
    logs: u64,
    changes: u64,
}

struct Checker<'a> {
    kv: &'a dyn Kv,
    engine: &'a dyn Engine,
    deep: bool,
    progress: &'a mut dyn FnMut(CheckStep),
    report: CheckReport,
    counts: Counts,
}

impl Checker<'_> {
    fn say(&mut self, table: Table, place: impl fmt::Display, problem: impl Into<String>) {
        let remedy = match table {
            Table::Meta | Table::Canon | Table::Headers | Table::Bodies => Remedy::Refetch,
            _ => Remedy::Rebuild,
        };
        self.find(Finding { table, place: place.to_string(), problem: problem.into(), remedy });
    }

    fn find(&mut self, finding: Finding) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        } else {
            self.report.further += 1;
        }
    }

    /// What was read, if it could be.
    fn read<T>(&mut self, read: Result<T, KvError>, table: Table, place: impl fmt::Display) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                let mut problem = error.source.to_string();
                if let Some(detail) = problem.strip_prefix("a record is damaged: ") {
                    problem = detail.to_owned();
                }
                self.say(table, place, problem);
                None
            }
        }
    }

    fn tell(&mut self, what: &'static str, done: u64, total: Option<u64>) {
        (self.progress)(CheckStep { what, done, total });
    }

    fn blocks(&self) -> Blocks<&dyn Kv> {
        Blocks(self.kv)
    }

    /// Schema, genesis, and the head that the rest is held against.
    fn meta(&mut self, genesis: &Genesis) -> Option<BlockRef> {
        let other = |place: &str, problem: String| Finding {
            table: Table::Meta,
            place: place.to_owned(),
            problem,
            remedy: Remedy::Other,
        };
        let schema = self.kv.get(Table::Meta, tables::SCHEMA);
        match self.read(schema, Table::Meta, "schema")? {
            Some(found) if found == SCHEMA.to_be_bytes() => {}
            Some(found) => {
                let found = alloy_primitives::hex::encode(found);
                self.find(other("schema", format!("is 0x{found}, this software reads {SCHEMA}")));
                return None;
            }
            None => {
                self.find(other("schema", "there is no chain in this database".to_owned()));
                return None;
            }
        }
        let record = self.kv.get(Table::Meta, tables::GENESIS);
        let record = self.read(record, Table::Meta, "genesis")?.unwrap_or_default();
        let given = self.engine.block_hash(&genesis.header());
        match record.split_first_chunk::<32>() {
            Some((hash, config)) => {
                if *hash != given {
                    let stored = B256::from(*hash);
                    self.find(other("genesis", format!("is {stored}, and the genesis given is {given}")));
                }
                if serde_json::from_slice::<serde_json::Value>(config).is_err() {
                    self.say(Table::Meta, "genesis", "the configuration does not decode");
                }
            }
            None => self.say(Table::Meta, "genesis", "is missing or cut short"),
        }
        let head = self.named(tables::HEAD, "head");
        if let (Some(head), Some(settled)) = (head, self.named(tables::FINAL, "final block")) {
            let canonical = self.blocks().canonical_hash(settled.number);
            let canonical = self.read(canonical, Table::Canon, settled.number).flatten();
            // A reorg below the final block is an alarm, and no damage: the block is known.
            if settled.number > head.number {
                self.say(Table::Meta, "final block", "is above the head");
            } else if canonical != Some(settled.hash) {
                let known = self.blocks().info(settled);
                if self.read(known, Table::Headers, settled).flatten().is_none() {
                    self.say(Table::Meta, "final block", "is a block that is not here");
                }
            }
        }
        head
    }

    fn named(&mut self, name: &[u8], place: &str) -> Option<BlockRef> {
        let record = self.kv.get(Table::Meta, name);
        match self.read(record, Table::Meta, place)? {
            Some(record) => {
                let decoded = tables::decode_ref(Table::Meta, &record);
                self.read(decoded, Table::Meta, place)
            }
            None => {
                self.say(Table::Meta, place, "is missing");
                None
            }
        }
    }

    /// Follows the canonical chain from the genesis to `head`; gives the head.
    fn canonical(&mut self, head: BlockRef) -> Option<HeadInfo> {
        let mut parent: Option<HeadInfo> = None;
        for number in 0..=head.number {
            self.tell("blocks", number, Some(head.number));
            let hash = self.blocks().canonical_hash(number);
            let Some(hash) = self.read(hash, Table::Canon, number).flatten() else {
                self.say(Table::Canon, number, "no canonical block has this number");
                parent = None;
                let above = self.kv.scan(Table::Canon, &tables::number(number), 1);
                if self.read(above, Table::Canon, number).is_none_or(|above| above.is_empty()) {
                    return None;
                }
                continue;
            };
            let block = BlockRef { number, hash };
            parent = self.canonical_block(block, parent.as_ref());
            self.report.blocks += 1;
        }
        if let Some(above) = head.number.checked_add(1) {
            let above = self.kv.scan(Table::Canon, &tables::number(above), 1);
            if self.read(above, Table::Canon, head.number).is_some_and(|above| !above.is_empty()) {
                self.say(Table::Canon, head.number, "there are canonical blocks above the head");
            }
        }
        let last = parent?;
        if last.hash != head.hash {
            self.say(Table::Canon, head.number, "the head is another block");
        }
        Some(last)
    }

    fn canonical_block(&mut self, block: BlockRef, parent: Option<&HeadInfo>) -> Option<HeadInfo> {
        let info = self.header(block)?;
        let header = &info.header;
        if block.number > 0
            && let Some(parent) = parent
        {
            if header.parent_hash != parent.hash {
                self.say(Table::Canon, block, "its parent is not the canonical block before it");
            }
            self.difficulty(&info, parent);
            if self.deep
                && let Err(error) =
                    self.engine.verify_header(header, parent, &self.blocks(), header.timestamp)
            {
                self.say(Table::Headers, block, format!("the engine refuses the header: {error}"));
            }
        }
        let body = self.body(&info);
        let receipts = self.blocks().receipts(block);
        match self.read(receipts, Table::Receipts, block).flatten() {
            Some(receipts) => {
                self.receipts(&info, &receipts);
                self.log_index(block, &receipts);
            }
            None => self.say(Table::Receipts, block, "there are none that decode"),
        }
        for (index, transaction) in body.iter().flat_map(|body| &body.body.transactions).enumerate() {
            self.report.transactions += 1;
            let place = tables::dated(&tables::number(block.number), index as u64);
            let found = self.kv.get(Table::Transactions, transaction.tx_hash().as_slice());
            if self.read(found, Table::Transactions, transaction.tx_hash())? != Some(place) {
                let problem = format!("does not lead to transaction {index} of block {}", block.number);
                self.say(Table::Transactions, transaction.tx_hash(), problem);
            }
        }
        Some(info)
    }

    fn difficulty(&mut self, info: &HeadInfo, parent: &HeadInfo) {
        if info.total_difficulty != parent.total_difficulty.saturating_add(info.header.difficulty) {
            self.say(
                Table::Headers,
                info.block_ref(),
                "its total difficulty is not its parent's and its own",
            );
        }
    }

    /// The header of `block`, if it is the one of that name.
    fn header(&mut self, block: BlockRef) -> Option<HeadInfo> {
        let info = self.blocks().info(block);
        let Some(info) = self.read(info, Table::Headers, block).flatten() else {
            self.say(Table::Headers, block, "there is no header that decodes");
            return None;
        };
        if info.header.number != block.number || self.engine.block_hash(&info.header) != block.hash {
            self.say(Table::Headers, block, "the header is that of another block");
            return None;
        }
        let number = self.blocks().number(&block.hash);
        if self.read(number, Table::Numbers, block).flatten() != Some(block.number) {
            self.say(Table::Numbers, block, "its hash does not lead to its number");
        }
        Some(info)
    }

    /// The body of a block and the senders of its transactions.
    fn body(&mut self, info: &HeadInfo) -> Option<Block> {
        let (block, header) = (info.block_ref(), &info.header);
        let body = self.blocks().body(block);
        let Some(body) = self.read(body, Table::Bodies, block).flatten() else {
            self.say(Table::Bodies, block, "there is none that decodes");
            return None;
        };
        let lists = &body.body;
        let withdrawals = lists.withdrawals.as_ref().map(|list| proofs::calculate_withdrawals_root(list));
        if proofs::calculate_transaction_root(&lists.transactions) != header.transactions_root
            || proofs::calculate_ommers_root(&lists.ommers) != header.ommers_hash
            || withdrawals != header.withdrawals_root
        {
            self.say(Table::Bodies, block, "its roots are not those of the header");
        }
        let senders = self.kv.get(Table::Senders, &tables::block(block));
        let Some(senders) = self.read(senders, Table::Senders, block).flatten() else {
            self.say(Table::Senders, block, "there is no list of them");
            return Some(body);
        };
        let recovered = |(transaction, sender): (&crate::Transaction, &[u8])| {
            transaction.recover_signer_unchecked().is_ok_and(|signer| signer == Address::from_slice(sender))
        };
        if senders.len() != lists.transactions.len() * 20
            || self.deep && !lists.transactions.iter().zip(senders.chunks_exact(20)).all(recovered)
        {
            self.say(Table::Senders, block, "they are not those who signed the transactions");
        }
        Some(body)
    }

    fn receipts(&mut self, info: &HeadInfo, receipts: &[Receipt]) {
        let header = &info.header;
        let gas = receipts.last().map_or(0, Receipt::cumulative_gas_used);
        if proofs::calculate_receipt_root(receipts) != header.receipts_root
            || block_bloom(receipts) != header.logs_bloom
            || gas != header.gas_used
        {
            self.say(Table::Receipts, info.block_ref(), "root, bloom or gas are not those of the header");
        }
    }

    fn log_index(&mut self, block: BlockRef, receipts: &[Receipt]) {
        let keys: std::collections::BTreeSet<_> = log_keys(receipts, block.number).collect();
        self.counts.logs += keys.len() as u64;
        for key in keys {
            let entry = self.kv.get(Table::LogIndex, &key);
            if self.read(entry, Table::LogIndex, block).is_some_and(|entry| entry.is_none()) {
                self.say(Table::LogIndex, block, "a log of it is not in the index");
            }
        }
    }

    /// Change sets follow each other up to the head, and the histories say the same.
    fn changes(&mut self, head: &HeadInfo) {
        let mut sets = Cursor::new(Table::Changes);
        let mut expected = None;
        while let Some((key, _)) = self.next(&mut sets) {
            let number = tables::decode_number(Table::Changes, &key);
            let Some(number) = self.read(number, Table::Changes, "key") else { continue };
            self.tell("change sets", number, Some(head.number()));
            if expected.is_some_and(|expected| expected != number) {
                self.say(Table::Changes, number, "change sets before it are missing");
            }
            expected = number.checked_add(1);
            let set = change_set(&Staged::new(self.kv), number);
            for key in self.read(set, Table::Changes, number).unwrap_or_default() {
                self.counts.changes += 1;
                let table = history_table(&key);
                let found = self.kv.get(table, &tables::dated(&key, number));
                if self.read(found, table, number).is_some_and(|found| found.is_none()) {
                    self.say(table, number, format!("the value of 0x{} before it is missing", hex(&key)));
                }
            }
        }
        if head.number() > 0 && expected != head.number().checked_add(1) {
            self.say(Table::Changes, head.number(), "the last change set is not the head's");
        }
    }

    /// Side blocks, and records that no block accounts for.
    fn blocks_beside(&mut self) {
        let mut headers = Cursor::new(Table::Headers);
        let mut known = 0;
        while let Some((key, _)) = self.next(&mut headers) {
            let block = tables::decode_ref(Table::Headers, &key);
            let Some(block) = self.read(block, Table::Headers, "key") else { continue };
            known += 1;
            self.tell("headers", known, None);
            let canonical = self.blocks().canonical_hash(block.number);
            if self.read(canonical, Table::Canon, block.number).flatten() != Some(block.hash)
                && let Some(info) = self.header(block)
            {
                // The parents of the oldest side blocks are forgotten.
                let parent = Ancestry::header(&self.blocks(), &info.header.parent_hash);
                if let Some(parent) = self.read(parent, Table::Headers, block).flatten() {
                    self.difficulty(&info, &parent);
                }
                self.body(&info);
            }
        }
        let canonical = self.report.blocks;
        for (table, accounted) in [
            (Table::Numbers, known),
            (Table::Bodies, known),
            (Table::Senders, known),
            (Table::Receipts, canonical),
            (Table::Transactions, self.report.transactions),
            (Table::LogIndex, self.counts.logs),
        ] {
            self.count(&[table], accounted);
        }
        self.count(&[Table::AccountHistory, Table::SlotHistory], self.counts.changes);
    }

    /// Holds the number of records in `tables` against those that are accounted for.
    fn count(&mut self, of: &[Table], accounted: u64) {
        let mut found = 0;
        for table in of {
            let mut records = Cursor::new(*table);
            while self.next(&mut records).is_some() {
                found += 1;
                self.tell(table.name(), found, Some(accounted));
            }
        }
        // Fewer were found one by one above.
        if let Some(table) = of.first().filter(|_| found > accounted) {
            self.say(*table, "all", format!("{} records belong to nothing", found - accounted));
        }
    }

    /// The head's state: flat records from scratch, code, and the stored tries.
    fn state(&mut self, root: B256) {
        let mut accounts = Cursor::new(Table::Accounts);
        let mut slots = Cursor::new(Table::Slots);
        let mut trie = HashBuilder::default();
        let mut storage_nodes = 0;
        while let Some((key, record)) = self.next(&mut accounts) {
            self.report.accounts += 1;
            self.tell("accounts", self.report.accounts, None);
            let Ok(address) = B256::try_from(key.as_slice()) else {
                self.say(Table::Accounts, hex(&key), "the key is none of an account");
                continue;
            };
            let storage_root = self.storage(address, &mut slots);
            trie.add_leaf(Nibbles::unpack(address), &record);
            let Some(account) = self.read(decode_account(&record), Table::Accounts, address) else {
                continue;
            };
            if account.storage_root != storage_root {
                self.say(Table::Slots, address, "the slots have another root than the account says");
            }
            if account.code_hash != KECCAK_EMPTY {
                let code = self.kv.get(Table::Code, account.code_hash.as_slice());
                let code = self.read(code, Table::Code, account.code_hash).flatten();
                if code.is_none_or(|code| keccak256(code) != account.code_hash) {
                    self.say(Table::Code, account.code_hash, "is missing, or hashes to something else");
                }
            }
            storage_nodes += self.walk(Walk {
                nodes: Table::StorageTrie,
                node: &|path| tables::storage_node(address, path),
                leaves: Table::Slots,
                leaf: &|slot| tables::slot(address, slot),
                root: account.storage_root,
            });
        }
        while self.orphan(&mut slots) {}
        if trie.root() != root {
            self.say(Table::Accounts, "all", "the accounts have another root than the head's header says");
        }
        let account_nodes = self.walk(Walk {
            nodes: Table::AccountTrie,
            node: &tables::account_node,
            leaves: Table::Accounts,
            leaf: &|account| account.to_vec(),
            root,
        });
        self.count(&[Table::AccountTrie], account_nodes);
        self.count(&[Table::StorageTrie], storage_nodes);
    }

    /// The root of the slots of `address`, which are next in `slots`.
    fn storage(&mut self, address: B256, slots: &mut Cursor) -> B256 {
        let mut trie = HashBuilder::default();
        loop {
            self.fill(slots);
            let Some((key, record)) = slots.entries.front() else { break };
            let (account, slot) = (key.get(..32).unwrap_or_default(), key.get(32..).unwrap_or_default());
            match (account.cmp(address.as_slice()), B256::try_from(slot)) {
                (std::cmp::Ordering::Greater, _) => break,
                (std::cmp::Ordering::Equal, Ok(slot)) => {
                    trie.add_leaf(Nibbles::unpack(slot), record);
                    slots.entries.pop_front();
                    self.report.slots += 1;
                }
                _ => drop(self.orphan(slots)),
            }
        }
        trie.root()
    }

    /// Tells of a slot that belongs to no account, if there is a next one.
    fn orphan(&mut self, slots: &mut Cursor) -> bool {
        let Some((key, _)) = self.next(slots) else { return false };
        self.say(Table::Slots, format!("0x{}", hex(&key)), "belongs to no account");
        true
    }

    /// Walks a stored trie from its root: nodes hash to what refers to them, leaves are the flat records. Gives the number of its nodes.
    fn walk(&mut self, walk: Walk<'_>) -> u64 {
        let mut found = 0;
        if walk.root == EMPTY_ROOT_HASH {
            return found;
        }
        // At most 16 links for each of 64 levels wait here.
        let mut waiting = vec![(Nibbles::new(), RlpNode::word_rlp(&walk.root))];
        while let Some((path, link)) = waiting.pop() {
            let place = || format!("0x{}", hex(&(walk.node)(&path)));
            let node = match link.as_hash() {
                Some(hash) => {
                    let node = self.kv.get(walk.nodes, &(walk.node)(&path));
                    let node = self.read(node, walk.nodes, place()).flatten();
                    let Some(node) = node.filter(|node| keccak256(node) == hash) else {
                        self.say(walk.nodes, place(), "a node is missing, or hashes to something else");
                        continue;
                    };
                    found += 1;
                    self.tell(walk.nodes.name(), found, None);
                    TrieNode::decode(&mut node.as_slice())
                }
                None => TrieNode::decode(&mut link.as_slice()),
            };
            match node {
                Ok(TrieNode::Branch(branch)) if path.len() < 64 => {
                    let set = (0..16).filter(|nibble| branch.state_mask.is_bit_set(*nibble));
                    for (nibble, link) in set.zip(branch.stack) {
                        let mut path = path;
                        path.push(nibble);
                        waiting.push((path, link));
                    }
                }
                Ok(TrieNode::Extension(extension)) if path.len() + extension.key.len() <= 64 => {
                    waiting.push((path.join(&extension.key), extension.child));
                }
                Ok(TrieNode::Leaf(leaf)) if path.len() + leaf.key.len() == 64 => {
                    let key = (walk.leaf)(B256::from_slice(&path.join(&leaf.key).pack()));
                    let record = self.kv.get(walk.leaves, &key);
                    if self
                        .read(record, walk.leaves, hex(&key))
                        .is_some_and(|found| found != Some(leaf.value))
                    {
                        let place = format!("0x{}", hex(&key));
                        self.say(walk.leaves, place, "is missing, or another value than in the trie");
                    }
                }
                _ => self.say(walk.nodes, place(), "a node does not decode"),
            }
        }
        found
    }

    /// Takes back change set by change set, as far as memory allows, and holds each root against the header's.
    fn undo(&mut self, head: HeadInfo) {
        let first = self.kv.scan(Table::Changes, &[], 1);
        let Some((key, _)) = self.read(first, Table::Changes, "first").and_then(|mut first| first.pop())
        else {
            return;
        };
        let Ok(first) = tables::decode_number(Table::Changes, &key) else { return };
        let (mut tip, mut batch) = (head, Batch::default());
        while tip.number() >= first && batch.len() < UNDO_WRITES_MAX {
            self.tell("older states", self.report.states, Some(tip.number()));
            let staged = Staged::resume(self.kv, batch, Hot::default());
            let keys = change_set(&staged, tip.number());
            let keys = self.read(keys, Table::Changes, tip.number()).unwrap_or_default();
            let root = unwind(&staged, tip.number(), tip.header.state_root);
            let Some(root) = self.read(root, Table::Changes, tip.number()) else { return };
            for key in keys {
                let (history, flat) = match history_table(&key) {
                    Table::AccountHistory => (Table::AccountHistory, Table::Accounts),
                    history => (history, Table::Slots),
                };
                let before = self.kv.get(history, &tables::dated(&key, tip.number()));
                let before = self.read(before, history, tip.number()).flatten();
                let is = staged.get(flat, &key);
                if before != self.read(is, flat, tip.number()).map(Option::unwrap_or_default) {
                    self.say(
                        history,
                        tip.number(),
                        format!("the value of 0x{} before it is another", hex(&key)),
                    );
                }
            }
            batch = staged.into_batch();
            let Some(below) = tip.number().checked_sub(1) else { return };
            let parent = BlockRef { number: below, hash: tip.header.parent_hash };
            let parent = self.blocks().info(parent);
            let Some(parent) = self.read(parent, Table::Headers, below).flatten() else { return };
            if root != parent.header.state_root {
                self.say(
                    Table::Changes,
                    tip.number(),
                    "taking the block back gives another root than its parent's",
                );
                return;
            }
            self.report.states += 1;
            tip = parent;
        }
    }

    fn next(&mut self, cursor: &mut Cursor) -> Option<Entry> {
        self.fill(cursor);
        cursor.entries.pop_front()
    }

    /// Reads the next step of a table once the last one is used up.
    fn fill(&mut self, cursor: &mut Cursor) {
        if cursor.entries.is_empty()
            && let Some(from) = cursor.from.take()
        {
            let step = tables::step(cursor.table);
            let read = self.kv.scan(cursor.table, &from, step);
            cursor.entries = self.read(read, cursor.table, "scan").unwrap_or_default().into();
            let full = cursor.entries.len() == step;
            cursor.from =
                cursor.entries.back().filter(|_| full).map(|(last, _)| [last.as_slice(), &[0]].concat());
        }
    }
}

/// A stored trie to be walked.
struct Walk<'a> {
    nodes: Table,
    node: &'a dyn Fn(&Nibbles) -> Vec<u8>,
    leaves: Table,
    leaf: &'a dyn Fn(B256) -> Vec<u8>,
    root: B256,
}

/// A table that is read step by step.
struct Cursor {
    table: Table,
    entries: VecDeque<Entry>,
    /// Where the next step begins, if there is one.
    from: Option<Vec<u8>>,
}

impl Cursor {
    fn new(table: Table) -> Self {
        Self { table, entries: VecDeque::new(), from: Some(Vec::new()) }
    }
}

fn hex(bytes: &[u8]) -> String {
    alloy_primitives::hex::encode(bytes)
}
