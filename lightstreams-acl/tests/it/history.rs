//! The contracts against the reference model, on random histories: every command has the same outcome, every question the same answer.

use std::collections::BTreeMap;

use lightstreams_acl::abi;
use lightstreams_acl::typed_data::{self, Grant};
use lightstreams_acl::{
    AccessControl, Address, At, B256, BlockRef, Bytes, Call, ContentId, ContentRegistry, ContractAcl,
    Decision, Denial, MemoryAcl, Permission, Plan, Refused, Term, U256,
};

use crate::world::{CHAIN, Dice, ETHER, TestGate, TestToken, World};

const ACCOUNTS: usize = 6;
const STEPS: usize = 1_500;
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// A grant that somebody signed and nobody brought yet, or that was brought and is kept to be brought again.
struct Held {
    grant: Grant,
    signature: Bytes,
    used: bool,
}

struct History {
    dice: Dice,
    world: World,
    model: MemoryAcl,
    now: u64,
    contents: Vec<ContentId>,
    salts: u64,
    heads: BTreeMap<ContentId, Vec<B256>>,
    held: Vec<Held>,
    plans: Vec<Plan>,
    orders: u64,
    token: Address,
    gate: Address,
    /// How often each outcome was reached.
    count: BTreeMap<String, u64>,
}

fn odd(account: Address) -> bool {
    account.0[19] & 1 == 1
}

fn name<T>(result: Result<T, Refused>) -> Result<T, String> {
    result.map_err(|refused| format!("{refused:?}"))
}

impl History {
    fn new(seed: u64) -> Self {
        let world = World::new(ACCOUNTS as u8);
        let token = world.deploy_token();
        for account in &world.accounts {
            let mint = TestToken::mintCall { to: account.address, amount: U256::from(u128::MAX) };
            world.send(account.address, &Call::command(token, &mint)).unwrap();
            let approve = TestToken::approveCall { spender: world.at.market.address(), value: U256::MAX };
            world.send(account.address, &Call::command(token, &approve)).unwrap();
        }
        let gate = world.chain.deploy(world.who(0), TestGate::BYTECODE.clone());
        let model = MemoryAcl::new(CHAIN, world.at.registry.address(), world.at.market.address());
        let mut history = Self {
            dice: Dice(seed),
            world,
            model,
            now: 1_000,
            contents: Vec::new(),
            salts: 0,
            heads: BTreeMap::new(),
            held: Vec::new(),
            plans: Vec::new(),
            orders: 0,
            token,
            gate,
            count: BTreeMap::new(),
        };
        history.tick(0);
        for _ in 0..5 {
            history.register();
        }
        history
    }

    fn tick(&mut self, seconds: u64) {
        self.now += seconds;
        self.model.set_time(self.now);
        self.world.chain.set_time(self.now);
    }

    fn note(&mut self, what: &str) {
        *self.count.entry(what.to_owned()).or_default() += 1;
    }

