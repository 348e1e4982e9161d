//! Raw bindings of the contracts, as `alloy-sol-types` generates them.

#![allow(missing_docs, clippy::all)]

use alloy_sol_types::sol;

sol! {
    #[allow(missing_docs)]
    #[derive(Debug, PartialEq, Eq)]
    #[sol(bytecode = "0x00")]
    contract ContentRegistry {
        error Unauthorized();
        struct Row { uint8 level; uint32 generation; uint32 fromEpoch; uint64 notBefore; uint64 expires; uint32 revocations; }
        struct Head { uint32 version; uint32 revision; uint32 headEpoch; uint32 epoch; uint32 generation; uint8 flags; bool isPublic; bytes32 manifest; address gate; }
        struct Module { address module; bool enabled; }

        event Registered(uint256 indexed id, address indexed owner, bytes32 indexed manifest);
        event Published(uint256 indexed id, uint32 version, uint32 epoch, bytes32 indexed manifest, address indexed by);
        event Rewrapped(uint256 indexed id, uint32 version, uint32 revision, bytes32 indexed manifest, address indexed by);
        event Granted(uint256 indexed id, address indexed who, uint8 source, address indexed by, uint8 level, uint64 notBefore, uint64 expires, uint32 fromEpoch);
        event Revoked(uint256 indexed id, address indexed who, uint8 source, address indexed by, uint32 epoch);
        event PermissionRequested(uint256 indexed id, address indexed who, uint8 level, bytes32 purpose);
        event PermissionDeclined(uint256 indexed id, address indexed who, address indexed by);
        event PublicSet(uint256 indexed id, bool on, address indexed by);
        event Disclosed(uint256 indexed id, uint32 version, bytes16 fileKey, address indexed by);
        event ModuleSet(uint256 indexed id, address indexed module, uint8 source, bool on, address indexed by);
        event GateSet(uint256 indexed id, address indexed gate, bytes data, address indexed by);
        event ParentSet(uint256 indexed id, uint256 indexed parent, uint32 epoch, address indexed by);
        event Rotated(uint256 indexed id, uint32 epoch, address indexed by);
        event CustodySet(uint256 indexed id, address[] custodians, address indexed by);
        event FlagsSet(uint256 indexed id, uint8 flags, address indexed by);
        event RoyaltySet(uint256 indexed id, address indexed receiver, uint96 bps, address indexed by);
        event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
        event Approval(address indexed owner, address indexed approved, uint256 indexed tokenId);
        event ApprovalForAll(address indexed owner, address indexed operator, bool approved);

        function register(bytes32 salt, bytes32 manifest, uint8 flags, address gate, bytes gateData) external returns (uint256 id);
        function publish(uint256 id, bytes32 manifest, uint32 expectedVersion, uint32 expectedEpoch) external;
        function rewrap(uint256 id, bytes32 manifest, uint32 expectedVersion, uint32 expectedRevision) external;
        function claim(uint256 id, bytes32 manifest) external;
        function grant(uint256 id, address who, uint8 level, uint64 notBefore, uint64 expires, uint32 fromEpoch) external;
        function revoke(uint256 id, address who) external;
        function renounce(uint256 id) external;
        function setModule(uint256 id, address module, bool on) external;
        function moduleGrant(uint256 id, address who, uint64 notBefore, uint64 expires, uint32 fromEpoch) external;
        function moduleClear(uint256 id, address who) external;
        function requestPermission(uint256 id, uint8 level, bytes32 purpose) external;
        function declinePermission(uint256 id, address who) external;
        function setPublic(uint256 id, bool on) external;
        function disclose(uint256 id, uint32 version, bytes16 fileKey) external;
        function setGate(uint256 id, address gate, bytes data) external;
        function setParent(uint256 id, uint256 parent) external;
        function rotate(uint256 id) external;
        function setCustody(uint256 id, address[] custodians) external;
        function setFlags(uint256 id, uint8 flags) external;
        function setRoyalty(uint256 id, address receiver, uint96 bps) external;
        function multicall(bytes[] data) external returns (bytes[] results);
        function burnNonce(uint256 nonce) external;

        function registerBySig(bytes32 salt, address owner, bytes32 manifest, uint8 flags, address gate, bytes gateData, uint256 nonce, uint64 deadline, bytes sig) external returns (uint256 id);
        function publishBySig(uint256 id, address by, bytes32 manifest, uint32 expectedVersion, uint32 expectedEpoch, uint256 nonce, uint64 deadline, bytes sig) external;
        function rewrapBySig(uint256 id, address by, bytes32 manifest, uint32 expectedVersion, uint32 expectedRevision, uint256 nonce, uint64 deadline, bytes sig) external;
        function grantBySig(uint256 id, address by, address who, uint8 level, uint64 notBefore, uint64 expires, uint32 fromEpoch, uint32 generation, uint32 revocations, uint256 nonce, uint64 deadline, bytes sig) external;
        function revokeBySig(uint256 id, address by, address who, uint256 nonce, uint64 deadline, bytes sig) external;
        function setPublicBySig(uint256 id, address by, bool on, uint256 nonce, uint64 deadline, bytes sig) external;

        function contentId(address owner, bytes32 salt) external view returns (uint256);
        function head(uint256 id) external view returns (Head memory);
        function versionOf(uint256 id, bytes32 manifest) external view returns (uint32 ver, uint32 ep, uint32 rev);
        function levelOf(uint256 id, address who) external view returns (uint8);
        function canRead(uint256 id, address who) external view returns (bool);
        function canReadAt(uint256 id, address who, uint32 epoch) external view returns (bool);
        function accessOf(uint256 id, address who, uint32 epoch, uint64 startTime, uint64 endTime) external view returns (uint8 verdict, uint64 when);
        function rowOf(uint256 id, address who, uint8 source) external view returns (Row memory);
        function modulesOf(uint256 id) external view returns (Module[] memory);
        function custodyOf(uint256 id) external view returns (address[] memory);
        function custodyOfVersion(uint256 id, uint32 version) external view returns (address[] memory);
        function parentOf(uint256 id, uint32 epoch) external view returns (uint256);
        function gateOf(uint256 id) external view returns (address gate, bytes memory data);
        function nonceUsed(address account, uint256 nonce) external view returns (bool);
        function ownerOf(uint256 id) external view returns (address);
        function balanceOf(address owner) external view returns (uint256);
        function tokenURI(uint256 id) external view returns (string memory);
        function royaltyInfo(uint256 id, uint256 salePrice) external view returns (address receiver, uint256 amount);
        function supportsInterface(bytes4 interfaceId) external view returns (bool);
        function approve(address to, uint256 id) external;
        function getApproved(uint256 id) external view returns (address);
        function setApprovalForAll(address operator, bool approved) external;
        function isApprovedForAll(address owner, address operator) external view returns (bool);
        function transferFrom(address from, address to, uint256 id) external;
    }
}

