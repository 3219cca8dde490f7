// node behind.mjs URL: the official client behind a load balancer, against the handler `faulty`, which returns each client's address.

import assert from 'node:assert/strict';
import http from 'node:http';
import { acknowledged, argumentsOf, connected, heard, open, run, same } from './suite.mjs';

const [url] = argumentsOf('behind.mjs', 'URL');

/** Source address of the clients; the balancer's is 127.0.0.1. */
const ADDRESS = '127.0.0.2';
const TRANSPORTS = { websocket: ['websocket'], polling: ['polling'], 'polling, upgraded': ['polling', 'websocket'] };

const cases = {};

for (const [name, transports] of Object.entries(TRANSPORTS)) {
  cases[`${name}: the handler sees the client's address and answers`] = async () => {
    const agent = new http.Agent({ keepAlive: true, localAddress: ADDRESS });
    // What the balancer says of itself with each client is ours to give back.
    const headers = { 'X-Forwarded-For': '6.6.6.6' };
    const socket = open(url, { transports, agent, withCredentials: true, auth: { address: true }, extraHeaders: headers });
    const told = heard(socket, 'address');
    await connected(socket);
    const [address] = await told;
    assert.equal(address.split(':')[0], ADDRESS);
    for (const size of [1, 1_000, 100_000]) {
      const bytes = Buffer.alloc(size, size % 251);
      same(await acknowledged(socket, 'bytes', bytes, { deep: [bytes] }), [bytes, { deep: [bytes] }]);
    }
    if (transports.length === 2 && socket.io.engine.transport.name !== 'websocket') await heard(socket.io.engine, 'upgrade');
    same(await acknowledged(socket, 'then', 1), [1]);
    return { transport: socket.io.engine.transport.name };
  };
}

await run(cases);
