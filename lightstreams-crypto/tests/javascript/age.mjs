// Does what the file named by the first argument says with the age-encryption package: a JSON list of
//   {"decrypt": FILE, "to": FILE, "identity": TEXT, "passphrase": TEXT}
//   {"encrypt": FILE, "to": FILE, "recipients": [TEXT], "passphrase": TEXT, "armor": true}
//   {"generate": "x25519" | "hybrid", "to": FILE}      the identity and its recipient, a line each
import { readFile, writeFile } from "node:fs/promises";
import * as age from "age-encryption";

const isArmored = (file) => new TextDecoder().decode(file.subarray(0, 10)) === "-----BEGIN";

async function decrypt({ decrypt: from, identity, passphrase }) {
  const file = new Uint8Array(await readFile(from));
  const decrypter = new age.Decrypter();
  if (identity) decrypter.addIdentity(identity);
  if (passphrase) decrypter.addPassphrase(passphrase);
  return decrypter.decrypt(isArmored(file) ? age.armor.decode(new TextDecoder().decode(file)) : file);
}

async function encrypt({ encrypt: from, recipients, passphrase, armor }) {
  const encrypter = new age.Encrypter();
  for (const recipient of recipients ?? []) encrypter.addRecipient(recipient);
  if (passphrase) {
    encrypter.setScryptWorkFactor(10);
    encrypter.setPassphrase(passphrase);
  }
  const file = await encrypter.encrypt(new Uint8Array(await readFile(from)));
  return armor ? age.armor.encode(file) : file;
}

async function generate({ generate: kind }) {
  const identity = await (kind === "hybrid" ? age.generateHybridIdentity() : age.generateX25519Identity());
  return `${identity}\n${await age.identityToRecipient(identity)}\n`;
}

for (const job of JSON.parse(await readFile(process.argv[2], "utf8"))) {
  const run = job.decrypt ? decrypt : job.encrypt ? encrypt : generate;
  await writeFile(job.to, await run(job));
}
