// A wallet's day on the chain with unmodified CosmJS. It reads a JSON object
// from standard input, {rpc, mnemonic, to, validator}, does every step, and
// writes what it saw as JSON; it throws at the first surprise.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { DirectSecp256k1HdWallet } from "@cosmjs/proto-signing";
import { GasPrice, SigningStargateClient, StargateClient, coin } from "@cosmjs/stargate";
import { Comet38Client } from "@cosmjs/tendermint-rpc";

const task = JSON.parse(readFileSync(0, "utf8"));
const wallet = await DirectSecp256k1HdWallet.fromMnemonic(task.mnemonic, { prefix: "man" });
const [{ address }] = await wallet.getAccounts();

const step = (name) => process.stderr.write(`${name}\n`);

step("connect and query");
const comet = await Comet38Client.connect(task.rpc);
const reader = await StargateClient.create(comet);
const chainId = await reader.getChainId();
const before = await reader.getAccount(address);
assert.equal(before.address, address);
assert.equal(before.pubkey, null);
assert.equal(before.sequence, 0);
assert.equal(await reader.getAccount(task.stranger), null);
assert.deepEqual(await reader.getBalance(task.stranger, "uman"), coin(0, "uman"));
const funds = BigInt((await reader.getBalance(address, "uman")).amount);
assert.ok(funds > 0n);
assert.deepEqual(await reader.getAllBalances(address), [coin(String(funds), "uman")]);
assert.deepEqual(await reader.getAllBalances(task.stranger), []);

step("subscribe, before anything happens");
const socket = await Comet38Client.connect(task.rpc.replace(/^http/, "ws"));
const seen = new Promise((resolve, reject) => {
  socket.subscribeTx(`transfer.recipient='${task.to}'`).addListener({ next: resolve, error: reject });
});

step("sign and send, with the gas that the chain says");
const signing = await SigningStargateClient.createWithSigner(comet, wallet, {
  gasPrice: GasPrice.fromString("0.1uman"),
  broadcastPollIntervalMs: 100,
});
const gas = await signing.simulate(address, [
  { typeUrl: "/cosmos.bank.v1beta1.MsgSend", value: { fromAddress: address, toAddress: task.to, amount: [coin(5, "uman")] } },
], "lunch");
assert.ok(gas > 0);
const sent = await signing.sendTokens(address, task.to, [coin(250000, "uman")], "auto", "lunch");
assert.equal(sent.code, 0, sent.rawLog);
assert.equal(sent.msgResponses[0].typeUrl, "/cosmos.bank.v1beta1.MsgSendResponse");
assert.equal((await reader.getBalance(task.to, "uman")).amount, "250000");
const after = await reader.getAccount(address);
assert.equal(after.sequence, 1);
assert.equal(after.pubkey.type, "tendermint/PubKeySecp256k1");

step("wait for the event");
const event = await seen;
assert.equal(Buffer.from(event.hash).toString("hex").toUpperCase(), sent.transactionHash);
socket.disconnect();

step("many payments in one transaction, with an explicit fee");
const fee = { amount: [coin(20000, "uman")], gas: "200000" };
const many = await signing.signAndBroadcast(address, [
  {
    typeUrl: "/cosmos.bank.v1beta1.MsgMultiSend",
    value: {
      inputs: [{ address, coins: [coin(30, "uman")] }],
      outputs: [
        { address: task.to, coins: [coin(10, "uman")] },
        { address: task.stranger, coins: [coin(20, "uman")] },
      ],
    },
  },
], fee);
assert.equal(many.code, 0, many.rawLog);
assert.equal((await reader.getBalance(task.stranger, "uman")).amount, "20");

step("what the chain refuses, it says");
const poor = await signing.sendTokens(address, task.to, [coin("9000000000000", "uman")], fee);
assert.notEqual(poor.code, 0);
await assert.rejects(
  signing.sendTokens(address, task.to, [coin(1, "uman")], { amount: [coin(1, "uman")], gas: "200000" }),
  /insufficient fees/,
);

step("delegate and undelegate");
const stake = await signing.delegateTokens(address, task.validator, coin(5000000, "uman"), "auto", "backing");
assert.equal(stake.code, 0, stake.rawLog);
assert.equal(stake.msgResponses[0].typeUrl, "/cosmos.staking.v1beta1.MsgDelegateResponse");
const unstake = await signing.undelegateTokens(address, task.validator, coin(1000000, "uman"), "auto");
assert.equal(unstake.code, 0, unstake.rawLog);

step("search by hash and by event");
const found = await reader.getTx(sent.transactionHash);
assert.equal(found.height, sent.height);
assert.equal(found.code, 0);
const listed = await reader.searchTx([
  { key: "message.sender", value: address },
  { key: "message.action", value: "/cosmos.bank.v1beta1.MsgSend" },
]);
assert.ok(listed.some((t) => t.hash === sent.transactionHash));
assert.equal((await reader.searchTx(`transfer.recipient='${task.stranger}'`)).length, 1);

step("done");
process.stdout.write(JSON.stringify({ address, chain_id: chainId, gas, hash: sent.transactionHash, height: sent.height }) + "\n", () => process.exit(0));
// A closed websocket keeps its stream open for a while, hence the exit.
