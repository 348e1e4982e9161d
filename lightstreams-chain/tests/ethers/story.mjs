// What a wallet or an application does, told with ethers. Argument: the URL of a development network's RPC.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Contract, ContractFactory, JsonRpcProvider, Wallet, HDNodeWallet, parseEther } from "ethers";

const artifact = JSON.parse(readFileSync(new URL("./Shop.json", import.meta.url)));
const phrase = "test test test test test test test test test test test junk";
const provider = new JsonRpcProvider(process.argv[2], undefined, { polling: true, cacheTimeout: -1 });
provider.pollingInterval = 50;
const step = (name) => console.log(`ok ${name}`);

const network = await provider.getNetwork();
assert.equal(network.chainId, 161n);
assert.ok((await provider.send("web3_clientVersion", [])).startsWith("lightstreams/"));
step("network");

const [alice, bob] = [0, 1].map((i) =>
  HDNodeWallet.fromPhrase(phrase, undefined, `m/44'/60'/0'/0/${i}`).connect(provider),
);
assert.ok((await provider.getBalance(alice.address)) > parseEther("1"));
const fees = await provider.getFeeData();
assert.ok(fees.maxFeePerGas > 0n);
step("accounts and fees");

const stranger = Wallet.createRandom().address;
const sent = await alice.sendTransaction({ to: stranger, value: parseEther("0.5") });
const receipt = await sent.wait();
assert.equal(receipt.status, 1);
assert.equal(receipt.gasUsed, 21000n);
assert.equal(await provider.getBalance(stranger), parseEther("0.5"));
assert.equal(await provider.getBalance(stranger, receipt.blockNumber - 1), 0n);
const found = await provider.getTransaction(sent.hash);
assert.equal(found.from, alice.address);
assert.equal(found.blockHash, receipt.blockHash);
assert.equal(receipt.fee, receipt.gasUsed * receipt.gasPrice);
step("transfer");

const legacy = await bob.sendTransaction({ to: stranger, value: 1n, type: 0, gasPrice: fees.gasPrice * 2n });
assert.equal((await legacy.wait()).status, 1);
const listed = await bob.sendTransaction({
  to: stranger, value: 1n, type: 1, gasPrice: fees.gasPrice * 2n,
  accessList: [{ address: stranger, storageKeys: [`0x${"00".repeat(32)}`] }],
});
assert.equal((await listed.wait()).status, 1);
assert.equal((await provider.getTransaction(listed.hash)).accessList.length, 1);
step("older transaction types");

const shop = await new ContractFactory(artifact.abi, artifact.bytecode, alice).deploy(100n);
await shop.waitForDeployment();
const address = await shop.getAddress();
assert.equal((await shop.deploymentTransaction().wait()).contractAddress, address);
assert.ok((await provider.getCode(address)).length > 2);
assert.equal(BigInt(await provider.getStorage(address, 0)), 100n);
step("deploy");

assert.equal(await shop.price(), 100n);
assert.equal(await shop.sum(2n, 3n), 5n);
step("call");

const events = [];
await shop.on("Sold", (buyer, price) => events.push([buyer, price]));
const bought = await (await shop.connect(bob).buy({ value: 150n })).wait();
assert.equal(bought.logs.length, 1);
const logs = await shop.queryFilter(shop.filters.Sold(bob.address), 0, "latest");
assert.equal(logs.length, 1);
assert.equal(logs[0].args.price, 100n);
assert.equal(logs[0].transactionHash, bought.hash);
assert.equal((await shop.queryFilter(shop.filters.Sold(alice.address), 0, "latest")).length, 0);
for (let i = 0; events.length === 0 && i < 100; i++) await new Promise((done) => setTimeout(done, 50));
assert.deepEqual(events, [[bob.address, 100n]]);
await shop.removeAllListeners();
step("logs and subscription");

await assert.rejects(shop.setPrice(0n), (error) => {
  assert.equal(error.code, "CALL_EXCEPTION");
  assert.equal(error.reason, "a price is above zero");
  return true;
});
await assert.rejects(shop.buy.staticCall({ value: 1n }), (error) => {
  assert.equal(error.revert.name, "TooCheap");
  assert.deepEqual([...error.revert.args], [1n, 100n]);
  return true;
});
await assert.rejects(shop.sum(2n ** 256n - 1n, 1n), (error) => {
  assert.equal(error.revert.name, "Panic");
  assert.equal(Number(error.revert.args[0]), 0x11);
  return true;
});
const failing = await shop.setPrice(0n, { gasLimit: 100000n });
await assert.rejects(failing.wait(), (error) => error.receipt.status === 0);
step("revert reasons");

await assert.rejects(alice.sendTransaction({ to: stranger, value: 1n, nonce: 0 }), { code: "NONCE_EXPIRED" });
await assert.rejects(
  bob.sendTransaction({ to: stranger, value: parseEther("1000000000"), gasLimit: 21000n }),
  { code: "INSUFFICIENT_FUNDS" },
);
await assert.rejects(provider.send("eth_noSuchThing", []), (error) => error.error.code === -32601);
step("errors");

const block = await provider.getBlock(bought.blockNumber, true);
assert.equal(block.hash, bought.blockHash);
assert.equal(block.prefetchedTransactions[0].hash, bought.hash);
assert.equal((await provider.getBlock(block.hash)).number, block.number);
assert.equal((await provider.getBlock("finalized")).number, await provider.getBlockNumber());
assert.equal(await provider.getBlock(999999), null);
assert.equal(await provider.getTransactionReceipt(`0x${"11".repeat(32)}`), null);
step("blocks");

const [unlocked] = await provider.send("eth_accounts", []);
const signer = await provider.getSigner(unlocked);
assert.equal((await (await signer.sendTransaction({ to: stranger, value: 1n })).wait()).status, 1);
const through = new Contract(address, artifact.abi, signer);
assert.equal((await (await through.setPrice(7n)).wait()).status, 1);
assert.equal(await shop.price(), 7n);
step("accounts of the development network");

provider.destroy();
console.log("done");