sol! {
    #[allow(missing_docs)]
    #[derive(Debug, PartialEq, Eq)]
    #[sol(bytecode = "0x00")]
    contract Custodians {
        error RecordTooLong();
        event RecordSet(address indexed account, bytes record);
        function setRecord(bytes record) external;
        function recordOf(address account) external view returns (bytes memory);
    }
}

sol! {
    #[allow(missing_docs)]
    #[derive(Debug, PartialEq, Eq)]
    #[sol(bytecode = "0x00")]
    contract Market {
        constructor(address registry);
        error PlanGone();
        struct Payee { address account; uint16 bps; }
        struct Plan { address token; uint128 price; uint64 duration; uint32 supply; uint16 referrerBps; Payee[] payees; }
        struct Offer { uint256 id; address seller; uint32 generation; uint32 sold; bool closed; Plan plan; }
        struct Order { uint256 id; uint32 planId; address payer; address reader; uint64 start; uint64 expires; uint32 fromEpoch; bool cut; }

        event Listed(uint256 indexed planId, uint256 indexed id, address indexed seller, Plan plan);
        event Closed(uint256 indexed planId, uint256 indexed id, address indexed by);
        event Purchased(uint256 orderId, uint256 indexed id, address indexed buyer, address indexed to, uint256 planId, uint256 price, uint64 expires);
        event Cut(uint256 orderId, uint256 indexed id, address indexed reader, address indexed by, address payer, uint256 price);
        event Credited(address indexed account, address indexed token, uint256 indexed orderId, uint256 amount);
        event Withdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);

        function list(uint256 id, Plan plan) external returns (uint256 planId);
        function close(uint256 planId) external;
        function buy(uint256 planId, address to, uint256 maxPrice, address referrer, bytes32 expectedManifest) external payable returns (uint256 orderId);
        function cutWithRefund(uint256 orderId) external payable;
        function withdraw(address token, address to) external returns (uint256 amount);

        function registry() external view returns (address);
        function offerOf(uint256 planId) external view returns (Offer memory);
        function plansOf(uint256 id) external view returns (uint256[] memory);
        function orderOf(uint256 orderId) external view returns (Order memory);
        function ordersOf(uint256 id, address reader) external view returns (uint256[] memory);
        function cutCost(uint256 orderId) external view returns (uint256 nativeAmount);
        function owed(address token, address account) external view returns (uint256);
        function totalOwed(address token) external view returns (uint256);
    }
}
