//! The node's own chain, as the vault sees it.

use std::fmt;
use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolCall, SolValue, sol};
use lightstreams_acl::{
    AccessControl, AclError, At, BlockRef, ContentId, ContentRegistry, ContractAcl, Decision,
};
use lightstreams_chain::{
    BlockId, CallError, CallOutcome, CallRequest, Chain, EngineKind, Genesis, HeadInfo,
};

use super::contract_backend::{ChainBackend, block_id};
use crate::vault::{
    BlockPoint, ChainHead, ChainView, ContentState, Domain, Finality, PATH_MAX, Tip, VersionInfo,
};

/// Gas that a smart account may use to judge a signature.
const SIGNATURE_GAS_MAX: u64 = 1_000_000;
/// Gas for the same where the account has to be deployed for it first.
const DEPLOY_GAS_MAX: u64 = 4_000_000;
/// The end of a signature by an account that is not deployed yet (ERC-6492).
const NOT_DEPLOYED: [u8; 32] = [
    0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64,
    0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92,
];
/// What ERC-1271 answers for a good signature.
const SIGNATURE_MAGIC: [u8; 4] = [0x16, 0x26, 0xba, 0x7e];
/// A head is stale at three times the pace of empty blocks, and never before this.
const STALE_MS_MIN: u64 = 10_000;

sol! {
    interface IERC1271 {
        function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
    }
}

/// The chain that this node follows and verified itself, and the registry on it.
#[derive(Clone)]
pub struct NodeView {
    chain: Arc<Chain>,
    acl: ContractAcl<ChainBackend>,
    stale_after_ms: Option<u64>,
}

/// Why a chain cannot be asked about contents.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Its genesis names no registry: make the network with `init`, which deploys one.
    #[error("the genesis names no registry contract")]
    NoRegistry,
    /// The final block is no ancestor of the head any more: a matter for the operator.
    #[error("block {0}, once final, is no longer on the chain")]
    FinalLost(u64),
    /// A block between the head and the final block cannot be read.
    #[error("an ancestor of the head is not here")]
    Ancestor,
}

impl NodeView {
    /// The view of the registry that the chain's genesis names.
    pub fn new(chain: Arc<Chain>) -> Result<Self, ViewError> {
        let contracts = chain.genesis().network().map(|network| &network.contracts);
        let registry = contracts.and_then(|contracts| contracts.get("registry")).copied();
        Ok(Self::at(chain, registry.ok_or(ViewError::NoRegistry)?))
    }

    /// The view of the registry at `registry`.
    pub fn at(chain: Arc<Chain>, registry: Address) -> Self {
        let stale_after_ms = stale_after_ms(chain.genesis());
        let acl = ContractAcl::new(ChainBackend::new(chain.clone()), ContentRegistry::at(registry));
        Self { chain, acl, stale_after_ms }
    }

    /// Typed calls of the registry.
    pub fn registry(&self) -> ContentRegistry {
        self.acl.registry()
    }

    /// Runs typed calls.
    pub fn backend(&self) -> &ChainBackend {
        self.acl.backend()
    }

    fn head_of(&self, info: &HeadInfo) -> ChainHead {
        ChainHead {
            block: BlockPoint { number: info.number(), hash: info.hash },
            time: info.header.timestamp,
            stale_after_ms: self.stale_after_ms,
        }
    }

    fn finality(&self, number: u64) -> Finality {
        let engines =
            self.chain.genesis().network().map(|network| network.engines.as_slice()).unwrap_or_default();
        match engines.iter().rev().find(|engine| engine.at <= number).map(|engine| engine.engine) {
            Some(EngineKind::Bft { .. } | EngineKind::Dev) => Finality::Final,
            Some(EngineKind::Clique) | None => Finality::Probabilistic,
        }
    }
}

