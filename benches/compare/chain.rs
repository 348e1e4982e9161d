//! The chain beside bare revm, go-ethereum and anvil: one program that makes loads, imports them and measures itself.
//!
//! ```text
//! chain make WORK BLOCKS TRANSACTIONS FOLDER   signs a chain of WORK into FOLDER: genesis.json and chain.rlp
//! chain import FOLDER STORE known|recover one|many   imports it; STORE is `memory` or a folder for fjall
//! chain revm FOLDER                            execution with root beside bare revm over the same transactions
//! chain empty ACCOUNTS STORE                   an empty block on a state of ACCOUNTS
//! chain logs BLOCKS FOLDER                     a rare topic in a chain of BLOCKS, fjall in FOLDER
//! chain sign WORK TRANSACTIONS FOLDER          signed transactions, for `drive`
//! chain serve FOLDER STORE PORT                the chain of FOLDER's genesis behind JSON-RPC, with `evm_mine` as anvil has it
//! chain drive FOLDER PORT PID BLOCKS           sends what was signed in that many blocks, and measures the process PID
//! ```
//!
//! Works: `transfer` (to accounts that are there), `fresh` (to new ones), `erc20` (to holders), `erc20-fresh`, `storage` (four new slots),
//! `compute` (a loop of 2,000 rounds). CPU seconds are those of the whole process, all threads. Linux only.

#[path = "../support.rs"]
mod support;

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_consensus::{Transaction as _, TxEip1559, Typed2718};
use alloy_rlp::{Decodable, Encodable};
use alloy_sol_types::{SolCall, sol};
use lightstreams_chain::{
    Block, BlockId, BuildAttributes, Chain, Clique, EngineKind, EngineSwitch, FeePolicy, FjallKv, Genesis, HeaderRules, Kv,
    LocalSigner, LogFilter, MemoryKv, NetworkConfig, Options, PoolLimits, Signer, Slot,
    alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    rpc,
    testing::{NoSeal, execute},
};
use revm::{
    Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext,
    bytecode::Bytecode,
    context::{BlockEnv, CfgEnv, TxEnv},
    database::{CacheDB, EmptyDB},
    primitives::hardfork::SpecId,
    state::AccountInfo,
};
use support::cpu;

/// As the node has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

sol!(Token, "../../lightstreams-acl/tests/artifacts/TestToken.json");

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const CHAIN_ID: u64 = 161;
const START: u64 = 1_800_000_000;
const SENDERS: usize = 200;
const TOKEN: Address = Address::repeat_byte(0x70);
const WRITER: Address = Address::repeat_byte(0x71);
const LOOP: Address = Address::repeat_byte(0x72);
/// Slots that one call of the writer fills.
const SLOTS: u8 = 4;
/// Rounds of one call of the loop.
const ROUNDS: u64 = 2_000;
/// The end of time, for imports.
const NOW: u64 = u64::MAX / 2;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["make", work, blocks, transactions, folder] => {
            make(work, blocks.parse()?, transactions.parse()?, Path::new(folder))
        }
        ["import", folder, store, senders, group] => {
            parallel(|| import(Path::new(folder), store, senders == "known", group == "many"))
        }
        ["revm", folder] => revm(Path::new(folder)),
        ["empty", accounts, store] => empty(accounts.parse()?, store),
        ["logs", blocks, folder] => logs(blocks.parse()?, folder),
        ["sign", work, transactions, folder] => sign(work, transactions.parse()?, Path::new(folder)),
        ["serve", folder, store, port] => serve(Path::new(folder), store, port.parse()?),
        ["drive", folder, port, pid, blocks] => drive(Path::new(folder), port.parse()?, pid, blocks.parse()?),
        _ => Err("see the head of chain.rs".into()),
    }
}

/// Runs `work` in a pool of all cores.
fn parallel(work: impl FnOnce() -> Result + Send) -> Result {
    let run = || work().map_err(|error| error.to_string());
    Ok(rayon::ThreadPoolBuilder::new().build()?.install(run)?)
}

struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu("self"))
    }

    /// Wall and CPU seconds since the start.
    fn read(&self) -> (f64, f64) {
        (self.0.elapsed().as_secs_f64(), cpu("self") - self.1)
    }
}

fn key(index: usize) -> LocalSigner {
    LocalSigner::from_bytes(&keccak256(index.to_be_bytes()).0).unwrap()
}

fn authority() -> LocalSigner {
    LocalSigner::from_bytes(&[9; 32]).unwrap()
}

fn genesis(extra: impl IntoIterator<Item = Address>) -> Result<Genesis> {
    let network = NetworkConfig {
        engines: vec![EngineSwitch { at: 0, engine: EngineKind::Clique }],
        block_period_ms: 1_000,
        empty_block_ms: Some(1_000),
        fee_policy: FeePolicy::Zero,
        fee_recipient: None,
        contracts: Default::default(),
    };
    let extra_data = [&[0; 32], authority().address().as_slice(), &[0; 65]].concat();
    let mut genesis = Genesis::for_network(CHAIN_ID, network, extra_data.into(), START)?;
    for address in (0..SENDERS).map(|index| key(index).address()).chain(extra) {
        genesis.fund(address, U256::from(10).pow(U256::from(24)));
    }
    genesis.predeploy(TOKEN, Token::BYTECODE.clone(), Address::ZERO)?;
    genesis.predeploy(WRITER, deploy(&writer()), Address::ZERO)?;
    // PUSH0 CALLDATALOAD, then: JUMPDEST PUSH1 1 SWAP1 SUB DUP1 PUSH1 2 JUMPI STOP
    let count = [0x5f, 0x35, 0x5b, 0x60, 1, 0x90, 0x03, 0x80, 0x60, 2, 0x57, 0];
    genesis.predeploy(LOOP, deploy(&count), Address::ZERO)?;
    let mut file = genesis.file().clone();
    file.gas_limit = 1_000_000_000;
    Ok(Genesis::new(file)?)
}

/// Code that stores the block number in the `SLOTS` slots from the one that its input names.
fn writer() -> Vec<u8> {
    // NUMBER, PUSH1 slot, PUSH0, CALLDATALOAD, ADD, SSTORE
    (0..SLOTS).flat_map(|slot| [0x43, 0x60, slot, 0x5f, 0x35, 0x01, 0x55]).collect()
}

/// Init code that leaves `runtime`.
fn deploy(runtime: &[u8]) -> Bytes {
    let len = u8::try_from(runtime.len()).unwrap();
    // PUSH1 len, PUSH1 10, PUSH0, CODECOPY, PUSH1 len, PUSH0, RETURN
    [&[0x60, len, 0x60, 10, 0x5f, 0x39, 0x60, len, 0x5f, 0xf3][..], runtime].concat().into()
}

fn open(genesis: &Genesis, store: &str) -> Result<Chain> {
    let kv: Arc<dyn Kv> = match store {
        "memory" => Arc::new(MemoryKv::default()),
        folder => Arc::new(FjallKv::open(folder)?),
    };
    let pool = PoolLimits { pending_max: 100_000, per_account_max: 100_000, ..PoolLimits::default() };
    let options = Options { pool, ..Options::default() };
    Ok(Chain::open_with(genesis.clone(), kv, Arc::new(Clique::for_genesis(genesis)), options)?)
}

/// Builds and seals the next block from what waits.
fn seal(chain: &Chain, rules: &Clique) -> Result<Block> {
    let head = chain.head();
    let authority = authority();
    let now = head.header.timestamp + 1;
    let attributes =
        BuildAttributes { parent: head.hash, author: authority.address(), now, with_transactions: true };
    let mut block = chain.build(&attributes)?;
    let slot = Slot::Clique { number: block.header.number, parent: head.hash };
    let seal = authority.sign(&slot, rules.seal_hash(&block.header))?;
    Clique::write_seal(&mut block.header, &seal);
    chain.import(block.clone(), now)?;
    Ok(block)
}

