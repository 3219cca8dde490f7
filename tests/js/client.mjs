// node client.mjs URL [msgpack]: the official client of Socket.IO 4 against the configuration `client` of the handler `conformance`: ping
// interval 2,000 ms, and requests for a session answered 10 ms late. With `msgpack`, client and server use that parser.

import assert from 'node:assert/strict';
import { Manager, io } from 'socket.io-client';
import msgpack from 'socket.io-msgpack-parser';
import { acknowledged, argumentsOf, connected, heard, keep, run, same, within } from './suite.mjs';

const [url, parserName] = argumentsOf('client.mjs', 'URL', '[msgpack]');
const parser = parserName === 'msgpack' ? { parser: msgpack } : {};

const PING_INTERVAL = 2000;
const HANDSHAKE_DELAY = 10;

const TRANSPORTS = {
  'polling, upgraded': {},
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
};

const cases = {};

for (const [transport, by] of Object.entries(TRANSPORTS)) {
  const has = (what, act) => (cases[`${transport}: ${what}`] = act);
  const open = (path = '/', options = {}) => start(path, { ...by, ...options });
  const connect = async (path, options) => connected(open(path, options));
  const manage = (options = {}) => managed({ ...by, ...options });

  // ---- events and their arguments

  has('connects, and its events are answered', async () => {
    const socket = open();
    const back = heard(socket, 'hi');
    socket.emit('hi');
    same(await back, []);
  });

  has('receives no event by itself at the start', async () => {
    const socket = open();
    const names = [];
    socket.onAny((name) => names.push(name));
    await connected(socket);
    same(await acknowledged(socket, 'echo', 1), [1]);
    same(names, []);
  });

  has('upgrades to its last allowed transport, and stays connected', async () => {
    const socket = await connect();
    const { engine } = socket.io;
    const last = (by.transports ?? ['websocket']).at(-1);
    if (engine.transport.name !== last) await heard(engine, 'upgrade');
    assert.equal(engine.transport.name, last);
    let gone = 0;
    socket.on('disconnect', () => gone++);
    await sleep(1.5 * PING_INTERVAL);
    same(await acknowledged(socket, 'echo', 'still here'), ['still here']);
    assert.equal(gone, 0);
  });

  has('is acknowledged', async () => {
    const socket = await connect();
    for (const value of ['text', 123, 0, '', null, false, { nested: [{ a: 'grüße' }] }, [], {}]) {
      same(await acknowledged(socket, 'echo', value), [value]);
    }
    assert.equal(await socket.emitWithAck('echo', 123), 123);
    assert.equal(await socket.timeout(10_000).emitWithAck('echo', 42), 42);
    const [error, value] = await new Promise((resolve) => socket.timeout(10_000).emit('echo', 42, (...args) => resolve(args)));
    same([error, value], [null, 42]);
  });

  has('is acknowledged with binary', async () => {
    const socket = await connect();
    for (const value of [Buffer.from('bytes'), { deep: [Buffer.from([0, 255]), { deeper: Buffer.alloc(3) }] }, Buffer.alloc(100_000, 7)]) {
      same(await acknowledged(socket, 'echo', value), [value]);
    }
  });

  has('acknowledges what the handler asks for', async () => {
    const socket = await connect();
    socket.on('ack', (...args) => {
      assert.equal(args.length, 1, 'there are no arguments but the callback');
      args[0](5, { test: true });
    });
    const got = heard(socket, 'got it');
    socket.emit('ack');
    same(await got, []);
  });

  has('a wrong acknowledgement is not taken for the right one', async () => {
    const socket = await connect();
    const names = [];
    socket.onAny((name) => names.push(name));
    for (const wrong of [[5, { test: false }], [4, { test: true }], [], ['5', { test: true }], [5]]) {
      const asked = heard(socket, 'ack');
      socket.emit('ack');
      (await asked)[0](...wrong);
    }
    // An event after the answers proves that their effects would have arrived.
    same(await acknowledged(socket, 'echo', 1), [1]);
    same(names, Array(5).fill('ack'));
  });

  has('`ack` is not acknowledged itself', async () => {
    const socket = await connect();
    const asked = heard(socket, 'ack');
    const never = new Promise((resolve) => socket.timeout(200).emit('ack', (error) => resolve(error)));
    await asked;
    assert.ok((await never) instanceof Error);
  });

  has('an event that has no handler is dropped, and never acknowledged', async () => {
    const socket = await connect();
    const error = await new Promise((resolve) => socket.timeout(200).emit('unknown', 'x', (given) => resolve(given)));
    assert.ok(error instanceof Error);
    same(await acknowledged(socket, 'echo', 'and on'), ['and on']);
  });

  has('dates come as text', async () => {
    const socket = await connect();
    const [date] = await acknowledged(socket, 'getAckDate', { test: true });
    const emitted = heard(socket, 'takeDate');
    socket.emit('getDate');
    const [text] = await emitted;
    const object = heard(socket, 'takeDateObj');
    socket.emit('getDateObj');
    const [inObject] = await object;
    for (const given of [date, text, inObject.date]) {
      if (parserName !== 'msgpack') assert.equal(typeof given, 'string');
      assert.ok(Math.abs(Date.now() - new Date(given)) < 60_000, `${given} is now`);
    }
  });

  if (parserName === 'msgpack') {
    has('dates and `undefined` are themselves', async () => {
      const socket = await connect();
      const value = { date: new Date(1_709_210_096_789), old: [new Date(-1), new Date(0)], none: undefined, some: 1 };
      const [back] = await acknowledged(socket, 'echo', value);
      assert.ok(back.date instanceof Date && back.old.every((date) => date instanceof Date));
      assert.deepEqual([+back.date, ...back.old.map(Number)], [1_709_210_096_789, -1, 0]);
      assert.equal(back.none, undefined);
      assert.equal(back.some, 1);
      assert.ok([null, undefined].includes((await acknowledged(socket, 'echo', undefined))[0]));
    });

    has('an object like a placeholder stays one beside binary', async () => {
      const socket = await connect();
      const value = [{ _placeholder: true, num: 0 }, Buffer.from('bytes'), { _placeholder: true, num: 7 }];
      same(await acknowledged(socket, 'echo', value), [value]);
    });
  }

  has('texts in several scripts arrive in order', async () => {
    const socket = await connect();
    const texts = [];
    const all = new Promise((resolve) => socket.on('takeUtf8', (text) => texts.push(text) === 5 && resolve()));
    socket.emit('getUtf8');
    await within(10, 'five texts', all);
    same(texts, ['てすと', 'Я Б Г Д Ж Й', 'Ä ä Ü ü ß', 'utf8 — string', 'utf8 — string']);
  });

  has('false is an argument', async () => {
    const socket = await connect();
    const back = heard(socket, 'false');
    socket.emit('false');
    same(await back, [false]);
  });

  has('binary arrives', async () => {
    const socket = open();
    // The decoder of the msgpack parser reads only Buffers.
    if (parserName !== 'msgpack') socket.io.engine.binaryType = 'arraybuffer';
    const doge = heard(socket, 'doge');
    const bin = heard(socket, 'takebin');
    socket.emit('doge');
    socket.emit('getbin');
    const [bytes] = await doge;
    same([bytes, ...(await bin)], [Buffer.from('asdfasdf'), Buffer.from('asdfasdf')]);
    if (parserName !== 'msgpack') assert.ok(bytes instanceof ArrayBuffer);
  });

  has('binary is sent, also within JSON', async () => {
    const socket = await connect();
    const buffack = heard(socket, 'buffack');
    const bytes = Buffer.from([1, 2, 3, 250]);
    // The msgpack parser has a separate type for ArrayBuffer, which Node's server does not treat as binary.
    socket.emit('buffa', parserName === 'msgpack' ? bytes : new Uint8Array(bytes).buffer);
    same(await buffack, []);
    const jsonbuff = heard(socket, 'jsonbuff-ack');
    socket.emit('jsonbuff', { hello: 'lol', message: Buffer.from('howdy'), goodbye: 'gotcha' });
    same(await jsonbuff, []);
  });

  has('binary as base64 works in both directions', async () => {
    const socket = await connect('/', { forceBase64: true });
    const { engine } = socket.io;
    const last = (by.transports ?? ['websocket']).at(-1);
    if (engine.transport.name !== last) await heard(engine, 'upgrade');
    assert.equal(engine.transport.name, last);
    const value = { bytes: [Buffer.from([0, 255, 1]), Buffer.alloc(100_000, 7), Buffer.alloc(0)] };
    same(await acknowledged(socket, 'echo', value), [value]);
  });

  has('text and objects are not taken for binary', async () => {
    const socket = await connect();
    const names = [];
    socket.onAny((name) => names.push(name));
    socket.emit('buffa', 'text');
    socket.emit('buffa', { _placeholder: false, num: 0 });
    socket.emit('jsonbuff', { hello: 'lol', message: 'text', goodbye: 'gotcha' });
    same(await acknowledged(socket, 'echo', 1), [1]);
    same(names, []);
  });

  has('events with binary keep their order', async () => {
    const socket = open();
    const back = heard(socket, 'abuff2-ack');
    socket.emit('abuff1', Buffer.from('abuff1'));
    socket.emit('abuff2', 'please arrive second');
    same(await back, []);
  });

  has('`abuff2` alone is not answered', async () => {
    const socket = await connect();
    let answered = 0;
    socket.on('abuff2-ack', () => answered++);
    socket.emit('abuff2', 'I am first');
    same(await acknowledged(socket, 'echo', 1), [1]);
    assert.equal(answered, 0);
  });

  has('events emitted before the connection arrive first', async () => {
    const socket = open('/', { autoConnect: false });
    const answers = [];
    socket.emit('echo', 'first', (value) => answers.push(value));
    const both = new Promise((resolve) => {
      socket.on('connect', () => socket.emit('echo', 'second', (value) => resolve(answers.push(value))));
    });
    socket.connect();
    await within(10, 'both answers', both);
    same(answers, ['first', 'second']);
  });

  // ---- ids

  for (const path of ['/', '/foo']) {
    has(`its id in ${path} is the one the handler sees, and not that of the connection`, async () => {
      const socket = await connect(path);
      const [id] = await acknowledged(socket, 'getId');
      assert.ok(socket.id);
      assert.equal(id, socket.id);
      assert.notEqual(id, socket.io.engine.id);
    });
  }

  has('it has another id in each namespace of a connection', async () => {
    const manager = manage();
    const sockets = ['/', '/foo', '/abc'].map((path) => keep(manager.socket(path)));
    await Promise.all(sockets.map(connected));
    assert.equal(new Set([manager.engine.id, ...sockets.map(({ id }) => id)]).size, 4);
    assert.equal((await acknowledged(sockets[0], 'getId'))[0], sockets[0].id);
    assert.equal((await acknowledged(sockets[1], 'getId'))[0], sockets[1].id);
  });

  has('it has no id after a disconnect, and another after it reconnects', async () => {
    const socket = await connect('/', { reconnection: true, reconnectionDelay: 10 });
    const before = socket.id;
    const gone = heard(socket, 'disconnect');
    const back = heard(socket.io, 'reconnect');
    socket.io.engine.close();
    await gone;
    assert.equal(socket.id, undefined);
    await back;
    await connected(socket);
    assert.ok(socket.id);
    assert.notEqual(socket.id, before);
    assert.ok(!socket.recovered);
  });

  // ---- handshake

  has('the handler knows the query', async () => {
    for (const [path, query, expected] of [
      ['/', { e: 'f' }, { e: 'f' }],
      ['/?c=d', undefined, { c: 'd' }],
      ['/?c=d&g=', undefined, { c: 'd', g: '' }],
      ['/', { '&a': '&=?a', 'ü ü': 'ß+ß' }, { '&a': '&=?a', 'ü ü': 'ß+ß' }],
    ]) {
      const socket = await connect(path, query && { query });
      const [handshake] = await acknowledged(socket, 'getHandshake');
      for (const [name, value] of Object.entries(expected)) assert.equal(handshake.query[name], value);
      assert.equal(handshake.query.EIO, '4');
      same(handshake.auth, {});
      socket.disconnect();
    }
  });

  has('a custom namespace knows the query at once', async () => {
    for (const [path, query, expected] of [
      ['/abc', { a: 'b' }, { a: 'b' }],
      ['/abc?b=c&d=e', undefined, { b: 'c', d: 'e' }],
      ['/abc', { '&a': '&=?a' }, { '&a': '&=?a' }],
    ]) {
      const socket = open(path, query && { query });
      const [handshake] = await heard(socket, 'handshake');
      for (const [name, value] of Object.entries(expected)) assert.equal(handshake.query[name], value);
      socket.disconnect();
    }
  });

  has('the handler knows `auth`, given as an object or by a function', async () => {
    for (const auth of [{ a: 'b', c: 'd' }, (give) => give({ a: 'b', c: 'd' })]) {
      const socket = open('/abc', { auth });
      const [handshake] = await heard(socket, 'handshake');
      same(handshake.auth, { a: 'b', c: 'd' });
      assert.equal(handshake.query.a, undefined);
      socket.disconnect();
      const main = await connect('/', { auth });
      same((await acknowledged(main, 'getHandshake'))[0].auth, { a: 'b', c: 'd' });
      main.disconnect();
    }
  });

  // ---- admission

  has('it is refused by /no with a message', async () => {
    const socket = open('/no');
    const [error] = await heard(socket, 'connect_error');
    assert.ok(error instanceof Error);
    assert.equal(error.message, 'Auth failed (custom namespace)');
    assert.equal(error.data, undefined);
    same([socket.connected, socket.active], [false, false]);
  });

  has('it is refused by / when the query says so', async () => {
    const socket = open('/?fail=true');
    let connections = 0;
    socket.on('connect', () => connections++);
    const [error] = await heard(socket, 'connect_error');
    assert.equal(error.message, 'Auth failed (main namespace)');
    await sleep(100);
    assert.equal(connections, 0);
    const fine = await connect('/?fail=');
    same(await acknowledged(fine, 'echo', 1), [1]);
  });

  has('it is refused by an unknown namespace', async () => {
    const socket = open('/nowhere');
    const [error] = await heard(socket, 'connect_error');
    assert.equal(error.message, 'Invalid namespace');
    assert.equal(socket.connected, false);
  });

  has('a refused connect is not retried, and no disconnect follows', async () => {
    const socket = open('/no', { reconnection: true, reconnectionDelay: 10 });
    let [refusals, disconnects] = [0, 0];
    socket.on('connect_error', () => {
      refusals++;
      socket.io.engine.close();
    });
    socket.on('disconnect', () => disconnects++);
    await heard(socket, 'connect_error');
    await sleep(200);
    same([refusals, disconnects], [1, 0]);
  });

  has('a refusal leaves the other namespaces of the connection alone', async () => {
    const manager = manage();
    const main = await connected(keep(manager.socket('/')));
    const no = keep(manager.socket('/no'));
    await heard(no, 'connect_error');
    same(await acknowledged(main, 'echo', 'here'), ['here']);
    assert.ok(main.connected);
  });

  // ---- namespaces over one connection

  for (const path of ['/timeout_socket', '/valid', '/asd']) {
    has(`it is accepted by ${path}`, async () => {
      const socket = await connect(path, { reconnection: true, reconnectionDelay: 10 });
      let attempts = 0;
      socket.io.on('reconnect_attempt', () => attempts++);
      await sleep(100);
      assert.ok(socket.connected);
      assert.equal(attempts, 0);
    });
  }

  has('it connects to a namespace after another', async () => {
    const manager = manage();
    await connected(keep(manager.socket('/')));
    await connected(keep(manager.socket('/foo')));
  });

  has('it connects to a namespace after it left another', async () => {
    const manager = manage();
    const main = await connected(keep(manager.socket('/')));
    main.disconnect();
    await connected(keep(manager.socket('/foo')));
  });

  has('it connects to a namespace while it leaves another', async () => {
    const manager = manage();
    const foo = await connected(keep(manager.socket('/foo')));
    const asd = keep(manager.socket('/asd'));
    foo.disconnect();
    await connected(asd);
  });

  has('leaving one namespace keeps the connection', async () => {
    const manager = manage();
    const foo = await connected(keep(manager.socket('/foo')));
    const asd = await connected(keep(manager.socket('/asd')));
    let gone = 0;
    asd.on('disconnect', () => gone++);
    foo.disconnect();
    await sleep(200);
    assert.equal(gone, 0);
    const closed = heard(manager, 'close');
    asd.disconnect();
    await closed;
  });

  has('it can connect again to a namespace that it left', async () => {
    const manager = manage();
    const socket = await connected(keep(manager.socket('/')));
    const gone = heard(socket, 'disconnect');
    socket.disconnect();
    await gone;
    const again = keep(manager.socket('/'));
    assert.equal(again, socket);
    await connected(again);
    same(await acknowledged(again, 'echo', 'again'), ['again']);
  });

  has('connect and disconnect packets are as in the protocol', async () => {
    if (parserName === 'msgpack') return;
    const manager = manage();
    const sent = [];
    manager.engine.on('packetCreate', ({ data }) => data && sent.push(data));
    const main = keep(manager.socket('/'));
    const foo = keep(manager.socket('/foo'));
    await Promise.all([connected(main), connected(foo)]);
    main.disconnect();
    foo.disconnect();
    same(sent, ['0', '0/foo,', '1', '1/foo,']);
  });

  // ---- connecting and reconnecting

  has('the handshake takes as long as the configuration says', async () => {
    const began = performance.now();
    const socket = open();
    await heard(socket.io.engine, 'open');
    assert.ok(performance.now() - began >= HANDSHAKE_DELAY - 1);
  });

  has('a connection that takes too long is an error', async () => {
    const socket = open('/', { timeout: 0 });
    const [error] = await heard(socket, 'connect_error');
    assert.equal(error.message, 'timeout');
  });

  has('it gives up connecting after the configured attempts', async () => {
    const manager = manage({ reconnection: true, timeout: 0, reconnectionAttempts: 2, reconnectionDelay: 10 });
    const attempts = [];
    manager.on('reconnect_attempt', (number) => attempts.push(number));
    const failed = heard(manager, 'reconnect_failed');
    const socket = keep(manager.socket('/timeout_socket'));
    await failed;
    const again = heard(manager, 'reconnect_failed');
    socket.connect();
    await again;
    same(attempts, [1, 2, 1, 2]);
  });

  has('it reconnects automatically, and goes on', async () => {
    const socket = await connect('/', { reconnection: true, reconnectionDelay: 10 });
    const back = heard(socket.io, 'reconnect');
    socket.io.engine.close();
    await back;
    await connected(socket);
    same(await acknowledged(socket, 'echo', 'again'), ['again']);
  });

  has('it reconnects on request, and later automatically', async () => {
    const socket = await connect('/', { reconnection: true, reconnectionDelay: 10 });
    const gone = heard(socket, 'disconnect');
    socket.disconnect();
    same((await gone).slice(0, 1), ['io client disconnect']);
    socket.connect();
    await connected(socket);
    const back = heard(socket.io, 'reconnect');
    socket.io.engine.close();
    await back;
    await connected(socket);
  });

  has('an immediate reconnect is one disconnect', async () => {
    const socket = await connect();
    let gone = 0;
    socket.on('disconnect', () => gone++);
    socket.disconnect().connect();
    await connected(socket);
    same(await acknowledged(socket, 'echo', 'again'), ['again']);
    assert.equal(gone, 1);
  });

  has('only namespaces that were not left reconnect', async () => {
    const manager = manage({ reconnection: true, reconnectionDelay: 10 });
    const left = await connected(keep(manager.socket('/')));
    const stays = await connected(keep(manager.socket('/asd')));
    manager.once('reconnect_attempt', () => left.disconnect());
    const back = heard(stays, 'connect');
    manager.engine.close();
    await back;
    await sleep(50);
    same([left.connected, stays.connected], [false, true]);
  });

  has('an invalid packet makes the client reconnect', async () => {
    const manager = manage({ reconnection: true, reconnectionDelay: 10 });
    await connected(keep(manager.socket('/')));
    const { engine } = manager;
    const back = heard(manager, 'reconnect');
    engine.emit('data', 'bad');
    await back;
    assert.notEqual(manager.engine, engine);
    assert.equal(engine.readyState, 'closed');
  });

  // ---- volatile and buffered events

  has('a volatile event is sent only on a ready connection', async () => {
    const socket = open('/', { autoConnect: false });
    let early = 0;
    socket.volatile.emit('getId', () => early++);
    socket.connect();
    await connected(socket);
    same(await acknowledged(socket, 'getId'), [socket.id]);
    assert.equal(early, 0);
    const id = new Promise((resolve) => {
      const timer = setInterval(() => socket.volatile.emit('getId', (given) => resolve(given, clearInterval(timer))), 50);
    });
    assert.equal(await within(10, 'a volatile event', id), socket.id);
  });

  has('a volatile event is dropped while another event is in flight', async () => {
    const socket = await connect();
    // The upgrade is complete, nothing else is in flight.
    if (socket.io.engine.transport.name !== (by.transports ?? ['websocket']).at(-1)) await heard(socket.io.engine, 'upgrade');
    let volatile = 0;
    const sure = acknowledged(socket, 'getId');
    socket.volatile.emit('getId', () => volatile++);
    same(await sure, [socket.id]);
    same(await acknowledged(socket, 'echo', 1), [1]);
    assert.equal(volatile, 0);
  });

  has('events with retries keep their order', async () => {
    const socket = open('/', { retries: 1, ackTimeout: 2000 });
    const sent = [];
    socket.io.engine.on('packetCreate', ({ data }) => data && sent.push(data));
    const answers = await within(
      10,
      'three answers',
      Promise.all([1, 2, 3].map((n) => new Promise((resolve) => socket.emit('echo', n, (...args) => resolve(args))))),
    );
    same(answers, [[null, 1], [null, 2], [null, 3]]);
    if (parserName !== 'msgpack') same(sent, ['0', '20["echo",1]', '21["echo",2]', '22["echo",3]']);
  });

  has('an unacknowledged event is sent up to the configured retries', async () => {
    const socket = open('/', { retries: 3, ackTimeout: 200 });
    let asked = 0;
    socket.on('ack', () => asked++);
    const error = await new Promise((resolve) => socket.emit('ack', resolve));
    assert.ok(error instanceof Error);
    assert.equal(asked, 4);
  });

  has('events buffered while disconnected are sent after the reconnect', async () => {
    const socket = await connect();
    socket.disconnect();
    const answer = acknowledged(socket, 'echo', 'a');
    await sleep(50);
    socket.connect();
    same(await answer, ['a']);
  });

  has('a disconnect rejects pending acknowledgements', async () => {
    const socket = await connect();
    let answered = 0;
    socket.emit('echo', 'a', () => answered++);
    const failed = socket.emitWithAck('echo', 'b');
    socket.disconnect();
    await assert.rejects(failed);
    await sleep(100);
    assert.equal(answered, 0);
  });

  has('an event emitted before the connection is acknowledged in time', async () => {
    const socket = open();
    const answer = new Promise((resolve) => socket.timeout(10_000).emit('echo', 42, (...args) => resolve(args)));
    same(await answer, [null, 42]);
  });
}

await run(cases, { tries: 3, seconds: 240 });

/** A socket with its own connection, closed when its case ends. */
function start(path, options) {
  return keep(io(url + path, { forceNew: true, reconnection: false, ...parser, ...options }));
}

/** A connection without namespaces, closed when its case ends. */
function managed(options) {
  const manager = new Manager(url, { reconnection: false, ...parser, ...options });
  keep({ disconnect: () => manager._close() });
  return manager;
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
