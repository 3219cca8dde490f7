// node socketio-server.mjs URL [spread]: the official client against `handlers/server.js`, a program for Node's Socket.IO. With `spread`
// a client's events go to several instances of the app, which only a program that awaits answers notices.

import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { acknowledged, argumentsOf, connect, connected, heard, open, run, same } from './suite.mjs';

const [url, spread] = argumentsOf('socketio-server.mjs', 'URL', '[spread]');
/** Cases in which the program awaits answers. */
const WAITING = [
  'a program awaits the answer of a client',
  'a program awaits the answers of a room',
  'clients are fetched, moved and disconnected',
];
const at = (path = '/', options = {}) => connect(url + path, { transports: ['websocket'], ...options });
/** Lets several instances handle an event of the client. */
const goAround = async (socket) => {
  for (let n = 0; n < 8; n++) same(await acknowledged(socket, 'echo', n), [n]);
};
const room = () => `room-${Math.random()}`;

const cases = {
  async 'echoes and acknowledges on every instance'() {
    const socket = await at();
    for (const args of [[], [1, 'two', null, { three: [3] }], ['grüße 🦀', '\u2028'], [Buffer.from([0, 255]), { deep: Buffer.from('x') }]]) {
      const back = heard(socket, 'echo');
      same(await acknowledged(socket, 'echo', ...args), args);
      same(await back, args);
    }
    await goAround(socket);
  },

  async 'events keep their order'() {
    const socket = await at();
    const got = [];
    const all = new Promise((resolve) => socket.on('echo', (n) => got.push(n) === 100 && resolve()));
    for (let n = 0; n < 100; n++) socket.emit('echo', n);
    await all;
    same(got, [...Array(100).keys()]);
  },

  async 'a middleware refuses a client with a reason'() {
    const socket = open(url, { transports: ['websocket'], auth: { name: 'nobody' } });
    const [error] = await heard(socket, 'connect_error');
    assert.equal(error.message, 'not you');
    same(error.data, { code: 7 });
  },

  async 'async middlewares and listeners end before the next event'() {
    const socket = open(`${url}/?greet=1`, { transports: ['websocket'], auth: { name: 'Ada' } });
    const greeting = heard(socket, 'greeting');
    await connected(socket);
    same(await greeting, ['hello, Ada']);
    const [kept] = await acknowledged(socket, 'noted');
    assert.equal(kept.data.wasAwaited, true);
  },

  async 'async listeners and timers'() {
    const socket = await at();
    same(await acknowledged(socket, 'later', 50), ['done']);
    same(await acknowledged(socket, 'soon'), ['soon']);
  },

  async 'a program awaits the answer of a client'() {
    const socket = await at();
    socket.on('question', (question, answer) => answer(`${question} yes`));
    for (const ask of ['ask me', 'ask by callback']) {
      const told = heard(socket, 'told');
      if (ask === 'ask me') same(await acknowledged(socket, ask, 'really?'), ['asking']);
      else socket.emit(ask);
      same(await told, [ask === 'ask me' ? 'really? yes' : 'called? yes']);
    }
    const told = heard(socket, 'told');
    socket.emit('ask in vain');
    same(await told, ['operation has timed out']);
  },

  async 'a program awaits the answers of a room'() {
    const where = room();
    const sockets = await Promise.all(['a', 'b', 'c'].map(() => at()));
    for (const [n, socket] of sockets.entries()) {
      socket.on('question', (_, answer) => answer(n));
      await acknowledged(socket, 'join', where);
    }
    const told = heard(sockets[0], 'told');
    sockets[0].emit('ask all', where);
    same(await told, [[0, 1, 2]]);
  },

  async 'rooms reach their members'() {
    const where = room();
    const [a, b, c] = await Promise.all([at(), at(), at()]);
    same(await acknowledged(a, 'join', where), [[where]]);
    same(await acknowledged(b, 'join', where), [[where]]);
    await goAround(b);
    same(await acknowledged(b, 'rooms'), [[where]]);
    c.onAny((event) => assert.notEqual(event, 'in room'));
    a.once('in room', () => assert.fail('a client hears what it says to others'));
    let back = heard(b, 'in room');
    a.emit('to room', where, 1);
    same(await back, [1]);
    a.removeAllListeners('in room');
    back = Promise.all([heard(a, 'in room'), heard(b, 'in room')]);
    c.emit('to all in room', where, 2);
    same(await back, [[2], [2]]);
    same(await acknowledged(b, 'leave', where), [[]]);
    await goAround(b);
    same(await acknowledged(b, 'rooms'), [[]]);
    await goAround(c);
  },

  async 'binary is received and sent as buffers'() {
    const socket = await at();
    const answer = await acknowledged(socket, 'as base64', Buffer.from([0, 1, 254, 255]));
    same(answer, [true, 'AAH+/w==', Buffer.from('hi')]);
  },

  async 'digests are those of Node'() {
    const socket = await at();
    for (const text of ['', 'abc', 'é'.repeat(1000)]) {
      const hashes = ['md5', 'sha1', 'sha256', 'sha384', 'sha512'].map((name) => createHash(name).update(text).digest('hex'));
      const keyed = createHmac('sha256', 'key').update(text).digest('base64');
      const long = createHmac('sha512', 'k'.repeat(200)).update(text).digest('hex');
      same(await acknowledged(socket, 'digests', text), [...hashes, keyed, long, hashes[2]]);
    }
  },

  async 'a client is reached by its id, and all others at once'() {
    const [a, b] = await Promise.all([at(), at()]);
    let back = heard(b, 'for you');
    a.emit('to id', b.id, 'psst');
    same(await back, ['psst']);
    back = heard(b, 'for others');
    a.emit('to others', 'hey');
    same(await back, ['hey']);
  },

  async 'clients are fetched, moved and disconnected'() {
    const [here, there] = [room(), room()];
    const [a, b] = await Promise.all([at(), at()]);
    for (const [socket, note] of [[a, 'A'], [b, 'B']]) {
      await acknowledged(socket, 'note', note);
      await acknowledged(socket, 'join', here);
    }
    const told = heard(a, 'told');
    a.emit('who is in', here);
    same(await told, [[[a.id, 'A'], [b.id, 'B']].sort()]);
    a.emit('bring all', here, there);
    const back = heard(b, 'in room');
    a.emit('to room', there, 'here');
    same(await back, ['here']);
    const gone = heard(b, 'disconnect');
    a.emit('throw out', there);
    same((await gone).slice(0, 1), ['io server disconnect']);
  },

  async 'data and properties are a client\'s in every instance'() {
    const socket = await at('/', { auth: { name: 'Grace' } });
    for (let n = 1; n <= 6; n++) {
      await acknowledged(socket, 'note', { n, list: [n], text: 'x'.repeat(n) });
      await goAround(socket);
      const [{ data, seen, username, auth }] = await acknowledged(socket, 'noted');
      same([data.note, seen, username, auth], [{ n, list: [n], text: 'x'.repeat(n) }, n, 'Grace', 'Grace']);
    }
  },

  async 'listeners of all kinds'() {
    const socket = await at();
    let told = heard(socket, 'told');
    socket.emit('for any');
    same(await told, ['any']);
    told = heard(socket, 'told');
    socket.emit('forbidden', 'entry');
    same(await told, ['no entry']);
  },

  async 'disconnects are noticed'() {
    const [watcher, socket] = await Promise.all([at(), at('/', { auth: { name: 'Linus' } })]);
    await acknowledged(watcher, 'join', 'watchers');
    await acknowledged(socket, 'join', `of ${socket.id}`);
    await goAround(socket);
    // Another client makes it join a room, without an event of its own.
    watcher.emit('bring all', `of ${socket.id}`, 'by another');
    await acknowledged(watcher, 'rooms');
    const [leaves, left] = [heard(watcher, 'leaves'), heard(watcher, 'has left')];
    const rooms = ['by another', `of ${socket.id}`];
    socket.disconnect();
    same(await leaves, [rooms, 'client namespace disconnect']);
    same(await left, ['Linus', 'client namespace disconnect', 0]);
    const told = await at();
    const gone = heard(told, 'disconnect');
    told.emit('goodbye');
    same((await gone).slice(0, 1), ['io server disconnect']);
  },

  async 'a failed event has no effects and affects no other client'() {
    const socket = await at();
    const other = await at();
    await acknowledged(socket, 'note', 'before');
    socket.on('told', (text) => assert.fail(text));
    for (const wrong of ['throw', 'reject', 'reject unseen', 'recurse', 'loop', 'eat']) {
      socket.emit(wrong);
      await goAround(other);
    }
    const [{ data }] = await acknowledged(socket, 'noted');
    assert.equal(data.note, 'before');
  },

  async 'prototype pollution does not turn messages into broadcasts'() {
    const [one, other] = await Promise.all([at(), at()]);
    other.on('for one', () => assert.fail('it is for another'));
    const heardIt = heard(one, 'for one');
    await acknowledged(one, 'pollute');
    await heardIt;
    await goAround(other);
  },

  async 'pending timers are bounded and do not affect other events'() {
    const socket = await at();
    // 5,000 timers in up to three instances; a full instance clears them.
    const errors = new Set();
    for (let n = 0; n < 40; n++) errors.add((await acknowledged(socket, 'set timers'))[0]);
    same([...errors], [null, 'RangeError']);
    for (let n = 0; n < 50; n++) same(await acknowledged(socket, 'echo', n), [n]);
  },

  async 'web globals'() {
    const socket = await at();
    const [globals] = await acknowledged(socket, 'globals');
    same(globals, {
      text: 'grüße 🦀\ufffd',
      base64: 'plug\u00ffnode',
      href: 'https://example.com/a/b?c=d#e',
      param: 'd',
      aborted: true,
      clone: 0,
      uuid: true,
      heard: [1],
    });
  },

  async 'a second namespace'() {
    const socket = await at('/second');
    same(await acknowledged(socket, 'where'), ['/second']);
    const told = heard(socket, 'told');
    socket.emit('tell', 'all');
    same(await told, ['all']);
  },
};

if (spread) for (const name of WAITING) delete cases[name];
await run(cases);