/// To, value and input of a transaction of `work`.
fn call(work: &str, index: u64) -> Result<(Address, u64, Bytes)> {
    let holder = key(index as usize % SENDERS).address();
    let fresh = keccak256(index.to_be_bytes());
    let token = |to| (TOKEN, 0, Token::transferCall { to, value: U256::ONE }.abi_encode().into());
    Ok(match work {
        "transfer" => (holder, 1, Bytes::new()),
        "fresh" => (Address::from_word(fresh), 1, Bytes::new()),
        "erc20" => token(holder),
        "erc20-fresh" => token(Address::from_word(fresh)),
        "storage" => (WRITER, 0, fresh.0.into()),
        "compute" => (LOOP, 0, B256::from(U256::from(ROUNDS)).0.into()),
        _ => return Err("no such work".into()),
    })
}

fn signed(sender: &LocalSigner, nonce: u64, call: (Address, u64, Bytes)) -> Result<Bytes> {
    let (to, value, input) = call;
    let transaction = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 150_000,
        max_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(to),
        value: U256::from(value),
        input,
        ..TxEip1559::default()
    };
    Ok(sender.sign_raw_transaction(transaction)?)
}

fn submit(chain: &Chain, sender: &LocalSigner, nonce: u64, call: (Address, u64, Bytes)) -> Result {
    chain.submit(&signed(sender, nonce, call)?)?;
    Ok(())
}

fn make(work: &str, blocks: usize, transactions: usize, folder: &Path) -> Result {
    let genesis = genesis([])?;
    let rules = Clique::for_genesis(&genesis);
    let chain = open(&genesis, "memory")?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join("genesis.json"), genesis.to_json())?;
    let senders: Vec<_> = (0..SENDERS).map(key).collect();
    let mut nonces = vec![0; SENDERS];
    for (sender, nonce) in senders.iter().zip(&mut nonces) {
        let mint = Token::mintCall { to: sender.address(), amount: U256::from(u64::MAX) };
        submit(&chain, sender, *nonce, (TOKEN, 0, mint.abi_encode().into()))?;
        *nonce += 1;
    }
    let mut rlp = Vec::new();
    seal(&chain, &rules)?.encode(&mut rlp);
    let mut index = 0;
    for _ in 0..blocks {
        for _ in 0..transactions {
            let from = index % SENDERS;
            index += 1;
            submit(&chain, &senders[from], nonces[from], call(work, index as u64 * 7)?)?;
            nonces[from] += 1;
        }
        let block = seal(&chain, &rules)?;
        assert_eq!(block.body.transactions.len(), transactions, "all fit into the block");
        let receipts = chain.receipts(block.header.number.into())?.unwrap_or_default();
        assert!(receipts.iter().all(|receipt| receipt.status()), "all succeed");
        block.encode(&mut rlp);
    }
    fs::write(folder.join("chain.rlp"), rlp)?;
    Ok(())
}

fn read_blocks(folder: &Path) -> Result<(Genesis, Vec<Block>)> {
    let genesis = Genesis::from_json(&fs::read(folder.join("genesis.json"))?)?;
    let rlp = fs::read(folder.join("chain.rlp"))?;
    let mut rest = rlp.as_slice();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let block = Block::decode(&mut rest)?;
        // geth's files begin with the genesis.
        if block.header.number > 0 {
            blocks.push(block);
        }
    }
    Ok((genesis, blocks))
}

/// Prints figures of `count` of `what` in (wall, CPU) seconds.
fn report(name: &str, what: &str, count: usize, (wall, cpu): (f64, f64)) {
    let count = count as f64;
    println!(
        "{name}: {count} {what}, {wall:.2} s, {cpu:.2} CPU-s: {:.0} a second, {:.0} a CPU second, {:.1} us of CPU each",
        count / wall,
        count / cpu,
        cpu / count * 1e6
    );
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        // A journal is longer than what is in it.
        bytes += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}

