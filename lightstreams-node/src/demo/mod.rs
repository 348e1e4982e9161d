//! `lightstreams demo`: the whole story on loopback, told by three node processes and the public verbs.
//!
//! ```text
//! publisher (authority, custodian) --chain, blocks, keys--> reader
//!                                   \--chain, refusals----> stranger
//! ```
//!
//! Every step checks what it shows; the first broken promise ends the demo with [`Exit::Failure`](crate::error::Exit).

mod attack;
mod stage;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use self::stage::{Player, number, text};
use crate::{
    cli::args::DemoArgs,
    config::{BlockStorage, Storage},
    console::say,
    error::{NodeError, Result, io_error},
    units,
};

/// Bytes of the sample that is published without a FILE.
const SAMPLE_BYTES: u64 = 5_000_000;
/// What a buyer pays, in coins.
const PRICE: &str = "10";
/// What the artist gets of it, in percent.
const ROYALTY_PERCENT: &str = "30";

/// A promise of the product did not hold.
pub(crate) fn promise(what: impl Into<String>) -> NodeError {
    NodeError::new("promise_broken", format!("BROKEN PROMISE: {}", what.into()))
}

/// Holds `what` or breaks the demo.
fn holds(condition: bool, what: impl Into<String>) -> Result<()> {
    if condition { Ok(()) } else { Err(promise(what)) }
}

/// Tells the story.
pub fn run(arguments: &DemoArgs) -> Result<()> {
    let exe = std::env::current_exe()
        .map_err(|error| NodeError::new("demo", "cannot find this program").because(error))?;
    let stage = Stage::new(arguments.dir.clone())?;
    let (storage, blocks) = (arguments.storage, arguments.blocks);
    Story { exe, stage, storage, blocks, step: 0, started: Instant::now() }.tell(arguments.file.as_deref())
}

/// The directory everything happens in, removed in the end unless it was named.
struct Stage {
    dir: PathBuf,
    keep: bool,
}

