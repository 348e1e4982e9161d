//! `list`, `buy`, `cut` and `withdraw`: the market as the parties of a sale use it.

use alloy_primitives::{Address, U256};
use lightstreams_acl::{
    ContentRegistry, ContentUri, Event, Market,
    abi::Market::{MarketEvents, Offer, Payee, Plan},
};
use serde_json::json;

use super::{
    args::{BuyArgs, CutArgs, ListArgs, Terms, WithdrawArgs},
    session::{Sent, Session, Status},
    wallet::Wallet,
};
use crate::{
    error::{Exit, NodeError, Result},
    units::coins,
};

/// All of a sale, in basis points.
const WHOLE: u16 = 10_000;
/// No more plans of one content are compared.
const PLANS_MAX: usize = 256;

/// Runs `list`.
pub(super) async fn run_list(session: &Session, arguments: &ListArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let price = arguments
        .terms
        .price
        .ok_or_else(|| NodeError::usage("no_price", "what does it cost? Give --price"))?;
    let wallet = session.wallet()?;
    let registry = ContentRegistry::at(uri.registry);
    let market = status.market()?;
    let modules = session.call(registry.modules_of(uri.content)).await?;
    if !modules.iter().any(|module| module.module == market && module.enabled) {
        session.send(&wallet, "let the market sell", registry.set_module(uri.content, market, true)).await?;
    }
    let (sent, plan) = list(session, &status, &wallet, &uri, price, &arguments.terms).await?;
    session.finality(sent.block).await?;
    session.out().result(
        &[format!("plan {plan}: {} coins, transaction {} in block {}", coins(price), sent.hash, sent.block)],
        &json!({ "plan": plan.to_string(), "price": coins(price), "transaction": sent.hash, "block": sent.block }),
    )
}

/// Lists a plan; gives the transaction and the plan's id.
pub(super) async fn list(
    session: &Session,
    status: &Status,
    wallet: &Wallet,
    uri: &ContentUri,
    price: U256,
    terms: &Terms,
) -> Result<(Sent, U256)> {
    let plan = Plan {
        token: Address::ZERO,
        price: u128::try_from(price)
            .map_err(|_| NodeError::usage("bad_price", "nobody has so many coins"))?,
        duration: terms.duration.unwrap_or(0),
        supply: terms.supply,
        referrerBps: terms.referrer,
        payees: payees(wallet.address(), terms)?,
    };
    let sent = session
        .send(wallet, "list the content for sale", Market::at(status.market()?).list(uri.content, plan))
        .await?;
    let listed = events(&sent).find_map(|event| match event {
        MarketEvents::Listed(listed) => Some(listed.planId),
        _ => None,
    });
    Ok((sent, listed.ok_or_else(|| unexpected("a listing"))?))
}

/// Who shares in a sale; what is not split is the seller's.
fn payees(seller: Address, terms: &Terms) -> Result<Vec<Payee>> {
    let split: u32 = terms.split.iter().map(|share| u32::from(share.bps)).sum();
    let rest = u32::from(WHOLE).checked_sub(split).and_then(|rest| u16::try_from(rest).ok());
    let rest =
        rest.ok_or_else(|| NodeError::usage("bad_split", "the shares of --split are more than 100 percent"))?;
    let mut payees: Vec<Payee> =
        terms.split.iter().map(|share| Payee { account: share.payee, bps: share.bps }).collect();
    if rest > 0 {
        payees.insert(0, Payee { account: seller, bps: rest });
    }
    Ok(payees)
}

/// Runs `buy`.
pub(super) async fn buy(session: &Session, arguments: &BuyArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let market = Market::at(status.market()?);
    let head = session.call(ContentRegistry::at(uri.registry).head(uri.content)).await?;
    let (plan, offer) = choose(session, &market, &uri, head.generation, arguments.plan).await?;
    let price = U256::from(offer.plan.price);
    if arguments.max_price.is_some_and(|most| price > most) {
        let message = format!("plan {plan} costs {} coins, more than --max-price", coins(price));
        return Err(NodeError::new("too_expensive", message).exit(Exit::Funds));
    }
    let custody = session.call(ContentRegistry::at(uri.registry).custody_of(uri.content)).await?;
    if custody == [offer.seller] {
        session.out().note(
            "note: the seller alone releases the key of this content; nobody else can, should it go away",
        );
    }
    let wallet = session.wallet()?;
    let to = arguments.to.unwrap_or(wallet.address());
    let call = market.buy(plan, to, price, arguments.referrer, head.manifest).with_value(price);
    let sent = session.send(&wallet, "buy", call).await?;
    let bought = events(&sent).find_map(|event| match event {
        MarketEvents::Purchased(purchased) => Some(purchased),
        _ => None,
    });
    let bought = bought.ok_or_else(|| unexpected("a purchase"))?;
    session.finality(sent.block).await?;
    let order: u64 = bought.orderId.saturating_to();
    session.out().result(
        &[
            format!("order {order}: paid {} coins, {to} may read", coins(bought.price)),
            format!("  transaction {} in block {}, final", sent.hash, sent.block),
            format!("  next: lightstreams get {uri}"),
        ],
        &json!({
            "order": order,
            "plan": plan.to_string(),
            "price": coins(bought.price),
            "reader": to,
            "expires": bought.expires,
            "transaction": sent.hash,
            "block": sent.block,
        }),
    )
}

