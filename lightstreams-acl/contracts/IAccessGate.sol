// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// A rule of its own for who may read: a token balance, a subscription, a group, an attestation.
interface IAccessGate {
    /// Whether `who` may read content `id`; `data` is what the content's admin configured. Called by STATICCALL with 100,000 gas; a
    /// revert, or any answer but 1, means no.
    function allows(uint256 id, address who, bytes calldata data) external view returns (bool);
}
