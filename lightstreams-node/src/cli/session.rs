//! What the verbs share: the data directory, the node, the account, and the way of a transaction.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use lightstreams_acl::{ContentUri, Log};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{accounts, args::Common, keyring::Keyring, output::Output, wallet::Wallet};
use crate::{
    client::{Endpoint, NodeClient},
    config::Config,
    daemon::unlock_account,
    datadir::DataDir,
    error::{Exit, NodeError, Result},
    secrets::{NodeIdentity, Password, PasswordSource},
    units::coins,
};

/// How long a transaction may take to be in a block, and a block to be final.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);

/// One run of a verb.
#[derive(Debug)]
pub(crate) struct Session {
    common: Common,
    out: Output,
    dir: DataDir,
    client: NodeClient,
    keyring: Arc<Keyring>,
}

/// `GET /v1/status`, as far as verbs look at it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) chain_id: u64,
    #[serde(rename = "final")]
    pub(crate) finalized: BlockName,
    pub(crate) peer_id: String,
    pub(crate) recipient: Option<String>,
    pub(crate) contracts: Contracts,
    pub(crate) operator: Option<Address>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct BlockName {
    pub(crate) number: u64,
}

/// The contracts of the network, from its genesis.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Contracts {
    pub(crate) registry: Option<Address>,
    pub(crate) custodians: Option<Address>,
    pub(crate) market: Option<Address>,
}

impl Status {
    pub(crate) fn registry(&self) -> Result<Address> {
        self.contracts.registry.ok_or_else(|| no_contract("registry"))
    }

    pub(crate) fn custodians(&self) -> Result<Address> {
        self.contracts.custodians.ok_or_else(|| no_contract("custodians"))
    }

    pub(crate) fn market(&self) -> Result<Address> {
        self.contracts.market.ok_or_else(|| no_contract("market"))
    }
}

fn no_contract(which: &str) -> NodeError {
    NodeError::not_found("no_contract", format!("the genesis of this network names no {which}"))
        .hint("name it in config.lightstreams.contracts of the genesis file")
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) hash: B256,
    pub(crate) block: u64,
    pub(crate) logs: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    block_number: U256,
    block_hash: B256,
    status: U256,
    logs: Vec<ReceiptLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    log_index: U256,
}

