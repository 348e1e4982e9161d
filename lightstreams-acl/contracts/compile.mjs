// Compiles the contracts with npm's solc and writes ../artifacts/<Name>.json = {abi, bytecode, deployedBytecode}, those of
// test/ to ../tests/artifacts/, plus ../artifacts/sources.json, which names compiler, settings and the keccak-256 of every source
// that went in and of every artifact that came out.
//
//   npm ci && node compile.mjs            write the artifacts
//   npm ci && node compile.mjs --check    exit 1 if they are not what the sources compile to

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import sha3 from "js-sha3";
import solc from "solc";

const { keccak256 } = sha3;

const here = dirname(fileURLToPath(import.meta.url));
const contracts = ["ContentRegistry", "Custodians", "Market"];
const testContracts = ["TestGate", "TestToken", "TestWallet"];
const sizeMax = 24_576; // EIP-170

const settings = {
  evmVersion: "cancun",
  viaIR: true,
  optimizer: { enabled: true, runs: 200 },
  metadata: { appendCBOR: false, bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

const read = {};
const load = (path) => {
  const file = path.startsWith("@") ? join(here, "node_modules", path) : join(here, path);
  return (read[path] = readFileSync(file, "utf8"));
};
const input = {
  language: "Solidity",
  sources: Object.fromEntries(
    [...contracts.map((name) => `${name}.sol`), ...testContracts.map((name) => `test/${name}.sol`)].map((path) => [
      path,
      { content: load(path) },
    ]),
  ),
  settings,
};
const compiled = JSON.parse(
  solc.compile(JSON.stringify(input), {
    import: (path) => {
      try {
        return { contents: load(path) };
      } catch {
        return { error: "not found" };
      }
    },
  }),
);
// 2394 warns of transient storage in general; OpenZeppelin's guard, the only user, clears it at the end of each call.
const messages = (compiled.errors ?? []).filter(({ errorCode }) => errorCode !== "2394");
for (const message of messages) console.error(message.formattedMessage);
if (!compiled.contracts || messages.length > 0) process.exit(1);

const text = (value) => `${JSON.stringify(value, null, 1)}\n`;
const digest = (text) => `0x${keccak256(text)}`;
const files = {};
for (const name of [...contracts, ...testContracts]) {
  const tested = testContracts.includes(name);
  const { abi, evm } = compiled.contracts[tested ? `test/${name}.sol` : `${name}.sol`][name];
  const size = evm.deployedBytecode.object.length / 2;
  if (!tested) console.log(`${name}: ${size} bytes of ${sizeMax}`);
  if (size > sizeMax) process.exitCode = 1;
  files[`${tested ? "tests/" : ""}artifacts/${name}.json`] = text({
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployedBytecode: `0x${evm.deployedBytecode.object}`,
  });
}
const { version } = JSON.parse(readFileSync(join(here, "node_modules/@openzeppelin/contracts/package.json"), "utf8"));
files["artifacts/sources.json"] = text({
  compiler: solc.version(),
  openzeppelin: version,
  settings,
  sources: Object.fromEntries(Object.keys(read).sort().map((path) => [path, digest(read[path])])),
  artifacts: Object.fromEntries(Object.keys(files).map((file) => [file, digest(files[file])])),
});

for (const [file, content] of Object.entries(files)) {
  const path = join(here, "..", file);
  if (process.argv.includes("--check")) {
    if (existsSync(path) && readFileSync(path, "utf8") === content) continue;
    console.error(`${file} is not what the sources compile to; run: node compile.mjs`);
    process.exitCode = 1;
  } else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}