fn import(folder: &Path, store: &str, known: bool, many: bool) -> Result {
    let whole = Clock::start();
    let (genesis, blocks) = read_blocks(folder)?;
    let decoded = whole.read();
    let chain = open(&genesis, store)?;
    let count = blocks.iter().map(|block| block.body.transactions.len()).sum();
    let number = blocks.len();
    if known {
        // A chain in memory finds out who signed, and the process remembers.
        open(&genesis, "memory")?.import_many(blocks.clone(), NOW)?;
    }
    let clock = Clock::start();
    if many {
        chain.import_many(blocks, NOW)?;
    } else {
        for block in blocks {
            chain.import(block, NOW)?;
        }
    }
    let time = clock.read();
    let head = chain.head();
    drop(chain);
    report("import", "transactions", count, time);
    println!("decoding {decoded:.2?}, head {} {}, {number} blocks", head.number(), head.hash);
    if store != "memory" {
        let bytes = folder_bytes(Path::new(store))?;
        println!("{bytes} bytes on disk, {} a transaction", bytes / count as u64);
    }
    report("whole process", "transactions", count, whole.read());
    Ok(())
}

/// Waits until the database is done with what was written before.
fn settle() {
    let mut quiet = 0;
    while quiet < 4 {
        let used = cpu("self");
        std::thread::sleep(Duration::from_millis(500));
        quiet = if cpu("self") - used < 0.02 { quiet + 1 } else { 0 };
    }
}

fn empty(accounts: u64, store: &str) -> Result {
    let addresses = (0..accounts).map(|index| Address::from_word(keccak256(index.to_be_bytes())));
    let genesis = genesis(addresses)?;
    let rules = Clique::for_genesis(&genesis);
    let making = open(&genesis, "memory")?;
    let blocks = (0..1_000).map(|_| seal(&making, &rules)).collect::<Result<Vec<_>>>()?;
    drop(making);
    let chain = open(&genesis, store)?;
    settle();
    let clock = Clock::start();
    let count = blocks.len();
    for block in blocks {
        chain.import(block, NOW)?;
    }
    report(&format!("import at {accounts} accounts"), "empty blocks", count, clock.read());
    // In one of the rounds the database may find time to put the genesis where it stays.
    for _ in 0..3 {
        settle();
        let clock = Clock::start();
        for _ in 0..count {
            seal(&chain, &rules)?;
        }
        report(&format!("build, seal and commit at {accounts} accounts"), "empty blocks", count, clock.read());
    }
    Ok(())
}

/// Bare revm: its in-memory database, and neither roots nor receipts.
fn bare(genesis: &Genesis, blocks: &[(Block, Vec<Address>)]) -> Result<(f64, f64)> {
    let mut db = CacheDB::new(EmptyDB::default());
    for (address, account) in &genesis.file().alloc {
        let code = Bytecode::new_raw(account.code.clone().unwrap_or_default());
        let info = AccountInfo::new(account.balance, account.nonce.unwrap_or(0), code.hash_slow(), code);
        db.insert_account_info(*address, info);
        for (slot, value) in account.storage.iter().flatten() {
            db.insert_account_storage(*address, (*slot).into(), (*value).into())?;
        }
    }
    let spec = if genesis.file().config.osaka_time.is_some() { SpecId::OSAKA } else { SpecId::LONDON };
    let mut cfg = CfgEnv::new_with_spec(spec);
    cfg.chain_id = genesis.chain_id();
    let mut evm = Context::mainnet().with_db(db).with_cfg(cfg).build_mainnet();
    let clock = Clock::start();
    for (block, senders) in blocks {
        let header = &block.header;
        evm.set_block(BlockEnv {
            number: U256::from(header.number),
            beneficiary: header.beneficiary,
            timestamp: U256::from(header.timestamp),
            gas_limit: header.gas_limit,
            basefee: header.base_fee_per_gas.unwrap_or(0),
            prevrandao: Some(header.mix_hash),
            ..BlockEnv::default()
        });
        for (transaction, sender) in block.body.transactions.iter().zip(senders) {
            let tx = TxEnv {
                tx_type: transaction.ty(),
                caller: *sender,
                gas_limit: transaction.gas_limit(),
                gas_price: transaction.max_fee_per_gas(),
                kind: transaction.kind(),
                value: transaction.value(),
                data: transaction.input().clone(),
                nonce: transaction.nonce(),
                chain_id: transaction.chain_id(),
                gas_priority_fee: transaction.max_priority_fee_per_gas(),
                ..TxEnv::default()
            };
            assert!(evm.transact_commit(tx)?.is_success());
        }
    }
    Ok(clock.read())
}

