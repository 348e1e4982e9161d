// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// A smart account for tests (ERC-1271): one key speaks for it, and it can call. It refuses native coin while told so.
contract TestWallet is IERC1271 {
    address public immutable key;
    bool public refuses;

    constructor(address key_) {
        key = key_;
    }

    function setRefuses(bool on) external {
        refuses = on;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(hash, signature);
        return fault == ECDSA.RecoverError.NoError && signer == key ? this.isValidSignature.selector : bytes4(0);
    }

    function run(address to, uint256 value, bytes calldata data) external payable returns (bytes memory) {
        (bool ok, bytes memory output) = to.call{value: value}(data);
        require(ok, "failed");
        return output;
    }

    receive() external payable {
        require(!refuses, "no coin, please");
    }
}