/// The age at which a head of this network is stale; `None` where blocks come only with transactions.
fn stale_after_ms(genesis: &Genesis) -> Option<u64> {
    match genesis.network() {
        Some(network) => network.empty_block_ms.map(|ms| ms.saturating_mul(3).max(STALE_MS_MIN)),
        // A plain geth genesis seals every period, and one of period 0 promises nothing at all.
        None => Some(match genesis.period_seconds() {
            0 => 0,
            period => period.saturating_mul(1000).max(STALE_MS_MIN).saturating_mul(3),
        }),
    }
}

impl fmt::Debug for NodeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeView").field("registry", &self.acl.registry().address()).finish_non_exhaustive()
    }
}

impl AccessControl for NodeView {
    fn decide(&self, content: ContentId, account: Address, at: At) -> Result<Decision, AclError> {
        self.acl.decide(content, account, at)
    }
}

impl ChainView for NodeView {
    fn domain(&self) -> Domain {
        Domain { chain_id: self.chain.chain_id(), registry: self.acl.registry().address() }
    }

    fn head(&self) -> Result<ChainHead, AclError> {
        Ok(self.head_of(&self.chain.head()))
    }

    fn tip(&self) -> Result<Tip, AclError> {
        let head = self.chain.head();
        let settled = self.chain.final_block();
        let lost = || failed(ViewError::FinalLost(settled.number));
        let (mut between, mut at) = (Vec::new(), head.clone());
        while at.number() > settled.number {
            if between.len() > PATH_MAX {
                break;
            }
            let parent = BlockId::Hash(at.header.parent_hash);
            let parent =
                self.chain.header(parent).map_err(failed)?.ok_or_else(|| failed(ViewError::Ancestor))?;
            between.push(BlockPoint { number: parent.number(), hash: parent.hash });
            at = parent;
        }
        if between.len() <= PATH_MAX && at.hash != settled.hash {
            return Err(lost());
        }
        // The walk ends with the final block itself, unless that is the head.
        between.pop();
        between.reverse();
        Ok(Tip {
            head: self.head_of(&head),
            final_block: BlockPoint { number: settled.number, hash: settled.hash },
            final_time: at.header.timestamp,
            finality: self.finality(head.number()),
            between,
        })
    }