/// How often the same transactions are run.
const ROUNDS_OF_REVM: usize = 9;

fn revm(folder: &Path) -> Result {
    let (genesis, blocks) = read_blocks(folder)?;
    let count: usize = blocks.iter().map(|block| block.body.transactions.len()).sum();
    let chain = open(&genesis, "memory")?;
    chain.import_many(blocks.clone(), NOW)?;
    let with_senders: Vec<_> = blocks
        .iter()
        .map(|block| Ok((block.clone(), chain.senders(block.header.number.into())?.unwrap_or_default())))
        .collect::<Result<_>>()?;
    drop(chain);
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS_OF_REVM {
        times[0].push(bare(&genesis, &with_senders)?);
        let chain = open(&genesis, "memory")?;
        let copy = with_senders.clone();
        let clock = Clock::start();
        execute(&chain, copy)?;
        times[1].push(clock.read());
        let copy = blocks.clone();
        let clock = Clock::start();
        chain.import_many(copy, NOW)?;
        times[2].push(clock.read());
    }
    // The clock of the CPU has ticks of 10 ms: the sum of all rounds is exact enough.
    let sum = |times: Vec<(f64, f64)>| times.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    let [bare, executed, imported] = times.map(sum);
    report("bare revm", "transactions", count * ROUNDS_OF_REVM, bare);
    report("execution with root", "transactions", count * ROUNDS_OF_REVM, executed);
    report("import into memory", "transactions", count * ROUNDS_OF_REVM, imported);
    println!("execution with root takes {:.2} times the CPU of bare revm", executed.1 / bare.1);
    Ok(())
}

/// A chain in which every tenth block has a log with a common topic, and every 99,991st one with a rare topic.
fn logs(blocks: u64, folder: &str) -> Result {
    const RARE: u64 = 99_991;
    let sender = key(0);
    let open_folder = || -> Result<Chain> {
        let mut genesis = genesis([])?;
        // LOG1 of nothing, with the word of the input as topic
        genesis.predeploy(WRITER.create(0), deploy(&[0x5f, 0x35, 0x5f, 0x5f, 0xa1]), Address::ZERO)?;
        let kv = Arc::new(FjallKv::open(folder)?);
        Ok(Chain::open(genesis, kv, Arc::new(NoSeal::default()))?)
    };
    let query = |chain: &Chain, topic: u64| -> Result {
        let filter = LogFilter {
            from: 0.into(),
            to: BlockId::Latest,
            topics: [vec![B256::from(U256::from(topic))], vec![], vec![], vec![]],
            ..LogFilter::default()
        };
        for round in ["first", "again"] {
            let clock = Instant::now();
            let found = chain.logs(&filter)?.len();
            println!("topic {topic}, {round}: {found} logs in {blocks} blocks, {:.2?}", clock.elapsed());
        }
        Ok(())
    };
    let chain = open_folder()?;
    let clock = Clock::start();
    let mut nonce = 0;
    while chain.head().number() < blocks {
        let head = chain.head();
        let number = head.number() + 1;
        let topic = if number % RARE == 0 { 1 } else { 2 };
        let logs = number % RARE == 0 || number % 10 == 0;
        if logs {
            let input = B256::from(U256::from(topic)).0.into();
            submit(&chain, &sender, nonce, (WRITER.create(0), 0, input))?;
            nonce += 1;
        }
        let now = head.header.timestamp + 1;
        let attributes =
            BuildAttributes { parent: head.hash, author: Address::ZERO, now, with_transactions: logs };
        let block = chain.build(&attributes)?;
        chain.import(block, now)?;
    }
    report("made", "blocks", blocks as usize, clock.read());
    drop(chain);
    let chain = open_folder()?;
    query(&chain, 1)?;
    query(&chain, 3)
}

