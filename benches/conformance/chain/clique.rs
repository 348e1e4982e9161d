//! `clique`: chains that go-ethereum sealed, blocks that it refuses, and the votes of EIP-225.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use lightstreams_chain::{
    Block, BlockId, Chain, Clique, CliqueConfig, EngineError, Genesis, HeadInfo, HeaderRules, ImportError,
    Imported, LocalSigner, MemoryKv, Signer, Slot, decode_block,
};
use serde_json::{Value, json};

use super::{
    archive::unpack,
    fixture::{Alloc, bytes, field, optional, quantity},
    import::blocks_of,
};
use crate::report::{Outcome, Report, Stop, ensure, failed, list, text};

/// A time after all blocks.
const NOW: u64 = 4_000_000_000;
/// A time after all right blocks, and before those that stand in the future.
const NOW_OF_INVALID: u64 = 1_790_000_000;

/// Runs the suite.
pub(crate) fn run(root: &Path, report: &mut Report) {
    let suite = root.join("clique-geth");
    let mut chains: Vec<PathBuf> = std::fs::read_dir(suite.join("chains"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    chains.sort();
    report.on_all_cores(chains.into_iter(), |folder, report| {
        report.case(format_args!("chain {}", folder.display()), || imported(&folder));
    });
    let invalid = report.files(root, "clique-geth/invalid", ".json");
    report.on_all_cores(invalid.into_iter(), |path, report| {
        let case = report.json(&path);
        report.case(format_args!("invalid {}", case["kind"]), || refused(&suite, &case));
    });
    let odd = report.files(root, "clique-geth/valid-edge", ".json");
    report.on_all_cores(odd.into_iter(), |path, report| {
        let case = report.json(&path);
        report.case(format_args!("valid-edge {}", case["kind"]), || taken(&suite, &case));
    });
    for path in report.files(root, "clique-geth", "forks.json") {
        for case in list(&report.json(&path)) {
            report.case(format_args!("fork {}", case["name"]), || heavier(&suite, case));
        }
    }
    for path in report.files(root, "clique-geth", "seals.json") {
        for case in list(&report.json(&path)) {
            report.case(format_args!("seal {}", case["source"]), || sealed(case));
        }
    }
    for path in report.files(root, "poa-clique", "eip225-voting.json") {
        for case in list(&report.json(&path)) {
            report.case(format_args!("votes {}", case["name"]), || voted(case));
        }
    }
    for path in report.files(root, "poa-clique", "blocks-1-7.json") {
        let headers = report.json(&path);
        report.case(path.file_name().unwrap_or_default().display(), || linked(&headers));
    }
    for path in report.files(root, "poa-clique/geth-b11r-clique-seal", "exp-clique.json") {
        let row = json!({
            "header": "header.json",
            "ommers": "ommers.json",
            "txs": "txs.rlp",
            "clique": "clique.json",
            "expected": "exp-clique.json",
        });
        let folder = path.with_file_name("");
        report.case("geth-b11r-clique-seal", || super::t8n::block(&folder, &row));
    }
    for path in report.files(root, "poa-clique", "-rpc.json") {
        let block = report.json(&path);
        report.case(path.file_name().unwrap_or_default().display(), || {
            let header: Header = field(&block)?;
            ensure(header.hash_slow() == field::<B256>(&block["hash"])?, "another hash")?;
            rules(0, 0).author(&header).map(drop).or_else(failed)
        });
    }
}

fn rules(epoch: u64, period: u64) -> Clique {
    Clique::new(CliqueConfig { epoch, block_period_ms: period * 1_000 })
}

/// A chain of go-ethereum in our memory, with its blocks up to `last`.
fn open(folder: &Path, last: u64) -> Result<(Chain, Arc<Clique>), Stop> {
    let genesis = std::fs::read(folder.join("genesis.json")).or_else(failed)?;
    let genesis = Genesis::from_json(&genesis).or_else(failed)?;
    let clique = Arc::new(Clique::for_genesis(&genesis));
    let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), clique.clone()).or_else(failed)?;
    let blocks = blocks_of(&unpack(&folder.join("chain.rlp.zst")).or_else(failed)?)?;
    for block in blocks.into_iter().skip(1).take_while(|block| block.header.number <= last) {
        let number = block.header.number;
        match chain.import(block, NOW) {
            Ok(Imported::Head(_)) => {}
            other => return failed(format_args!("block {number}: {other:?}")),
        }
    }
    Ok((chain, clique))
}

