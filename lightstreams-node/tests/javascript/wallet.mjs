// What wallets do, with ethers and viem against `lightstreams dev`: node wallet.mjs URL
import assert from 'node:assert/strict';
import { ethers } from 'ethers';
import { createPublicClient, createWalletClient, defineChain, http, parseEther } from 'viem';
import { mnemonicToAccount } from 'viem/accounts';

const url = process.argv[2];
const mnemonic = 'test test test test test test test test test test test junk';
// Adds one to slot 0, logs it with topic 7, returns it.
const counter = '60005460010180600055600052600760206000a160206000f3';
const length = (counter.length / 2).toString(16).padStart(2, '0');
const creation = `0x60${length}600c60003960${length}6000f3${counter}`;

async function withEthers() {
  // Blocks come at once here, faster than the answers that ethers would take from its cache.
  const provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1 });
  assert.equal((await provider.getNetwork()).chainId, 161n);
  const wallet = ethers.HDNodeWallet.fromPhrase(mnemonic).connect(provider);
  const accounts = await provider.send('eth_accounts', []);
  assert.equal(accounts.length, 10);
  assert.equal(accounts[0], wallet.address.toLowerCase());

  const before = await provider.getBalance(accounts[1]);
  const paid = await (await wallet.sendTransaction({ to: accounts[1], value: ethers.parseEther('1.5') })).wait();
  assert.equal(paid.status, 1);
  assert.equal((await provider.getBalance(accounts[1])) - before, ethers.parseEther('1.5'));
  const signed = await (await (await provider.getSigner(2)).sendTransaction({ to: accounts[1], value: 1n })).wait();
  assert.equal(signed.from.toLowerCase(), accounts[2]);

  const deployed = await (await wallet.sendTransaction({ data: creation })).wait();
  const to = deployed.contractAddress;
  assert.equal(await provider.getCode(to), `0x${counter}`);
  assert.equal(BigInt(await provider.call({ to })), 1n);
  assert.equal(BigInt(await provider.getStorage(to, 0)), 0n);
  const called = await (await wallet.sendTransaction({ to })).wait();
  assert.equal(called.logs.length, 1);
  const logs = await provider.getLogs({ address: to, topics: [ethers.toBeHex(7, 32)], fromBlock: 0 });
  assert.equal(logs.length, 1);
  assert.equal(logs[0].transactionHash, called.hash);
  assert.equal((await provider.getLogs({ address: to, topics: [ethers.toBeHex(8, 32)], fromBlock: 0 })).length, 0);

  await assert.rejects(
    wallet.sendTransaction({ to, value: ethers.parseEther('1000000') }), { code: 'INSUFFICIENT_FUNDS' });
  await assert.rejects(
    wallet.sendTransaction({ to, nonce: 0, gasLimit: 100000 }), { code: 'NONCE_EXPIRED' });
  await assert.rejects(provider.send('eth_nothing', []), (error) => error.error.code === -32601);
  provider.destroy();
}

async function withViem() {
  const chain = defineChain({
    id: 161, name: 'dev', nativeCurrency: { name: 'coin', symbol: 'COIN', decimals: 18 }, rpcUrls: { default: { http: [url] } },
  });
  const reader = createPublicClient({ chain, transport: http() });
  const account = mnemonicToAccount(mnemonic, { addressIndex: 3 });
  const writer = createWalletClient({ chain, account, transport: http() });
  const to = mnemonicToAccount(mnemonic, { addressIndex: 4 }).address;
  const hash = await writer.sendTransaction({ to, value: parseEther('2') });
  const receipt = await reader.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, 'success');
  assert.equal(receipt.gasUsed, 21000n);
  const block = await reader.getBlock({ blockHash: receipt.blockHash, includeTransactions: true });
  assert.equal(block.transactions[0].hash, hash);
  assert.equal((await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [50] })).baseFeePerGas.length, 3);
  assert.equal(await reader.getTransactionCount({ address: account.address }), 1);
}

await withEthers();
await withViem();