fn sign(work: &str, transactions: usize, folder: &Path) -> Result {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("genesis.json"), genesis([])?.to_json())?;
    let senders: Vec<_> = (0..SENDERS).map(key).collect();
    let mut lines = String::new();
    let mut nonces = vec![0; SENDERS];
    for (sender, nonce) in senders.iter().zip(&mut nonces) {
        let mint = Token::mintCall { to: sender.address(), amount: U256::from(u64::MAX) };
        lines += &format!("{}\n", signed(sender, *nonce, (TOKEN, 0, mint.abi_encode().into()))?);
        *nonce += 1;
    }
    for index in 0..transactions {
        let from = index % SENDERS;
        lines += &format!("{}\n", signed(&senders[from], nonces[from], call(work, (index as u64 + 1) * 7)?)?);
        nonces[from] += 1;
    }
    Ok(fs::write(folder.join("signed"), lines)?)
}

fn serve(folder: &Path, store: &str, port: u16) -> Result {
    let genesis = Genesis::from_json(&fs::read(folder.join("genesis.json"))?)?;
    let chain = Arc::new(open(&genesis, store)?);
    let rules = Arc::new(Clique::for_genesis(&genesis));
    let mut module = rpc::module(chain.clone(), rpc::Options::default())?;
    module.register_blocking_method("evm_mine", move |_, _, _| {
        seal(&chain, &rules).map(|_| "0x0").map_err(|error| {
            jsonrpsee::types::ErrorObjectOwned::owned(1, error.to_string(), None::<()>)
        })
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = jsonrpsee::server::Server::builder().build(("127.0.0.1", port)).await?;
        server.start(module).stopped().await;
        Ok(())
    })
}

/// One connection to a JSON-RPC server.
struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, body: &str) -> Result<String> {
        let len = body.len();
        write!(
            self.0.get_mut(),
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}"
        )?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer)?)
    }

    fn call(&mut self, method: &str, params: &str) -> Result<String> {
        self.send(&request(method, params))
    }
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":[{params}]}}"#)
}

/// Sends all that was signed in batches of 200, mines it in `blocks`, and prints what that took of the process `pid`.
fn drive(folder: &Path, port: u16, pid: &str, blocks: usize) -> Result {
    let stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    stream.set_nodelay(true)?;
    let mut client = Client(BufReader::new(stream));
    let text = fs::read_to_string(folder.join("signed"))?;
    let signed: Vec<&str> = text.lines().collect();
    let (mints, rest) = signed.split_at(SENDERS);
    let mut times = [(0.0, 0.0); 2];
    for (index, block) in [mints].into_iter().chain(rest.chunks(rest.len().div_ceil(blocks))).enumerate() {
        let mut timed = |what: usize, run: &mut dyn FnMut() -> Result| -> Result {
            let (start, used) = (Instant::now(), cpu(pid));
            run()?;
            // The first block is the preparation.
            if index > 0 {
                times[what].0 += start.elapsed().as_secs_f64();
                times[what].1 += cpu(pid) - used;
            }
            Ok(())
        };
        timed(0, &mut || {
            for batch in block.chunks(200) {
                let calls: Vec<_> = batch
                    .iter()
                    .map(|raw| request("eth_sendRawTransaction", &format!("\"{raw}\"")))
                    .collect();
                let answer = client.send(&format!("[{}]", calls.join(",")))?;
                if answer.contains("error") {
                    return Err(answer.into());
                }
            }
            Ok(())
        })?;
        timed(1, &mut || client.call("evm_mine", "").map(|_| ()))?;
        let answer = client.call("eth_getBlockTransactionCountByNumber", "\"latest\"")?;
        assert!(answer.contains(&format!("{:#x}", block.len())), "{answer}: not {}", block.len());
    }
    report("  ingest", "transactions", rest.len(), times[0]);
    report("  blocks", "transactions", rest.len(), times[1]);
    Ok(())
}
