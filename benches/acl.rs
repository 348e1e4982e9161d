//! May this account read? Asked of the contract on a chain in memory, and of the reference model.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../examples/support/mod.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lightstreams_acl::{
    AccessControl, Address, At, B256, BlockRef, ContentRegistry, MemoryAcl, Permission, Term, content_id,
};
use lightstreams_chain::DEV_ACCOUNTS;
use lightstreams_node::init::{MARKET, REGISTRY};
use support::{CHAIN_ID, LocalNetwork};

/// Accounts that were granted something, so that a row is one of many.
const READERS: u64 = 64;

fn decide(c: &mut Criterion) {
    let [owner, ..] = DEV_ACCOUNTS;
    let (salt, manifest, term) = (B256::repeat_byte(7), B256::repeat_byte(8), Term::default());
    let content = content_id(CHAIN_ID, REGISTRY, owner.address, salt);
    let account = |index: u64| Address::from_word(B256::from(alloy_primitives::U256::from(index + 1_000)));

    let network = LocalNetwork::start().unwrap();
    let registry = ContentRegistry::at(REGISTRY);
    network.send(&owner, &registry.register(salt, manifest, 0)).unwrap();
    let mut memory = MemoryAcl::new(CHAIN_ID, REGISTRY, MARKET);
    memory.set_time(network.chain.head().header.timestamp);
    memory.register(owner.address, salt, manifest, 0).unwrap();
    for reader in (0..READERS).map(account) {
        network.send(&owner, &registry.grant(content, reader, Permission::Read, term)).unwrap();
        memory.grant(owner.address, content, reader, Permission::Read, term).unwrap();
    }

    let contract = network.access();
    let backends: [(&str, &dyn AccessControl); 2] = [("contract", &contract), ("memory", &memory)];
    let asked =
        [("owner", owner.address, true), ("reader", account(7), true), ("stranger", account(99), false)];
    let at = At::block(BlockRef::Head);
    let mut group = c.benchmark_group("acl::decide");
    group.throughput(Throughput::Elements(1));
    for (backend, access) in backends {
        for (who, account, allowed) in asked {
            assert_eq!(access.decide(content, account, at).unwrap().is_allowed(), allowed);
            group.bench_function(format!("backend={backend} who={who} rows={READERS}"), |b| {
                b.iter(|| access.decide(content, account, at).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
