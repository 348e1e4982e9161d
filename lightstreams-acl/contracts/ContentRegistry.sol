// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC2981} from "@openzeppelin/contracts/token/common/ERC2981.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";
import {IAccessGate} from "./IAccessGate.sol";

/// Who may read, write and administer which content; which manifests are its versions; who keeps its keys.
///
/// A content is an ERC-721 token. Its owner has every right and cannot be locked out; everyone else has what a row gives, at
/// most for the row's term and from the row's epoch on, and nothing by default. Rows are kept by source: source 0 is people, the
/// others are modules (a market) that the owner enabled and that write READ rows of their own only. The level that counts is the
/// highest active row.
contract ContentRegistry is ERC721, ERC2981, EIP712, Multicall {
    uint8 private constant NONE = 0;
    uint8 private constant READ = 1;
    uint8 private constant WRITE = 2;
    uint8 private constant ADMIN = 3;

    uint8 private constant FLAG_SOULBOUND = 2;
    /// STRICT_AUDIT = 1, SOULBOUND = 2, PQ_ONLY = 4.
    uint8 private constant FLAGS_ALL = 7;

    // Verdicts of `accessOf`. Among rows that do not allow, the highest number decides.
    uint8 private constant ALLOWED = 0;
    uint8 private constant UNKNOWN_CONTENT = 1;
    uint8 private constant NOT_GRANTED = 2;
    uint8 private constant REVOKED = 3;
    uint8 private constant EXPIRED = 4;
    uint8 private constant OTHER_EPOCH = 5;
    uint8 private constant NOT_YET_VALID = 6;

    uint256 private constant MODULES_MAX = 8;
    uint256 private constant CUSTODIANS_MAX = 16;
    /// Changes of custody while one version is the head, so that `custodyOfVersion` stays cheap to ask.
    uint256 private constant CUSTODY_CHANGES_MAX = 64;
    uint256 private constant ANCESTORS_MAX = 4;
    uint256 private constant GATE_DATA_BYTES_MAX = 1024;
    uint256 private constant GATE_GAS = 100_000;

    bytes32 private constant REGISTER_TYPEHASH = keccak256(
        "Register(bytes32 salt,address owner,bytes32 manifest,uint8 flags,address gate,bytes gateData,uint256 nonce,uint64 deadline)"
    );
    bytes32 private constant PUBLISH_TYPEHASH = keccak256(
        "Publish(uint256 id,address by,bytes32 manifest,uint32 expectedVersion,uint32 expectedEpoch,uint256 nonce,uint64 deadline)"
    );
    bytes32 private constant REWRAP_TYPEHASH = keccak256(
        "Rewrap(uint256 id,address by,bytes32 manifest,uint32 expectedVersion,uint32 expectedRevision,uint256 nonce,uint64 deadline)"
    );
    bytes32 private constant GRANT_TYPEHASH = keccak256(
        "Grant(uint256 id,address by,address who,uint8 level,uint64 notBefore,uint64 expires,uint32 fromEpoch,uint32 generation,uint32 revocations,uint256 nonce,uint64 deadline)"
    );
    bytes32 private constant REVOKE_TYPEHASH =
        keccak256("Revoke(uint256 id,address by,address who,uint256 nonce,uint64 deadline)");
    bytes32 private constant SET_PUBLIC_TYPEHASH =
        keccak256("SetPublic(uint256 id,address by,bool on,uint256 nonce,uint64 deadline)");

    struct Content {
        uint32 version;
        uint32 revision;
        /// Epoch of the head version.
        uint32 headEpoch;
        /// Epoch of the next version.
        uint32 epoch;
        /// How often the content was transferred.
        uint32 generation;
        /// The generation whose owner has used `claim`.
        uint32 claimed;
        uint8 flags;
        uint8 modules;
        /// Bit `source - 1`: the module may write rows.
        uint8 modulesOn;
        uint8 custodians;
        bool isPublic;
        bytes32 manifest;
        address gate;
    }

    struct Version {
        uint32 ver;
        uint32 ep;
        uint32 rev;
    }

    struct Row {
        uint8 level;
        /// WRITE and ADMIN count in this generation only.
        uint32 generation;
        uint32 fromEpoch;
        uint64 notBefore;
        uint64 expires;
        /// How often the row was taken back: a grant signed before the last time is dead.
        uint32 revocations;
    }

    struct Parent {
        uint256 parent;
        uint32 fromEpoch;
    }

    struct Head {
        uint32 version;
        uint32 revision;
        uint32 headEpoch;
        uint32 epoch;
        uint32 generation;
        uint8 flags;
        uint8 custodians;
        bool isPublic;
        bytes32 manifest;
        address gate;
    }

    struct Module {
        address module;
        bool enabled;
    }

    mapping(uint256 id => Content) private _contents;
    mapping(uint256 id => mapping(bytes32 manifest => Version)) private _versions;
    mapping(uint256 id => mapping(address who => mapping(uint256 source => Row))) private _rows;
    mapping(uint256 id => mapping(uint256 source => address)) private _modules;
    mapping(uint256 id => mapping(address module => uint256)) private _sources;
    /// Every set of custodians that was ever in force.
    mapping(uint256 id => address[][]) private _custody;
    /// How many sets there were when a version was recorded.
    mapping(uint256 id => mapping(uint256 version => uint256)) private _custodySets;
    mapping(uint256 id => Parent[]) private _parents;
    mapping(uint256 id => bytes) private _gateData;
    mapping(address account => mapping(uint256 word => uint256)) private _nonces;

    event Registered(uint256 indexed id, address indexed owner, bytes32 indexed manifest);
    event Published(
        uint256 indexed id, uint32 version, uint32 epoch, bytes32 indexed manifest, address indexed by
    );
    event Rewrapped(
        uint256 indexed id, uint32 version, uint32 revision, bytes32 indexed manifest, address indexed by
    );
    event Granted(
        uint256 indexed id,
        address indexed who,
        uint8 source,
        address indexed by,
        uint8 level,
        uint64 notBefore,
        uint64 expires,
        uint32 fromEpoch
    );
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

    error UnknownContent(uint256 id);
    error AlreadyRegistered(uint256 id);
    error ManifestRecorded(bytes32 manifest);
    error ManifestMissing();
    /// The head is not the expected one: look again, then decide again.
    error Stale(uint32 version, uint32 revision, uint32 epoch);
    error Denied(uint256 id, address account, uint8 needed);
    error OwnerOnly(uint256 id);
    error InvalidAccount(address account);
    error InvalidLevel(uint8 level);
    error InvalidTerm(uint64 notBefore, uint64 expires);
    error InvalidFlags(uint8 flags);
    /// The row has this level, or counts already: revoke it first if it should fall.
    error WouldLower(uint8 level);
    error StaleGrant(uint32 generation, uint32 revocations);
    error NothingToClaim(uint256 id);
    error NotAModule(address module);
    error TooMany();
    error InvalidParent(uint256 parent);
    error Soulbound(uint256 id);
    error NonceUsed(address account, uint256 nonce);
    error SignatureExpired(uint64 deadline);
    error InvalidSignature();

    constructor() ERC721("Lightstreams Content", "LSC") EIP712("Lightstreams", "1") {}

    // ---------------------------------------------------------------- versions

    /// Registers version 1 of a new content of the sender.
    function register(bytes32 salt, bytes32 manifest, uint8 flags, address gate, bytes calldata gateData)
        external
        returns (uint256 id)
    {
        return _register(msg.sender, salt, manifest, flags, gate, gateData);
    }

    function registerBySig(
        bytes32 salt,
        address owner,
        bytes32 manifest,
        uint8 flags,
        address gate,
        bytes calldata gateData,
        uint256 nonce,
        uint64 deadline,
        bytes calldata sig
    ) external returns (uint256 id) {
        bytes32 data = keccak256(gateData);
        bytes32 hash =
            keccak256(abi.encode(REGISTER_TYPEHASH, salt, owner, manifest, flags, gate, data, nonce, deadline));
        _useSignature(owner, nonce, deadline, hash, sig);
        return _register(owner, salt, manifest, flags, gate, gateData);
    }

    /// Records the next version. WRITE. `expectedVersion` and `expectedEpoch` are the content's before the call.
    function publish(uint256 id, bytes32 manifest, uint32 expectedVersion, uint32 expectedEpoch) external {
        _publish(msg.sender, id, manifest, expectedVersion, expectedEpoch);
    }

    function publishBySig(
        uint256 id,
        address by,
        bytes32 manifest,
        uint32 expectedVersion,
        uint32 expectedEpoch,
        uint256 nonce,
        uint64 deadline,
        bytes calldata sig
    ) external {
        bytes32 hash =
            keccak256(abi.encode(PUBLISH_TYPEHASH, id, by, manifest, expectedVersion, expectedEpoch, nonce, deadline));
        _useSignature(by, nonce, deadline, hash, sig);
        _publish(by, id, manifest, expectedVersion, expectedEpoch);
    }

    /// Records the next revision of the head version: the same payload for other recipients. ADMIN.
    function rewrap(uint256 id, bytes32 manifest, uint32 expectedVersion, uint32 expectedRevision) external {
        _rewrap(msg.sender, id, manifest, expectedVersion, expectedRevision);
    }

    function rewrapBySig(
        uint256 id,
        address by,
        bytes32 manifest,
        uint32 expectedVersion,
        uint32 expectedRevision,
        uint256 nonce,
        uint64 deadline,
        bytes calldata sig
    ) external {
        bytes32 hash = keccak256(
            abi.encode(REWRAP_TYPEHASH, id, by, manifest, expectedVersion, expectedRevision, nonce, deadline)
        );
        _useSignature(by, nonce, deadline, hash, sig);
        _rewrap(by, id, manifest, expectedVersion, expectedRevision);
    }

    /// A new owner's rewrap, once after each transfer.
    function claim(uint256 id, bytes32 manifest) external {
        Content storage c = _owned(id, msg.sender);
        if (c.claimed == c.generation) revert NothingToClaim(id);
        c.claimed = c.generation;
        _revise(c, id, manifest, msg.sender);
    }

    // ---------------------------------------------------------------- rows of people

    /// Gives `who` a level for a term (0 = no bound) from an epoch on. ADMIN; only the owner grants ADMIN or changes an ADMIN's row.
    /// A grant replaces the row, unless that would lower what it gives.
    function grant(uint256 id, address who, uint8 level, uint64 notBefore, uint64 expires, uint32 fromEpoch)
        external
    {
        _grant(msg.sender, id, who, level, notBefore, expires, fromEpoch);
    }

    function grantBySig(
        uint256 id,
        address by,
        address who,
        uint8 level,
        uint64 notBefore,
        uint64 expires,
        uint32 fromEpoch,
        uint32 generation,
        uint32 revocations,
        uint256 nonce,
        uint64 deadline,
        bytes calldata sig
    ) external {
        {
            bytes memory start = abi.encode(GRANT_TYPEHASH, id, by, who, level, notBefore, expires, fromEpoch);
            bytes memory end = abi.encode(generation, revocations, nonce, deadline);
            _useSignature(by, nonce, deadline, keccak256(bytes.concat(start, end)), sig);
        }
        Content storage c = _known(id);
        uint32 revoked = _rows[id][who][0].revocations;
        if (c.generation != generation || revoked != revocations) revert StaleGrant(c.generation, revoked);
        _grant(by, id, who, level, notBefore, expires, fromEpoch);
    }

    /// Takes back the row of people, and with it every grant that was signed before. ADMIN; an ADMIN's row only by the owner.
    function revoke(uint256 id, address who) external {
        _revoke(msg.sender, id, who);
    }

    function revokeBySig(uint256 id, address by, address who, uint256 nonce, uint64 deadline, bytes calldata sig)
        external
    {
        bytes32 hash = keccak256(abi.encode(REVOKE_TYPEHASH, id, by, who, nonce, deadline));
        _useSignature(by, nonce, deadline, hash, sig);
        _revoke(by, id, who);
    }

    /// Gives up the sender's own row of people.
    function renounce(uint256 id) external {
        _clear(_known(id), id, msg.sender, 0);
    }

    /// Asks for a permission: an event, and nothing else.
    function requestPermission(uint256 id, uint8 level, bytes32 purpose) external {
        _known(id);
        if (level == NONE || level > ADMIN) revert InvalidLevel(level);
        emit PermissionRequested(id, msg.sender, level, purpose);
    }

    /// Answers a request with no. ADMIN.
    function declinePermission(uint256 id, address who) external {
        _allowed(id, msg.sender, ADMIN);
        emit PermissionDeclined(id, who, msg.sender);
    }

    // ---------------------------------------------------------------- rows of modules

    /// Lets a module write READ rows of its own source, or stops it. Owner. A module keeps its place and its rows for good.
    function setModule(uint256 id, address module, bool on) external {
        Content storage c = _owned(id, msg.sender);
        uint256 source = _sources[id][module];
        if (source == 0) {
            if (module == address(0) || !on) revert NotAModule(module);
            if (c.modules == MODULES_MAX) revert TooMany();
            source = ++c.modules;
            _sources[id][module] = source;
            _modules[id][source] = module;
        }
        uint8 bit = uint8(1 << (source - 1));
        c.modulesOn = on ? c.modulesOn | bit : c.modulesOn & ~bit;
        emit ModuleSet(id, module, uint8(source), on, msg.sender);
    }

    /// Writes the READ row of `who` at the sender's source. An enabled module.
    function moduleGrant(uint256 id, address who, uint64 notBefore, uint64 expires, uint32 fromEpoch) external {
        Content storage c = _known(id);
        uint256 source = _sources[id][msg.sender];
        if (source == 0 || c.modulesOn & (1 << (source - 1)) == 0) revert NotAModule(msg.sender);
        _write(c, id, who, source, msg.sender, READ, notBefore, expires, fromEpoch);
    }

    /// Clears the row of `who` at the sender's source. A module, enabled or not.
    function moduleClear(uint256 id, address who) external {
        uint256 source = _sources[id][msg.sender];
        if (source == 0) revert NotAModule(msg.sender);
        _clear(_known(id), id, who, source);
    }

    // ---------------------------------------------------------------- settings

    /// READ for every account. ADMIN. Ends with a transfer.
    function setPublic(uint256 id, bool on) external {
        _setPublic(msg.sender, id, on);
    }

    function setPublicBySig(uint256 id, address by, bool on, uint256 nonce, uint64 deadline, bytes calldata sig)
        external
    {
        bytes32 hash = keccak256(abi.encode(SET_PUBLIC_TYPEHASH, id, by, on, nonce, deadline));
        _useSignature(by, nonce, deadline, hash, sig);
        _setPublic(by, id, on);
    }

    /// Puts the key of a version on chain, for everyone and for good. Owner.
    function disclose(uint256 id, uint32 version, bytes16 fileKey) external {
        Content storage c = _owned(id, msg.sender);
        if (version == 0 || version > c.version) revert Stale(c.version, c.revision, c.epoch);
        emit Disclosed(id, version, fileKey, msg.sender);
    }

    /// READ for whom the gate allows; the zero address removes it. ADMIN. Ends with a transfer.
    function setGate(uint256 id, address gate, bytes calldata data) external {
        _setGate(_allowed(id, msg.sender, ADMIN), id, gate, data);
        emit GateSet(id, gate, data, msg.sender);
    }

    /// Puts the content into a collection, or takes it out of one (0), from the next epoch on: who may read the collection may read
    /// the versions of those epochs. ADMIN of the content and WRITE on the collection.
    function setParent(uint256 id, uint256 parent) external {
        Content storage c = _allowed(id, msg.sender, ADMIN);
        if (parent != 0) {
            _allowed(parent, msg.sender, WRITE);
            uint256 ancestor = parent;
            for (uint256 depth = 0; ancestor != 0; ++depth) {
                if (ancestor == id || depth == ANCESTORS_MAX) revert InvalidParent(parent);
                ancestor = parentOf(ancestor, _contents[ancestor].epoch);
            }
        }
        _setParent(c, id, parent);
        emit ParentSet(id, parent, c.epoch, msg.sender);
    }

    /// Begins the next epoch: versions from now on are kept from rows that end with it and given to rows that begin with it. ADMIN.
    function rotate(uint256 id) external {
        Content storage c = _allowed(id, msg.sender, ADMIN);
        emit Rotated(id, ++c.epoch, msg.sender);
    }

    /// Names the accounts whose nodes release keys, at most 16 and at most 64 times per version. ADMIN. A transfer does not change them.
    function setCustody(uint256 id, address[] calldata custodians) external {
        Content storage c = _allowed(id, msg.sender, ADMIN);
        address[][] storage sets = _custody[id];
        uint256 changes = sets.length - _custodySets[id][c.version];
        if (custodians.length > CUSTODIANS_MAX || changes == CUSTODY_CHANGES_MAX) revert TooMany();
        c.custodians = uint8(custodians.length);
        sets.push(custodians);
        emit CustodySet(id, custodians, msg.sender);
    }

    /// STRICT_AUDIT = 1, SOULBOUND = 2, PQ_ONLY = 4. Owner.
    function setFlags(uint256 id, uint8 flags) external {
        Content storage c = _owned(id, msg.sender);
        if (flags > FLAGS_ALL) revert InvalidFlags(flags);
        c.flags = flags;
        emit FlagsSet(id, flags, msg.sender);
    }

    /// What ERC-2981 says that a resale owes. Set by the creator, who is the owner before the first transfer.
    function setRoyalty(uint256 id, address receiver, uint96 bps) external {
        if (_owned(id, msg.sender).generation != 0) revert OwnerOnly(id);
        _setTokenRoyalty(id, receiver, bps);
        emit RoyaltySet(id, receiver, bps, msg.sender);
    }

    /// Spends a nonce of the sender, so that what was signed with it cannot be brought any more.
    function burnNonce(uint256 nonce) external {
        _useNonce(msg.sender, nonce);
    }

    // ---------------------------------------------------------------- questions

    /// The id of what `owner` registers under `salt`.
    function contentId(address owner, bytes32 salt) public view returns (uint256) {
        return uint256(keccak256(abi.encode(block.chainid, address(this), owner, salt)));
    }

    function head(uint256 id) external view returns (Head memory) {
        Content storage c = _known(id);
        return Head({
            version: c.version,
            revision: c.revision,
            headEpoch: c.headEpoch,
            epoch: c.epoch,
            generation: c.generation,
            flags: c.flags,
            custodians: c.custodians,
            isPublic: c.isPublic,
            manifest: c.manifest,
            gate: c.gate
        });
    }

    /// What a recorded manifest is; version 0: never recorded.
    function versionOf(uint256 id, bytes32 manifest) external view returns (uint32 ver, uint32 ep, uint32 rev) {
        Version storage v = _versions[id][manifest];
        return (v.ver, v.ep, v.rev);
    }

    /// What a module wants to know before it sells: the content's generation, whether anyone holds custody, and the epoch of a
    /// manifest, provided that it is of the head version.
    function saleOf(uint256 id, bytes32 manifest)
        external
        view
        returns (uint32 generation, bool custody, bool ofHead, uint32 epoch)
    {
        Content storage c = _known(id);
        Version storage v = _versions[id][manifest];
        return (c.generation, c.custodians != 0, v.ver == c.version, v.ep);
    }

    /// The highest level of `who` at the content's epoch, now.
    function levelOf(uint256 id, address who) public view returns (uint8) {
        Content storage c = _contents[id];
        if (c.version == 0) return NONE;
        uint8 level = _authority(c, id, who);
        if (level != NONE) return level;
        return canReadAt(id, who, c.epoch) ? READ : NONE;
    }

    /// Whether `who` may read the head version, now.
    function canRead(uint256 id, address who) external view returns (bool) {
        return canReadAt(id, who, type(uint32).max);
    }

    /// Whether `who` may read versions of `epoch`, now.
    function canReadAt(uint256 id, address who, uint32 epoch) public view returns (bool) {
        (uint8 verdict,) = accessOf(id, who, epoch, 0, 0);
        return verdict == ALLOWED;
    }

    /// Whether `who` may read versions of `epoch` (the maximum: the head's), and if not, why. Terms must have begun at `startTime` and not
    /// have ended at `endTime` (0: now). `when` is the second at which an allowance ends by itself (0: never; one that a gate or
    /// collection gave counts for `endTime` only), or the time or epoch that a denial is about.
    function accessOf(uint256 id, address who, uint32 epoch, uint64 startTime, uint64 endTime)
        public
        view
        returns (uint8 verdict, uint64 when)
    {
        Content storage c = _contents[id];
        if (c.version == 0) return (UNKNOWN_CONTENT, 0);
        if (epoch == type(uint32).max) epoch = c.headEpoch;
        if (startTime == 0) startTime = uint64(block.timestamp);
        if (endTime == 0) endTime = uint64(block.timestamp);
        if (c.isPublic || who == _ownerOf(id)) return (ALLOWED, 0);
        (verdict, when) = _rowsOf(c, id, who, epoch, startTime, endTime);
        if (verdict == ALLOWED) return (verdict, when);

        if (_gateAllows(c, id, who)) return (ALLOWED, endTime + 1);
        uint256 ancestor = parentOf(id, epoch);
        for (uint256 depth = 0; ancestor != 0 && depth < ANCESTORS_MAX; ++depth) {
            c = _contents[ancestor];
            if (c.isPublic || who == _ownerOf(ancestor)) return (ALLOWED, endTime + 1);
            (uint8 v,) = _rowsOf(c, ancestor, who, c.epoch, startTime, endTime);
            if (v == ALLOWED || _gateAllows(c, ancestor, who)) return (ALLOWED, endTime + 1);
            ancestor = parentOf(ancestor, c.epoch);
        }
    }

    /// The row of `who` at a source: 0 is people, the others the modules, from 1.
    function rowOf(uint256 id, address who, uint8 source) external view returns (Row memory) {
        return _rows[id][who][source];
    }

    /// Every module that ever was enabled, in the order of the sources from 1.
    function modulesOf(uint256 id) external view returns (Module[] memory modules) {
        Content storage c = _contents[id];
        modules = new Module[](c.modules);
        for (uint256 i = 0; i < modules.length; ++i) {
            modules[i] = Module(_modules[id][i + 1], c.modulesOn & (1 << i) != 0);
        }
    }

    /// The accounts in custody.
    function custodyOf(uint256 id) external view returns (address[] memory custodians) {
        address[][] storage sets = _custody[id];
        if (sets.length != 0) custodians = sets[sets.length - 1];
    }

    /// The accounts that were in custody at any time while `version` was the head; one that was named twice stands twice.
    function custodyOfVersion(uint256 id, uint32 version) external view returns (address[] memory custodians) {
        Content storage c = _contents[id];
        if (version == 0 || version > c.version) return custodians;
        address[][] storage sets = _custody[id];
        uint256 first = _custodySets[id][version];
        if (first != 0) --first;
        uint256 end = version == c.version ? sets.length : _custodySets[id][uint256(version) + 1];
        uint256 count = 0;
        for (uint256 i = first; i < end; ++i) {
            count += sets[i].length;
        }
        custodians = new address[](count);
        for (uint256 i = end; i > first; --i) {
            address[] storage set = sets[i - 1];
            for (uint256 j = set.length; j > 0; --j) {
                custodians[--count] = set[j - 1];
            }
        }
    }

    /// The collection that the content belongs to in an epoch; 0: none.
    function parentOf(uint256 id, uint32 epoch) public view returns (uint256) {
        Parent[] storage parents = _parents[id];
        for (uint256 i = parents.length; i > 0; --i) {
            if (parents[i - 1].fromEpoch <= epoch) return parents[i - 1].parent;
        }
        return 0;
    }

    function gateOf(uint256 id) external view returns (address gate, bytes memory data) {
        return (_contents[id].gate, _gateData[id]);
    }

    function nonceUsed(address account, uint256 nonce) external view returns (bool) {
        return _nonces[account][nonce >> 8] & (1 << (nonce & 0xff)) != 0;
    }

    /// The content's URI.
    function tokenURI(uint256 id) public view override returns (string memory) {
        _known(id);
        return string.concat(
            "lightstreams:",
            Strings.toString(block.chainid),
            "/",
            Strings.toHexString(address(this)),
            "/",
            Strings.toHexString(id, 32)
        );
    }

    function supportsInterface(bytes4 interfaceId) public view override(ERC721, ERC2981) returns (bool) {
        return super.supportsInterface(interfaceId);
    }

    // ---------------------------------------------------------------- what the commands share

    function _register(
        address owner,
        bytes32 salt,
        bytes32 manifest,
        uint8 flags,
        address gate,
        bytes calldata gateData
    ) private returns (uint256 id) {
        id = contentId(owner, salt);
        Content storage c = _contents[id];
        if (c.version != 0) revert AlreadyRegistered(id);
        if (flags > FLAGS_ALL) revert InvalidFlags(flags);
        c.flags = flags;
        _record(c, id, manifest, 1, 0, 0);
        _mint(owner, id);
        emit Registered(id, owner, manifest);
        if (gate != address(0)) {
            _setGate(c, id, gate, gateData);
            emit GateSet(id, gate, gateData, owner);
        }
    }

    function _publish(address by, uint256 id, bytes32 manifest, uint32 expectedVersion, uint32 expectedEpoch) private {
        Content storage c = _allowed(id, by, WRITE);
        uint32 version = c.version;
        uint32 epoch = c.epoch;
        if (version != expectedVersion || epoch != expectedEpoch) revert Stale(version, c.revision, epoch);
        _record(c, id, manifest, ++version, epoch, 0);
        _custodySets[id][version] = _custody[id].length;
        emit Published(id, version, epoch, manifest, by);
    }

    function _rewrap(address by, uint256 id, bytes32 manifest, uint32 expectedVersion, uint32 expectedRevision)
        private
    {
        Content storage c = _allowed(id, by, ADMIN);
        if (c.version != expectedVersion || c.revision != expectedRevision) {
            revert Stale(c.version, c.revision, c.epoch);
        }
        _revise(c, id, manifest, by);
    }

    function _revise(Content storage c, uint256 id, bytes32 manifest, address by) private {
        uint32 version = c.version;
        uint32 revision = c.revision + 1;
        _record(c, id, manifest, version, c.headEpoch, revision);
        emit Rewrapped(id, version, revision, manifest, by);
    }

    /// Makes a manifest the head. A digest is recorded once per content.
    function _record(Content storage c, uint256 id, bytes32 manifest, uint32 ver, uint32 ep, uint32 rev) private {
        if (manifest == bytes32(0)) revert ManifestMissing();
        Version storage v = _versions[id][manifest];
        if (v.ver != 0) revert ManifestRecorded(manifest);
        (v.ver, v.ep, v.rev) = (ver, ep, rev);
        (c.version, c.headEpoch, c.revision, c.manifest) = (ver, ep, rev, manifest);
    }

    function _grant(
        address by,
        uint256 id,
        address who,
        uint8 level,
        uint64 notBefore,
        uint64 expires,
        uint32 fromEpoch
    ) private {
        Content storage c = _allowed(id, by, ADMIN);
        address owner = _ownerOf(id);
        if (who == owner) revert InvalidAccount(who);
        if (level == NONE || level > ADMIN) revert InvalidLevel(level);
        Row storage row = _rows[id][who][0];
        uint8 standing = _standing(c, row);
        if ((level == ADMIN || standing == ADMIN) && by != owner) revert OwnerOnly(id);
        // What the row gives now must not fall either because the new term or epoch only comes.
        bool later = notBefore > block.timestamp || fromEpoch > c.epoch;
        if (level < standing || (later && standing != NONE && _begun(c, row))) revert WouldLower(standing);
        _write(c, id, who, 0, by, level, notBefore, expires, fromEpoch);
    }

    function _revoke(address by, uint256 id, address who) private {
        Content storage c = _allowed(id, by, ADMIN);
        if (_standing(c, _rows[id][who][0]) == ADMIN && by != _ownerOf(id)) revert OwnerOnly(id);
        Row storage row = _rows[id][who][0];
        _rows[id][who][0] = Row(NONE, 0, 0, 0, 0, row.revocations + 1);
        emit Revoked(id, who, 0, by, c.epoch);
    }

    /// Clears a row in the sender's name.
    function _clear(Content storage c, uint256 id, address who, uint256 source) private {
        Row storage row = _rows[id][who][source];
        _rows[id][who][source] = Row(NONE, 0, 0, 0, 0, row.revocations + 1);
        emit Revoked(id, who, uint8(source), msg.sender, c.epoch);
    }

    function _write(
        Content storage c,
        uint256 id,
        address who,
        uint256 source,
        address by,
        uint8 level,
        uint64 notBefore,
        uint64 expires,
        uint32 fromEpoch
    ) private {
        if (who == address(0)) revert InvalidAccount(who);
        if (expires != 0 && (expires <= notBefore || expires <= block.timestamp)) {
            revert InvalidTerm(notBefore, expires);
        }
        // `accessOf` takes the maximum for "the head's epoch".
        if (fromEpoch == type(uint32).max) revert InvalidTerm(notBefore, expires);
        Row storage row = _rows[id][who][source];
        _rows[id][who][source] = Row(level, c.generation, fromEpoch, notBefore, expires, row.revocations);
        emit Granted(id, who, uint8(source), by, level, notBefore, expires, fromEpoch);
    }

    function _setPublic(address by, uint256 id, bool on) private {
        _allowed(id, by, ADMIN).isPublic = on;
        emit PublicSet(id, on, by);
    }

    function _setGate(Content storage c, uint256 id, address gate, bytes calldata data) private {
        if (data.length > GATE_DATA_BYTES_MAX) revert TooMany();
        c.gate = gate;
        _gateData[id] = data;
    }

    function _setParent(Content storage c, uint256 id, uint256 parent) private {
        _parents[id].push(Parent(parent, ++c.epoch));
    }

    /// A transfer ends what people were trusted with and what is open to all; READ rows and custody stay.
    function _update(address to, uint256 id, address auth) internal override returns (address from) {
        from = super._update(to, id, auth);
        if (from == address(0)) return from;
        Content storage c = _contents[id];
        if (c.flags & FLAG_SOULBOUND != 0) revert Soulbound(id);
        ++c.generation;
        c.modulesOn = 0;
        c.isPublic = false;
        if (c.gate != address(0)) {
            c.gate = address(0);
            delete _gateData[id];
        }
        if (parentOf(id, c.epoch) != 0) _setParent(c, id, 0);
        else ++c.epoch;
    }

    function _known(uint256 id) private view returns (Content storage c) {
        c = _contents[id];
        if (c.version == 0) revert UnknownContent(id);
    }

    function _owned(uint256 id, address by) private view returns (Content storage c) {
        c = _known(id);
        if (by != _ownerOf(id)) revert OwnerOnly(id);
    }

    function _allowed(uint256 id, address by, uint8 needed) private view returns (Content storage c) {
        c = _known(id);
        if (_authority(c, id, by) < needed) revert Denied(id, by, needed);
    }

    /// WRITE or ADMIN that counts now, else NONE. Only people have it, and no foreign code is asked.
    function _authority(Content storage c, uint256 id, address who) private view returns (uint8) {
        if (who == _ownerOf(id)) return ADMIN;
        Row storage row = _rows[id][who][0];
        uint8 level = _standing(c, row);
        return level >= WRITE && _begun(c, row) ? level : NONE;
    }

    /// The level of a row that counts now or will: not dead by a transfer, not expired.
    function _standing(Content storage c, Row storage row) private view returns (uint8 level) {
        level = row.level;
        if (level >= WRITE && row.generation != c.generation) return NONE;
        if (row.expires != 0 && row.expires <= block.timestamp) return NONE;
    }

    function _begun(Content storage c, Row storage row) private view returns (bool) {
        return row.notBefore <= block.timestamp && row.fromEpoch <= c.epoch;
    }

    function _rowsOf(Content storage c, uint256 id, address who, uint32 epoch, uint64 startTime, uint64 endTime)
        private
        view
        returns (uint8 verdict, uint64 when)
    {
        verdict = NOT_GRANTED;
        uint256 sources = c.modules;
        for (uint256 source = 0; source <= sources; ++source) {
            Row memory row = _rows[id][who][source];
            (uint8 v, uint64 w) = (ALLOWED, row.expires);
            if (row.level == NONE) (v, w) = (row.revocations != 0 ? REVOKED : NOT_GRANTED, 0);
            else if (row.level >= WRITE && row.generation != c.generation) (v, w) = (REVOKED, 0);
            else if (row.expires != 0 && row.expires <= endTime) v = EXPIRED;
            else if (epoch < row.fromEpoch) (v, w) = (OTHER_EPOCH, row.fromEpoch);
            else if (startTime < row.notBefore) (v, w) = (NOT_YET_VALID, row.notBefore);

            if (v == verdict) {
                // Of two allowances or expiries the later counts (0 is never), of two beginnings the earlier.
                bool latest = v == ALLOWED ? when != 0 && (w == 0 || w > when) : v == EXPIRED ? w > when : w < when;
                if (latest) when = w;
            } else if (v == ALLOWED || (verdict != ALLOWED && v > verdict)) {
                (verdict, when) = (v, w);
            }
        }
    }

    /// Asks the gate; its failure, its gas and the length of its answer are its own trouble.
    function _gateAllows(Content storage c, uint256 id, address who) private view returns (bool allowed) {
        address gate = c.gate;
        if (gate == address(0)) return false;
        bytes memory data = abi.encodeCall(IAccessGate.allows, (id, who, _gateData[id]));
        assembly ("memory-safe") {
            mstore(0, 0)
            let ok := staticcall(GATE_GAS, gate, add(data, 32), mload(data), 0, 32)
            allowed := and(and(ok, gt(returndatasize(), 31)), eq(mload(0), 1))
        }
    }

    function _useNonce(address account, uint256 nonce) private {
        uint256 bit = 1 << (nonce & 0xff);
        uint256 word = _nonces[account][nonce >> 8];
        if (word & bit != 0) revert NonceUsed(account, nonce);
        _nonces[account][nonce >> 8] = word | bit;
    }

    function _useSignature(address signer, uint256 nonce, uint64 deadline, bytes32 structHash, bytes calldata sig)
        private
    {
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
        _useNonce(signer, nonce);
        bytes32 digest = _hashTypedDataV4(structHash);
        // ECDSA first, whatever code the account has: an account of EIP-7702 has code and still signs with its key.
        (address recovered, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, sig);
        if (fault == ECDSA.RecoverError.NoError && recovered == signer) return;
        if (!SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, sig)) revert InvalidSignature();
    }
}
