// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ContentRegistry} from "./ContentRegistry.sol";

/// Sells READ on contents without a middleman: the seller lists plans, anyone buys for anyone, payees withdraw.
///
/// What was paid for stays. Each order keeps its own term; the reader's row in the registry is what the living orders (neither
/// expired nor cut) add up to. A row is cut inside its term only with the full price of all living orders, credited in the same call
/// to those who paid. Money goes out by `withdraw` only, so no payee can make a sale fail. Token address 0 is the native coin; a
/// token that takes a fee of its transfers is refused, one that changes balances by itself is the risk of those who use it.
contract Market is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint8 private constant ADMIN = 3;
    uint256 private constant WHOLE = 10_000;
    uint256 private constant PAYEES_MAX = 16;
    uint256 private constant ORDER_BITS = 32;
    /// Living orders that one reader may have of one content: their numbers share a word.
    uint256 private constant LIVING_MAX = 256 / ORDER_BITS;
    /// Others may give a reader only so many of them, so that the reader always can buy.
    uint256 private constant LIVING_GIFTS_MAX = LIVING_MAX / 2;

    struct Payee {
        address account;
        uint16 bps;
    }

    /// The terms of a sale. They never change.
    struct Plan {
        address token;
        /// Seconds from the purchase on; 0: for good.
        uint64 duration;
        /// How many may be sold; 0: any number.
        uint32 supply;
        uint128 price;
        /// The share of who brought the buyer, taken first, in basis points.
        uint16 referrerBps;
        /// Who shares the rest, in basis points that add up to 10,000; empty: the seller. What rounding leaves goes to the first.
        Payee[] payees;
    }

    struct Offer {
        uint256 id;
        address seller;
        /// The plan sells in this generation of the content only.
        uint32 generation;
        uint32 sold;
        bool closed;
        Plan plan;
    }

    struct Order {
        uint256 id;
        uint256 planId;
        address payer;
        address reader;
        uint64 start;
        uint64 expires;
        uint32 fromEpoch;
        bool cut;
    }

    /// The second slot stays untouched where the reader paid, epoch 0 was bought and nothing was cut.
    struct StoredOrder {
        address reader;
        uint64 start;
        uint32 planId;
        /// 0: the reader.
        address payer;
        uint32 fromEpoch;
        bool cut;
    }

    ContentRegistry public immutable registry;

    uint32 private _lastPlan;
    uint32 private _lastOrder;
    mapping(uint256 planId => Offer) private _offers;
    mapping(uint256 id => uint256[]) private _plans;
    mapping(uint256 orderId => StoredOrder) private _orders;
    /// The numbers of the orders that made the row, 32 bits each, no gaps.
    mapping(uint256 id => mapping(address reader => uint256)) private _living;

    /// What an account may withdraw.
    mapping(address token => mapping(address account => uint256)) public owed;
    /// What all accounts together may withdraw: never more than this contract holds.
    mapping(address token => uint256) public totalOwed;

    event Listed(uint256 indexed id, uint256 indexed planId, address indexed seller, Plan plan);
    event Closed(uint256 indexed id, uint256 indexed planId, address indexed by);
    event Purchased(
        uint256 orderId,
        uint256 indexed id,
        address indexed buyer,
        address indexed to,
        uint256 planId,
        uint256 price,
        uint64 expires
    );
    event Cut(
        uint256 orderId,
        uint256 indexed id,
        address indexed reader,
        address indexed by,
        address payer,
        uint256 price
    );
    event Credited(address indexed account, address indexed token, uint256 indexed orderId, uint256 amount);
    event Withdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);

    error NotOwner(uint256 id);
    error InvalidPlan();
    error UnknownPlan(uint256 planId);
    /// Closed, or the content has another owner since.
    error PlanEnded(uint256 planId);
    error SoldOut(uint256 planId);
    error PriceAboveMax(uint256 price);
    error WrongValue(uint256 expected);
    /// The manifest is not of the head version.
    error WrongManifest(bytes32 manifest);
    /// Nobody would release the key.
    error NoCustody(uint256 id);
    error InvalidAccount(address account);
    error TooManyOrders();
    error NotAdmin(uint256 id);
    error NotLiving(uint256 orderId);
    error NothingOwed();
    error TokenTookFee(address token);

    constructor(ContentRegistry registry_) {
        registry = registry_;
    }

    /// Offers a content. Its owner; buyers come once the owner has made this market a module of the content.
    function list(uint256 id, Plan calldata plan) external returns (uint256 planId) {
        if (registry.ownerOf(id) != msg.sender) revert NotOwner(id);
        uint256 count = plan.payees.length;
        if (count > PAYEES_MAX || plan.referrerBps > WHOLE || plan.duration > type(uint64).max / 2) {
            revert InvalidPlan();
        }
        planId = ++_lastPlan;
        Offer storage offer = _offers[planId];
        offer.id = id;
        offer.seller = msg.sender;
        offer.generation = registry.head(id).generation;
        Plan storage stored = offer.plan;
        stored.token = plan.token;
        stored.duration = plan.duration;
        stored.supply = plan.supply;
        stored.price = plan.price;
        stored.referrerBps = plan.referrerBps;
        uint256 sum = 0;
        for (uint256 i = 0; i < count; ++i) {
            Payee calldata payee = plan.payees[i];
            if (payee.account == address(0) || payee.bps == 0) revert InvalidPlan();
            sum += payee.bps;
            stored.payees.push(payee);
        }
        if (count != 0 && sum != WHOLE) revert InvalidPlan();
        _plans[id].push(planId);
        emit Listed(id, planId, msg.sender, plan);
    }

    /// Ends the sale of a plan. The content's owner, or who listed it.
    function close(uint256 planId) external {
        Offer storage offer = _offer(planId);
        if (msg.sender != offer.seller && msg.sender != registry.ownerOf(offer.id)) revert NotOwner(offer.id);
        offer.closed = true;
        emit Closed(offer.id, planId, msg.sender);
    }

    /// Buys a plan for `to`. The price must not exceed `maxPrice`, `expectedManifest` must be of the head version, and somebody must hold
    /// custody. Native coin is sent along to the unit; a token is taken by allowance.
    function buy(uint256 planId, address to, uint256 maxPrice, address referrer, bytes32 expectedManifest)
        external
        payable
        nonReentrant
        returns (uint256 orderId)
    {
        Offer storage offer = _offer(planId);
        uint256 id = offer.id;
        uint256 price = offer.plan.price;
        address token = offer.plan.token;
        if (to == address(0)) revert InvalidAccount(to);
        if (price > maxPrice) revert PriceAboveMax(price);
        if (msg.value != (token == address(0) ? price : 0)) revert WrongValue(token == address(0) ? price : 0);
        if (token != address(0)) _pull(token, price);

        uint32 fromEpoch = _check(offer, planId, id, expectedManifest);
        ++offer.sold;
        orderId = ++_lastOrder;
        StoredOrder storage order = _orders[orderId];
        (order.reader, order.start, order.planId) = (to, uint64(block.timestamp), uint32(planId));
        if (to != msg.sender) order.payer = msg.sender;
        if (fromEpoch != 0) order.fromEpoch = fromEpoch;
        uint64 expires = _expires(order, offer);

        _split(offer, orderId, token, price, referrer);
        emit Purchased(orderId, id, msg.sender, to, planId, price, expires);
        _grow(id, to, orderId, expires, fromEpoch);
    }

    /// Ends all living orders of the order's reader, and with them the row: the caller (the owner or an ADMIN) pays back every one of
    /// them in full to who paid. Native coin is sent along to the unit (`cutCost`); tokens are taken by allowance.
    function cutWithRefund(uint256 orderId) external payable nonReentrant {
        StoredOrder storage named = _orders[orderId];
        uint256 id = _offers[named.planId].id;
        address reader = named.reader;
        if (reader == address(0) || named.cut || _ended(named)) revert NotLiving(orderId);
        if (registry.levelOf(id, msg.sender) < ADMIN) revert NotAdmin(id);

        uint256 nativeSum = 0;
        for (uint256 word = _living[id][reader]; word != 0; word >>= ORDER_BITS) {
            uint256 number = uint32(word);
            StoredOrder storage order = _orders[number];
            if (_ended(order)) continue;
            order.cut = true;
            Plan storage plan = _offers[order.planId].plan;
            (address token, uint256 price) = (plan.token, plan.price);
            if (token == address(0)) nativeSum += price;
            else _pull(token, price);
            address payer = _payer(order);
            _credit(token, payer, price, number);
            emit Cut(number, id, reader, msg.sender, payer, price);
        }
        if (msg.value != nativeSum) revert WrongValue(nativeSum);
        _living[id][reader] = 0;
        registry.moduleClear(id, reader);
    }

    /// Pays out to `to` all that the sender is owed in `token`.
    function withdraw(address token, address to) external nonReentrant returns (uint256 amount) {
        if (to == address(0)) revert InvalidAccount(to);
        amount = owed[token][msg.sender];
        if (amount == 0) revert NothingOwed();
        owed[token][msg.sender] = 0;
        totalOwed[token] -= amount;
        emit Withdrawn(msg.sender, token, to, amount);
        if (token == address(0)) Address.sendValue(payable(to), amount);
        else IERC20(token).safeTransfer(to, amount);
    }

    /// A plan, and how its sale stands.
    function offerOf(uint256 planId) external view returns (Offer memory) {
        return _offer(planId);
    }

    /// All plans of a content.
    function plansOf(uint256 id) external view returns (uint256[] memory) {
        return _plans[id];
    }

    function orderOf(uint256 orderId) external view returns (Order memory) {
        StoredOrder storage order = _orders[orderId];
        if (order.reader == address(0)) revert NotLiving(orderId);
        Offer storage offer = _offers[order.planId];
        return Order({
            id: offer.id,
            planId: order.planId,
            payer: _payer(order),
            reader: order.reader,
            start: order.start,
            expires: _expires(order, offer),
            fromEpoch: order.fromEpoch,
            cut: order.cut
        });
    }

    /// The living orders of a reader.
    function ordersOf(uint256 id, address reader) external view returns (uint256[] memory orders) {
        uint256 count = 0;
        uint256 all = _living[id][reader];
        for (uint256 word = all; word != 0; word >>= ORDER_BITS) {
            if (!_ended(_orders[uint32(word)])) ++count;
        }
        orders = new uint256[](count);
        for (uint256 word = all; word != 0; word >>= ORDER_BITS) {
            if (!_ended(_orders[uint32(word)])) orders[--count] = uint32(word);
        }
    }

    /// The native coin that `cutWithRefund` takes now.
    function cutCost(uint256 orderId) external view returns (uint256 nativeAmount) {
        StoredOrder storage named = _orders[orderId];
        uint256 word = _living[_offers[named.planId].id][named.reader];
        for (; word != 0; word >>= ORDER_BITS) {
            StoredOrder storage order = _orders[uint32(word)];
            Plan storage plan = _offers[order.planId].plan;
            if (plan.token == address(0) && !_ended(order)) nativeAmount += plan.price;
        }
    }

    /// Whether the plan may be sold now, and from which epoch what is sold counts.
    function _check(Offer storage offer, uint256 planId, uint256 id, bytes32 expectedManifest)
        private
        view
        returns (uint32 epoch)
    {
        uint32 generation;
        bool custody;
        bool ofHead;
        (generation, custody, ofHead, epoch) = registry.saleOf(id, expectedManifest);
        if (offer.closed || generation != offer.generation) revert PlanEnded(planId);
        uint32 supply = offer.plan.supply;
        if (supply != 0 && offer.sold >= supply) revert SoldOut(planId);
        if (!custody) revert NoCustody(id);
        if (!ofHead) revert WrongManifest(expectedManifest);
    }

    /// Adds an order to the reader's living ones, and writes the row that they add up to: latest expiry, earliest beginning, lowest epoch.
    function _grow(uint256 id, address reader, uint256 orderId, uint64 expires, uint32 fromEpoch) private {
        uint64 start = uint64(block.timestamp);
        uint256 kept = orderId;
        uint256 count = 1;
        uint256 max = reader == msg.sender ? LIVING_MAX : LIVING_GIFTS_MAX;
        for (uint256 word = _living[id][reader]; word != 0; word >>= ORDER_BITS) {
            StoredOrder storage order = _orders[uint32(word)];
            if (_ended(order)) continue;
            if (++count > max) revert TooManyOrders();
            kept = (kept << ORDER_BITS) | uint32(word);
            uint64 end = _expires(order, _offers[order.planId]);
            if (end == 0 || expires == 0) expires = 0;
            else if (end > expires) expires = end;
            if (order.start < start) start = order.start;
            if (order.fromEpoch < fromEpoch) fromEpoch = order.fromEpoch;
        }
        _living[id][reader] = kept;
        registry.moduleGrant(id, reader, start, expires, fromEpoch);
    }

    /// Credits a price: the referrer's share of it first, then the payees' shares of the rest; what rounding leaves goes to the first payee.
    function _split(Offer storage offer, uint256 orderId, address token, uint256 price, address referrer) private {
        uint256 rest = price;
        if (referrer != address(0)) {
            uint256 share = price * offer.plan.referrerBps / WHOLE;
            rest -= share;
            _credit(token, referrer, share, orderId);
        }
        Payee[] storage payees = offer.plan.payees;
        uint256 count = payees.length;
        uint256 first = rest;
        for (uint256 i = 1; i < count; ++i) {
            Payee storage payee = payees[i];
            uint256 share = rest * payee.bps / WHOLE;
            first -= share;
            _credit(token, payee.account, share, orderId);
        }
        _credit(token, count == 0 ? offer.seller : payees[0].account, first, orderId);
    }

    function _credit(address token, address account, uint256 amount, uint256 orderId) private {
        if (amount == 0) return;
        owed[token][account] += amount;
        totalOwed[token] += amount;
        emit Credited(account, token, orderId, amount);
    }

    function _pull(address token, uint256 amount) private {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        if (IERC20(token).balanceOf(address(this)) != before + amount) revert TokenTookFee(token);
    }

    function _offer(uint256 planId) private view returns (Offer storage offer) {
        offer = _offers[planId];
        if (offer.seller == address(0)) revert UnknownPlan(planId);
    }

    function _payer(StoredOrder storage order) private view returns (address) {
        return order.payer == address(0) ? order.reader : order.payer;
    }

    function _expires(StoredOrder storage order, Offer storage offer) private view returns (uint64) {
        uint64 duration = offer.plan.duration;
        return duration == 0 ? 0 : order.start + duration;
    }

    function _ended(StoredOrder storage order) private view returns (bool) {
        uint64 expires = _expires(order, _offers[order.planId]);
        return expires != 0 && expires <= block.timestamp;
    }
}