/// What go-ethereum says of a chain is so here: head, authors, turns, snapshots, accounts.
fn imported(folder: &Path) -> Outcome {
    let expect = std::fs::read(folder.join("expect.json")).or_else(failed)?;
    let expect: Value = serde_json::from_slice(&expect).or_else(failed)?;
    let (chain, clique) = open(folder, u64::MAX)?;
    ensure(chain.genesis_hash() == field::<B256>(&expect["genesisHash"])?, "another genesis")?;
    let head = chain.head();
    ensure(head.hash == field::<B256>(&expect["head"]["hash"])?, "another head")?;
    let difficulty = U256::from(quantity(&expect["totalDifficulty"])?);
    ensure(head.total_difficulty == difficulty, "another total difficulty")?;
    for (number, expected) in expect["authors"].as_object().into_iter().flatten() {
        let block = header(&chain, number.parse::<u64>().or_else(failed)?.into())?;
        let author = clique.author(&block.header).or_else(failed)?;
        ensure(author == field::<Address>(expected)?, format_args!("block {number} is of {author}"))?;
        let parent = header(&chain, block.header.parent_hash.into())?;
        let in_turn = clique.snapshot(&parent, &chain).or_else(failed)?.in_turn(block.header.number, &author);
        ensure(expect["inTurn"][number] == in_turn, format_args!("block {number} in turn: {in_turn}"))?;
    }
    // A node that has just started knows nothing but headers, and comes to the same.
    let fresh = Clique::for_genesis(chain.genesis());
    for expected in list(&expect["snapshots"]) {
        let at = header(&chain, field::<B256>(&expected["hash"])?.into())?;
        for clique in [&*clique, &fresh] {
            let snapshot = clique.snapshot(&at, &chain).or_else(failed)?;
            let snapshot = serde_json::to_value(&*snapshot).or_else(failed)?;
            ensure(
                snapshot == *expected,
                format_args!("the snapshot of block {} is {snapshot}", at.number()),
            )?;
        }
    }
    let state = chain.state(BlockId::Latest).or_else(failed)?;
    for expected in list(&expect["accounts"]) {
        let address: Address = field(&expected["address"])?;
        let account = state.account(address).or_else(failed)?;
        ensure(expected["exists"] == account.is_some(), format_args!("{address}: {account:?}"))?;
        let Some(account) = account else { continue };
        let same = account.nonce == quantity(&expected["nonce"])?
            && account.balance == field::<U256>(&expected["balance"])?
            && account.code_hash == field::<B256>(&expected["codeHash"])?;
        ensure(same, format_args!("{address}: {account:?}"))?;
        for (slot, value) in expected["storage"].as_object().into_iter().flatten() {
            let found = state.storage(address, slot.parse().or_else(failed)?).or_else(failed)?;
            ensure(found == field::<U256>(value)?, format_args!("slot {slot} of {address} is {found}"))?;
        }
    }
    Ok(())
}

fn header(chain: &Chain, id: BlockId) -> Result<HeadInfo, Stop> {
    chain.header(id).or_else(failed)?.ok_or_else(|| Stop::Failed(format!("no block {id:?}")))
}

/// The chain of a case up to the parent of its block.
fn before(suite: &Path, case: &Value, last: &str) -> Result<(Chain, Arc<Clique>), Stop> {
    open(&suite.join("chains").join(text(case, "chain")?), quantity(&case[last])?)
}

fn block(value: &Value) -> Result<Block, Stop> {
    decode_block(&bytes(value)?).or_else(failed)
}

fn refused(suite: &Path, case: &Value) -> Outcome {
    let (chain, _) = before(suite, case, "parent")?;
    let head = chain.head();
    if let Ok(block) = block(&case["block"]) {
        match chain.import(block, NOW_OF_INVALID) {
            Err(ImportError::Storage(error)) => return failed(error),
            Err(_) => ensure(chain.head() == head, "refusing it moved the head")?,
            Ok(done) => return failed(format_args!("{done:?}")),
        }
    }
    match optional::<Bytes>(&case["sibling"])? {
        None => Ok(()),
        Some(sibling) => {
            let sibling = decode_block(&sibling).or_else(failed)?;
            chain.import(sibling, NOW).map(drop).or_else(|error| failed(format_args!("its sibling: {error}")))
        }
    }
}

