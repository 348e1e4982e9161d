// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// Each custodian's record about itself: holder key, recipients, endpoints, signed by the holder key.
///
/// The EVM cannot check Ed25519, so the contract only says which account stored the bytes; readers check the signature over that
/// account. There is no way back from a holder key to an account: it could be squatted.
contract Custodians {
    uint256 private constant RECORD_BYTES_MAX = 4096;

    mapping(address account => bytes) private _records;

    event RecordSet(address indexed account, bytes record);

    error RecordTooLong(uint256 length);

    /// Stores the sender's record; empty removes it.
    function setRecord(bytes calldata record) external {
        if (record.length > RECORD_BYTES_MAX) revert RecordTooLong(record.length);
        _records[msg.sender] = record;
        emit RecordSet(msg.sender, record);
    }

    function recordOf(address account) external view returns (bytes memory) {
        return _records[account];
    }
}
