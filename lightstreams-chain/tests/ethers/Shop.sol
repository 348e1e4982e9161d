// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// What the ethers story deploys: state, an event with an indexed topic, and a revert with a reason.
contract Shop {
    error TooCheap(uint256 offered, uint256 price);
    event Sold(address indexed buyer, uint256 price);

    uint256 public price;
    uint256 public sold;

    constructor(uint256 price_) payable {
        price = price_;
    }

    function setPrice(uint256 price_) external {
        require(price_ > 0, "a price is above zero");
        price = price_;
    }

    function buy() external payable {
        if (msg.value < price) revert TooCheap(msg.value, price);
        sold += 1;
        emit Sold(msg.sender, price);
    }

    function sum(uint256 a, uint256 b) external pure returns (uint256) {
        return a + b;
    }
}