fn taken(suite: &Path, case: &Value) -> Outcome {
    let (chain, clique) = before(suite, case, "parent")?;
    let block = block(&case["block"])?;
    if case["snapshotError"].is_string() {
        // Nothing can follow such a block, so that no head is made of it.
        let head = chain.head();
        let _ = chain.import(block, NOW);
        return ensure(chain.head() == head, "a block that nothing can follow is the head");
    }
    match chain.import(block, NOW) {
        Ok(Imported::Head(change)) => {
            ensure(change.head.hash == field::<B256>(&case["hash"])?, "another hash")?;
            let difficulty = U256::from(quantity(&case["totalDifficulty"])?);
            ensure(change.head.total_difficulty == difficulty, "another total difficulty")?;
            let snapshot = clique.snapshot(&change.head, &chain).or_else(failed)?;
            let snapshot = serde_json::to_value(&*snapshot).or_else(failed)?;
            ensure(snapshot == case["snapshot"], format_args!("the snapshot is {snapshot}"))?;
        }
        other => return failed(format_args!("{other:?}")),
    }
    let Some(next) = optional::<Bytes>(&case["next"])? else { return Ok(()) };
    let next = chain.import(decode_block(&next).or_else(failed)?, NOW);
    ensure(next.is_ok() == case["nextError"].is_null(), format_args!("the next: {next:?}"))
}

fn heavier(suite: &Path, case: &Value) -> Outcome {
    let mut branches = Vec::new();
    for branch in list(&case["branches"]) {
        branches.push(list(&branch["blocks"]).iter().map(block).collect::<Result<Vec<_>, _>>()?);
    }
    let heavier = &case["branches"][quantity(&case["heavier"])? as usize];
    let longest = branches.iter().map(Vec::len).max().unwrap_or_default();
    let by_turns = (0..longest).flat_map(|at| branches.iter().filter_map(move |branch| branch.get(at)));
    let orders: [Vec<&Block>; 3] =
        [branches.iter().flatten().collect(), branches.iter().rev().flatten().collect(), by_turns.collect()];
    for order in orders {
        let (chain, _) = before(suite, case, "forkAt")?;
        for block in order {
            chain.import(block.clone(), NOW).or_else(failed)?;
        }
        let head = chain.head();
        ensure(head.hash == field::<B256>(&heavier["head"])?, format_args!("the head is {}", head.hash))?;
        // Every number names a block whose parent is the block before, and every transaction is found.
        let mut parent = chain.genesis_hash();
        for number in 1..=head.number() {
            let block = chain.block(number.into()).or_else(failed)?;
            let block = block.ok_or_else(|| Stop::Failed(format!("no block {number}")))?;
            ensure(block.header.parent_hash == parent, format_args!("block {number} is of another branch"))?;
            parent = block.header.hash_slow();
            for transaction in &block.body.transactions {
                let receipt = chain.receipt(transaction.tx_hash()).or_else(failed)?;
                let place = receipt.map(|receipt| receipt.transaction.block.hash);
                ensure(place == Some(parent), format_args!("a transaction of block {number} is not found"))?;
            }
        }
    }
    Ok(())
}

fn sealed(case: &Value) -> Outcome {
    let rlp = bytes(&case["headerRlp"])?;
    let Ok(header) = Header::decode(&mut &rlp[..]) else {
        let made_up = text(case, "source")?.starts_with("made up");
        ensure(made_up, "it does not decode")?;
        return Err(Stop::Skipped(
            "made up headers with numbers of more than 64 bits, which no block may have",
        ));
    };
    let rules = rules(0, 0);
    let hash = rules.seal_hash(&header);
    ensure(hash == field::<B256>(&case["sealHash"])?, format_args!("the seal hash is {hash}"))?;
    let author = rules.author(&header).or_else(failed)?;
    ensure(author == field::<Address>(&case["signer"])?, format_args!("{author} sealed it"))?;
    let signer = LocalSigner::from_bytes(&field::<B256>(&case["signerKey"])?.0).or_else(failed)?;
    let slot = Slot::Clique { number: header.number, parent: header.parent_hash };
    let seal = signer.sign(&slot, hash).or_else(failed)?;
    ensure(seal[..] == *bytes(&case["signature"])?, "another seal")?;
    ensure(header.hash_slow() == field::<B256>(&case["hash"])?, "another hash")
}

/// The account that a letter stands for.
fn account(name: &Value) -> Result<LocalSigner, Stop> {
    LocalSigner::from_bytes(&keccak256(name.as_str().unwrap_or_default()).0).or_else(failed)
}

fn addresses(names: &Value) -> Result<Vec<Address>, Stop> {
    let mut addresses =
        list(names).iter().map(|name| Ok(account(name)?.address())).collect::<Result<Vec<_>, Stop>>()?;
    addresses.sort();
    Ok(addresses)
}

