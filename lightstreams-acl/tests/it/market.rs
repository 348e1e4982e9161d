//! What was paid for stays, and the market never owes more than it holds.

use lightstreams_acl::abi;
use lightstreams_acl::abi::Market::{Payee, Plan};
use lightstreams_acl::{
    AccessControl, Address, At, B256, BlockRef, Call, ContentId, ContractAcl, Event, Permission, Request,
    Term, U256,
};

use crate::world::{ETHER, TestToken, TestWallet, World};

const MANIFEST: B256 = B256::repeat_byte(1);
const PRICE: u128 = 10 * ETHER;

/// Account 0 sells, 1 buys, 2 and 3 share, 4 has nothing to do with it.
struct Shop {
    world: World,
    id: ContentId,
}

fn plan() -> Plan {
    Plan { token: Address::ZERO, duration: 0, supply: 0, price: PRICE, referrerBps: 0, payees: vec![] }
}

impl Shop {
    fn new() -> Self {
        let world = World::new(5);
        let (registry, seller) = (world.at.registry, world.who(0));
        let id =
            world.send(seller, &registry.register(B256::ZERO, MANIFEST, 0)).map(ContentId::from).unwrap();
        let setup = [
            registry.set_module(id, world.at.market.address(), true).data,
            registry.set_custody(id, vec![seller]).data,
        ];
        world.send(seller, &registry.multicall(setup)).unwrap();
        Self { world, id }
    }

    #[track_caller]
    fn list(&self, plan: Plan) -> U256 {
        self.world.send(self.world.who(0), &self.world.at.market.list(self.id, plan)).unwrap()
    }

    fn buy_as(
        &self,
        by: Address,
        plan: U256,
        to: Address,
        referrer: Option<Address>,
    ) -> Result<U256, String> {
        let offer = self.world.ask(&self.world.at.market.offer_of(plan)).plan;
        let value = if offer.token.is_zero() { U256::from(offer.price) } else { U256::ZERO };
        let call = self.world.at.market.buy(plan, to, U256::MAX, referrer, MANIFEST);
        self.world.send(by, &call.with_value(value))
    }

    fn buy(&self, plan: U256) -> Result<U256, String> {
        self.buy_as(self.world.who(1), plan, self.world.who(1), None)
    }

    fn owed(&self, token: Address, who: Address) -> u128 {
        self.world.ask(&self.world.at.market.owed(token, who)).to()
    }

    fn reads(&self, who: Address) -> bool {
        let acl = ContractAcl::new(&self.world.chain, self.world.at.registry);
        acl.decide(self.id, who, At::block(BlockRef::Head)).unwrap().is_allowed()
    }

    fn token(&self, holders: &[Address]) -> Address {
        let token = self.world.deploy_token();
        for holder in holders {
            let mint = TestToken::mintCall { to: *holder, amount: U256::from(100 * PRICE) };
            self.world.send(*holder, &Call::command(token, &mint)).unwrap();
            let approve =
                TestToken::approveCall { spender: self.world.at.market.address(), value: U256::MAX };
            self.world.send(*holder, &Call::command(token, &approve)).unwrap();
        }
        token
    }

    fn wallet(&self) -> Address {
        let constructor = TestWallet::constructorCall { key_: self.world.who(0) };
        let arguments = lightstreams_acl::alloy_sol_types::SolConstructor::abi_encode(&constructor);
        let wallet = self
            .world
            .chain
            .deploy(self.world.who(0), [&TestWallet::BYTECODE[..], &arguments].concat().into());
        self.world.chain.fund(wallet, U256::ZERO);
        wallet
    }
}

#[test]
fn a_sale_is_split_among_referrer_and_payees_to_the_last_unit() {
    let shop = Shop::new();
    let [referrer, first, second, third] = [4, 0, 2, 3].map(|number| shop.world.who(number));
    let payees = [(first, 3_333), (second, 3_333), (third, 3_334)];
    let payees = payees.map(|(account, bps)| Payee { account, bps }).to_vec();
    let price = 1_000_001;
    let number = shop.list(Plan { price, referrerBps: 1_000, payees, ..plan() });
    shop.buy_as(shop.world.who(1), number, shop.world.who(1), Some(referrer)).unwrap();
    let owed = [referrer, first, second, third].map(|who| shop.owed(Address::ZERO, who));
    // 10 % of 1,000,001 for the referrer; of the remaining 900,001 the others' shares, rounded down; what is left for the first.
    assert_eq!(owed, [100_000, 299_971, 299_970, 300_060]);
    assert_eq!(owed.iter().sum::<u128>(), price);
    assert!(shop.reads(shop.world.who(1)));
}

