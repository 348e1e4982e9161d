//! Every `AccessControl` answers alike.

use lightstreams_acl::testing::{Deployed, EvmChain, check_access_control};
use lightstreams_acl::{Address, ContractAcl, MemoryAcl};

#[test]
fn the_model_passes_the_shared_check() {
    check_access_control(&mut MemoryAcl::new(161, Address::repeat_byte(1), Address::repeat_byte(2)));
}

#[test]
fn the_contract_passes_the_shared_check() {
    let chain = EvmChain::new(161);
    let registry = Deployed::on(&chain).registry;
    check_access_control(&mut ContractAcl::new(chain, registry));
}