    /// Model and contract must say the same, down to the name of the refusal.
    #[track_caller]
    fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        model: Result<T, Refused>,
        contract: Result<T, String>,
    ) {
        let model = name(model);
        assert_eq!(model, contract, "{what}: the model (left) and the contract differ at {}", self.now);
        match model {
            Ok(_) => self.note(what),
            Err(error) => {
                self.note(&error);
            }
        }
    }

    fn registry(&self) -> ContentRegistry {
        self.world.at.registry
    }

    fn anyone(&mut self) -> Address {
        let number = self.dice.below(ACCOUNTS);
        self.world.who(number)
    }

    fn content(&mut self) -> ContentId {
        if self.dice.one_in(60) {
            ContentId::from(B256::repeat_byte(9))
        } else {
            self.dice.pick(&self.contents)
        }
    }

    /// Mostly the owner.
    fn actor(&mut self, id: ContentId) -> Address {
        match self.model.owner_of(id) {
            Some(owner) if !self.dice.one_in(3) => owner,
            _ => self.anyone(),
        }
    }

    fn term(&mut self) -> Term {
        let near = |dice: &mut Dice, now: u64| match dice.below(4) {
            0 | 1 => 0,
            2 => now + dice.next() % 300,
            _ => (now + 150) - dice.next() % 150,
        };
        let not_before = near(&mut self.dice, self.now);
        let expires = near(&mut self.dice, self.now);
        let from_epoch = self.dice.pick(&[0, 0, 0, 1, 2, 5, u32::MAX]);
        Term {
            not_before,
            expires: if expires == 0 { 0 } else { expires + self.dice.pick(&[0, 100]) },
            from_epoch,
        }
    }

    fn manifest(&mut self, id: ContentId) -> B256 {
        let known = self.heads.get(&id).cloned().unwrap_or_default();
        match self.dice.below(12) {
            0 => B256::ZERO,
            1 if !known.is_empty() => self.dice.pick(&known),
            _ => self.dice.hash(),
        }
    }

    fn register(&mut self) {
        let owner = self.anyone();
        let again = self.dice.one_in(4);
        if !again {
            self.salts += 1;
        }
        let salt = B256::from(U256::from(self.salts));
        let owner = if again { self.world.who(0) } else { owner };
        let manifest = if self.dice.one_in(10) { B256::ZERO } else { self.dice.hash() };
        let flags = self.dice.pick(&[0, 0, 0, 0, 0, 1, 2, 8]);
        let model = self.model.register(owner, salt, manifest, flags);
        let contract = self.world.send(owner, &self.registry().register(salt, manifest, flags));
        if let Ok(id) = model {
            self.contents.push(id);
            self.heads.entry(id).or_default().push(manifest);
        }
        self.same("register", model, contract.map(ContentId::from));
    }

    fn step(&mut self) {
        let registry = self.registry();
        let id = self.content();
        let by = self.actor(id);
        let who = self.anyone();
        let send = |history: &Self, call: Call<()>| history.world.send(by, &call);
        match self.dice.below(23) {
            0 => self.tick(1),
            1 => {
                let jump = self.dice.pick(&[10, 60, 200]);
                self.tick(jump);
            }
            2 if self.contents.len() < 12 => self.register(),
            2 | 3 => {
                let manifest = self.manifest(id);
                let head = self.head(id);
                let ver = if self.dice.one_in(8) { 77 } else { head.0 };
                let model = self.model.publish(by, id, manifest, ver, head.1);
                let contract = send(self, registry.publish(id, manifest, ver, head.1));
                self.recorded(id, manifest, &model);
                self.same("publish", model, contract);
            }
            4 => {
                let manifest = self.manifest(id);
                let head = self.head(id);
                let rev = if self.dice.one_in(8) { 77 } else { head.2 };
                let model = self.model.rewrap(by, id, manifest, head.0, rev);
                let contract = send(self, registry.rewrap(id, manifest, head.0, rev));
                self.recorded(id, manifest, &model);
                self.same("rewrap", model, contract);
            }
            5 => {
                let manifest = self.manifest(id);
                let model = self.model.claim(by, id, manifest);
                let contract = send(self, registry.claim(id, manifest));
                self.recorded(id, manifest, &model);
                self.same("claim", model, contract);
            }
            6..=8 => {
                let level = self.dice.pick(&[
                    Permission::Read,
                    Permission::Read,
                    Permission::Write,
                    Permission::Admin,
                ]);
                let level = if self.dice.one_in(30) { Permission::None } else { level };
                let term = if self.dice.one_in(2) { self.term() } else { Term::default() };
                let model = self.model.grant(by, id, who, level, term);
                let contract = send(self, registry.grant(id, who, level, term));
                self.same("grant", model, contract);
            }
            9 => {
                let model = self.model.revoke(by, id, who);
                let contract = send(self, registry.revoke(id, who));
                self.same("revoke", model, contract);
            }
            10 => {
                let model = self.model.renounce(who, id);
                let contract = self.world.send(who, &registry.renounce(id));
                self.same("renounce", model, contract);
            }
            11 => self.sign_grant(id, who),
            12 => self.bring_grant(),
            13 => {
                let (module, on) = (self.module(), !self.dice.one_in(5));
                let model = self.model.set_module(by, id, module, on);
                let contract = send(self, registry.set_module(id, module, on));
                self.same("set_module", model, contract);
            }
            14 => {
                let (module, term) = (self.world.who(0), self.term());
                let call = abi::ContentRegistry::moduleGrantCall {
                    id: id.as_u256(),
                    who,
                    notBefore: term.not_before,
                    expires: term.expires,
                    fromEpoch: term.from_epoch,
                };
                let model = self.model.module_grant(module, id, who, term);
                let contract = self.world.send(module, &Call::command(registry.address(), &call));
                self.same("module_grant", model, contract);
                if self.dice.one_in(3) {
                    let call = abi::ContentRegistry::moduleClearCall { id: id.as_u256(), who };
                    let model = self.model.module_clear(module, id, who);
                    let contract = self.world.send(module, &Call::command(registry.address(), &call));
                    self.same("module_clear", model, contract);
                }
            }
            15 => self.settings(id, by),
            16 if self.dice.one_in(2) => {
                let model = self.model.transfer(by, who, id);
                let contract = match self.model.owner_of(id) {
                    None => Err("UnknownContent".into()),
                    // The model's `transfer` has one account for "sender" and "from".
                    _ => send(self, registry.transfer(by, who, id)),
                };
                self.same("transfer", model, contract);
            }
            16 | 17 => self.list(id, by),
            18..=20 => self.buy(who),
            21 => self.cut(by),
            _ => self.withdraw(who),
        }
    }

    fn recorded(&mut self, id: ContentId, manifest: B256, done: &Result<(), Refused>) {
        if done.is_ok() {
            self.heads.entry(id).or_default().push(manifest);
        }
    }

    /// Version, epoch of the next version, revision.
    fn head(&self, id: ContentId) -> (u32, u32, u32) {
        if self.model.owner_of(id).is_none() {
            return (1, 0, 0);
        }
        let head = self.world.ask(&self.registry().head(id));
        (head.version, head.epoch, head.revision)
    }

    /// The market, an account that acts as a module itself, or one of many.
    fn module(&mut self) -> Address {
        match self.dice.below(8) {
            0..=4 => self.world.at.market.address(),
            5 | 6 => self.world.who(0),
            _ => Address::with_last_byte(self.dice.below(12) as u8),
        }
    }

    fn sign_grant(&mut self, id: ContentId, who: Address) {
        let Some((generation, revocations)) = self.model.grant_state(id, who) else { return };
        let owner = self.model.owner_of(id);
        let signer =
            self.world.accounts.iter().find(|account| Some(account.address) == owner).cloned().unwrap();
        let term = self.term();
        let grant = Grant {
            id: id.as_u256(),
            by: signer.address,
            who,
            level: self.dice.pick(&[1, 1, 2, 3, 4]),
            notBefore: term.not_before,
            expires: term.expires,
            fromEpoch: term.from_epoch,
            generation,
            revocations,
            nonce: U256::from(self.held.len()),
            deadline: self.now + self.dice.pick(&[20, 2_000, 1_000_000]),
        };
        let domain = typed_data::domain(CHAIN, self.registry().address());
        let signature = signer.sign(typed_data::signing_hash(&grant, &domain));
        self.held.push(Held { grant, signature, used: false });
        self.note("signed");
    }

    fn bring_grant(&mut self) {
        if self.held.is_empty() {
            return;
        }
        // Half of the time one of the newest, so that some are still alive.
        let number = match self.dice.below(2) {
            0 => self.held.len().saturating_sub(1 + self.dice.below(4)),
            _ => self.dice.below(self.held.len()),
        };
        let Held { grant, signature, used } = &self.held[number];
        let (nonce, deadline, used) = (grant.nonce, grant.deadline, *used);
        let call = abi::ContentRegistry::grantBySigCall {
            id: grant.id,
            by: grant.by,
            who: grant.who,
            level: grant.level,
            notBefore: grant.notBefore,
            expires: grant.expires,
            fromEpoch: grant.fromEpoch,
            generation: grant.generation,
            revocations: grant.revocations,
            nonce,
            deadline,
            sig: signature.clone(),
        };
        let contract = self.world.send(self.world.who(1), &Call::command(self.registry().address(), &call));
        if self.now > deadline || used {
            let expected = if self.now > deadline { "SignatureExpired" } else { "NonceUsed" };
            assert_eq!(contract, Err(expected.into()));
            return self.note(expected);
        }
        let model = self.model.grant_signed(&self.held[number].grant);
        self.held[number].used = model.is_ok();
        self.same("grant_signed", model, contract);
    }

    fn settings(&mut self, id: ContentId, by: Address) {
        let registry = self.registry();
        match self.dice.below(6) {
            0 => {
                let on = self.dice.one_in(4);
                let model = self.model.set_public(by, id, on);
                let contract = self.world.send(by, &registry.set_public(id, on));
                self.same("set_public", model, contract);
            }
            1 => {
                let on = self.dice.one_in(3);
                let model = self.model.set_gate(by, id, on.then_some(odd));
                let gate = if on { self.gate } else { Address::ZERO };
                let contract = self.world.send(by, &registry.set_gate(id, gate, Bytes::new()));
                self.same("set_gate", model, contract);
            }
            2 => {
                let parent = if self.dice.one_in(3) { None } else { Some(self.content()) };
                let model = self.model.set_parent(by, id, parent);
                let contract = self.world.send(by, &registry.set_parent(id, parent));
                self.same("set_parent", model, contract);
            }
            3 => {
                let model = self.model.rotate(by, id);
                let contract = self.world.send(by, &registry.rotate(id));
                self.same("rotate", model, contract);
            }
            4 => {
                let count = self.dice.pick(&[0, 1, 1, 2, 3, 17]);
                let custodians: Vec<_> = (0..count).map(|_| self.anyone()).collect();
                let model = self.model.set_custody(by, id, custodians.clone());
                let contract = self.world.send(by, &registry.set_custody(id, custodians));
                self.same("set_custody", model, contract);
            }
            _ => {
                let flags = self.dice.pick(&[0, 0, 0, 1, 2, 4, 8]);
                let model = self.model.set_flags(by, id, flags);
                let contract = self.world.send(by, &registry.set_flags(id, flags));
                self.same("set_flags", model, contract);
            }
        }
    }

    fn list(&mut self, id: ContentId, by: Address) {
        let payees = match self.dice.below(5) {
            0 => vec![],
            1 => vec![(self.anyone(), 10_000)],
            2 => vec![(self.anyone(), 3_333), (self.anyone(), 6_000), (self.anyone(), 667)],
            3 => vec![(self.anyone(), 9_999), (self.anyone(), 1)],
            _ => vec![(self.anyone(), 5_000), (self.anyone(), 4_000)],
        };
        let plan = Plan {
            token: if self.dice.one_in(3) { self.token } else { Address::ZERO },
            price: self.dice.pick(&[0, 1, 7, 99_999, ETHER, ETHER + 3]),
            duration: self.dice.pick(&[0, 50, 100, 1_000]),
            supply: self.dice.pick(&[0, 0, 1, 2]),
            referrer_bps: self.dice.pick(&[0, 333, 1_000, 10_000, 10_001]),
            payees,
        };
        let model = self.model.list(by, id, plan.clone());
        let contract = if self.model.owner_of(id).is_none() {
            Err("UnknownContent".into()) // ERC-721's own error, with another name.
        } else {
            self.world.send(by, &self.world.at.market.list(id, abi_plan(&plan)))
        };
        if model.is_ok() {
            self.plans.push(plan);
        }
        self.same("list", model, contract.map(|number| number.to::<u64>()));
        // As a seller would: the market may write, and somebody keeps the key.
        if self.dice.one_in(2) {
            let (market, custodian) = (self.world.at.market.address(), self.anyone());
            let model = self.model.set_module(by, id, market, true);
            let contract = self.world.send(by, &self.registry().set_module(id, market, true));
            self.same("set_module", model, contract);
            let model = self.model.set_custody(by, id, vec![custodian]);
            let contract = self.world.send(by, &self.registry().set_custody(id, vec![custodian]));
            self.same("set_custody", model, contract);
        }
        if self.dice.one_in(12) && !self.plans.is_empty() {
            let number = 1 + self.dice.below(self.plans.len()) as u64;
            let model = self.model.close(by, number);
            let contract = self.world.send(by, &self.world.at.market.close(U256::from(number)));
            self.same("close", model, contract);
        }
    }

    fn buy(&mut self, by: Address) {
        let count = self.plans.len();
        let newest = count.saturating_sub(self.dice.below(6));
        let number = if self.dice.one_in(40) { count as u64 + 5 } else { newest as u64 };
        let market = self.world.at.market;
        let plan = self.plans.get((number as usize).wrapping_sub(1)).cloned().unwrap_or_default();
        let offer = (number >= 1 && number <= count as u64)
            .then(|| self.world.ask(&market.offer_of(U256::from(number))));
        let known =
            offer.and_then(|offer| self.heads.get(&ContentId::from(offer.id)).cloned()).unwrap_or_default();
        let manifest = match self.dice.below(8) {
            0 => B256::repeat_byte(0x66),
            1 if !known.is_empty() => self.dice.pick(&known),
            _ => known.last().copied().unwrap_or_default(),
        };
        let to = if self.dice.one_in(3) { self.anyone() } else { by };
        let to = if self.dice.one_in(60) { Address::ZERO } else { to };
        let max = if self.dice.one_in(10) { U256::ZERO } else { U256::MAX };
        let referrer = if self.dice.one_in(2) { Some(self.anyone()) } else { None };
        let value = if plan.token.is_zero() { U256::from(plan.price) } else { U256::ZERO };
        let value = if self.dice.one_in(20) { value + U256::ONE } else { value };
        let model = self.model.buy(by, value, number, to, max, referrer, manifest);
        let call = market.buy(U256::from(number), to, max, referrer, manifest).with_value(value);
        let contract = self.world.send(by, &call).map(|order| order.to::<u64>());
        self.orders = model.unwrap_or(self.orders);
        self.same("buy", model, contract);
        if let (true, Ok(order)) = (self.dice.one_in(30), model) {
            // Until the reader has as many orders as there is room for.
            for _ in 0..8 {
                let model = self.model.buy(by, value, number, to, max, referrer, manifest);
                let contract = self.world.send(by, &call).map(|order| order.to::<u64>());
                self.orders = model.unwrap_or(self.orders);
                self.same("buy", model, contract);
            }
            assert!(self.model.order_of(order).is_some());
        }
    }

    fn cut(&mut self, by: Address) {
        let back = self.dice.below(10) as u64;
        let order = self.orders.saturating_sub(back).max(1);
        let market = self.world.at.market;
        let cost = self.model.cut_cost(order);
        let contract_cost = self.world.ask(&market.cut_cost(U256::from(order)));
        assert_eq!(cost, contract_cost, "cost of a cut");
        let by = match self.model.order_of(order).and_then(|order| self.model.owner_of(order.content)) {
            Some(owner) if !self.dice.one_in(3) => owner,
            _ => by,
        };
        let value = if self.dice.one_in(6) { cost + U256::ONE } else { cost };
        let model = self.model.cut_with_refund(by, value, order);
        let call = market.cut_with_refund(U256::from(order)).with_value(value);
        let contract = self.world.send(by, &call);
        self.same("cut", model, contract);
    }

    fn withdraw(&mut self, by: Address) {
        let token = if self.dice.one_in(2) { self.token } else { Address::ZERO };
        let model = self.model.withdraw(by, token);
        let contract = self.world.send(by, &self.world.at.market.withdraw(token, by));
        self.same("withdraw", model, contract);
    }

    /// Asks both the same questions.
    fn compare(&mut self, questions: usize) {
        let registry = self.registry();
        for _ in 0..questions {
            let (id, who) = (self.content(), self.anyone());
            let who = if self.dice.one_in(20) { Address::ZERO } else { who };
            let mut at = At::block(BlockRef::Head);
            if self.dice.one_in(2) {
                at = at.epoch(self.dice.pick(&[0, 0, 1, 2, 5, 9]));
            }
            if self.dice.one_in(3) {
                let (back, ahead) = (self.dice.next() % 100, self.dice.next() % 100);
                at = at.clock(self.now - back, self.now + ahead);
            }
            let model = self.model.decide(id, who, at).unwrap();
            let contract = ContractAcl::new(&self.world.chain, registry).decide(id, who, at).unwrap();
            assert_eq!(model, contract, "{id} for {who} at {at:?}, now {}", self.now);
            let ends = at.ends.unwrap_or(self.now);
            self.note(match model {
                Decision::Allow { until: None } => "allow",
                Decision::Allow { until: Some(until) } if until == ends + 1 => "allow: gate or collection",
                Decision::Allow { .. } => "allow: for a term",
                Decision::Deny(Denial::UnknownContent) => "deny: unknown_content",
                Decision::Deny(Denial::OtherEpoch { .. }) => "deny: other epoch",
                Decision::Deny(ref denial) => match denial.code() {
                    "not_granted" => "deny: not_granted",
                    "revoked" => "deny: revoked",
                    "expired" => "deny: expired",
                    "not_yet_valid" => "deny: not_yet_valid",
                    code => panic!("unexpected {code}"),
                },
            });
            let level = self.model.level_of(id, who);
            assert_eq!(level.level(), self.world.ask(&registry.level_of(id, who)), "level of {who} at {id}");
            self.note(&format!("level: {level}"));
        }
    }

    /// Versions, custody and money.
    fn audit(&mut self) {
        let registry = self.registry();
        for (id, manifests) in &self.heads {
            for manifest in manifests {
                let answer = self.world.ask(&registry.version_of(*id, *manifest));
                assert_eq!(self.model.version_of(*id, *manifest), Some((answer.ver, answer.ep, answer.rev)));
            }
            let head = self.world.ask(&registry.head(*id));
            for version in 0..=head.version + 1 {
                let mut named = self.world.ask(&registry.custody_of_version(*id, version));
                named.sort();
                named.dedup();
                assert_eq!(named, self.model.custody_of_version(*id, version), "custody of {id}@{version}");
            }
        }
        let market = self.world.at.market;
        for token in [Address::ZERO, self.token] {
            let mut sum = U256::ZERO;
            for account in &self.world.accounts {
                let owed = self.world.ask(&market.owed(token, account.address));
                assert_eq!(owed, self.model.owed(token, account.address));
                sum += owed;
            }
            assert_eq!(sum, self.world.ask(&market.total_owed(token)), "the sum of what is owed");
            let held = match token {
                Address::ZERO => self.world.chain.balance(market.address()),
                token => {
                    self.world.ask(&Call::new(token, &TestToken::balanceOfCall { account: market.address() }))
                }
            };
            assert_eq!(held, sum, "the market holds what it owes");
        }
    }
}

