//! The three contracts as handles: an address, and the calls that it takes.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256};

use crate::{Call, ContentId, Permission, abi};

/// The term and reach of a grant. The default is: from now on, for good, every version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// Unix seconds at which it begins; 0: at once.
    pub not_before: u64,
    /// Unix seconds at which it is over; 0: never.
    pub expires: u64,
    /// The first epoch that it covers.
    pub from_epoch: u32,
}

/// Strict audit: a custodian answers only what was asked on chain first.
pub const FLAG_STRICT_AUDIT: u8 = 1;
/// The content cannot be transferred.
pub const FLAG_SOULBOUND: u8 = 2;
/// Keys are released to post-quantum recipients only.
pub const FLAG_PQ_ONLY: u8 = 4;

/// The permission contract: contents, versions, rows, custody.
///
/// Every command takes effect for the transaction's sender. What a name does is told at the Solidity function of the same
/// name in `contracts/ContentRegistry.sol`; calls that are not listed here are [`Call::new`] over [`abi::ContentRegistry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentRegistry(Address);

impl ContentRegistry {
    /// The registry deployed at `address`.
    pub fn at(address: Address) -> Self {
        Self(address)
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.0
    }

    /// Code that deploys a registry (no arguments).
    pub fn init_code() -> Bytes {
        abi::ContentRegistry::BYTECODE.clone()
    }

    /// Registers version 1 of a new content; answers its id, which [`content_id`](crate::content_id) knows before.
    pub fn register(&self, salt: B256, manifest: B256, flags: u8) -> Call<U256> {
        let call = abi::ContentRegistry::registerCall {
            salt,
            manifest,
            flags,
            gate: Address::ZERO,
            gateData: Bytes::new(),
        };
        Call::new(self.0, &call)
    }

    /// Records the next version; `expected_version` and `expected_epoch` are the content's before the call.
    pub fn publish(
        &self,
        content: ContentId,
        manifest: B256,
        expected_version: u32,
        expected_epoch: u32,
    ) -> Call<()> {
        let call = abi::ContentRegistry::publishCall {
            id: content.as_u256(),
            manifest,
            expectedVersion: expected_version,
            expectedEpoch: expected_epoch,
        };
        Call::command(self.0, &call)
    }

    /// Records the next revision of the head version: the same payload for other recipients.
    pub fn rewrap(
        &self,
        content: ContentId,
        manifest: B256,
        expected_version: u32,
        expected_revision: u32,
    ) -> Call<()> {
        let call = abi::ContentRegistry::rewrapCall {
            id: content.as_u256(),
            manifest,
            expectedVersion: expected_version,
            expectedRevision: expected_revision,
        };
        Call::command(self.0, &call)
    }

