//! What comes from a chain is outside data: wrong answers and wrong logs are errors that say so.

use lightstreams_acl::testing::{Deployed, EvmChain, refusal};
use lightstreams_acl::{
    AccessControl, AclError, Address, At, B256, BlockRef, Bytes, ContentId, ContentRegistry, ContractAcl,
    ContractBackend, Event, Log, LogFilter, Permission, Request, Term, U256,
};

/// Answers everything with the same bytes.
struct Parrot(Bytes);

impl ContractBackend for Parrot {
    fn call(&self, _: &Request, _: BlockRef) -> Result<Bytes, AclError> {
        Ok(self.0.clone())
    }

    fn logs(&self, _: &LogFilter) -> Result<Vec<Log>, AclError> {
        Err(AclError::Unsupported("read logs"))
    }

    fn send(&self, _: &Request) -> Result<B256, AclError> {
        Err(AclError::Unsupported("send"))
    }
}

#[track_caller]
fn malformed(answer: &[u8]) {
    let backend = Parrot(Bytes::copy_from_slice(answer));
    let acl = ContractAcl::new(backend, ContentRegistry::at(Address::ZERO));
    let result = acl.decide(ContentId(B256::ZERO), Address::ZERO, At::block(BlockRef::Head));
    assert!(matches!(result, Err(AclError::Answer(_))), "{result:?}");
}

#[test]
fn an_answer_of_the_wrong_form_is_an_error_and_never_an_allowance() {
    malformed(b"");
    malformed(&[0; 31]);
    malformed(&[0; 63]);
    // Not a uint8, not a uint64.
    malformed(&[[0xff; 32], [0; 32]].concat());
    malformed(&[[0; 32], [0xff; 32]].concat());
    // An address without a contract answers with nothing at all.
    let chain = EvmChain::new(161);
    let acl = ContractAcl::new(&chain, ContentRegistry::at(Address::repeat_byte(5)));
    let result = acl.decide(ContentId(B256::ZERO), Address::ZERO, At::block(BlockRef::Head));
    assert!(matches!(result, Err(AclError::Answer(_))));
}

#[test]
fn an_unknown_verdict_denies() {
    let answer = [U256::from(200).to_be_bytes::<32>(), [0; 32]].concat();
    let acl = ContractAcl::new(Parrot(answer.into()), ContentRegistry::at(Address::ZERO));
    let decision = acl.decide(ContentId(B256::ZERO), Address::ZERO, At::block(BlockRef::Head)).unwrap();
    assert!(!decision.is_allowed());
}

#[test]
fn a_block_that_is_not_known_here_is_an_error() {
    let chain = EvmChain::new(161);
    let registry = Deployed::on(&chain).registry;
    let acl = ContractAcl::new(&chain, registry);
    for block in [BlockRef::Number(99), BlockRef::Hash(B256::ZERO)] {
        let result = acl.decide(ContentId(B256::ZERO), Address::ZERO, At::block(block));
        assert!(matches!(result, Err(AclError::UnknownBlock(unknown)) if unknown == block));
    }
}

#[test]
fn a_log_of_ours_with_the_wrong_form_is_an_error_and_a_foreign_one_is_not_ours() {
    let chain = EvmChain::new(161);
    let registry = Deployed::on(&chain).registry;
    let owner = Address::repeat_byte(1);
    let (id, _) = chain.send_call(owner, &registry.register(B256::ZERO, B256::repeat_byte(1), 0)).unwrap();
    let id = ContentId::from(id);
    let who = Address::repeat_byte(2);
    chain.send_call(owner, &registry.grant(id, who, Permission::Read, Term::default())).unwrap();
    let filter = LogFilter::content(vec![registry.address()], id, BlockRef::Number(0), BlockRef::Head);
    let logs = chain.logs(&filter).unwrap();
    let names: Vec<_> = logs.iter().map(|log| Event::decode(log).unwrap().unwrap().name()).collect();
    assert_eq!(names, ["Registered", "Granted"]);

    let granted = &logs[1];
    let wrong = [
        Log { data: Bytes::new(), ..granted.clone() },
        Log { data: granted.data.slice(..granted.data.len() - 1), ..granted.clone() },
        Log { topics: granted.topics[..3].to_vec(), ..granted.clone() },
        Log { topics: vec![granted.topics[0]], ..granted.clone() },
    ];
    for log in wrong {
        assert!(matches!(Event::decode(&log), Err(AclError::Answer(_))), "{log:?}");
    }
    assert_eq!(Event::decode(&Log { topics: vec![], ..granted.clone() }).unwrap(), None);
    assert_eq!(Event::decode(&Log { topics: vec![B256::ZERO], ..granted.clone() }).unwrap(), None);
}

#[test]
fn a_refusal_is_named_with_its_values() {
    let chain = EvmChain::new(161);
    let registry = Deployed::on(&chain).registry;
    let call =
        registry.grant(ContentId(B256::ZERO), Address::repeat_byte(1), Permission::Read, Term::default());
    let error = chain.send_call(Address::repeat_byte(2), &call).unwrap_err();
    assert_eq!(error.to_string(), "the contract refused: UnknownContent { id: 0 }");
    assert_eq!(refusal(error), "UnknownContent");
    let text = lightstreams_acl::Revert(Bytes::from_static(&[1, 2, 3])).to_string();
    assert_eq!(text, "0x010203");
}
