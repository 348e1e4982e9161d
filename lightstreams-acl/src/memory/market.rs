//! The market of the model: plans, orders, and what is owed to whom.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256};

use super::{MemoryAcl, Refused};
use crate::{ContentId, Permission, Term};

const WHOLE: u32 = 10_000;
const PAYEES_MAX: usize = 16;
const LIVING_MAX: usize = 8;
const LIVING_GIFTS_MAX: usize = 4;

/// The terms of a sale, as the contract's `Plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What it is paid in; zero address: native coin.
    pub token: Address,
    /// The price of one order.
    pub price: u128,
    /// Seconds; 0: for good.
    pub duration: u64,
    /// How many are sold at most; 0: any number.
    pub supply: u32,
    /// The share of who brought the buyer, in basis points.
    pub referrer_bps: u16,
    /// Who shares the rest, in basis points that add up to 10,000; empty: the seller.
    pub payees: Vec<(Address, u16)>,
}

/// An order, as the contract's `Order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What was bought.
    pub content: ContentId,
    /// By which plan.
    pub plan: u64,
    /// Who paid, and gets it back in a cut.
    pub payer: Address,
    /// Who may read.
    pub reader: Address,
    /// The order's own term.
    pub term: Term,
    /// Whether it was cut.
    pub cut: bool,
}

#[derive(Clone, Debug)]
struct Offer {
    content: ContentId,
    seller: Address,
    generation: u32,
    sold: u32,
    closed: bool,
    plan: Plan,
}

/// Numbers of plans and orders count from 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Sales {
    offers: BTreeMap<u64, Offer>,
    orders: BTreeMap<u64, Order>,
    owed: BTreeMap<(Address, Address), U256>,
}

impl Sales {
    fn credit(&mut self, token: Address, account: Address, amount: u128) {
        let owed = self.owed.entry((token, account)).or_default();
        *owed = owed.saturating_add(U256::from(amount));
    }

    fn next(numbers: Option<&u64>) -> u64 {
        numbers.map_or(1, |last| last.saturating_add(1))
    }

    fn living(&self, content: ContentId, reader: Address, now: u64) -> Vec<u64> {
        let mine = self.orders.iter().filter(|(_, order)| order.content == content && order.reader == reader);
        mine.filter(|(_, order)| living(order, now)).map(|(number, _)| *number).collect()
    }
}

fn living(order: &Order, now: u64) -> bool {
    !order.cut && (order.term.expires == 0 || order.term.expires > now)
}

impl MemoryAcl {
    /// Offers a content; answers the plan's number.
    pub fn list(&mut self, by: Address, content: ContentId, plan: Plan) -> Result<u64, Refused> {
        let known = self.contents.get(&content).ok_or(Refused::UnknownContent)?;
        if known.owner != by {
            return Err(Refused::NotOwner);
        }
        let sum: u32 = plan.payees.iter().map(|(_, bps)| u32::from(*bps)).sum();
        let wrong_payee = plan.payees.iter().any(|(account, bps)| account.is_zero() || *bps == 0);
        let wrong_sum = !plan.payees.is_empty() && sum != WHOLE;
        let too_much = plan.payees.len() > PAYEES_MAX || u32::from(plan.referrer_bps) > WHOLE;
        if wrong_payee || wrong_sum || too_much || plan.duration > u64::MAX / 2 {
            return Err(Refused::InvalidPlan);
        }
        let number = Sales::next(self.sales.offers.keys().next_back());
        let generation = known.generation;
        self.sales
            .offers
            .insert(number, Offer { content, seller: by, generation, sold: 0, closed: false, plan });
        Ok(number)
    }

    /// Ends the sale of a plan.
    pub fn close(&mut self, by: Address, plan: u64) -> Result<(), Refused> {
        let offer = self.sales.offers.get_mut(&plan).ok_or(Refused::UnknownPlan)?;
        let owner = self.contents.get(&offer.content).map(|content| content.owner);
        if by != offer.seller && Some(by) != owner {
            return Err(Refused::NotOwner);
        }
        offer.closed = true;
        Ok(())
    }

