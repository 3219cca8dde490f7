// node client2.mjs URL MAIN_URL[,MAIN_URL…]: the official client of Socket.IO 2 (Engine.IO 3, Socket.IO protocol 4) against the configurations `client`
// and `main` of the handler `conformance`, with `socket-io-2` enabled; and the client of Socket.IO 4 beside it.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { io as io4 } from 'socket.io-client';
import { acknowledged, argumentsOf, heard, keep, run, same, within } from './suite.mjs';

const { Manager, connect: io } = createRequire(import.meta.url)('socket.io-client-2');
const [url, list] = argumentsOf('client2.mjs', 'URL', 'MAIN_URL,MAIN_URL');
const mainUrls = list.split(',');

const PING_INTERVAL = 2000;

const TRANSPORTS = {
  'polling, upgraded': {},
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
};

const cases = {};

for (const [transport, by] of Object.entries(TRANSPORTS)) {
  const has = (what, act) => (cases[`${transport}: ${what}`] = act);
  const open = (path = '/', options = {}) => start(url + path, { ...by, ...options });
  const connect = async (path, options) => connected(open(path, options));

  has('connects, and its events are answered', async () => {
    const socket = open();
    const back = heard(socket, 'hi');
    socket.emit('hi');
    same(await back, []);
  });

  has('upgrades to its last allowed transport, and stays connected', async () => {
    const socket = await connect();
    const { engine } = socket.io;
    const last = (by.transports ?? ['websocket']).at(-1);
    if (engine.transport.name !== last) await heard(engine, 'upgrade');
    let gone = 0;
    socket.on('disconnect', () => gone++);
    await heard(socket, 'pong');
    await sleep(1.5 * PING_INTERVAL);
    same(await acknowledged(socket, 'echo', 'still here'), ['still here']);
    assert.equal(engine.transport.name, last);
    assert.equal(gone, 0);
  });

  has('is acknowledged', async () => {
    const socket = await connect();
    for (const value of ['text', 123, 0, '', null, false, { nested: [{ a: 'grüße 🦀' }] }, [], {}]) {
      same(await acknowledged(socket, 'echo', value), [value]);
    }
  });

  has('is acknowledged with binary', async () => {
    const socket = await connect();
    for (const value of [Buffer.from('bytes'), { deep: [Buffer.from([0, 255]), { deeper: Buffer.alloc(3) }] }, Buffer.alloc(100_000, 7)]) {
      same(await acknowledged(socket, 'echo', value), [value]);
    }
  });

  has('acknowledges what the handler asks for', async () => {
    const socket = await connect();
    socket.on('ack', (answer) => answer(5, { test: true }));
    const got = heard(socket, 'got it');
    socket.emit('ack');
    same(await got, []);
  });

  has('an event that has no handler is dropped, and never acknowledged', async () => {
    const socket = await connect();
    let answered = 0;
    socket.emit('unknown', 'x', () => answered++);
    same(await acknowledged(socket, 'echo', 'and on'), ['and on']);
    assert.equal(answered, 0);
  });

  has('dates come as text', async () => {
    const socket = await connect();
    const [date] = await acknowledged(socket, 'getAckDate', { test: true });
    const emitted = heard(socket, 'takeDateObj');
    socket.emit('getDateObj');
    const [object] = await emitted;
    for (const text of [date, object.date]) assert.ok(Math.abs(Date.now() - new Date(text)) < 60_000, `${text} is now`);
  });

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

  has('binary works in both directions, also within JSON, in order', async () => {
    const socket = await connect();
    const answers = ['doge', 'takebin', 'buffack', 'jsonbuff-ack', 'abuff2-ack'].map((event) => heard(socket, event));
    socket.emit('doge');
    socket.emit('getbin');
    socket.emit('buffa', Buffer.from([1, 2, 3, 250]));
    socket.emit('jsonbuff', { hello: 'lol', message: Buffer.from('howdy'), goodbye: 'gotcha' });
    socket.emit('abuff1', Buffer.from('abuff1'));
    socket.emit('abuff2', 'please arrive second');
    same(await Promise.all(answers), [[Buffer.from('asdfasdf')], [Buffer.from('asdfasdf')], [], [], []]);
  });

  has('many events keep their order', async () => {
    const socket = open();
    const numbers = [];
    for (let n = 0; n < 100; n++) socket.emit('echo', n, (value) => numbers.push(value));
    same(await acknowledged(socket, 'echo', 'last'), ['last']);
    same(numbers, Array.from({ length: 100 }, (_, n) => n));
  });

  for (const path of ['/', '/foo']) {
    has(`its id in ${path} is the one the handler sees`, async () => {
      const socket = await connect(path);
      const [id] = await acknowledged(socket, 'getId');
      assert.ok(id);
      // This client derives its id from the namespace and the id of the connection.
      assert.equal(id, socket.id);
    });
  }

  has('the handler knows the query', async () => {
    const socket = await connect('/', { query: { e: 'f', '&a': '&=?a' } });
    const [handshake] = await acknowledged(socket, 'getHandshake');
    assert.equal(handshake.query.e, 'f');
    assert.equal(handshake.query['&a'], '&=?a');
    assert.equal(handshake.query.EIO, '3');
  });

  has('a custom namespace knows the query at once', async () => {
    const socket = open('/abc?b=c&d=e');
    const [handshake] = await heard(socket, 'handshake');
    same([handshake.query.b, handshake.query.d], ['c', 'e']);
  });

  has('it is refused by /no with a message', async () => {
    same(await heard(open('/no'), 'error'), ['Auth failed (custom namespace)']);
  });

  has('it is refused by / when the query says so', async () => {
    const socket = open('/?fail=true');
    let connections = 0;
    socket.on('connect', () => connections++);
    same(await heard(socket, 'error'), ['Auth failed (main namespace)']);
    await sleep(100);
    assert.equal(connections, 0);
  });

  has('it is refused by an unknown namespace', async () => {
    const [error] = await heard(open('/nowhere'), 'error');
    // A text, as from the server of Socket.IO 2; Socket.IO 4 sends an object.
    assert.equal(error.message ?? error, 'Invalid namespace');
  });

  has('it is in two namespaces over one connection, and leaves one', async () => {
    const manager = new Manager(url, { reconnection: false, ...by });
    const main = await connected(keep(manager.socket('/')));
    const foo = await connected(keep(manager.socket('/foo')));
    assert.equal(main.io.engine, foo.io.engine);
    same(await acknowledged(foo, 'getId'), [foo.id]);
    foo.disconnect();
    same(await acknowledged(main, 'echo', 'still here'), ['still here']);
  });

  has('it reconnects automatically, and goes on', async () => {
    const socket = await connect('/', { reconnection: true, reconnectionDelay: 10 });
    const before = socket.id;
    const back = heard(socket, 'reconnect');
    socket.io.engine.close();
    await back;
    await connected(socket);
    assert.notEqual(socket.id, before);
    same(await acknowledged(socket, 'echo', 'again'), ['again']);
  });

  has('it disconnects and reconnects on request', async () => {
    const socket = await connect();
    const gone = heard(socket, 'disconnect');
    // Wait: this client attributes a close that comes too early to the next connection.
    const over = heard(socket.io, 'close');
    socket.disconnect();
    same(await gone, ['io client disconnect']);
    await over;
    socket.connect();
    await connected(socket);
    same(await acknowledged(socket, 'echo', 'again'), ['again']);
  });

  // ---- in the configuration `main`, beside a client of Socket.IO 4

  has('clients of Socket.IO 2 and 4 share a room', async () => {
    const [old, young] = [start(mainUrls[0], by), keep(io4(mainUrls.at(-1), { forceNew: true, reconnection: false, ...by }))];
    for (const socket of [old, young]) same(await acknowledged(socket, 'join', 'room'), [true]);
    for (const [from, to] of [[old, young], [young, old]]) {
      for (const words of ['text', { file: Buffer.from('bytes') }, null]) {
        const said = heard(to, 'said');
        let own = 0;
        from.once('said', () => own++);
        from.emit('say', 'room', words);
        same(await said, [words]);
        assert.equal(own, 0);
        from.off('said');
      }
      const shouted = heard(to, 'shouted');
      from.emit('shout', 'everybody');
      same(await shouted, ['everybody']);
    }
    same(await acknowledged(old, 'leave', 'room'), [true]);
    const gone = heard(old, 'disconnect');
    old.emit('kick-me');
    same(await gone, ['io server disconnect']);
  });

  has('its arguments come back, and it is greeted', async () => {
    const socket = start(mainUrls[0], by);
    same(await heard(socket, 'auth'), [{}]);
    const back = heard(socket, 'message-back');
    socket.emit('message', 1, '2', { 3: [true, Buffer.from('deep')] });
    same(await back, [1, '2', { 3: [true, Buffer.from('deep')] }]);
    same(await acknowledged(socket, 'message-with-ack', 'a', Buffer.from('b')), ['a', Buffer.from('b')]);
  });
}

await run(cases, { tries: 3 });

/** A socket with its own connection, closed when its case ends. */
function start(address, options) {
  return keep(io(address, { forceNew: true, reconnection: false, ...options }));
}

async function connected(socket) {
  if (!socket.connected) {
    const failed = new Promise((_, reject) => {
      for (const event of ['connect_error', 'error']) socket.once(event, (error) => reject(new Error(`${event}: ${error}`)));
    });
    failed.catch(() => {});
    await Promise.race([heard(socket, 'connect'), failed]);
  }
  return socket;
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
