// node emitter.mjs URL,URL REDIS [PREFIX]: the official emitter publishes into the Redis of io-nodes that have `[transport] emitter` set, and
// official clients of each io-node receive. The apps `/` and `/chat` must exist.

import assert from 'node:assert/strict';
import { Emitter } from '@socket.io/redis-emitter';
import { Redis } from 'ioredis';
import { argumentsOf, connect, heard, run, same, within } from './suite.mjs';

const [list, redisUrl, key = 'socket.io'] = argumentsOf('emitter.mjs', 'URL,URL', 'REDIS', '[PREFIX]');
const urls = list.split(',');
const redis = new Redis(redisUrl);
const emitter = new Emitter(redis, { key });

/** Two clients of each io-node. */
async function clients(namespace = '/') {
  const all = [...urls, ...urls].map((url) => connect(url + namespace, { transports: ['websocket'] }));
  return Promise.all(all);
}

/** Waits until the io-nodes apply what is published: each has then applied everything that was published before. */
async function applied(sockets, from = emitter) {
  const word = `applied-${Math.random()}`;
  const heardBy = sockets.map((socket) => heard(socket, word));
  from.emit(word);
  await Promise.all(heardBy);
}

/** The events that each socket hears while `act` runs and is applied. */
async function during(sockets, event, act) {
  const said = sockets.map(() => []);
  sockets.forEach((socket, n) => socket.on(event, (...args) => said[n].push(args)));
  act();
  await applied(sockets);
  sockets.forEach((socket) => socket.removeAllListeners(event));
  return said;
}

const cases = {
  'an event reaches all clients': async () => {
    const sockets = await clients();
    const args = [1, 'two', { three: [true, null, 3.5, 'ü'] }];
    same(await during(sockets, 'news', () => emitter.emit('news', ...args)), sockets.map(() => [args]));
  },

  'rooms are joined and left, and select clients': async () => {
    const sockets = await clients();
    const [first, second, third] = sockets;
    emitter.in([first.id, second.id]).socketsJoin(['a', 'both']);
    emitter.in(third.id).socketsJoin('both');
    await applied(sockets);
    same(await during(sockets, 'n', () => emitter.to('a').emit('n', 1)), [[[1]], [[1]], [], []]);
    same(await during(sockets, 'n', () => emitter.to(['a', 'both']).emit('n', 2)), [[[2]], [[2]], [[2]], []]);
    same(await during(sockets, 'n', () => emitter.to('both').except('a').emit('n', 3)), [[], [], [[3]], []]);
    same(await during(sockets, 'n', () => emitter.except(first.id).emit('n', 4)), [[], [[4]], [[4]], [[4]]]);
    emitter.in('a').except(second.id).socketsLeave('both');
    await applied(sockets);
    same(await during(sockets, 'n', () => emitter.in('both').emit('n', 5)), [[], [[5]], [[5]], []]);
  },

  'a volatile event reaches clients that read': async () => {
    const sockets = await clients();
    same(await during(sockets, 'v', () => emitter.volatile.emit('v', 'now')), sockets.map(() => [['now']]));
  },

  'binary values and dates arrive': async () => {
    const sockets = await clients();
    const date = new Date('2024-02-29T12:34:56.789Z');
    const said = await during(sockets, 'bin', () =>
      emitter.emit('bin', Buffer.from([1, 2, 3]), { deep: [Buffer.from('x')], date }),
    );
    const expected = [Buffer.from([1, 2, 3]), { deep: [Buffer.from('x')], date: date.toISOString() }];
    same(said, sockets.map(() => [expected]));
  },

  'events stay in order': async () => {
    const sockets = await clients();
    const numbers = Array.from({ length: 500 }, (_, n) => [n]);
    const said = await during(sockets, 'n', () => numbers.forEach(([n]) => emitter.emit('n', n)));
    same(said, sockets.map(() => numbers));
  },

  'a namespace has its own clients': async () => {
    const [main, chat] = [await clients(), await clients('/chat')];
    const chatEmitter = emitter.of('chat');
    const said = await during(main, 'hello', () => chatEmitter.emit('hello'));
    same(said, main.map(() => []));
    const heardBy = chat.map((socket) => heard(socket, 'again'));
    chatEmitter.emit('again', 7);
    for (const args of await Promise.all(heardBy)) same(args, [7]);
  },

  'malformed and unsupported messages are ignored': async () => {
    const sockets = await clients();
    for (const bytes of ['', 'x', '\x93', JSON.stringify({ type: 2 })]) {
      await redis.publish(`${key}#/#`, bytes);
      await redis.publish(`${key}-request#/#`, bytes);
    }
    emitter.serverSideEmit('hello', 1);
    await applied(sockets);
  },

  'clients are disconnected': async () => {
    const sockets = await clients();
    const [first, ...others] = sockets;
    const gone = heard(first, 'disconnect');
    emitter.in(first.id).disconnectSockets();
    same((await gone)[0], 'io server disconnect');
    await applied(others);
    const closed = others.map((socket) => heard(socket, 'disconnect'));
    emitter.disconnectSockets(true);
    await within(10, 'all are closed', Promise.all(closed));
    assert.ok(sockets.every((socket) => !socket.connected));
  },
};

await run(cases);