    /// A new owner's rewrap, once after each transfer.
    pub fn claim(&self, content: ContentId, manifest: B256) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::claimCall { id: content.as_u256(), manifest })
    }

    /// Gives `who` a permission for a term.
    pub fn grant(&self, content: ContentId, who: Address, level: Permission, term: Term) -> Call<()> {
        let call = abi::ContentRegistry::grantCall {
            id: content.as_u256(),
            who,
            level: level.level(),
            notBefore: term.not_before,
            expires: term.expires,
            fromEpoch: term.from_epoch,
        };
        Call::command(self.0, &call)
    }

    /// Takes back what people granted to `who`; also kills grants that were signed before and not brought yet.
    pub fn revoke(&self, content: ContentId, who: Address) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::revokeCall { id: content.as_u256(), who })
    }

    /// Gives up what people granted to the sender.
    pub fn renounce(&self, content: ContentId) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::renounceCall { id: content.as_u256() })
    }

    /// Lets `module` (a market, for instance) write read rows of its own, or stops it from writing more.
    pub fn set_module(&self, content: ContentId, module: Address, on: bool) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::setModuleCall { id: content.as_u256(), module, on })
    }

    /// Makes the content readable for every account, or stops that.
    pub fn set_public(&self, content: ContentId, on: bool) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::setPublicCall { id: content.as_u256(), on })
    }

    /// Names the accounts whose nodes release keys.
    pub fn set_custody(&self, content: ContentId, custodians: Vec<Address>) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::setCustodyCall { id: content.as_u256(), custodians })
    }

    /// Asks `gate` whenever no row allows; the zero address removes the gate.
    pub fn set_gate(&self, content: ContentId, gate: Address, data: Bytes) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::setGateCall { id: content.as_u256(), gate, data })
    }

    /// Puts the content into a collection from the next epoch on; [`None`] takes it out.
    pub fn set_parent(&self, content: ContentId, parent: Option<ContentId>) -> Call<()> {
        let parent = parent.map_or(U256::ZERO, |parent| parent.as_u256());
        Call::command(self.0, &abi::ContentRegistry::setParentCall { id: content.as_u256(), parent })
    }

    /// Begins the next epoch: the next version has a new key that grants of earlier epochs do not exclude by themselves.
    pub fn rotate(&self, content: ContentId) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::rotateCall { id: content.as_u256() })
    }

    /// Sets `FLAG_…` bits.
    pub fn set_flags(&self, content: ContentId, flags: u8) -> Call<()> {
        Call::command(self.0, &abi::ContentRegistry::setFlagsCall { id: content.as_u256(), flags })
    }

    /// Puts the key of a version on chain, for everyone and for good.
    pub fn disclose(&self, content: ContentId, version: u32, file_key: [u8; 16]) -> Call<()> {
        let call = abi::ContentRegistry::discloseCall {
            id: content.as_u256(),
            version,
            fileKey: FixedBytes(file_key),
        };
        Call::command(self.0, &call)
    }

    /// Names who ERC-2981 says should get a share of resales, in basis points.
    pub fn set_royalty(&self, content: ContentId, receiver: Address, bps: u16) -> Call<()> {
        let bps = alloy_primitives::Uint::<96, 2>::from(bps);
        Call::command(self.0, &abi::ContentRegistry::setRoyaltyCall { id: content.as_u256(), receiver, bps })
    }

    /// Asks the owner for a permission; nothing but an event.
    pub fn request_permission(&self, content: ContentId, level: Permission, purpose: B256) -> Call<()> {
        let call = abi::ContentRegistry::requestPermissionCall {
            id: content.as_u256(),
            level: level.level(),
            purpose,
        };
        Call::command(self.0, &call)
    }

    /// Gives the content, and all that belongs to it, to `to`.
    pub fn transfer(&self, from: Address, to: Address, content: ContentId) -> Call<()> {
        Call::command(
            self.0,
            &abi::ContentRegistry::transferFromCall { from, to, tokenId: content.as_u256() },
        )
    }

    /// Several calls of this registry in one transaction: all or none.
    pub fn multicall(&self, calls: impl IntoIterator<Item = Bytes>) -> Call<Vec<Bytes>> {
        Call::new(self.0, &abi::ContentRegistry::multicallCall { data: calls.into_iter().collect() })
    }

    /// The head of a content; reverts for an unknown one.
    pub fn head(&self, content: ContentId) -> Call<abi::ContentRegistry::Head> {
        Call::new(self.0, &abi::ContentRegistry::headCall { id: content.as_u256() })
    }

    /// Which version, epoch and revision a manifest is; version 0: never recorded.
    pub fn version_of(
        &self,
        content: ContentId,
        manifest: B256,
    ) -> Call<abi::ContentRegistry::versionOfReturn> {
        Call::new(self.0, &abi::ContentRegistry::versionOfCall { id: content.as_u256(), manifest })
    }

    /// The highest level that `who` has at this block, at the content's epoch.
    pub fn level_of(&self, content: ContentId, who: Address) -> Call<u8> {
        Call::new(self.0, &abi::ContentRegistry::levelOfCall { id: content.as_u256(), who })
    }

    /// One row of `who`: source 0 is people, the others are the modules in the order of [`modules_of`](Self::modules_of), from 1.
    pub fn row_of(&self, content: ContentId, who: Address, source: u8) -> Call<abi::ContentRegistry::Row> {
        Call::new(self.0, &abi::ContentRegistry::rowOfCall { id: content.as_u256(), who, source })
    }

    /// The modules that ever were enabled, in the order of their sources from 1 on.
    pub fn modules_of(&self, content: ContentId) -> Call<Vec<abi::ContentRegistry::Module>> {
        Call::new(self.0, &abi::ContentRegistry::modulesOfCall { id: content.as_u256() })
    }

    /// The accounts in custody now.
    pub fn custody_of(&self, content: ContentId) -> Call<Vec<Address>> {
        Call::new(self.0, &abi::ContentRegistry::custodyOfCall { id: content.as_u256() })
    }

    /// The accounts that were in custody at any time while `version` was the head: they go on releasing it to paid rows.
    pub fn custody_of_version(&self, content: ContentId, version: u32) -> Call<Vec<Address>> {
        Call::new(self.0, &abi::ContentRegistry::custodyOfVersionCall { id: content.as_u256(), version })
    }

    /// The owner; reverts for an unknown content.
    pub fn owner_of(&self, content: ContentId) -> Call<Address> {
        Call::new(self.0, &abi::ContentRegistry::ownerOfCall { tokenId: content.as_u256() })
    }

    /// The contract's answer to [`AccessControl::decide`](crate::AccessControl::decide): `u32::MAX` is the head's epoch, time 0 the block's.
    pub fn access_of(
        &self,
        content: ContentId,
        who: Address,
        epoch: u32,
        start_time: u64,
        end_time: u64,
    ) -> Call<abi::ContentRegistry::accessOfReturn> {
        let call = abi::ContentRegistry::accessOfCall {
            id: content.as_u256(),
            who,
            epoch,
            startTime: start_time,
            endTime: end_time,
        };
        Call::new(self.0, &call)
    }
}

