//! A gate is foreign code: whatever it does, it says yes by the number 1 alone, and nothing else happens.

use lightstreams_acl::{AccessControl, Address, At, B256, BlockRef, Bytes, ContentId, ContractAcl, Decision};

use crate::world::{TestGate, World};

#[track_caller]
fn check(data: &[u8], gate: Option<Address>, allowed: bool) {
    let world = World::new(1);
    let owner = world.who(0);
    let registry = world.at.registry;
    let id: ContentId =
        world.send(owner, &registry.register(B256::ZERO, B256::repeat_byte(1), 0)).unwrap().into();
    let gate = gate.unwrap_or_else(|| world.chain.deploy(owner, TestGate::BYTECODE.clone()));
    world.send(owner, &registry.set_gate(id, gate, Bytes::copy_from_slice(data))).unwrap();
    let odd = Address::with_last_byte(1);
    let answer = ContractAcl::new(&world.chain, registry).decide(id, odd, At::block(BlockRef::Head)).unwrap();
    assert_eq!(answer.is_allowed(), allowed, "{data:?}");
    // What a gate says holds for the second that was asked about, no longer.
    assert!(!allowed || answer == Decision::Allow { until: Some(1_001) });
    // It opens nothing but reading.
    assert_eq!(world.ask(&registry.level_of(id, odd)), u8::from(allowed));
}

#[test]
fn a_gate_that_says_yes_lets_in() {
    check(b"", None, true);
    check(b"y", None, true);
}

#[test]
fn a_long_answer_is_read_no_further_than_its_first_word() {
    check(b"b", None, true);
}

#[test]
fn a_gate_that_reverts_keeps_out() {
    check(b"r", None, false);
}

#[test]
fn a_gate_that_burns_its_gas_keeps_out() {
    check(b"g", None, false);
}

#[test]
fn an_answer_that_is_no_boolean_keeps_out() {
    check(b"2", None, false);
    check(b"s", None, false);
}

#[test]
fn an_account_without_code_is_no_gate() {
    check(b"", Some(Address::repeat_byte(0x99)), false);
}
