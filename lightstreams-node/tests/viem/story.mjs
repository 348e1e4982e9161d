// What a wallet does with a development network, told with viem. Argument: the URL of the network's RPC.
import assert from "node:assert/strict";
import { createPublicClient, createWalletClient, defineChain, http, parseEther } from "viem";
import { mnemonicToAccount } from "viem/accounts";

const url = process.argv[2];
const phrase = "test test test test test test test test test test test junk";
const nativeCurrency = { name: "coin", symbol: "COIN", decimals: 18 };
const chain = defineChain({ id: 161, name: "dev", nativeCurrency, rpcUrls: { default: { http: [url] } } });
const reader = createPublicClient({ chain, transport: http(), pollingInterval: 50 });
const [first, , , payer, payee] = [0, 1, 2, 3, 4].map((addressIndex) => mnemonicToAccount(phrase, { addressIndex }));

// The accounts of the node, and one whose key only the node uses.
const accounts = await reader.request({ method: "eth_accounts" });
assert.equal(accounts.length, 10);
assert.equal(accounts[0], first.address.toLowerCase());
const held = createWalletClient({ chain, account: accounts[2], transport: http() });
const sent = await reader.waitForTransactionReceipt({
  hash: await held.sendTransaction({ to: accounts[1], value: 1n }),
});
assert.equal(sent.from, accounts[2]);

// One whose key is here.
const before = await reader.getBalance({ address: payee.address });
const writer = createWalletClient({ chain, account: payer, transport: http() });
const hash = await writer.sendTransaction({ to: payee.address, value: parseEther("2") });
const receipt = await reader.waitForTransactionReceipt({ hash });
assert.equal(receipt.status, "success");
assert.equal(receipt.gasUsed, 21000n);
assert.equal((await reader.getBalance({ address: payee.address })) - before, parseEther("2"));
assert.equal(await reader.getTransactionCount({ address: payer.address }), 1);
const block = await reader.getBlock({ blockHash: receipt.blockHash, includeTransactions: true });
assert.equal(block.transactions[0].hash, hash);
const fees = await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [50] });
assert.equal(fees.baseFeePerGas.length, 3);
console.log("done");
