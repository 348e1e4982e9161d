//! What the tests share: accounts with keys, a small generator, the contracts on an EVM, the bindings of the test contracts.

use lightstreams_acl::alloy_sol_types::sol;
use lightstreams_acl::testing::{Deployed, EvmChain, Receipt, refusal};
use lightstreams_acl::{Address, B256, Bytes, Call, U256};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};

sol!(TestToken, "tests/artifacts/TestToken.json");
sol!(TestGate, "tests/artifacts/TestGate.json");
sol!(TestWallet, "tests/artifacts/TestWallet.json");

pub(crate) const CHAIN: u64 = 161;
pub(crate) const ETHER: u128 = 1_000_000_000_000_000_000;

/// An account whose key the tests know.
#[derive(Clone)]
pub(crate) struct Account {
    key: SecretKey,
    pub(crate) address: Address,
}

impl Account {
    pub(crate) fn new(number: u8) -> Self {
        let key = SecretKey::from_byte_array([number; 32]).unwrap();
        let public = PublicKey::from_secret_key(&Secp256k1::signing_only(), &key);
        let address = Address::from_raw_public_key(&public.serialize_uncompressed()[1..]);
        Self { key, address }
    }

    /// 65 bytes: r, s, v.
    pub(crate) fn sign(&self, hash: B256) -> Bytes {
        let signature =
            Secp256k1::signing_only().sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.key);
        let (recovery, compact) = signature.serialize_compact();
        [&compact[..], &[27 + i32::from(recovery) as u8]].concat().into()
    }
}

/// SplitMix64: the same history for the same seed, on every machine.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn hash(&mut self) -> B256 {
        B256::from(U256::from(self.next()))
    }
}

/// The contracts on a chain of their own.
pub(crate) struct World {
    pub(crate) chain: EvmChain,
    pub(crate) at: Deployed,
    pub(crate) accounts: Vec<Account>,
}

impl World {
    pub(crate) fn new(accounts: u8) -> Self {
        let chain = EvmChain::new(CHAIN);
        let at = Deployed::on(&chain);
        let accounts: Vec<_> = (1..=accounts).map(Account::new).collect();
        for account in &accounts {
            chain.fund(account.address, U256::from(ETHER) * U256::from(1_000_000));
        }
        chain.set_time(1_000);
        Self { chain, at, accounts }
    }

    pub(crate) fn who(&self, number: usize) -> Address {
        self.accounts[number].address
    }

    /// Executes a call as an account; the error is the name of the refusal.
    pub(crate) fn send<T>(&self, from: Address, call: &Call<T>) -> Result<T, String> {
        self.receipt(from, call).map(|(answer, _)| answer)
    }

    pub(crate) fn receipt<T>(&self, from: Address, call: &Call<T>) -> Result<(T, Receipt), String> {
        self.chain.send_call(from, call).map_err(refusal)
    }

    /// Asks the head.
    #[track_caller]
    pub(crate) fn ask<T>(&self, call: &Call<T>) -> T {
        call.run(&self.chain, lightstreams_acl::BlockRef::Head).unwrap()
    }

    pub(crate) fn deploy_token(&self) -> Address {
        self.chain.deploy(self.who(0), TestToken::BYTECODE.clone())
    }
}