/// Extra data with a list of authorities and room for a seal.
fn extra(listed: &[Address]) -> Bytes {
    let mut extra = vec![0; 32];
    listed.iter().for_each(|address| extra.extend_from_slice(address.as_slice()));
    extra.extend_from_slice(&[0; 65]);
    extra.into()
}

/// Builds the blocks of a scenario of EIP-225, each sealed by whom it says, with or without the right.
fn voted(case: &Value) -> Outcome {
    let period = 1;
    let rules = rules(case["epoch"].as_u64().unwrap_or_default(), period);
    let signers = addresses(&case["signers"])?;
    let genesis = alloy_genesis::Genesis {
        extra_data: extra(&signers),
        difficulty: U256::ONE,
        gas_limit: 8_000_000,
        alloc: Alloc::new(),
        ..Default::default()
    };
    let genesis = Genesis::new(genesis).or_else(failed)?;
    let rules = Arc::new(rules);
    let chain = Chain::open(genesis, Arc::new(MemoryKv::default()), rules.clone()).or_else(failed)?;
    let mut verdict: Result<(), String> = Ok(());
    for case in list(&case["blocks"]) {
        let parent = chain.head();
        let author = account(&case["signer"])?;
        let snapshot = rules.snapshot(&parent, &chain).or_else(failed)?;
        let number = parent.number() + 1;
        let mut header = Header {
            parent_hash: parent.hash,
            number,
            timestamp: parent.header.timestamp + period,
            gas_limit: parent.header.gas_limit,
            state_root: parent.header.state_root,
            difficulty: U256::from(1 + u64::from(snapshot.in_turn(number, &author.address()))),
            extra_data: extra(&addresses(&case["checkpoint"])?),
            ..Header::default()
        };
        if !case["voted"].is_null() {
            let voted = account(&case["voted"])?.address();
            rules.write_vote(&mut header, voted, case["auth"] == true);
        }
        let slot = Slot::Clique { number, parent: parent.hash };
        let seal = author.sign(&slot, rules.seal_hash(&header)).or_else(failed)?;
        Clique::write_seal(&mut header, &seal);
        // A block that nothing can follow is refused as late as at the next.
        verdict = match chain.import(Block::uncle(header), NOW) {
            Ok(Imported::Head(change)) => match rules.snapshot(&change.head, &chain) {
                Err(EngineError::Invalid(error)) => Err(error.to_string()),
                _ => Ok(()),
            },
            Ok(other) => Err(format!("{other:?}")),
            Err(ImportError::Storage(error)) => return failed(error),
            Err(error) => Err(error.to_string()),
        };
        if verdict.is_err() {
            break;
        }
    }
    if !case["failure"].is_null() {
        return ensure(verdict.is_err(), "no block is refused");
    }
    verdict.or_else(failed)?;
    let snapshot = rules.snapshot(&chain.head(), &chain).or_else(failed)?;
    let signers: Vec<Address> = snapshot.signers.iter().copied().collect();
    ensure(signers == addresses(&case["results"])?, format_args!("the signers are {signers:?}"))
}

/// Real headers whose hashes link them, and which one authority sealed.
fn linked(headers: &Value) -> Outcome {
    let mut parent: Option<Header> = None;
    for block in list(headers) {
        let header: Header = of_ethereumjs(&block["header"])?;
        if let Some(parent) = parent {
            ensure(header.parent_hash == parent.hash_slow(), format_args!("block {}", header.number))?;
            let author = rules(0, 0).author(&header).or_else(failed)?;
            ensure(
                author == rules(0, 0).author(&parent).or_else(failed)?,
                format_args!("{author} sealed it"),
            )?;
        }
        parent = Some(header);
    }
    ensure(parent.is_some(), "no header")
}

/// A header by the names of its fields in ethereumjs.
fn of_ethereumjs(value: &Value) -> Result<Header, Stop> {
    Ok(Header {
        parent_hash: field(&value["parentHash"])?,
        ommers_hash: field(&value["uncleHash"])?,
        beneficiary: field(&value["coinbase"])?,
        state_root: field(&value["stateRoot"])?,
        transactions_root: field(&value["transactionsTrie"])?,
        receipts_root: field(&value["receiptTrie"])?,
        logs_bloom: field(&value["bloom"])?,
        difficulty: field(&value["difficulty"])?,
        number: quantity(&value["number"])?,
        gas_limit: quantity(&value["gasLimit"])?,
        gas_used: quantity(&value["gasUsed"])?,
        timestamp: quantity(&value["timestamp"])?,
        extra_data: bytes(&value["extraData"])?,
        mix_hash: field(&value["mixHash"])?,
        nonce: field(&value["nonce"])?,
        ..Header::default()
    })
}