/// Keeps the record that each custodian signs about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Custodians(Address);

impl Custodians {
    /// The contract deployed at `address`.
    pub fn at(address: Address) -> Self {
        Self(address)
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.0
    }

    /// Code that deploys it (no arguments).
    pub fn init_code() -> Bytes {
        abi::Custodians::BYTECODE.clone()
    }

    /// Stores the sender's record (at most 4 KiB; empty removes it).
    pub fn set_record(&self, record: Bytes) -> Call<()> {
        Call::command(self.0, &abi::Custodians::setRecordCall { record })
    }

    /// The record of `account`, empty if it has none. Believe it only with its Ed25519 signature.
    pub fn record_of(&self, account: Address) -> Call<Bytes> {
        Call::new(self.0, &abi::Custodians::recordOfCall { account })
    }
}

/// Sells read permissions: plans, orders, shares, withdrawals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Market(Address);

impl Market {
    /// The market deployed at `address`.
    pub fn at(address: Address) -> Self {
        Self(address)
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.0
    }

    /// Code that deploys a market of `registry`.
    pub fn init_code(registry: Address) -> Bytes {
        let constructor = abi::Market::constructorCall { registry_: registry };
        let mut code = abi::Market::BYTECODE.to_vec();
        code.extend(alloy_sol_types::SolConstructor::abi_encode(&constructor));
        code.into()
    }

    /// Offers a content; only its owner may, and the market must be one of its modules before anyone can buy. Answers the plan's id.
    pub fn list(&self, content: ContentId, plan: abi::Market::Plan) -> Call<U256> {
        Call::new(self.0, &abi::Market::listCall { id: content.as_u256(), plan })
    }

