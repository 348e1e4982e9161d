//! Raw bindings of the contracts, as `alloy-sol-types` makes them from the checked-in artifacts: every call, event, error and
//! struct by its Solidity name, and the code to deploy.
//!
//! ```
//! use lightstreams_acl::{Address, Call, U256, abi};
//!
//! let registry = Address::repeat_byte(0x11);
//! let call = abi::ContentRegistry::nonceUsedCall { account: Address::ZERO, nonce: U256::from(7) };
//! let call: Call<bool> = Call::new(registry, &call);
//! # assert_eq!(call.data.len(), 68);
//! ```

#![allow(missing_docs, clippy::all)]

use alloy_sol_types::sol;

sol!(
    #[derive(Debug, PartialEq, Eq)]
    ContentRegistry,
    "artifacts/ContentRegistry.json"
);

sol!(
    #[derive(Debug, PartialEq, Eq)]
    Custodians,
    "artifacts/Custodians.json"
);

sol!(
    #[derive(Debug, PartialEq, Eq)]
    Market,
    "artifacts/Market.json"
);