/// The plan that was named, or the cheapest in coins that sells now.
async fn choose(
    session: &Session,
    market: &Market,
    uri: &ContentUri,
    generation: u32,
    named: Option<u64>,
) -> Result<(U256, Offer)> {
    let plans = match named {
        Some(plan) => vec![U256::from(plan)],
        None => session.call(market.plans_of(uri.content)).await?,
    };
    let mut best: Option<(U256, Offer)> = None;
    for plan in plans.into_iter().rev().take(PLANS_MAX) {
        let offer = session.call(market.offer_of(plan)).await?;
        let sells = offer.id == uri.content.as_u256()
            && !offer.closed
            && offer.generation == generation
            && offer.plan.token == Address::ZERO
            && (offer.plan.supply == 0 || offer.sold < offer.plan.supply);
        if sells && best.as_ref().is_none_or(|(_, known)| offer.plan.price < known.plan.price) {
            best = Some((plan, offer));
        }
    }
    best.ok_or_else(|| {
        NodeError::not_found("not_for_sale", format!("no plan sells {uri} for coins"))
            .hint("`lightstreams info` shows what is offered")
    })
}

/// Runs `cut`.
pub(super) async fn cut(session: &Session, arguments: &CutArgs) -> Result<()> {
    let status = session.status().await?;
    let market = Market::at(status.market()?);
    let order = U256::from(arguments.order);
    let refund = match arguments.refund {
        Some(refund) => refund,
        None => session.call(market.cut_cost(order)).await?,
    };
    let wallet = session.wallet()?;
    let sent =
        session.send(&wallet, "cut with refund", market.cut_with_refund(order).with_value(refund)).await?;
    session.finality(sent.block).await?;
    session.out().result(
        &[format!("order {order} is cut, {} coins are credited to who paid; block {}", coins(refund), sent.block)],
        &json!({ "order": arguments.order, "refund": coins(refund), "transaction": sent.hash, "block": sent.block }),
    )
}

/// Runs `withdraw`.
pub(super) async fn withdraw(session: &Session, arguments: &WithdrawArgs) -> Result<()> {
    let status = session.status().await?;
    let market = Market::at(status.market()?);
    let account = session.account()?;
    let owed = session.call(market.owed(Address::ZERO, account)).await?;
    if owed.is_zero() {
        return Err(NodeError::not_found("nothing_owed", format!("the market owes {account} nothing")));
    }
    let wallet = session.wallet()?;
    let to = arguments.to.unwrap_or(account);
    let sent = session.send(&wallet, "withdraw", market.withdraw(Address::ZERO, to)).await?;
    session.finality(sent.block).await?;
    let paid = events(&sent).find_map(|event| match event {
        MarketEvents::Withdrawn(withdrawn) => Some(withdrawn.amount),
        _ => None,
    });
    let paid = paid.ok_or_else(|| unexpected("a withdrawal"))?;
    session.out().result(
        &[format!("{} coins to {to}, transaction {} in block {}", coins(paid), sent.hash, sent.block)],
        &json!({ "amount": coins(paid), "to": to, "transaction": sent.hash, "block": sent.block }),
    )
}

/// The market's events of a transaction.
fn events(sent: &Sent) -> impl Iterator<Item = MarketEvents> + '_ {
    sent.logs.iter().filter_map(|log| match Event::decode(log) {
        Ok(Some(Event::Market(event))) => Some(event),
        _ => None,
    })
}

fn unexpected(what: &str) -> NodeError {
    NodeError::new("abi", format!("the transaction is in a block, and its logs show no {what}"))
        .hint("is this network's market the one of this version?")
}
