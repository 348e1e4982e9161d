// A Helia node on 127.0.0.1. It prints its address, then does what lines of JSON on its input say and answers each with one.
import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { withBitswap } from "@helia/bitswap";
import { withLibp2pLight } from "@helia/libp2p";
import { globSource, unixfs } from "@helia/unixfs";
import { identify } from "@libp2p/identify";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { tls } from "@libp2p/tls";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createHeliaLight } from "helia";
import { CID } from "multiformats/cid";

const helia = withBitswap(
  withLibp2pLight(createHeliaLight(), {
    addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
    transports: [tcp()],
    // As Helia has them by default: it dials with Noise, and is dialed with what the dialer prefers.
    connectionEncrypters: [noise(), tls()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
  }),
);
await helia.start();

/** Writes what `cid` is to `path`, with all that is below. */
async function get(fs, cid, path, signal) {
  const { type } = await fs.stat(cid, { signal });
  if (type === "directory") {
    await mkdir(path, { recursive: true });
    for await (const entry of fs.ls(cid, { signal })) await get(fs, entry.cid, join(path, entry.name), signal);
    return;
  }
  await mkdir(dirname(path), { recursive: true });
  await pipeline(Readable.from(fs.cat(cid, { signal })), createWriteStream(path));
}

const commands = {
  async dial({ address }) {
    await helia.libp2p.dial(multiaddr(address));
  },
  // `profile` is one of IPIP-499; directories are added with all that is in them.
  async add({ path, directory, profile }) {
    // The defaults of Helia would outweigh the profile's.
    const options = { profile, cidVersion: undefined, rawLeaves: undefined, layout: undefined, chunker: undefined };
    const source = directory ? globSource(path, "**/*") : globSource(dirname(path), basename(path));
    let last;
    for await (const added of unixfs(helia).addAll(source, { ...options, wrapWithDirectory: directory })) last = added.cid;
    return { cid: last.toString() };
  },
  async get({ cid, path, session, ms }) {
    const root = CID.parse(cid);
    const signal = AbortSignal.timeout(ms);
    const blockstore = session ? helia.blockstore.createSession(root, { providers: [multiaddr(session)] }) : helia.blockstore;
    await get(unixfs({ blockstore }), root, path, signal);
  },
  // The bytes of one block, in base64.
  async block({ cid, ms }) {
    const parts = [];
    for await (const part of helia.blockstore.get(CID.parse(cid), { signal: AbortSignal.timeout(ms) })) parts.push(part);
    return { data: Buffer.concat(parts).toString("base64") };
  },
};

console.log(JSON.stringify({ address: helia.libp2p.getMultiaddrs()[0].toString() }));
for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = (await commands[command](given)) ?? {};
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
