// What a client of Kubo does, told with its own library. Argument: the URL of the RPC.
import assert from "node:assert/strict";
import { create } from "kubo-rpc-client";
import { CID } from "multiformats/cid";

const client = create({ url: process.argv[2] });
const bytes = async (source) => {
  const chunks = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
};
const all = async (source) => {
  const items = [];
  for await (const item of source) items.push(item);
  return items;
};

// A file: known CIDs, whole and in part.
const hello = await client.add("hello world");
assert.equal(hello.cid.toString(), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
assert.equal(hello.path, hello.cid.toString());
const v1 = await client.add("hello world", { cidVersion: 1 });
assert.equal(v1.cid.toString(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
assert.equal((await bytes(client.cat(hello.cid))).toString(), "hello world");
assert.equal((await bytes(client.cat(v1.cid, { offset: 6, length: 3 }))).toString(), "wor");

// More than a MiB, in pieces, with progress.
const big = Buffer.alloc((5 << 20) + 7);
let x = 1;
for (let i = 0; i < big.length; i++) big[i] = (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) >>> 24;
const pieces = async function* () {
  for (let at = 0; at < big.length; at += 100_000) yield big.subarray(at, at + 100_000);
};
let told = 0;
const added = await client.add({ path: "big.bin", content: pieces() }, { progress: (n) => (told = n) });
assert.equal(added.path, "big.bin");
assert.equal(told, big.length);
assert.ok((await bytes(client.cat(added.cid))).equals(big));

// A directory, as the tests of js-ipfs add it: parts of one folder come apart from one another.
const files = [
  { path: "t/a.txt", content: "a" },
  { path: "t/sub/b.txt", content: "b" },
  { path: "t/empty" },
  { path: "t/sub/\u00e4 + \u{1f40d}.txt", content: big },
];
const tree = await all(client.addAll(files, { pinName: "tree" }));
const root = tree.find((entry) => entry.path === "t");
assert.deepEqual(
  tree.map((entry) => entry.path).sort(),
  ["t", "t/a.txt", "t/empty", "t/sub", "t/sub/b.txt", "t/sub/\u00e4 + \u{1f40d}.txt"].sort(),
);
assert.equal(tree.find((entry) => entry.path === "t/empty").cid.toString(), "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn");
const listed = await all(client.ls(root.cid));
assert.deepEqual(listed.map(({ name, type, size }) => [name, type, size]), [
  ["a.txt", "file", 1],
  ["empty", "dir", 0],
  ["sub", "dir", 0],
]);
assert.ok((await bytes(client.cat(`/ipfs/${root.cid}/sub/\u00e4 + \u{1f40d}.txt`))).equals(big));
const wrapped = await all(client.addAll([{ path: "x", content: "x" }, { path: "y", content: "y" }], { wrapWithDirectory: true }));
assert.deepEqual(wrapped.map((entry) => entry.path), ["x", "y", ""]);
const tar = await bytes(client.get(root.cid));
assert.ok(tar.subarray(0, 100).toString().startsWith(`${root.cid}/`) && tar.includes(big.subarray(0, 1000)));
assert.equal(await client.resolve(`/ipfs/${root.cid}/a.txt`), `/ipfs/${tree.find((e) => e.path === "t/a.txt").cid}`);
const refs = await all(client.refs(root.cid, { recursive: true, unique: true }));
assert.ok(refs.length > 20 && refs.every((ref) => !ref.err));
const stat = await client.files.stat(`/ipfs/${root.cid}`);
assert.deepEqual([stat.type, stat.blocks, stat.cid.toString()], ["directory", 3, root.cid.toString()]);
const read = await bytes(client.files.read(`/ipfs/${root.cid}/a.txt`));
assert.equal(read.toString(), "a");
assert.equal((await all(client.files.ls(`/ipfs/${root.cid}`))).find((e) => e.name === "sub").type, "directory");
const dated = await client.add({ content: "x", mode: 0o640, mtime: { secs: 5n, nsecs: 7 } }, { preserveMode: true, preserveMtime: true });
assert.deepEqual([dated.mode, dated.mtime], [0o640, { secs: 5, nsecs: 7 }]);

// Blocks.
const block = await client.block.put(Buffer.from("hello world"), { format: "raw" });
assert.equal(block.toString(), v1.cid.toString());
assert.equal(Buffer.from(await client.block.get(block)).toString(), "hello world");
assert.deepEqual(await client.block.stat(block), { cid: block, size: 11 });

// Values, and CARs.
const leaf = await client.dag.put({ name: "leaf", list: [1, 2, { deep: true }] });
const node = await client.dag.put({ leaf }, { pin: true, storeCodec: "dag-cbor" });
assert.deepEqual((await client.dag.get(node, { path: "leaf/list/2/deep" })).value, true);
const found = await client.dag.resolve(`${node}/leaf/list/1`);
assert.deepEqual([found.cid.toString(), found.remainderPath], [leaf.toString(), "/list/1"]);
const json = await client.dag.put({ x: 1 }, { storeCodec: "dag-json" });
assert.equal(json.code, 0x0129);
const car = await bytes(client.dag.export(node));

// Pins and collection.
const pins = await all(client.pin.ls({ type: "recursive", names: true }));
assert.equal(pins.find((pin) => pin.cid.equals(root.cid)).name, "tree");
assert.ok((await client.pin.rm(node)).equals(node));
await assert.rejects(client.pin.rm(node), /not pinned/);
const removed = (await all(client.repo.gc())).map(({ cid, err }) => (assert.equal(err, null), cid.multihash.digest));
for (const cid of [leaf, node, json]) {
  assert.ok(removed.some((digest) => Buffer.compare(digest, cid.multihash.digest) === 0), `${cid} was collected`);
  await assert.rejects(client.block.get(cid), /not|missing/i);
}
assert.ok((await bytes(client.cat(added.cid))).equals(big), "what is pinned stays");
const imported = await all(client.dag.import([car]));
assert.deepEqual([imported[0].root.cid.toString(), imported[0].root.pinErrorMsg], [node.toString(), ""]);
assert.ok((await client.pin.add(hello.cid, { recursive: true, name: "n" })).equals(hello.cid));
const gone = await all(client.block.rm([CID.parse("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"), hello.cid]));
assert.ok(gone.every(({ error }) => error instanceof Error));
const local = await all(client.refs.local());
assert.equal((await client.repo.stat()).numObjects, BigInt(local.length));

// The mutable file system.
await client.files.mkdir("/notes/old", { parents: true });
await client.files.write("/notes/a.txt", pieces(), { create: true });
await client.files.write("/notes/a.txt", Buffer.from("hello"), { offset: 3 });
const edited = Buffer.from(big);
edited.write("hello", 3);
assert.ok((await bytes(client.files.read("/notes/a.txt"))).equals(edited));
assert.equal((await client.files.stat("/notes/a.txt")).size, big.length);
await client.files.cp(`/ipfs/${hello.cid}`, "/notes/hello");
await client.files.mv("/notes/hello", "/notes/old/");
assert.equal((await bytes(client.files.read("/notes/old/hello"))).toString(), "hello world");
await client.files.rm("/notes/a.txt");
assert.deepEqual((await all(client.files.ls("/notes"))).map(({ name, type }) => [name, type]), [["old", "directory"]]);
await all(client.repo.gc());
assert.equal((await client.files.flush("/notes/old/hello")).toString(), hello.cid.toString());

// The node, and errors.
assert.match((await client.id()).id.toString(), /^12D3KooW/);
assert.ok(await client.isOnline());
assert.match((await client.version()).version, /^\d+\.\d+\.\d+/);
assert.deepEqual(await client.swarm.peers(), []);
await assert.rejects(bytes(client.cat(`/ipfs/${root.cid}/none`)), /none/);
await assert.rejects(client.add("x", { hashAlg: "md5" }), /hash/);
await assert.rejects(bytes(client.files.read("/none")), /does not exist/);
console.log("done");