#[test]
fn payees_withdraw_and_a_payee_that_refuses_coin_hinders_nobody() {
    let shop = Shop::new();
    let (wallet, seller) = (shop.wallet(), shop.world.who(0));
    shop.world.send(seller, &Call::command(wallet, &TestWallet::setRefusesCall { on: true })).unwrap();
    let payees = vec![Payee { account: seller, bps: 5_000 }, Payee { account: wallet, bps: 5_000 }];
    let number = shop.list(Plan { payees, ..plan() });
    shop.buy(number).unwrap();
    let market = shop.world.at.market;
    let before = shop.world.chain.balance(seller);
    assert_eq!(shop.world.send(seller, &market.withdraw(Address::ZERO, seller)), Ok(U256::from(PRICE / 2)));
    assert_eq!(shop.world.chain.balance(seller) - before, U256::from(PRICE / 2));
    assert_eq!(shop.world.send(seller, &market.withdraw(Address::ZERO, seller)), Err("NothingOwed".into()));
    let withdraw = |to| {
        let data = market.withdraw(Address::ZERO, to).data;
        Call::command(wallet, &TestWallet::runCall { to: market.address(), value: U256::ZERO, data })
    };
    assert!(shop.world.send(seller, &withdraw(wallet)).is_err());
    assert_eq!(shop.owed(Address::ZERO, wallet), PRICE / 2);
    shop.world.send(seller, &withdraw(shop.world.who(4))).unwrap();
    assert_eq!(shop.owed(Address::ZERO, wallet), 0);
    assert_eq!(shop.world.chain.balance(market.address()), U256::ZERO);
}

#[test]
fn nobody_pays_where_nothing_would_be_sold() {
    let shop = Shop::new();
    let (world, market, registry) = (&shop.world, shop.world.at.market, shop.world.at.registry);
    let (seller, buyer) = (world.who(0), world.who(1));
    let number = shop.list(Plan { supply: 1, ..plan() });
    let try_buy = |max: u128, value: u128, manifest: B256| {
        let call = market.buy(number, buyer, U256::from(max), None, manifest).with_value(U256::from(value));
        world.send(buyer, &call)
    };
    assert_eq!(try_buy(PRICE - 1, PRICE, MANIFEST), Err("PriceAboveMax".into()));
    assert_eq!(try_buy(PRICE, PRICE - 1, MANIFEST), Err("WrongValue".into()));
    assert_eq!(try_buy(PRICE, PRICE + 1, MANIFEST), Err("WrongValue".into()));
    assert_eq!(try_buy(PRICE, PRICE, B256::repeat_byte(9)), Err("WrongManifest".into()));
    assert_eq!(try_buy(PRICE, PRICE, B256::ZERO), Err("WrongManifest".into()));

    world.send(seller, &registry.set_custody(shop.id, vec![])).unwrap();
    assert_eq!(try_buy(PRICE, PRICE, MANIFEST), Err("NoCustody".into()));
    world.send(seller, &registry.set_custody(shop.id, vec![seller])).unwrap();
    world.send(seller, &registry.set_module(shop.id, market.address(), false)).unwrap();
    assert_eq!(try_buy(PRICE, PRICE, MANIFEST), Err("NotAModule".into()));
    world.send(seller, &registry.set_module(shop.id, market.address(), true)).unwrap();

    // A rewrap keeps the version that the buyer expects, a new version does not.
    world.send(seller, &registry.rewrap(shop.id, B256::repeat_byte(2), 1, 0)).unwrap();
    try_buy(PRICE, PRICE, MANIFEST).unwrap();
    assert_eq!(try_buy(PRICE, PRICE, MANIFEST), Err("SoldOut".into()));
    let number = shop.list(plan());
    world.send(seller, &registry.publish(shop.id, B256::repeat_byte(3), 1, 0)).unwrap();
    assert_eq!(shop.buy(number), Err("WrongManifest".into()));
    world.send(seller, &market.close(number)).unwrap();
    assert_eq!(shop.buy(number), Err("PlanEnded".into()));
    let unknown = market.buy(U256::from(99), buyer, U256::MAX, None, MANIFEST);
    assert_eq!(world.send(buyer, &unknown), Err("UnknownPlan".into()));
}