    /// Buys a plan for `to`, sending `value` of native coin along; a token is taken as if the allowance sufficed. Answers the order's number.
    #[allow(clippy::too_many_arguments)] // The contract's own arguments, sender and coin.
    pub fn buy(
        &mut self,
        by: Address,
        value: U256,
        plan: u64,
        to: Address,
        max_price: U256,
        referrer: Option<Address>,
        manifest: B256,
    ) -> Result<u64, Refused> {
        let now = self.now;
        let offer = self.sales.offers.get(&plan).cloned().ok_or(Refused::UnknownPlan)?;
        let price = offer.plan.price;
        if to.is_zero() {
            return Err(Refused::InvalidAccount);
        }
        if U256::from(price) > max_price {
            return Err(Refused::PriceAboveMax);
        }
        if value != if offer.plan.token.is_zero() { U256::from(price) } else { U256::ZERO } {
            return Err(Refused::WrongValue);
        }
        let content = self.contents.get(&offer.content).ok_or(Refused::UnknownContent)?;
        if offer.closed || offer.generation != content.generation {
            return Err(Refused::PlanEnded);
        }
        if offer.plan.supply != 0 && offer.sold >= offer.plan.supply {
            return Err(Refused::SoldOut);
        }
        if content.custodians.is_empty() {
            return Err(Refused::NoCustody);
        }
        let place = content.manifests.get(&manifest).filter(|place| place.0 == content.head.0);
        let from_epoch = place.ok_or(Refused::WrongManifest)?.1;
        let mut alive = self.sales.living(offer.content, to, now);
        if alive.len() >= if to == by { LIVING_MAX } else { LIVING_GIFTS_MAX } {
            return Err(Refused::TooManyOrders);
        }

        let expires = if offer.plan.duration == 0 { 0 } else { now.saturating_add(offer.plan.duration) };
        let term = Term { not_before: now, expires, from_epoch };
        let order = Order { content: offer.content, plan, payer: by, reader: to, term, cut: false };
        let number = Sales::next(self.sales.orders.keys().next_back());
        alive.push(number);
        // The row goes first: if the market is no module, nothing is sold.
        let orders = || alive.iter().filter_map(|n| self.sales.orders.get(n)).chain([&order]);
        let row = Term {
            not_before: orders().map(|order| order.term.not_before).min().unwrap_or(now),
            expires: latest(orders().map(|order| order.term.expires)),
            from_epoch: orders().map(|order| order.term.from_epoch).min().unwrap_or(from_epoch),
        };
        self.module_grant(self.market, offer.content, to, row)?;

        self.sales.orders.insert(number, order);
        if let Some(offer) = self.sales.offers.get_mut(&plan) {
            offer.sold = offer.sold.saturating_add(1);
        }
        self.split(&offer, price, referrer);
        Ok(number)
    }

    /// Ends all living orders of the order's reader, paying each back; `value` of native coin is sent along.
    pub fn cut_with_refund(&mut self, by: Address, value: U256, order: u64) -> Result<(), Refused> {
        let now = self.now;
        let named = self.sales.orders.get(&order).copied().filter(|order| living(order, now));
        let Order { content, reader, .. } = named.ok_or(Refused::NotLiving)?;
        if self.level_of(content, by) < Permission::Admin {
            return Err(Refused::NotAdmin);
        }
        if value != self.cut_cost(order) {
            return Err(Refused::WrongValue);
        }
        for number in self.sales.living(content, reader, now) {
            let Some(order) = self.sales.orders.get_mut(&number) else { continue };
            order.cut = true;
            let payer = order.payer;
            let Some(plan) = self.sales.offers.get(&order.plan).map(|offer| offer.plan.clone()) else {
                continue;
            };
            self.sales.credit(plan.token, payer, plan.price);
        }
        self.module_clear(self.market, content, reader)
    }

    /// The native coin that a cut takes now.
    pub fn cut_cost(&self, order: u64) -> U256 {
        let Some(named) = self.sales.orders.get(&order) else { return U256::ZERO };
        let living = self.sales.living(named.content, named.reader, self.now);
        let plans = living.iter().filter_map(|number| self.sales.orders.get(number));
        let plans = plans.filter_map(|order| self.sales.offers.get(&order.plan)).map(|offer| &offer.plan);
        plans.filter(|plan| plan.token.is_zero()).map(|plan| U256::from(plan.price)).sum()
    }

    /// Pays out what `by` is owed; answers the amount.
    pub fn withdraw(&mut self, by: Address, token: Address) -> Result<U256, Refused> {
        self.sales.owed.remove(&(token, by)).filter(|owed| !owed.is_zero()).ok_or(Refused::NothingOwed)
    }

    /// What `account` may withdraw.
    pub fn owed(&self, token: Address, account: Address) -> U256 {
        self.sales.owed.get(&(token, account)).copied().unwrap_or_default()
    }

    /// An order.
    pub fn order_of(&self, order: u64) -> Option<Order> {
        self.sales.orders.get(&order).copied()
    }

    fn split(&mut self, offer: &Offer, price: u128, referrer: Option<Address>) {
        let plan = &offer.plan;
        let part = |of: u128, bps: u16| {
            let share = U256::from(of).saturating_mul(U256::from(bps)) / U256::from(WHOLE);
            u128::try_from(share).unwrap_or(of)
        };
        let mut rest = price;
        if let Some(referrer) = referrer {
            let share = part(price, plan.referrer_bps);
            rest = rest.saturating_sub(share);
            self.sales.credit(plan.token, referrer, share);
        }
        let Some(((first, _), others)) = plan.payees.split_first() else {
            self.sales.credit(plan.token, offer.seller, rest);
            return;
        };
        let mut left = rest;
        for (account, bps) in others {
            let share = part(rest, *bps);
            left = left.saturating_sub(share);
            self.sales.credit(plan.token, *account, share);
        }
        self.sales.credit(plan.token, *first, left);
    }
}

/// The latest of some ends, where 0 is never.
fn latest(ends: impl Iterator<Item = u64>) -> u64 {
    ends.max_by_key(|end| if *end == 0 { u64::MAX } else { *end }).unwrap_or(0)
}
