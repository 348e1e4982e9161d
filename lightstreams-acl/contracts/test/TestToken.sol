// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// A token for tests: anyone mints, it may keep a fee of each transfer, and it may call back while it transfers.
contract TestToken is ERC20 {
    uint256 public feeBps;
    address public target;
    bytes public attack;
    bool public attackSucceeded;

    constructor() ERC20("Test Token", "TEST") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setFee(uint256 bps) external {
        feeBps = bps;
    }

    /// From now on each transfer first calls `target_` with `attack_`.
    function setAttack(address target_, bytes calldata attack_) external {
        (target, attack) = (target_, attack_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (target != address(0) && from != address(0)) {
            (bool ok,) = target.call(attack);
            if (ok) attackSucceeded = true;
        }
        uint256 fee = from == address(0) ? 0 : amount * feeBps / 10_000;
        if (fee != 0) super._update(from, address(0), fee);
        super._update(from, to, amount - fee);
    }
}
