// Wrote typed_data.json with ethers 6, from the type strings of the format: node typed_data.mjs > typed_data.json
import { TypedDataEncoder, keccak256, toUtf8Bytes } from "ethers";

const types = `
Manifest(bytes32 digest)
KeyRequest(uint256 contentId,bytes32 manifest,address reader,bytes recipient,bytes32 holder,uint64 notAfter,bytes32 nonce)
PeerDelegation(bytes peerId,address account,uint64 notBefore,uint64 notAfter,bytes32 nonce)
HttpDelegation(string origin,address account,uint64 notBefore,uint64 notAfter,bytes32 nonce)
SeedOffer(uint256 contentId,bytes peerId,address account,uint64 notAfter,bytes32 nonce)
Register(bytes32 salt,address owner,bytes32 manifest,uint8 flags,address gate,bytes gateData,uint256 nonce,uint64 deadline)
Publish(uint256 id,address by,bytes32 manifest,uint32 expectedVersion,uint32 expectedEpoch,uint256 nonce,uint64 deadline)
Rewrap(uint256 id,address by,bytes32 manifest,uint32 expectedVersion,uint32 expectedRevision,uint256 nonce,uint64 deadline)
Grant(uint256 id,address by,address who,uint8 level,uint64 notBefore,uint64 expires,uint32 fromEpoch,uint32 generation,uint32 revocations,uint256 nonce,uint64 deadline)
Revoke(uint256 id,address by,address who,uint256 nonce,uint64 deadline)
SetPublic(uint256 id,address by,bool on,uint256 nonce,uint64 deadline)
`;

const seeded = (seed) => keccak256(toUtf8Bytes(seed));
const value = (type, seed) => {
  const hash = seeded(seed);
  if (type === "bytes32") return hash;
  if (type === "address") return `0x${hash.slice(26)}`;
  if (type === "bytes") return hash.slice(0, 2 + 2 * (parseInt(hash.slice(2, 4), 16) % 33));
  if (type === "string") return `https://${hash.slice(2, 10)}.example`;
  if (type === "bool") return parseInt(hash.slice(2, 4), 16) % 2 === 1;
  const bits = BigInt(type.slice(4));
  return (BigInt(hash) & ((1n << bits) - 1n)).toString();
};

const vectors = [];
for (const encodeType of types.trim().split("\n")) {
  const [, name, list] = encodeType.match(/^(\w+)\((.*)\)$/);
  const fields = list.split(",").map((field) => ({ type: field.split(" ")[0], name: field.split(" ")[1] }));
  for (const round of [0, 1, 2]) {
    const chainId = [161, 1, 163][round];
    const verifyingContract = `0x${seeded(`contract ${round}`).slice(26)}`;
    const domain = { name: "Lightstreams", version: "1", chainId, verifyingContract };
    const message = Object.fromEntries(
      fields.map((field) => [field.name, value(field.type, `${name}.${field.name} ${round}`)]),
    );
    const digest = TypedDataEncoder.hash(domain, { [name]: fields }, message);
    vectors.push({ encodeType, chainId, verifyingContract, message, digest });
  }
}
console.log(JSON.stringify(vectors, null, 1));
