// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IAccessGate} from "../IAccessGate.sol";

/// A gate for tests: the first byte of the data says how it behaves, none lets in the accounts with an odd last byte.
contract TestGate is IAccessGate {
    function allows(uint256, address who, bytes calldata data) external view returns (bool) {
        if (data.length == 0) return uint160(who) & 1 == 1;
        if (data[0] == "r") revert("no");
        if (data[0] == "g") {
            while (gasleft() > 0) {}
        }
        if (data[0] == "2") {
            assembly {
                mstore(0, 2)
                return(0, 32)
            }
        }
        if (data[0] == "s") {
            assembly {
                mstore(0, 1)
                return(31, 1)
            }
        }
        if (data[0] == "b") {
            assembly {
                mstore(0, 1)
                return(0, 20000)
            }
        }
        return true;
    }
}