impl Session {
    pub(crate) fn open(common: Common, keyring: Arc<Keyring>) -> Result<Self> {
        let dir = DataDir::new(common.data.clone().unwrap_or_else(DataDir::default_root));
        let endpoint = match (&common.node, &common.socket) {
            (Some(url), _) => Endpoint::from_url(url, std::env::var("LIGHTSTREAMS_TOKEN").ok())?,
            (None, Some(socket)) => Endpoint::Socket(socket.clone()),
            (None, None) => Endpoint::Socket(dir.socket()),
        };
        let out = Output::new(common.json, common.yes);
        Ok(Self { common, out, dir, client: NodeClient::new(endpoint), keyring })
    }

    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// What this process has unlocked.
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring)
    }

    pub(crate) fn out(&self) -> &Output {
        &self.out
    }

    pub(crate) fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Whether the data directory was named, by an argument or the environment.
    pub(crate) fn has_named_dir(&self) -> bool {
        self.common.data.is_some()
    }

    pub(crate) fn client(&self) -> &NodeClient {
        &self.client
    }

    pub(crate) fn password_source(&self) -> PasswordSource {
        PasswordSource::choose(self.common.password_file.clone(), None)
    }

    pub(crate) fn password(&self, what: &str) -> Result<Password> {
        self.password_source().read(&format!("password of {what}"), false)
    }

    pub(crate) async fn status(&self) -> Result<Status> {
        self.client.get("/v1/status").await
    }

    /// The account that acts: `--account`, the configuration's, or the only one there is.
    pub(crate) fn account(&self) -> Result<Address> {
        if let Some(account) = self.common.account {
            return Ok(account);
        }
        if let Some(account) = Config::load_or_default(&self.dir)?.account {
            return Ok(account);
        }
        match accounts::accounts(&self.dir)?.as_slice() {
            [(only, _)] => Ok(*only),
            [] => Err(NodeError::not_found(
                "no_account",
                format!("{} holds no account", self.dir.keystore().display()),
            )
            .hint("make one with `lightstreams account new`")),
            _ => Err(NodeError::usage("which_account", "there are several accounts here")
                .hint("name one with --account")),
        }
    }

    /// Unlocks the account that acts.
    pub(crate) fn wallet(&self) -> Result<Wallet> {
        let account = self.account()?;
        if let Some(wallet) = self.keyring.wallet(account)? {
            return Ok(wallet);
        }
        let password = self.password(&account.to_string())?;
        let wallet = Wallet::from_secret(unlock_account(&self.dir.keystore(), account, &password)?)?;
        if wallet.address() != account {
            let message = format!("a keystore states {account} and holds the key of {}", wallet.address());
            return Err(NodeError::new("bad_keystore", message).hint("import the key again"));
        }
        self.keyring.keep_wallet(&wallet);
        Ok(wallet)
    }

    /// Unlocks the age identity of the data directory.
    pub(crate) fn identity(&self) -> Result<Arc<NodeIdentity>> {
        if let Some(identity) = self.keyring.identity() {
            return Ok(identity);
        }
        self.keyring.unlock_identity(&self.dir.identity(), self.password("identity.age")?)
    }

    /// Reads a content's URI and holds it against the node's chain.
    pub(crate) fn content(&self, text: &str, status: &Status) -> Result<ContentUri> {
        let uri: ContentUri = text.parse().map_err(|error| {
            NodeError::usage("bad_uri", format!("{text} names no content")).because(error)
        })?;
        if uri.chain != status.chain_id {
            let message =
                format!("{text} is on chain {}, and this node follows chain {}", uri.chain, status.chain_id);
            return Err(NodeError::usage("wrong_chain", message).hint("ask a node of that chain with --node"));
        }
        if uri.registry != status.registry()? {
            let message =
                format!("{text} is in another registry than this network's, {}", status.registry()?);
            return Err(NodeError::usage("wrong_registry", message));
        }
        Ok(uri)
    }

    /// Calls a view at the head.
    pub(crate) async fn call<T>(&self, call: lightstreams_acl::Call<T>) -> Result<T> {
        let request = json!({ "to": call.to, "data": call.data });
        let answer: Bytes = self.client.rpc("eth_call", json!([request, "latest"])).await?;
        call.decode(&answer).map_err(|error| {
            NodeError::new("abi", format!("{} answered something else", call.to)).because(error)
        })
    }

    /// Shows the cost, asks, signs, sends, and waits until the transaction is in a block.
    pub(crate) async fn send<T>(
        &self,
        wallet: &Wallet,
        what: &str,
        call: lightstreams_acl::Call<T>,
    ) -> Result<Sent> {
        let from = wallet.address();
        let request = json!({ "from": from, "to": call.to, "value": call.value, "data": call.data });
        let estimate: U256 = self.client.rpc("eth_estimateGas", json!([request])).await?;
        let nonce: U256 = self.client.rpc("eth_getTransactionCount", json!([from, "pending"])).await?;
        let tip: U256 = self.client.rpc("eth_maxPriorityFeePerGas", json!([])).await?;
        let head: Value = self.client.rpc("eth_getBlockByNumber", json!(["latest", false])).await?;
        let base: U256 = serde_json::from_value(head.get("baseFeePerGas").cloned().unwrap_or(json!("0x0")))
            .unwrap_or_default();
        let chain_id = self.status().await?.chain_id;
        // The state may move between the estimate and the block: a quarter more gas, and twice the base fee.
        let gas_limit = estimate.saturating_mul(U256::from(5)) / U256::from(4);
        let fee = base.saturating_mul(U256::from(2)).saturating_add(tip);
        let cost = gas_limit.saturating_mul(fee);
        self.out.confirm(&format!(
            "{what}: {} coins, and at most {} for gas. Send it?",
            coins(call.value),
            coins(cost)
        ))?;

        let narrow = |value: U256| {
            u128::try_from(value).map_err(|_| NodeError::new("fee", "the fee is beyond all measure"))
        };
        let transaction = TxEip1559 {
            chain_id,
            nonce: nonce.saturating_to(),
            gas_limit: gas_limit.saturating_to(),
            max_fee_per_gas: narrow(fee)?,
            max_priority_fee_per_gas: narrow(tip)?,
            to: TxKind::Call(call.to),
            value: call.value,
            access_list: Default::default(),
            input: call.data.clone(),
        };
        let raw = wallet
            .signer()
            .sign_raw_transaction(transaction)
            .map_err(|error| NodeError::new("sign", "signing failed").because(error))?;
        let hash: B256 = self.client.rpc("eth_sendRawTransaction", json!([raw])).await?;
        let waiting = self.out.wait(format!("{what}: {hash} is on its way"));
        let receipt = self.receipt(hash).await;
        waiting.finish_and_clear();
        let receipt = receipt?;
        if receipt.status.is_zero() {
            return Err(NodeError::new("reverted", format!("{what}: transaction {hash} was reverted")));
        }
        let block = receipt.block_number.saturating_to();
        let logs = receipt.logs.into_iter().map(|log| Log {
            address: log.address,
            topics: log.topics,
            data: log.data,
            block_number: block,
            block_hash: receipt.block_hash,
            transaction: hash,
            index: log.log_index.saturating_to(),
        });
        Ok(Sent { hash, block, logs: logs.collect() })
    }

    async fn receipt(&self, hash: B256) -> Result<Receipt> {
        let since = Instant::now();
        loop {
            if let Some(receipt) = self.client.rpc("eth_getTransactionReceipt", json!([hash])).await? {
                return Ok(receipt);
            }
            if since.elapsed() > CHAIN_TIMEOUT {
                return Err(NodeError::new("not_included", format!("transaction {hash} is in no block yet"))
                    .exit(Exit::Peer)
                    .hint("look at `lightstreams status`: the authorities may be down; the transaction may still come in"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until block `number` is final.
    pub(crate) async fn finality(&self, number: u64) -> Result<Status> {
        let waiting = self.out.wait(format!("waiting until block {number} is final"));
        let since = Instant::now();
        loop {
            let status = self.status().await?;
            if status.finalized.number >= number {
                waiting.finish_and_clear();
                return Ok(status);
            }
            if since.elapsed() > CHAIN_TIMEOUT {
                return Err(NodeError::new(
                    "not_final",
                    format!("block {number} is not final after {} s", CHAIN_TIMEOUT.as_secs()),
                )
                .exit(Exit::Peer)
                .hint("look at `lightstreams status`: too few authorities may be up"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