    /// Ends the sale of a plan; what was bought stays.
    pub fn close(&self, plan: U256) -> Call<()> {
        Call::command(self.0, &abi::Market::closeCall { planId: plan })
    }

    /// Buys a plan for `to`, at no more than `max_price`, expecting `manifest` to be of the head version. For a plan in native coin
    /// add its price by [`Call::with_value`]; for a token approve the market first. Answers the order's id.
    pub fn buy(
        &self,
        plan: U256,
        to: Address,
        max_price: U256,
        referrer: Option<Address>,
        manifest: B256,
    ) -> Call<U256> {
        let call = abi::Market::buyCall {
            planId: plan,
            to,
            maxPrice: max_price,
            referrer: referrer.unwrap_or_default(),
            expectedManifest: manifest,
        };
        Call::new(self.0, &call)
    }

    /// Ends all living orders of the order's reader, paying each back in full: send [`cut_cost`](Self::cut_cost) along.
    pub fn cut_with_refund(&self, order: U256) -> Call<()> {
        Call::command(self.0, &abi::Market::cutWithRefundCall { orderId: order })
    }

    /// What a cut costs in native coin now.
    pub fn cut_cost(&self, order: U256) -> Call<U256> {
        Call::new(self.0, &abi::Market::cutCostCall { orderId: order })
    }

    /// Pays out all that the sender is owed in `token` (zero address: native coin) to `to`. Answers the amount.
    pub fn withdraw(&self, token: Address, to: Address) -> Call<U256> {
        Call::new(self.0, &abi::Market::withdrawCall { token, to })
    }

    /// What `account` may withdraw.
    pub fn owed(&self, token: Address, account: Address) -> Call<U256> {
        Call::new(self.0, &abi::Market::owedCall { token, account })
    }

    /// What all accounts together may withdraw: never more than the market holds.
    pub fn total_owed(&self, token: Address) -> Call<U256> {
        Call::new(self.0, &abi::Market::totalOwedCall { token })
    }

    /// A plan, and how its sale stands.
    pub fn offer_of(&self, plan: U256) -> Call<abi::Market::Offer> {
        Call::new(self.0, &abi::Market::offerOfCall { planId: plan })
    }

    /// All plans of a content.
    pub fn plans_of(&self, content: ContentId) -> Call<Vec<U256>> {
        Call::new(self.0, &abi::Market::plansOfCall { id: content.as_u256() })
    }

    /// An order.
    pub fn order_of(&self, order: U256) -> Call<abi::Market::Order> {
        Call::new(self.0, &abi::Market::orderOfCall { orderId: order })
    }

    /// The orders of a reader that are neither cut nor expired.
    pub fn orders_of(&self, content: ContentId, reader: Address) -> Call<Vec<U256>> {
        Call::new(self.0, &abi::Market::ordersOfCall { id: content.as_u256(), reader })
    }
}

/// A revert reason as a person can read it: the contracts' own errors by name and values, `Error(string)` by its text.
pub fn error_name(data: &[u8]) -> Option<String> {
    use alloy_sol_types::{SolError, SolInterface};
    let shown = abi::ContentRegistry::ContentRegistryErrors::abi_decode_validate(data)
        .map(|error| format!("{error:?}"));
    let shown = shown
        .or_else(|_| abi::Market::MarketErrors::abi_decode_validate(data).map(|error| format!("{error:?}")));
    let shown = shown.or_else(|_| {
        abi::Custodians::CustodiansErrors::abi_decode_validate(data).map(|error| format!("{error:?}"))
    });
    match shown {
        // The variant holds a struct of the same name, which alone tells all.
        Ok(shown) => Some(match shown.split_once('(') {
            Some((_, inner)) => inner.strip_suffix(')').unwrap_or(inner).to_owned(),
            None => shown,
        }),
        Err(_) => alloy_sol_types::Revert::abi_decode(data).ok().map(|revert| revert.reason),
    }
}
