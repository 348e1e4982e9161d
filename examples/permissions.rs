//! Who may read, and who says so?
//!
//! An owner registers a content, lends it to a reader for an hour, and takes it back. Every answer comes from the
//! registry contract, executed in this process on a chain in memory.

#[path = "support/mod.rs"]
mod support;

use std::error::Error;

use lightstreams_acl::{
    AccessControl, At, B256, BlockRef, ContentRegistry, ContractBackend, Decision, Denial, Event, LogFilter,
    Permission, Term, abi, content_id,
};
use lightstreams_chain::DEV_ACCOUNTS;
use lightstreams_node::init::REGISTRY;
use support::{CHAIN_ID, LocalNetwork};

fn main() -> Result<(), Box<dyn Error>> {
    let network = LocalNetwork::start()?;
    let [owner, reader, ..] = DEV_ACCOUNTS;
    let (registry, access) = (ContentRegistry::at(REGISTRY), network.access());
    let (salt, manifest) = (B256::repeat_byte(7), B256::repeat_byte(8));
    let content = content_id(CHAIN_ID, REGISTRY, owner.address, salt);
    let ask = || {
        let decision = access.decide(content, reader.address, At::block(BlockRef::Head));
        decision.inspect(|decision| println!("  may the reader read? {decision:?}"))
    };

    // Nothing is allowed that nobody granted.
    assert_eq!(ask()?, Decision::Deny(Denial::UnknownContent));
    let mined = network.send(&owner, &registry.register(salt, manifest, 0))?;
    println!("registered {content} in block {} for {} gas", mined.transaction.block.number, mined.gas_used);
    assert_eq!(ask()?, Decision::Deny(Denial::NotGranted));

    // For an hour: the end is part of the answer, and time alone ends it.
    let expires = network.chain.head().header.timestamp + 3_600;
    let term = Term { expires, ..Term::default() };
    network.send(&owner, &registry.grant(content, reader.address, Permission::Read, term))?;
    println!("granted until {expires}");
    assert_eq!(ask()?, Decision::Allow { until: Some(expires) });
    let later = network.seal(3_600)?;
    println!("an hour later, at {later}");
    assert_eq!(ask()?, Decision::Deny(Denial::Expired { at: expires }));

    // For good, and then no longer.
    network.send(&owner, &registry.grant(content, reader.address, Permission::Read, Term::default()))?;
    println!("granted again, without an end");
    assert_eq!(ask()?, Decision::Allow { until: None });
    network.send(&owner, &registry.revoke(content, reader.address))?;
    println!("revoked");
    assert_eq!(ask()?, Decision::Deny(Denial::Revoked));

    // A reader grants nothing: the call is refused with a typed reason before it costs anything.
    let call = registry.grant(content, reader.address, Permission::Read, Term::default());
    let refused = network.backend().call(&call.request(Some(reader.address)), BlockRef::Head);
    let Err(lightstreams_acl::AclError::Reverted(reason)) = refused else {
        return Err("the reader granted itself a permission".into());
    };
    println!("the reader grants itself: {reason}");
    assert!(reason.is::<abi::ContentRegistry::Denied>());

    // All of it can be read back from the chain.
    let filter = LogFilter::content(vec![REGISTRY], content, BlockRef::Number(0), BlockRef::Head);
    for log in network.backend().logs(&filter)? {
        let event = Event::decode(&log)?.ok_or("an event that nobody knows")?;
        println!("  block {}: {} by {:?}", log.block_number, event.name(), event.actor());
    }
    Ok(())
}