fn abi_plan(plan: &Plan) -> abi::Market::Plan {
    abi::Market::Plan {
        token: plan.token,
        price: plan.price,
        duration: plan.duration,
        supply: plan.supply,
        referrerBps: plan.referrer_bps,
        payees: plan.payees.iter().map(|&(account, bps)| abi::Market::Payee { account, bps }).collect(),
    }
}

/// Every outcome that the histories must reach.
const OUTCOMES: &[&str] = &[
    "allow",
    "allow: gate or collection",
    "allow: for a term",
    "deny: unknown_content",
    "deny: not_granted",
    "deny: revoked",
    "deny: expired",
    "deny: other epoch",
    "deny: not_yet_valid",
    "level: none",
    "level: read",
    "level: write",
    "level: admin",
    "register",
    "publish",
    "rewrap",
    "claim",
    "grant",
    "revoke",
    "renounce",
    "signed",
    "grant_signed",
    "set_module",
    "module_grant",
    "module_clear",
    "set_public",
    "set_gate",
    "set_parent",
    "rotate",
    "set_custody",
    "set_flags",
    "transfer",
    "list",
    "close",
    "buy",
    "cut",
    "withdraw",
    "UnknownContent",
    "AlreadyRegistered",
    "ManifestRecorded",
    "ManifestMissing",
    "Stale",
    "Denied",
    "OwnerOnly",
    "InvalidAccount",
    "InvalidLevel",
    "InvalidTerm",
    "InvalidFlags",
    "WouldLower",
    "StaleGrant",
    "NonceUsed",
    "SignatureExpired",
    "NothingToClaim",
    "NotAModule",
    "TooMany",
    "InvalidParent",
    "Soulbound",
    "ERC721InsufficientApproval",
    "NotOwner",
    "InvalidPlan",
    "UnknownPlan",
    "PlanEnded",
    "SoldOut",
    "PriceAboveMax",
    "WrongValue",
    "WrongManifest",
    "NoCustody",
    "TooManyOrders",
    "NotAdmin",
    "NotLiving",
    "NothingOwed",
];

#[test]
fn model_and_contracts_agree_on_random_histories_and_every_outcome_is_reached() {
    let mut count: BTreeMap<String, u64> = BTreeMap::new();
    for seed in SEEDS {
        println!("seed {seed}");
        let mut history = History::new(seed);
        for step in 0..STEPS {
            history.step();
            history.compare(3);
            if step % 100 == 99 {
                history.audit();
            }
        }
        for (outcome, times) in history.count {
            *count.entry(outcome).or_default() += times;
        }
    }
    let width = OUTCOMES.iter().map(|outcome| outcome.len()).max().unwrap();
    for (outcome, times) in &count {
        println!("{outcome:width$} {times:6}");
    }
    let never: Vec<_> = OUTCOMES.iter().filter(|outcome| !count.contains_key(**outcome)).collect();
    assert!(never.is_empty(), "never reached: {never:?}");
    let unlisted: Vec<_> = count.keys().filter(|outcome| !OUTCOMES.contains(&outcome.as_str())).collect();
    assert!(unlisted.is_empty(), "not listed as an outcome: {unlisted:?}");
}
