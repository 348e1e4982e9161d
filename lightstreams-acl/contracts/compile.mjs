// Compiles the contracts with npm's solc and writes ../artifacts/<Name>.json = {abi, bytecode, deployedBytecode}, plus
// ../artifacts/sources.json, which names compiler, settings and a sha2-256 of every source that went in.
//
//   npm ci && node compile.mjs            write the artifacts
//   npm ci && node compile.mjs --check    exit 1 if they are not what the sources compile to

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const output = join(here, "..", "artifacts");
const contracts = ["ContentRegistry", "Custodians", "Market"];
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
  sources: Object.fromEntries(contracts.map((name) => [`${name}.sol`, { content: load(`${name}.sol`) }])),
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

const files = {};
for (const name of contracts) {
  const { abi, evm } = compiled.contracts[`${name}.sol`][name];
  const size = evm.deployedBytecode.object.length / 2;
  console.log(`${name}: ${size} bytes of ${sizeMax}`);
  if (size > sizeMax) process.exitCode = 1;
  files[`${name}.json`] = {
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployedBytecode: `0x${evm.deployedBytecode.object}`,
  };
}
const digest = (text) => createHash("sha256").update(text).digest("hex");
files["sources.json"] = {
  compiler: solc.version(),
  openzeppelin: JSON.parse(readFileSync(join(here, "node_modules/@openzeppelin/contracts/package.json"), "utf8")).version,
  settings,
  sources: Object.fromEntries(Object.keys(read).sort().map((path) => [path, digest(read[path])])),
  artifacts: Object.fromEntries(contracts.map((name) => [name, digest(text(files[`${name}.json`]))])),
};

function text(value) {
  return `${JSON.stringify(value, null, 1)}\n`;
}

mkdirSync(output, { recursive: true });
for (const [file, value] of Object.entries(files)) {
  if (process.argv.includes("--check")) {
    if (readFileSync(join(output, file), "utf8") === text(value)) continue;
    console.error(`artifacts/${file} is not what the sources compile to; run: node compile.mjs`);
    process.exitCode = 1;
  } else {
    writeFileSync(join(output, file), text(value));
  }
}
