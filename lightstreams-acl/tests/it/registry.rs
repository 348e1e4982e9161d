//! What a wallet, a market elsewhere, or a reader of events sees of a content.

use lightstreams_acl::abi::ContentRegistry as abi;
use lightstreams_acl::{
    Address, B256, Bytes, Call, ContentId, ContentUri, Event, Permission, Term, U256, content_id,
};

use crate::world::{CHAIN, ETHER, World};

fn registered(world: &World) -> ContentId {
    let salt = B256::repeat_byte(3);
    let id = world.send(world.who(0), &world.at.registry.register(salt, B256::repeat_byte(1), 0)).unwrap();
    assert_eq!(ContentId::from(id), content_id(CHAIN, world.at.registry.address(), world.who(0), salt));
    id.into()
}

#[test]
fn a_content_is_a_token_with_its_uri() {
    let world = World::new(2);
    let (id, registry) = (registered(&world), world.at.registry);
    let uri = world.ask(&Call::new(registry.address(), &abi::tokenURICall { id: id.as_u256() }));
    assert_eq!(
        uri,
        ContentUri { chain: CHAIN, registry: registry.address(), content: id, version: None }.to_string()
    );
    // ERC-165, ERC-721, its metadata, ERC-2981, and the one that nobody has.
    for (interface, has) in [
        (0x01ffc9a7_u32, true),
        (0x80ac58cd, true),
        (0x5b5e139f, true),
        (0x2a55205a, true),
        (0xffffffff, false),
    ] {
        let call = abi::supportsInterfaceCall { interfaceId: interface.to_be_bytes().into() };
        assert_eq!(world.ask(&Call::new(registry.address(), &call)), has, "{interface:x}");
    }
}

#[test]
fn the_creator_names_the_royalty_and_no_later_owner_changes_it() {
    let world = World::new(3);
    let (id, registry) = (registered(&world), world.at.registry);
    let [creator, heir, payee] = [0, 1, 2].map(|number| world.who(number));
    let royalty = || {
        let call = abi::royaltyInfoCall { tokenId: id.as_u256(), salePrice: U256::from(ETHER) };
        let answer = world.ask(&Call::new(registry.address(), &call));
        (answer.receiver, answer.amount)
    };
    assert_eq!(royalty(), (Address::ZERO, U256::ZERO));
    assert_eq!(world.send(heir, &registry.set_royalty(id, heir, 1)), Err("OwnerOnly".into()));
    world.send(creator, &registry.set_royalty(id, payee, 250)).unwrap();
    world.send(creator, &registry.transfer(creator, heir, id)).unwrap();
    assert_eq!(world.send(heir, &registry.set_royalty(id, heir, 250)), Err("OwnerOnly".into()));
    assert_eq!(royalty(), (payee, U256::from(ETHER / 40)));
}

#[test]
fn requests_refusals_and_disclosures_are_events_that_change_nothing() {
    let world = World::new(3);
    let (id, registry) = (registered(&world), world.at.registry);
    let [owner, reader, stranger] = [0, 1, 2].map(|number| world.who(number));
    let said = |from, call: &Call<()>| {
        let (_, receipt) = world.receipt(from, call)?;
        Ok::<_, String>(Event::decode(&receipt.logs[0]).unwrap().unwrap())
    };
    let event =
        said(reader, &registry.request_permission(id, Permission::Read, B256::repeat_byte(5))).unwrap();
    assert_eq!(
        (event.name(), event.content(), event.subject()),
        ("PermissionRequested", Some(id), Some(reader))
    );
    let none = registry.request_permission(id, Permission::None, B256::ZERO);
    assert_eq!(said(reader, &none), Err("InvalidLevel".into()));
    let nowhere = registry.request_permission(ContentId(B256::ZERO), Permission::Read, B256::ZERO);
    assert_eq!(said(reader, &nowhere), Err("UnknownContent".into()));

    let decline =
        Call::command(registry.address(), &abi::declinePermissionCall { id: id.as_u256(), who: reader });
    assert_eq!(said(stranger, &decline), Err("Denied".into()));
    let event = said(owner, &decline).unwrap();
    assert_eq!(
        (event.name(), event.subject(), event.actor()),
        ("PermissionDeclined", Some(reader), Some(owner))
    );

    assert_eq!(said(stranger, &registry.disclose(id, 1, [7; 16])), Err("OwnerOnly".into()));
    assert_eq!(said(owner, &registry.disclose(id, 0, [7; 16])), Err("Stale".into()));
    assert_eq!(said(owner, &registry.disclose(id, 2, [7; 16])), Err("Stale".into()));
    assert_eq!(said(owner, &registry.disclose(id, 1, [7; 16])).unwrap().name(), "Disclosed");
    assert_eq!(world.ask(&registry.level_of(id, reader)), 0);
}

#[test]
fn several_calls_are_one_transaction_and_fail_as_one() {
    let world = World::new(2);
    let (registry, owner, reader) = (world.at.registry, world.who(0), world.who(1));
    let id = content_id(CHAIN, registry.address(), owner, B256::ZERO);
    let register = registry.register(B256::ZERO, B256::repeat_byte(1), 0).data;
    let grant = registry.grant(id, reader, Permission::Read, Term::default()).data;
    let broken = registry.grant(id, Address::ZERO, Permission::Read, Term::default()).data;
    let all = registry.multicall([register.clone(), grant.clone(), broken]);
    assert_eq!(world.send(owner, &all), Err("InvalidAccount".into()));
    assert_eq!(world.send(owner, &registry.head(id)).map(|head| head.version), Err("UnknownContent".into()));
    let answers = world.send(owner, &registry.multicall([register, grant])).unwrap();
    assert_eq!(answers, [Bytes::copy_from_slice(id.as_bytes()), Bytes::new()]);
    assert_eq!(world.ask(&registry.level_of(id, reader)), 1);
}

#[test]
fn custody_of_a_version_is_bounded_and_keeps_everyone_who_was_named() {
    let world = World::new(1);
    let (id, registry, owner) = (registered(&world), world.at.registry, world.who(0));
    for number in 0..64_u8 {
        world.send(owner, &registry.set_custody(id, vec![Address::with_last_byte(number + 1)])).unwrap();
    }
    let more = registry.set_custody(id, vec![owner]);
    assert_eq!(world.send(owner, &more), Err("TooMany".into()));
    world.send(owner, &registry.publish(id, B256::repeat_byte(2), 1, 0)).unwrap();
    world.send(owner, &more).unwrap();
    assert_eq!(world.ask(&registry.custody_of_version(id, 1)).len(), 64);
    assert_eq!(world.ask(&registry.custody_of_version(id, 2)), [Address::with_last_byte(64), owner]);
    assert_eq!(world.ask(&registry.custody_of(id)), [owner]);
    let three = (0..3).map(|version| world.ask(&registry.custody_of_version(id, version)).len());
    assert_eq!(three.collect::<Vec<_>>(), [0, 64, 2]);
}
