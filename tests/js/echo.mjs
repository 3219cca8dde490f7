// node echo.mjs URL: the official Socket.IO client against the handler `echo` in the namespace `/`.
//
// `echo` sends any event back to its sender under its own name, and acks with the same arguments when an ack is asked; every client is in
// the channel `room`, to which the event `all` is published as `chat`.

import assert from 'node:assert/strict';
import { acknowledged, argumentsOf, connect, connected, heard, open, run, same } from './suite.mjs';

const [url] = argumentsOf('echo.mjs', 'URL');

const TRANSPORTS = {
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
  'polling, upgraded': { transports: ['polling', 'websocket'] },
};

const ARGUMENTS = {
  none: [],
  'a string': ['hello'],
  'an empty string': [''],
  numbers: [0, -1, 1.5, -273.15, 1e21, 5e-324, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
  'null and booleans': [null, true, false],
  nested: [{ a: { b: [1, [2, [3, { c: null }]]] }, empty: {}, list: [] }, [[], [{}]]],
  unicode: ['grüße', '漢字かな', '🦀👩‍👩‍👧', '\u2028\u2029', 'tab\tline\nnul\u0000 quote" back\\slash', '\ud83e\udd80'],
  'keys with odd characters': [{ '': 1, 'a b': 2, 'ключ': 3, '"': 4, 'a.b/c': 5 }],
  'text that looks like a packet': ['42["x"]', '451-["x"]', '{"_placeholder":true}', '\u001e2probe'],
  many: Array.from({ length: 100 }, (_, n) => (n % 3 === 0 ? n : n % 3 === 1 ? `text ${n}` : { n })),
  'a large one': ['x'.repeat(200_000)],
};

const BINARY = {
  'a buffer': [Buffer.from('bytes')],
  'an empty buffer': [Buffer.alloc(0)],
  'every byte': [Buffer.from(Array.from({ length: 256 }, (_, n) => n))],
  nested: [{ file: { name: 'a.bin', body: Buffer.from([0, 255]) }, rest: ['x', [Buffer.from([1])]] }],
  several: [Buffer.from('first'), 'between', Buffer.from('second'), { third: Buffer.from('third') }, 4],
  'a typed array': [new Uint8Array([1, 2, 3])],
  'a large one': [Buffer.alloc(200_000, 7)],
};

const NAMES = [
  'a b', 'grüße', '🦀', '', 'comma,comma', '/slash', 'constructor', 'x'.repeat(1000), 'we"ird\n', 'back\\slash', '\\', '"', '"]', '\u0000\t\u001e',
  '\u2028', '["x"]', '42["x"]', 'message', 'ping', 'error', 'open',
];

const cases = {};

for (const [transport, options] of Object.entries(TRANSPORTS)) {
  cases[`${transport}: connects`] = async () => {
    const socket = await connect(url, options);
    const { engine } = socket.io;
    const last = options.transports.at(-1);
    if (engine.transport.name !== last) await heard(engine, 'upgrade');
    assert.equal(engine.transport.name, last);
    assert.ok(socket.id, 'a connected client has an id');
    same(await echo(socket, 'after', [1]), [1]);
  };

  cases[`${transport}: echoes arguments of every shape`] = async () => {
    const socket = await connect(url, options);
    for (const [shape, args] of Object.entries(ARGUMENTS)) same(await echo(socket, 'shape', args), args, shape);
  };

  cases[`${transport}: echoes binary`] = async () => {
    const socket = await connect(url, options);
    for (const [shape, args] of Object.entries(BINARY)) same(await echo(socket, 'binary', args), args, shape);
  };

  cases[`${transport}: acknowledges`] = async () => {
    const socket = await connect(url, options);
    for (const [shape, args] of Object.entries({ ...ARGUMENTS, ...prefixed('binary: ', BINARY) })) {
      const back = heard(socket, 'asked');
      same(await acknowledged(socket, 'asked', ...args), args, `ack, ${shape}`);
      same(await back, args, `the event beside the ack, ${shape}`);
    }
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => acknowledged(socket, 'number', n, Buffer.from([n]))));
    answers.forEach((answer, n) => same(answer, [n, Buffer.from([n])], `each ack has its own answer, ${n}`));
  };

  cases[`${transport}: keeps the order of 500 events`] = async () => {
    // Sent from before the connection on, so also during an upgrade; every tenth has binary, which takes several packets.
    const socket = open(url, options);
    const numbers = [];
    const all = new Promise((resolve) => {
      socket.on('count', (n) => {
        numbers.push(n);
        if (numbers.length === 500) resolve();
      });
    });
    const send = (n) => (n % 10 === 0 ? socket.emit('count', n, Buffer.from([n & 255])) : socket.emit('count', n));
    for (let n = 0; n < 100; n++) send(n);
    await connected(socket);
    for (let n = 100; n < 500; n++) send(n);
    await all;
    same(numbers, Array.from({ length: 500 }, (_, n) => n), 'order');
    // A duplicate would have come before this.
    await echo(socket, 'fence', []);
    assert.equal(numbers.length, 500, 'nothing comes twice');
  };

  cases[`${transport}: reconnects after its connection is closed`] = async () => {
    const socket = await connect(url, { ...options, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
    const before = socket.id;
    const gone = heard(socket, 'disconnect');
    const back = heard(socket.io, 'reconnect');
    socket.io.engine.close();
    await gone;
    await back;
    await connected(socket);
    assert.notEqual(socket.id, before, 'a new connection is a new client');
    same(await echo(socket, 'again', ['hello']), ['hello']);
    const chat = heard(socket, 'chat');
    socket.emit('all', 'still in the room');
    same(await chat, ['still in the room']);
  };

  cases[`${transport}: disconnects and reconnects by itself`] = async () => {
    const socket = await connect(url, options);
    const before = socket.id;
    const gone = heard(socket, 'disconnect');
    socket.disconnect();
    same((await gone).slice(0, 1), ['io client disconnect']);
    socket.connect();
    await connected(socket);
    assert.notEqual(socket.id, before, 'a new connection is a new client');
    same(await echo(socket, 'again', ['hello']), ['hello']);
  };

  cases[`${transport}: is refused in an unknown namespace`] = async () => {
    const socket = open(`${url}/nowhere`, options);
    const [error] = await heard(socket, 'connect_error');
    assert.equal(error.message, 'Invalid namespace');
    assert.equal(socket.connected, false);
  };
}

cases['event names of every kind'] = async () => {
  const socket = await connect(url, TRANSPORTS.websocket);
  for (const name of NAMES) {
    same(await echo(socket, name, [name]), [name], `echo of ${JSON.stringify(name)}`);
    same(await acknowledged(socket, name, 1), [1], `ack of ${JSON.stringify(name)}`);
  }
};

cases['a channel reaches all its clients on every transport'] = async () => {
  const sockets = [];
  for (const options of [...Object.values(TRANSPORTS), TRANSPORTS.websocket]) sockets.push(await connect(url, options));
  // Once an event is answered, the connection before it was handled and the client is in the channel.
  for (const socket of sockets) await echo(socket, 'ready', []);
  for (const sender of sockets) {
    for (const args of [['hello', { from: sender.id }], [Buffer.from('bytes'), 'and text'], []]) {
      const everywhere = sockets.map((socket) => heard(socket, 'chat'));
      sender.emit('all', ...args);
      for (const got of await Promise.all(everywhere)) same(got, args, 'chat');
    }
  }
};

cases['messages of one client arrive everywhere in order'] = async () => {
  const sender = await connect(url, TRANSPORTS.websocket);
  const listeners = await Promise.all(Object.values(TRANSPORTS).map((options) => connect(url, options)));
  for (const socket of [sender, ...listeners]) await echo(socket, 'ready', []);
  const expected = Array.from({ length: 200 }, (_, n) => n);
  const logs = listeners.map(
    (socket) =>
      new Promise((resolve) => {
        const numbers = [];
        socket.on('chat', (n) => {
          numbers.push(n);
          if (numbers.length === expected.length) resolve(numbers);
        });
      }),
  );
  for (const n of expected) sender.emit('all', n);
  for (const numbers of await Promise.all(logs)) same(numbers, expected, 'order');
};

cases['a client that left receives nothing more, and the others go on'] = async () => {
  const [stays, leaves] = await Promise.all([connect(url, TRANSPORTS.websocket), connect(url, TRANSPORTS.polling)]);
  for (const socket of [stays, leaves]) await echo(socket, 'ready', []);
  let late = 0;
  leaves.onAny(() => late++);
  leaves.disconnect();
  const chat = heard(stays, 'chat');
  stays.emit('all', 'anybody?');
  same(await chat, ['anybody?']);
  assert.equal(late, 0);
};

await run(cases);

async function echo(socket, event, args) {
  const back = heard(socket, event);
  socket.emit(event, ...args);
  return back;
}

function prefixed(prefix, shapes) {
  return Object.fromEntries(Object.entries(shapes).map(([name, args]) => [prefix + name, args]));
}