    fn content(&self, content: ContentId, block: BlockRef) -> Result<Option<ContentState>, AclError> {
        let (registry, backend) = (self.registry(), self.backend());
        // The only thing that these views revert for is a content that is not there.
        let head = match registry.head(content).run(backend, block) {
            Ok(head) => head,
            Err(AclError::Reverted(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(ContentState {
            owner: registry.owner_of(content).run(backend, block)?,
            flags: head.flags,
            is_public: head.isPublic,
            custody: registry.custody_of(content).run(backend, block)?,
        }))
    }

    fn version_of(
        &self,
        content: ContentId,
        manifest: B256,
        block: BlockRef,
    ) -> Result<Option<VersionInfo>, AclError> {
        let found = match self.registry().version_of(content, manifest).run(self.backend(), block) {
            Ok(found) => found,
            Err(AclError::Reverted(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = VersionInfo { version: found.ver, epoch: found.ep, revision: found.rev };
        Ok((version.version != 0).then_some(version))
    }

    fn custody_of_version(
        &self,
        content: ContentId,
        version: u32,
        block: BlockRef,
    ) -> Result<Vec<Address>, AclError> {
        self.registry().custody_of_version(content, version).run(self.backend(), block)
    }

    fn has_bought(&self, content: ContentId, account: Address, at: At) -> Result<bool, AclError> {
        let (registry, backend) = (self.registry(), self.backend());
        let time = self.chain.header(block_id(at.block)).map_err(failed)?.map(|info| info.header.timestamp);
        let time = time.ok_or(AclError::UnknownBlock(at.block))?;
        let (starts, ends) = (at.starts.unwrap_or(time), at.ends.unwrap_or(time));
        let modules = registry.modules_of(content).run(backend, at.block)?;
        for source in (1..=u8::MAX).take(modules.len()) {
            let row = registry.row_of(content, account, source).run(backend, at.block)?;
            let covers = at.epoch.is_none_or(|epoch| row.fromEpoch <= epoch);
            let active = row.notBefore <= starts && (row.expires == 0 || ends < row.expires);
            if row.level > 0 && covers && active {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn accepts_signature(
        &self,
        account: Address,
        hash: B256,
        sig: &Bytes,
        block: BlockRef,
    ) -> Result<bool, AclError> {
        let Some(wrapped) = sig.strip_suffix(&NOT_DEPLOYED) else {
            let data = question(hash, sig.clone());
            return self.says_magic(block, Some(account), data, SIGNATURE_GAS_MAX);
        };
        // ERC-6492: factory, its calldata, and the signature proper. The account may be deployed meanwhile.
        let Ok((factory, calldata, sig)) = <(Address, Bytes, Bytes)>::abi_decode_params_validate(wrapped)
        else {
            return Ok(false);
        };
        let data = question(hash, sig);
        Ok(self.says_magic(block, Some(account), data.clone(), SIGNATURE_GAS_MAX)?
            || self.says_magic(
                block,
                None,
                deploy_and_ask(factory, &calldata, account, &data),
                DEPLOY_GAS_MAX,
            )?)
    }
}

impl NodeView {
    /// Whether a call returns what ERC-1271 wants.
    fn says_magic(
        &self,
        block: BlockRef,
        to: Option<Address>,
        data: Bytes,
        gas: u64,
    ) -> Result<bool, AclError> {
        let call = CallRequest { to, data, gas: Some(gas), ..CallRequest::default() };
        match self.chain.call(block_id(block), &call) {
            // An account without code answers every call, with nothing.
            Ok(CallOutcome::Success { output, .. }) => {
                Ok(output.len() == 32 && output.starts_with(&SIGNATURE_MAGIC))
            }
            Ok(_) | Err(CallError::Refused(_)) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

fn question(hash: B256, signature: Bytes) -> Bytes {
    IERC1271::isValidSignatureCall { hash, signature }.abi_encode().into()
}

/// A constructor that calls `factory`, then asks `account`, and returns what it answers. It runs in a call that leaves
/// nothing behind.
fn deploy_and_ask(factory: Address, calldata: &[u8], account: Address, question: &[u8]) -> Bytes {
    const PUSH1: u8 = 0x60;
    const PUSH4: u8 = 0x63;
    const PUSH20: u8 = 0x73;
    const GAS: u8 = 0x5a;
    // Both come out of a signature, whose length is bounded far below 32 bits.
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let (first, both) = (size(calldata.len()), size(calldata.len().saturating_add(question.len())));
    let code = |own: [u8; 4]| {
        [
            // CODECOPY: what follows this code, to the beginning of memory.
            &[PUSH4][..],
            &both,
            &[PUSH4],
            &own,
            &[PUSH1, 0, 0x39],
            // CALL the factory with the first part, whatever it answers.
            &[PUSH1, 0, PUSH1, 0, PUSH4],
            &first,
            &[PUSH1, 0, PUSH1, 0, PUSH20],
            factory.as_slice(),
            &[GAS, 0xf1, 0x50],
            // STATICCALL the account with the second part. Its answer goes where nothing was written before, or a failed
            // call would be answered by the caller's own bytes.
            &[PUSH1, 32, PUSH4],
            &both,
            &[PUSH4],
            &size(question.len()),
            &[PUSH4],
            &first,
            &[PUSH20],
            account.as_slice(),
            &[GAS, 0xfa],
            // RETURN as many bytes as the account returned, none if it failed.
            &[0x3d, 0x02, PUSH4],
            &both,
            &[0xf3],
        ]
        .concat()
    };
    let own = size(code([0; 4]).len());
    [code(own).as_slice(), calldata, question].concat().into()
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> AclError {
    AclError::Backend(Box::new(error))
}