#[test]
fn the_seller_cannot_take_back_what_was_paid_for() {
    let shop = Shop::new();
    let (world, registry, market) = (&shop.world, shop.world.at.registry, shop.world.at.market);
    let (seller, buyer, heir) = (world.who(0), world.who(1), world.who(2));
    let number = shop.list(plan());
    let order = shop.buy(number).unwrap();
    let id = shop.id;

    world.send(seller, &registry.revoke(id, buyer)).unwrap();
    world.send(seller, &registry.set_module(id, market.address(), false)).unwrap();
    world.send(seller, &registry.rotate(id)).unwrap();
    world.send(seller, &registry.set_custody(id, vec![])).unwrap();
    let clear = abi::ContentRegistry::moduleClearCall { id: id.as_u256(), who: buyer };
    assert_eq!(world.send(seller, &Call::command(registry.address(), &clear)), Err("NotAModule".into()));
    assert_eq!(world.send(seller, &market.cut_with_refund(order)), Err("WrongValue".into()));
    let half = market.cut_with_refund(order).with_value(U256::from(PRICE / 2));
    assert_eq!(world.send(seller, &half), Err("WrongValue".into()));
    world.send(seller, &registry.transfer(seller, heir, id)).unwrap();
    assert!(
        shop.reads(buyer),
        "after revocation, disabled module, rotation, lost custody, and a sale of the content"
    );
    assert_eq!(shop.buy(number), Err("PlanEnded".into()));
    // A stranger may not cut even with the money; the new owner may, and only with all of it.
    let full = market.cut_with_refund(order).with_value(U256::from(PRICE));
    assert_eq!(world.send(world.who(4), &full), Err("NotAdmin".into()));
    world.send(heir, &full).unwrap();
    assert!(!shop.reads(buyer));
    assert_eq!(shop.owed(Address::ZERO, buyer), PRICE);
    assert_eq!(world.send(heir, &full), Err("NotLiving".into()));
    // The custodian of the time is still found.
    assert_eq!(world.ask(&registry.custody_of_version(id, 1)), [seller]);
}

#[test]
fn a_cut_pays_back_every_living_order_to_who_paid_in_what_it_was_paid() {
    let shop = Shop::new();
    let (world, market) = (&shop.world, shop.world.at.market);
    let (seller, reader, friend) = (world.who(0), world.who(1), world.who(2));
    let token = shop.token(&[seller, reader]);
    let rental = shop.list(Plan { duration: 100, price: 5, ..plan() });
    let for_good = shop.list(Plan { price: 7, ..plan() });
    let in_tokens = shop.list(Plan { price: 11, token, ..plan() });
    shop.buy(rental).unwrap();
    world.chain.set_time(2_000); // The rental is over: nobody owes it any more.
    let gift = shop.buy_as(friend, for_good, reader, None).unwrap();
    shop.buy(rental).unwrap();
    shop.buy(in_tokens).unwrap();
    assert_eq!(world.ask(&market.orders_of(shop.id, reader)).len(), 3);
    assert_eq!(world.ask(&market.cut_cost(gift)), U256::from(12));
    let seller_had = shop.owed(token, seller);
    world.send(seller, &market.cut_with_refund(gift).with_value(U256::from(12))).unwrap();
    assert!(!shop.reads(reader));
    assert_eq!(shop.owed(Address::ZERO, friend), 7);
    assert_eq!(shop.owed(Address::ZERO, reader), 5);
    assert_eq!(shop.owed(token, reader), 11);
    assert_eq!(shop.owed(token, seller), seller_had);
    let held = world.ask(&Call::new(token, &TestToken::balanceOfCall { account: market.address() }));
    assert_eq!(held, world.ask(&market.total_owed(token)));
    // The reader may buy again.
    shop.buy(rental).unwrap();
    assert!(shop.reads(reader));
}

#[test]
fn one_order_never_shortens_another() {
    let shop = Shop::new();
    let reader = shop.world.who(1);
    let long = shop.list(Plan { duration: 1_000, price: 1, ..plan() });
    let short = shop.list(Plan { duration: 10, price: 1, ..plan() });
    shop.buy(long).unwrap();
    shop.buy(short).unwrap();
    shop.world.chain.set_time(1_999);
    assert!(shop.reads(reader));
    shop.world.chain.set_time(2_000);
    assert!(!shop.reads(reader));
}

#[test]
fn a_token_that_keeps_a_fee_or_calls_back_gains_nothing() {
    let shop = Shop::new();
    let (world, market, buyer) = (&shop.world, shop.world.at.market, shop.world.who(1));
    let token = shop.token(&[buyer]);
    let number = shop.list(Plan { token, price: 10_000, ..plan() });
    world.send(buyer, &Call::command(token, &TestToken::setFeeCall { bps: U256::from(1) })).unwrap();
    assert_eq!(shop.buy(number), Err("TokenTookFee".into()));
    world.send(buyer, &Call::command(token, &TestToken::setFeeCall { bps: U256::ZERO })).unwrap();

    let again = market.buy(number, buyer, U256::MAX, None, MANIFEST);
    let withdraw = market.withdraw(token, buyer);
    let cut = market.cut_with_refund(U256::ONE);
    for attack in [again.data.clone(), withdraw.data, cut.data] {
        let set = TestToken::setAttackCall { target_: market.address(), attack_: attack };
        world.send(buyer, &Call::command(token, &set)).unwrap();
        shop.buy(number).unwrap();
        assert!(!world.ask(&Call::new(token, &TestToken::attackSucceededCall {})));
    }
    let owed: U256 = world.ask(&market.total_owed(token));
    assert_eq!(owed, U256::from(30_000));
    // A call that returns false or nothing at all is not a payment.
    let no_token = shop.list(Plan { token: world.who(4), ..plan() });
    assert!(world.send(buyer, &market.buy(no_token, buyer, U256::MAX, None, MANIFEST)).is_err());
}