impl Stage {
    fn new(named: Option<PathBuf>) -> Result<Self> {
        let keep = named.is_some();
        let dir = named.unwrap_or_else(|| {
            std::env::temp_dir().join(format!(
                "lightstreams-demo-{}-{:08x}",
                std::process::id(),
                rand::random::<u32>()
            ))
        });
        std::fs::create_dir_all(&dir).map_err(|error| io_error("make", &dir, error))?;
        let dir = dir.canonicalize().map_err(|error| io_error("find", &dir, error))?;
        Ok(Self { dir, keep })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed stays in the temporary directory.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

struct Story {
    exe: PathBuf,
    stage: Stage,
    storage: Storage,
    blocks: BlockStorage,
    step: u32,
    started: Instant,
}

/// What the publisher published, as the later steps need it.
struct Published {
    file: PathBuf,
    uri: String,
    bytes: u64,
}

impl Story {
    fn tell(mut self, file: Option<&Path>) -> Result<()> {
        let file = self.file(file)?;
        let password = self.stage.path("password");
        std::fs::write(&password, "demo\n").map_err(|error| io_error("write", &password, error))?;

        self.step("three parties make their accounts; the publisher founds a proof-of-authority network");
        let [mut publisher, mut reader, mut stranger, artist] = self.players(&password)?;
        let friend = text(&reader.does(&["account", "new"])?, "address")?;
        self.found(&mut publisher, &mut reader, &mut stranger, &artist, &friend)?;

        self.step("the publisher encrypts the file, stores the blocks and registers it, for sale with a royalty split");
        let published = self.publish(&publisher, &artist, &file)?;
        self.step("a stranger asks for the key, and for the blocks");
        self.refuse_stranger(&publisher, &stranger, &published)?;
        self.step(
            "the stranger registers the same payload as its own and asks the custodian for that id's key",
        );
        self.refuse_copycat(&publisher, &stranger, &published, &password)?;
        self.step("the reader buys, gets the key, fetches and opens");
        let order = self.sell(&reader, &published)?;
        self.step("the publisher tries to cut off the reader who paid");
        self.keep_paid(&publisher, &reader, &published, order)?;
        self.step("a free grant is given, used and revoked");
        self.grant_and_revoke(&publisher, &reader, &friend, &published)?;
        self.step("the custodian goes away (kill -9); the reader still opens what it bought");
        let log = self.lose_custodian(&mut publisher, &reader, &published)?;
        self.step("the stranger's node audits, with nothing but the chain and a copy of the release log");
        self.audit(&stranger, &reader, &friend, &published, &log)?;
        self.step("the publisher's node comes back; the payees withdraw");
        self.pay_out(&mut publisher, &artist)?;

        for player in [&mut publisher, &mut reader, &mut stranger] {
            let peak = player.peak_mib();
            self.fact(&format!("{}'s node: at most {peak} MiB of memory after its start", player.name));
            holds(peak < 300, format!("the {}'s node stays below 300 MiB, and took {peak}", player.name))?;
        }
        say(format_args!(
            "\nEvery promise held: {} steps in {:.1} s.",
            self.step,
            self.started.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    fn step(&mut self, what: &str) {
        self.step += 1;
        say(format_args!("\n{:>2}. {what}  [{:.1} s]", self.step, self.started.elapsed().as_secs_f64()));
    }

    fn fact(&self, line: &str) {
        say(format_args!("    {line}"));
    }

    fn file(&self, named: Option<&Path>) -> Result<PathBuf> {
        if let Some(path) = named {
            return path.canonicalize().map_err(|error| io_error("read", path, error));
        }
        let path = self.stage.path("sample.bin");
        let mut file = File::create(&path).map_err(|error| io_error("write", &path, error))?;
        // Bytes that no two places share, so that a misplaced chunk cannot go unseen.
        let mut block = Sha256::digest(b"lightstreams sample");
        let mut left = SAMPLE_BYTES;
        while left > 0 {
            let take = left.min(block.len() as u64) as usize;
            file.write_all(block.get(..take).unwrap_or_default())
                .map_err(|error| io_error("write", &path, error))?;
            block = Sha256::digest(block);
            left -= take as u64;
        }
        Ok(path)
    }

    /// Makes the players, side by side: each derives two keys from its password.
    fn players(&self, password: &Path) -> Result<[Player; 4]> {
        std::thread::scope(|scope| {
            ["publisher", "reader", "stranger", "artist"]
                .map(|name| scope.spawn(move || Player::new(name, &self.stage.dir, &self.exe, password)))
                .map(joined)
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .try_into()
        .map_err(|_| NodeError::new("demo", "a player is missing"))
    }

    /// Starts the three nodes: one founds the network, two join it.
    fn found(
        &self,
        publisher: &mut Player,
        reader: &mut Player,
        stranger: &mut Player,
        artist: &Player,
        friend: &str,
    ) -> Result<()> {
        let (storage, blocks) = (self.storage.name(), self.blocks.name());
        let listen = ["--rpc", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0"];
        let common = [["--storage", storage, "--blocks", blocks], listen].concat();
        let mut found =
            vec!["init", "--chain-id", "162", "--period-ms", "200", "--authority", &publisher.account];
        // The custodian admits the stranger's contents too, so that step 4 meets the last line of defence.
        found.extend(["--admit", &stranger.account]);
        let alloc: Vec<String> = [&publisher.account, &reader.account, &stranger.account, &artist.account]
            .into_iter()
            .map(String::as_str)
            .chain([friend])
            .map(|account| format!("{account}=1000"))
            .collect();
        alloc.iter().for_each(|alloc| found.extend(["--alloc", alloc]));
        found.extend(&common);
        publisher.does(&found)?;
        let status = publisher.starts()?;
        let address = text(&status, "listen/0")?;
        let genesis = publisher.data.join("chain").join("genesis.json").display().to_string();
        let mut join = vec!["init", "--genesis", &genesis, "--peer", &address];
        join.extend(&common);
        std::thread::scope(|scope| {
            let joins = |player: &mut Player| player.does(&join).and_then(|_| player.starts());
            let joining = [&mut *reader, &mut *stranger].map(|player| scope.spawn(move || joins(player)));
            joining.map(joined).into_iter().try_for_each(|started| started.map(drop))
        })?;
        let first = self.head(publisher)?;
        for player in [&*reader, &*stranger] {
            player.waits("follow the chain", |status| {
                status.pointer("/head/number").and_then(Value::as_u64) >= Some(first)
            })?;
        }
        self.fact(&format!(
            "genesis {}, chain id {}, blocks in {}, chain in {}",
            text(&status, "genesis")?,
            number(&status, "chain_id")?,
            text(&status, "store/backend")?,
            text(&status, "database")?
        ));
        for player in [&*publisher, &*reader, &*stranger] {
            self.fact(&format!("{:<9} {} with its own node and database", player.name, player.account));
        }
        Ok(())
    }

    fn head(&self, player: &Player) -> Result<u64> {
        number(&player.does(&["status"])?, "head/number")
    }

    fn publish(&self, publisher: &Player, artist: &Player, file: &Path) -> Result<Published> {
        let (bytes, sha256) = digest(file)?;
        let since = Instant::now();
        let split = format!("{}={ROYALTY_PERCENT}", artist.account);
        let path = file.display().to_string();
        let arguments =
            ["publish", &path, "--price", PRICE, "--split", &split, "--recovery", &artist.recipient];
        let content = publisher.does(&arguments)?;
        let took = since.elapsed().as_secs_f64();
        let uri = text(&content, "uri")?;
        self.fact(&format!("{} ({}) sha256 {sha256}", path, units::bytes(bytes)));
        self.fact(&uri);
        for (name, field) in [
            ("manifest M", "manifest"),
            ("header H", "header"),
            ("payload P", "payload"),
            ("readable R", "readable"),
        ] {
            self.fact(&format!("{name:<10} {}", text(&content, field)?));
        }
        for transaction in content.pointer("/transactions").and_then(Value::as_array).into_iter().flatten() {
            self.fact(&format!(
                "{:<10} {} in block {}",
                text(transaction, "what")?,
                text(transaction, "hash")?,
                number(transaction, "block")?
            ));
        }
        self.fact(&format!(
            "{} blocks, durable before the first transaction; {:.2} s, {}/s",
            number(&content, "blocks")?,
            took,
            units::bytes((bytes as f64 / took) as u64)
        ));
        Ok(Published { file: file.to_owned(), uri, bytes })
    }

    fn refuse_stranger(&self, publisher: &Player, stranger: &Player, published: &Published) -> Result<()> {
        let out = self.stage.path("stolen").display().to_string();
        let refusal = stranger.is_refused(&["get", &published.uri, "-o", &out], 3, "not_granted")?;
        self.fact(&format!("key: refused, typed and signed: {} ({})", refusal.code, refusal.message));

        // A block that is held but denied, and one that nobody holds: the peer must not be able to tell.
        let denied = stranger.does(&["fetch", &published.uri])?;
        let absent = stranger.does(&["fetch", &published.uri, "--absent"])?;
        let got = number(&denied, "fetched")?;
        holds(got == 0, format!("no block leaves for a stranger, and {got} did"))?;
        holds(
            text(&denied, "answer")? == text(&absent, "answer")?,
            "a denied block looks like an absent one",
        )?;
        self.fact(&format!(
            "blocks: 0 of {} fetched; the answer is that of a block that nobody holds ({}; {} ms, absent {} ms)",
            number(&denied, "wanted")?,
            text(&denied, "answer")?,
            number(&denied, "ms")?,
            number(&absent, "ms")?
        ));

        let car = self.stage.path("ciphertext.car");
        let car_path = car.display().to_string();
        let exported = publisher.does(&["export", &published.uri, "-o", &car_path])?;
        stranger.does(&["import", &car_path])?;
        stranger.is_refused(&["get", &published.uri, "-o", &out], 3, "not_granted")?;
        stranger.is_refused(&["open", &published.uri, "-o", &out], 4, "not_kept")?;
        attack::identity_opens_nothing(&car, &stranger.data, &self.stage.path("password"))?;
        holds(!Path::new(&out).exists(), "a refused reader gets no plaintext")?;
        let _ = std::fs::remove_file(&car);
        self.fact(&format!(
            "a copy of all {} ciphertext blocks, handed over on disk, opens nothing",
            number(&exported, "blocks")?
        ));
        Ok(())
    }

    fn refuse_copycat(
        &self,
        publisher: &Player,
        stranger: &Player,
        published: &Published,
        password: &Path,
    ) -> Result<()> {
        let copy = attack::register_copy(&stranger.data, password, &publisher.account, &published.uri)?;
        let out = self.stage.path("stolen").display().to_string();
        let refusal = stranger.is_refused(&["get", &copy, "-o", &out], 3, "commitment_mismatch")?;
        self.fact(&copy);
        self.fact(&format!("its owner is refused: {} ({})", refusal.code, refusal.message));
        holds(!Path::new(&out).exists(), "a copycat gets no plaintext")
    }

    fn sell(&self, reader: &Player, published: &Published) -> Result<u64> {
        let bought = reader.does(&["buy", &published.uri])?;
        self.fact(&format!(
            "paid {} coins, order {}, transaction {} in block {}",
            text(&bought, "price")?,
            number(&bought, "order")?,
            text(&bought, "transaction")?,
            number(&bought, "block")?
        ));
        if published.bytes > 0 {
            self.range(reader, published)?;
        }
        let out = self.stage.path("opened");
        let since = Instant::now();
        let got = reader.does(&["get", &published.uri, "-o", &out.display().to_string()])?;
        let took = since.elapsed().as_secs_f64();
        self.fact(&format!(
            "released by {} at block {} ({}), receipt {}",
            text(&got, "holder")?,
            number(&got, "final_block")?,
            text(&got, "finality")?,
            text(&got, "receipt")?
        ));
        let (_, sha256) = digest(&out)?;
        self.equal(&out, published)?;
        self.fact(&format!(
            "fetched {} blocks in {took:.2} s, {}/s; sha256 {} is equal",
            number(&got, "blocks_fetched")?,
            units::bytes((published.bytes as f64 / took) as u64),
            sha256
        ));
        number(&bought, "order")
    }

    /// Reads a few bytes in the middle and sees that the rest was not fetched for them.
    fn range(&self, reader: &Player, published: &Published) -> Result<()> {
        let first = published.bytes / 2;
        let last = (first + 999).min(published.bytes - 1);
        let out = self.stage.path("range");
        let range = format!("{first}-{last}");
        let got =
            reader.does(&["get", &published.uri, "--range", &range, "-o", &out.display().to_string()])?;
        let part = std::fs::read(&out).map_err(|error| io_error("read", &out, error))?;
        holds(part == slice(&published.file, first, last)?, "a range equals the same bytes of the file")?;
        let fetched = number(&got, "bytes_fetched")?;
        // A range of 1,000 bytes touches at most two leaves of four chunks, and the nodes above them.
        holds(
            fetched <= 2 * 262_208 + 400_000,
            format!("a range fetches only its leaves, and this fetched {fetched} bytes"),
        )?;
        self.fact(&format!(
            "bytes {range} read first: {} fetched of {} of payload",
            units::bytes(fetched),
            units::bytes(published.bytes)
        ));
        Ok(())
    }

    fn keep_paid(
        &self,
        publisher: &Player,
        reader: &Player,
        published: &Published,
        order: u64,
    ) -> Result<()> {
        publisher.is_refused(&["cut", &order.to_string(), "--refund", "0"], 1, "reverted")?;
        self.fact("cut without refund: the contract refuses");
        let revoked = publisher.tries(&["revoke", &published.uri, &reader.account])?;
        let how = if revoked.is_ok() { "ends people's grants only" } else { "the contract refuses" };
        let out = self.stage.path("again");
        reader.does(&["get", &published.uri, "-o", &out.display().to_string()])?;
        self.equal(&out, published)?;
        self.fact(&format!("revoke: {how}; the reader asks again, and opens it again"));
        Ok(())
    }

    fn grant_and_revoke(
        &self,
        publisher: &Player,
        reader: &Player,
        friend: &str,
        published: &Published,
    ) -> Result<()> {
        let out = self.stage.path("granted");
        let path = out.display().to_string();
        let get = ["get", &published.uri, "-o", &path, "--no-keep", "--account", friend];
        reader.is_refused(&get, 3, "not_granted")?;
        let granted = publisher.does(&["grant", &published.uri, friend])?;
        reader.does(&get)?;
        self.equal(&out, published)?;
        let revoked = publisher.does(&["revoke", &published.uri, friend])?;
        reader.waits("see the revocation", |status| {
            status.pointer("/head/number").and_then(Value::as_u64)
                >= revoked.get("block").and_then(Value::as_u64)
        })?;
        let refusal = reader.is_refused(&get, 3, "revoked")?;
        self.fact(&format!(
            "{friend}: granted in block {}, opened; revoked in block {}, refused: {}",
            number(&granted, "block")?,
            number(&revoked, "block")?,
            refusal.code
        ));
        Ok(())
    }

    fn lose_custodian(
        &self,
        publisher: &mut Player,
        reader: &Player,
        published: &Published,
    ) -> Result<PathBuf> {
        let copy = self.stage.path("release-log");
        publisher.is_killed()?;
        copy_dir(&publisher.data.join("log"), &copy)?;
        let out = self.stage.path("kept");
        let path = out.display().to_string();
        let opened = reader.does(&["open", &published.uri, "-o", &path])?;
        self.equal(&out, published)?;
        self.fact(&format!(
            "opened from the kept header and the reader's own blocks: {} bytes, equal",
            number(&opened, "bytes")?
        ));
        let age = self.stage.path("kept.age");
        reader.does(&["open", &published.uri, "--age", "-o", &age.display().to_string()])?;
        holds(age.exists(), "the encrypted file can be exported for any age tool")?;
        self.fact("exported as a plain age file for any age tool");
        let _ = std::fs::remove_file(&age);
        Ok(copy)
    }

    fn audit(
        &self,
        stranger: &Player,
        reader: &Player,
        friend: &str,
        published: &Published,
        log: &Path,
    ) -> Result<()> {
        let trail = stranger.does(&["audit", &published.uri, "--log", &log.display().to_string()])?;
        let entries = trail.get("entries").and_then(Value::as_array).cloned().unwrap_or_default();
        for entry in &entries {
            self.fact(&text(entry, "line")?);
        }
        let released_to = |who: &str| {
            entries.iter().any(|entry| {
                entry.get("what").and_then(Value::as_str) == Some("released")
                    && entry
                        .get("who")
                        .and_then(Value::as_str)
                        .is_some_and(|seen| seen.eq_ignore_ascii_case(who))
            })
        };
        holds(released_to(&reader.account), "the audit shows the buyer's release")?;
        holds(released_to(friend), "the audit shows the granted account's release")?;
        holds(!released_to(&stranger.account), "the audit shows no release to the stranger")?;
        holds(number(&trail, "faults")? == 0, "every receipt verifies and has its grant")?;
        self.fact(&format!(
            "log root {} over {} receipts",
            text(&trail, "log_root")?,
            number(&trail, "log_size")?
        ));
        Ok(())
    }

    fn pay_out(&self, publisher: &mut Player, artist: &Player) -> Result<()> {
        let status = publisher.starts()?;
        let from = publisher.data.join("lightstreams.sock");
        self.fact(&format!("back after the kill at block {}", number(&status, "head/number")?));
        let seller = publisher.does(&["withdraw"])?;
        // The artist runs no node: its verbs go through the publisher's socket, its key stays in its own directory.
        let socket = from.display().to_string();
        let payee = artist.does(&["--socket", &socket, "withdraw"])?;
        for (name, paid, expected) in [("publisher", &seller, "7"), ("artist", &payee, "3")] {
            let amount = text(paid, "amount")?;
            self.fact(&format!("{name} withdrew {amount} coins in block {}", number(paid, "block")?));
            holds(amount == expected, format!("the {name} is owed {expected} coins, and got {amount}"))?;
        }
        Ok(())
    }

    /// Compares an opened file with what was published, byte by byte, and removes it.
    fn equal(&self, opened: &Path, published: &Published) -> Result<()> {
        holds(same(opened, &published.file)?, format!("{} equals the published file", opened.display()))?;
        std::fs::remove_file(opened).map_err(|error| io_error("remove", opened, error))
    }
}

/// What a thread of the demo gave.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(NodeError::new("demo", "a thread of the demo ended in the middle")))
}

/// Length and sha-256 of a file.
fn digest(path: &Path) -> Result<(u64, String)> {
    let wrong = |error| io_error("read", path, error);
    let mut file = File::open(path).map_err(wrong)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(wrong)? {
            0 => return Ok((bytes, hex::encode(hasher.finalize()))),
            n => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                bytes += n as u64;
            }
        }
    }
}

/// Whether two files hold the same bytes.
fn same(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| {
        File::open(path)
            .map(|file| BufReader::with_capacity(1 << 20, file))
            .map_err(|error| io_error("read", path, error))
    };
    let (mut a, mut b) = (open(one)?, open(other)?);
    loop {
        let left = a.fill_buf().map_err(|error| io_error("read", one, error))?;
        let right = b.fill_buf().map_err(|error| io_error("read", other, error))?;
        let len = left.len().min(right.len());
        if len == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left.get(..len) != right.get(..len) {
            return Ok(false);
        }
        a.consume(len);
        b.consume(len);
    }
}

fn slice(path: &Path, first: u64, last: u64) -> Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let wrong = |error| io_error("read", path, error);
    let mut file = File::open(path).map_err(wrong)?;
    file.seek(SeekFrom::Start(first)).map_err(wrong)?;
    let mut part = Vec::new();
    file.take(last - first + 1).read_to_end(&mut part).map_err(wrong)?;
    Ok(part)
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|error| io_error("make", to, error))?;
    for entry in std::fs::read_dir(from).map_err(|error| io_error("read", from, error))? {
        let entry = entry.map_err(|error| io_error("read", from, error))?;
        let target = to.join(entry.file_name());
        std::fs::copy(entry.path(), &target).map_err(|error| io_error("write", &target, error))?;
    }
    Ok(())
}
