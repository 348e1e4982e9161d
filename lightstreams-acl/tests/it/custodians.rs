//! Each account stores its own record, and nobody else's.

use lightstreams_acl::{Bytes, Event};

use crate::world::World;

#[test]
fn a_record_is_kept_replaced_and_removed_by_its_account_alone() {
    let world = World::new(2);
    let (custodians, first, second) = (world.at.custodians, world.who(0), world.who(1));
    let record = |bytes: &'static [u8]| Bytes::from_static(bytes);
    let (_, receipt) = world.receipt(first, &custodians.set_record(record(b"one"))).unwrap();
    let event = Event::decode(&receipt.logs[0]).unwrap().unwrap();
    assert_eq!((event.name(), event.subject(), event.actor()), ("RecordSet", Some(first), Some(first)));
    world.send(second, &custodians.set_record(record(b"two"))).unwrap();
    assert_eq!(world.ask(&custodians.record_of(first)), record(b"one"));
    assert_eq!(world.ask(&custodians.record_of(second)), record(b"two"));
    world.send(first, &custodians.set_record(Bytes::new())).unwrap();
    assert_eq!(world.ask(&custodians.record_of(first)), Bytes::new());
}

#[test]
fn a_record_above_4096_bytes_is_refused() {
    let world = World::new(1);
    let set = |length| world.send(world.who(0), &world.at.custodians.set_record(vec![1; length].into()));
    assert_eq!(set(4_096), Ok(()));
    assert_eq!(set(4_097), Err("RecordTooLong".into()));
}