#[test]
fn only_sound_plans_are_listed_and_only_by_the_owner() {
    let shop = Shop::new();
    let (world, market) = (&shop.world, shop.world.at.market);
    let payee = |bps| Payee { account: world.who(2), bps };
    let wrong = [
        ("shares of 9,999", Plan { payees: vec![payee(9_999)], ..plan() }),
        ("shares of 10,001", Plan { payees: vec![payee(10_000), payee(1)], ..plan() }),
        ("a share of nothing", Plan { payees: vec![payee(10_000), payee(0)], ..plan() }),
        ("nobody", Plan { payees: vec![Payee { account: Address::ZERO, bps: 10_000 }], ..plan() }),
        ("17 payees", Plan { payees: [vec![payee(1); 16], vec![payee(9_984)]].concat(), ..plan() }),
        ("all and more for the referrer", Plan { referrerBps: 10_001, ..plan() }),
        ("a term that overflows", Plan { duration: u64::MAX, ..plan() }),
    ];
    for (what, plan) in wrong {
        assert_eq!(
            world.send(world.who(0), &market.list(shop.id, plan)),
            Err("InvalidPlan".into()),
            "{what}"
        );
    }
    assert_eq!(world.send(world.who(1), &market.list(shop.id, plan())), Err("NotOwner".into()));
    let number = shop.list(plan());
    assert_eq!(world.send(world.who(1), &market.close(number)), Err("NotOwner".into()));
    assert_eq!(world.ask(&market.plans_of(shop.id)), [number]);
}

#[test]
fn every_event_names_content_subject_and_actor() {
    let shop = Shop::new();
    let (world, market) = (&shop.world, shop.world.at.market);
    let (buyer, reader) = (world.who(1), world.who(2));
    let number = shop.list(plan());
    let call = market.buy(number, reader, U256::MAX, None, MANIFEST).with_value(U256::from(PRICE));
    let (_, receipt) = world.receipt(buyer, &call).unwrap();
    let events: Vec<_> = receipt.logs.iter().map(|log| Event::decode(log).unwrap().unwrap()).collect();
    let names: Vec<_> = events.iter().map(Event::name).collect();
    assert_eq!(names, ["Credited", "Purchased", "Granted"]);
    assert_eq!(
        (events[1].content(), events[1].subject(), events[1].actor()),
        (Some(shop.id), Some(reader), Some(buyer))
    );
    let by_market = Some(market.address());
    assert_eq!(
        (events[2].content(), events[2].subject(), events[2].actor()),
        (Some(shop.id), Some(reader), by_market)
    );
}

#[test]
fn gas_is_what_a_user_would_expect() {
    let shop = Shop::new();
    let (world, registry, market) = (&shop.world, shop.world.at.registry, shop.world.at.market);
    let (seller, buyer) = (world.who(0), world.who(1));
    let figure = |what: &str, from, call: &Request| {
        let gas = world.chain.execute(&Request { from: Some(from), ..call.clone() }).unwrap().gas;
        println!("{what:32} {gas:8} gas");
        gas
    };
    figure("register", seller, &registry.register(B256::repeat_byte(2), MANIFEST, 0).request(None));
    let grant = registry.grant(shop.id, world.who(2), Permission::Read, Term::default());
    let grant = figure("grant", seller, &grant.request(None));
    assert!(grant <= 60_000, "a grant costs {grant}");
    figure("revoke", seller, &registry.revoke(shop.id, world.who(2)).request(None));
    figure("publish", seller, &registry.publish(shop.id, B256::repeat_byte(5), 1, 0).request(None));
    figure("rewrap", seller, &registry.rewrap(shop.id, B256::repeat_byte(6), 2, 0).request(None));
    figure("set_custody (1)", seller, &registry.set_custody(shop.id, vec![seller]).request(None));
    let number = shop.list(plan());
    let manifest = B256::repeat_byte(6);
    let buy =
        |to| market.buy(number, to, U256::MAX, None, manifest).with_value(U256::from(PRICE)).request(None);
    figure("buy, the first of a payee", buyer, &buy(buyer));
    let second = figure("buy", world.who(3), &buy(world.who(3)));
    assert!(second <= 150_000, "a purchase costs {second}");
    figure("withdraw", seller, &market.withdraw(Address::ZERO, seller).request(None));
}
