// node protocol.mjs URL: the requirements of the public documents of Engine.IO 4 and Socket.IO 5 on a server, one by one, against the configuration `main` of the handler `conformance`: ping interval 300 ms, ping timeout 200 ms, payloads of up to
// 1,000,000 bytes, connect timeout 1,000 ms.

import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { Polling, WIRES, Wire, closed, decode, encode, engineUrl, greeted, refused, request } from './raw.mjs';
import { argumentsOf, run, within } from './suite.mjs';

const [url] = argumentsOf('protocol.mjs', 'URL');

const PING_INTERVAL = 300;
const PING_TIMEOUT = 200;
const MAX_PAYLOAD = 1_000_000;
const CONNECT_TIMEOUT = 1000;
// Tolerance for timers of another process.
const EARLY = 40;

const EIO4 = { EIO: '4', transport: 'polling' };
const cases = {};

// ---- Engine.IO: handshake

cases['polling: a handshake opens a session'] = async () => {
  const answer = await request(url, EIO4);
  assert.equal(answer.status, 200);
  assert.match(answer.type, /^text\/plain; *charset=utf-8$/i);
  offers(answer.text, ['websocket']);
};

cases['websocket: a handshake opens a session'] = async () => {
  const wire = await Wire.dial(url);
  offers(await wire.next(), []);
};

cases['each session has an id of its own'] = async () => {
  const sessions = await Promise.all(Array.from({ length: 20 }, () => Polling.open(url)));
  assert.equal(new Set(sessions.map(({ sid }) => sid)).size, 20);
};

for (const [what, parameters] of Object.entries({
  'no version': { transport: 'polling' },
  'an unknown version': { ...EIO4, EIO: 'abc' },
  'no transport': { EIO: '4' },
  'an unknown transport': { ...EIO4, transport: 'abc' },
  'an unknown session': { ...EIO4, sid: 'abc' },
})) {
  cases[`polling: ${what} is answered by 400`] = async () => {
    assert.equal((await request(url, parameters)).status, 400);
  };
  cases[`websocket: with ${what} it is closed`] = async () => {
    const transport = parameters.transport === 'polling' ? 'websocket' : parameters.transport;
    await refused(url, { ...parameters, transport });
  };
}

for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
  cases[`polling: a handshake by ${method} is answered by 400`] = async () => {
    assert.equal((await request(url, EIO4, { method })).status, 400);
  };
}

cases['polling: a POST to an unknown session is answered by 400'] = async () => {
  assert.equal((await request(url, { ...EIO4, sid: 'abc' }, { method: 'POST', body: '40' })).status, 400);
};

cases['polling: the session of a websocket cannot be polled'] = async () => {
  const wire = (await Wire.open(url)).beat();
  assert.equal((await request(url, { ...EIO4, sid: wire.handshake.sid })).status, 400);
  wire.send('40');
  assert.match(await wire.next(), /^40/, 'the websocket goes on');
};

// ---- Engine.IO: packets

cases['polling: a POST is answered by 200 and ok'] = async () => {
  const session = await Polling.open(url);
  const { status, text } = await session.push('40');
  assert.deepEqual([status, text], [200, 'ok']);
};

cases['polling: several packets fit in one payload'] = async () => {
  const session = await connectedSession();
  assert.equal((await session.push('42["message",1]', '42["message",2]', '42["message",3]')).status, 200);
  assert.deepEqual(await hears(session, 3), ['42["message-back",1]', '42["message-back",2]', '42["message-back",3]']);
};

cases['polling: text and binary packets fit in one payload'] = async () => {
  const session = await connectedSession();
  const header = (event) => `451-["${event}",{"_placeholder":true,"num":0}]`;
  await session.push('42["message","before"]', header('message'), Buffer.from([1, 2, 3, 4]), '42["message","after"]');
  assert.deepEqual(await hears(session, 4), [
    '42["message-back","before"]', header('message-back'), Buffer.from([1, 2, 3, 4]), '42["message-back","after"]',
  ]);
};

cases['polling: binary travels as base64 behind a b'] = async () => {
  const session = await connectedSession();
  await session.push('451-["message",{"_placeholder":true,"num":0}]', Buffer.from([1, 2, 3, 4]));
  let payload = '';
  while (!payload.includes('b')) payload = (await session.poll()).text.replace(/^2$/, '');
  assert.ok(payload.split('\x1e').includes('bAQIDBA=='), JSON.stringify(payload));
};

cases['polling: a packet of no known type closes the session'] = async () => {
  const session = await Polling.open(url);
  // The documents do not specify the answer to this request.
  await session.push('abc').catch(() => {});
  assert.equal((await session.poll()).status, 400);
};

cases['polling: a second GET at the same time closes the session'] = async () => {
  const session = await Polling.open(url);
  const first = session.poll();
  await sleep(10);
  // Node's own server says 500.
  assert.ok([400, 500].includes((await session.poll()).status));
  assert.equal((await first).status, 200);
  assert.equal((await first).text, '1');
  assert.equal((await session.poll()).status, 400);
};

cases['polling: a second POST at the same time closes the session'] = async () => {
  const session = await Polling.open(url);
  const slow = begun(session);
  await slow.sent;
  const second = await session.push('42["message"]').catch(() => ({ status: 400 }));
  assert.ok([400, 500].includes(second.status), `${second.status}`);
  slow.abort();
  assert.equal((await session.poll()).status, 400);
};

cases['polling: an aborted GET closes the session'] = async () => {
  const session = await Polling.open(url);
  const abort = new AbortController();
  session.poll({ signal: abort.signal }).catch(() => {});
  await sleep(10);
  abort.abort();
  await sleep(20);
  assert.equal((await session.poll()).status, 400);
};

cases['websocket: a packet of no known type closes it'] = async () => {
  const wire = (await Wire.open(url)).beat();
  wire.send('abc');
  await closed(wire, CONNECT_TIMEOUT / 2000);
};

cases['polling: a payload over the limit is refused, one under it is not'] = async () => {
  const session = await connectedSession();
  assert.equal((await session.push(`42["message","${'x'.repeat(MAX_PAYLOAD - 100)}"]`)).status, 200);
  const refusal = await session.push(`42["message","${'x'.repeat(MAX_PAYLOAD)}"]`).catch(() => ({ status: 413 }));
  assert.equal(refusal.status, 413);
};

cases['websocket: a message over the limit closes it, one under it does not'] = async () => {
  const wire = await greeted(Wire, url);
  const text = 'x'.repeat(MAX_PAYLOAD - 100);
  wire.send(`42["message","${text}"]`);
  assert.equal(await wire.next(), `42["message-back","${text}"]`);
  wire.send(`42["message","${'x'.repeat(MAX_PAYLOAD)}"]`);
  await closed(wire);
};

// ---- Engine.IO: heartbeat

cases['polling: a ping comes after each interval, and none before'] = async () => {
  const session = await Polling.open(url);
  for (let n = 0; n < 3; n++) {
    const start = performance.now();
    const answer = await session.poll();
    assert.deepEqual([answer.status, answer.text], [200, '2']);
    assert.ok(performance.now() - start > PING_INTERVAL - EARLY, `ping ${n} after ${performance.now() - start} ms`);
    assert.equal((await session.push('3')).status, 200);
  }
};

cases['websocket: a ping comes after each interval, and none before'] = async () => {
  const wire = await Wire.open(url);
  for (let n = 0; n < 3; n++) {
    const start = performance.now();
    assert.equal(await wire.next(), '2');
    const took = performance.now() - start;
    assert.ok(took > PING_INTERVAL - EARLY && took < PING_INTERVAL + PING_TIMEOUT, `ping ${n} after ${took} ms`);
    wire.send('3');
  }
};

cases['polling: a session whose ping is not answered is closed'] = async () => {
  const session = await Polling.open(url);
  await sleep(PING_INTERVAL + PING_TIMEOUT + EARLY);
  assert.equal((await session.poll()).status, 400);
};

cases['polling: a session that answers late is closed'] = async () => {
  const session = await Polling.open(url);
  assert.equal((await session.poll()).text, '2');
  await sleep(PING_TIMEOUT + EARLY);
  assert.equal((await session.push('3')).status, 400);
};

cases['websocket: a session whose ping is not answered is closed'] = async () => {
  const start = performance.now();
  const wire = await Wire.open(url);
  const took = (await closed(wire)) - start;
  assert.ok(took > PING_INTERVAL + PING_TIMEOUT - EARLY, `closed after ${took} ms`);
  assert.ok(took < CONNECT_TIMEOUT - EARLY, `closed after ${took} ms`);
};

for (const [name, kind] of Object.entries(WIRES)) {
  cases[`${name}: a session whose pings are answered stays`] = async () => {
    const wire = await greeted(kind, url);
    await sleep(4 * (PING_INTERVAL + PING_TIMEOUT));
    wire.send('42["message","still here"]');
    assert.equal(await wire.next(), '42["message-back","still here"]');
  };
}

// ---- Engine.IO: close

cases['polling: a close packet ends the waiting GET and the session'] = async () => {
  const session = await Polling.open(url);
  const waiting = session.poll();
  await sleep(10);
  assert.equal((await session.push('1')).status, 200);
  const { status, text } = await waiting;
  assert.deepEqual([status, text], [200, '6']);
  assert.equal((await session.poll()).status, 400);
};

// By the document it closes the session. A websocket has its own close, and Node's server ignores this one.
cases['websocket: a close packet is ignored'] = async () => {
  const wire = await greeted(Wire, url);
  wire.send('1', '42["message","still here"]');
  assert.equal(await wire.next(), '42["message-back","still here"]');
};

// ---- Engine.IO: upgrade

cases['upgrade: the probe is answered, the waiting GET ends, and packets continue by websocket'] = async () => {
  const session = await connectedSession();
  const waiting = session.poll();
  const wire = (await session.upgrade()).beat();
  wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  const { status, text } = await waiting;
  assert.deepEqual([status, text.replace(/^2$/, '6')], [200, '6']);
  wire.send('5', '42["message","by websocket"]');
  assert.equal(await wire.next(), '42["message-back","by websocket"]');
};

cases['upgrade: packets waiting for a GET come by websocket'] = async () => {
  const session = await connectedSession();
  const wire = (await session.upgrade()).beat();
  wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  await session.push('42["message","by polling"]');
  wire.send('5');
  assert.equal(await wire.next(), '42["message-back","by polling"]');
};

cases['upgrade: afterwards the session cannot be polled'] = async () => {
  const { session, wire } = await upgraded();
  assert.equal((await session.poll()).status, 400);
  wire.send('42["message","goes on"]');
  assert.equal(await wire.next(), '42["message-back","goes on"]');
};

cases['upgrade: afterwards a second websocket is closed'] = async () => {
  const { session, wire } = await upgraded();
  await refused(url, { EIO: '4', transport: 'websocket', sid: session.sid });
  wire.send('42["message","goes on"]');
  assert.equal(await wire.next(), '42["message-back","goes on"]');
};

cases['upgrade: pings come by websocket'] = async () => {
  const session = await connectedSession();
  const wire = await session.upgrade();
  wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  wire.send('5');
  for (let n = 0; n < 3; n++) {
    assert.equal(await wire.next(1), '2');
    wire.send('3');
  }
};

cases['upgrade: an abandoned upgrade leaves the session on polling'] = async () => {
  const session = await connectedSession();
  const wire = await session.upgrade();
  wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  wire.socket.close();
  await closed(wire);
  await session.push('42["message","goes on"]');
  assert.deepEqual(await hears(session, 1), ['42["message-back","goes on"]']);
};

// ---- Socket.IO, over both transports

for (const [name, kind] of Object.entries(WIRES)) {
  const has = (what, act) => (cases[`${name}: ${what}`] = act);

  has('a client connects to /', async () => {
    const wire = await opened(kind);
    wire.send('40');
    isConnected(await wire.next(), '');
    assert.equal(await wire.next(), '42["auth",{}]');
  });

  has('a client connects to / with auth', async () => {
    const wire = await opened(kind);
    wire.send('40{"token":"123"}');
    isConnected(await wire.next(), '');
    assert.equal(await wire.next(), '42["auth",{"token":"123"}]');
  });

  for (const packet of ['40/custom,', '40/custom']) {
    has(`a client connects to /custom by ${packet}`, async () => {
      const wire = await opened(kind);
      wire.send(packet);
      isConnected(await wire.next(), '/custom,');
      assert.equal(await wire.next(), '42/custom,["auth",{}]');
    });
  }

  has('a client connects to /custom with auth', async () => {
    const wire = await opened(kind);
    wire.send('40/custom,{"token":"abc","nested":{"list":[1,null,"ü"]}}');
    isConnected(await wire.next(), '/custom,');
    assert.equal(await wire.next(), '42/custom,["auth",{"token":"abc","nested":{"list":[1,null,"ü"]}}]');
  });

  has('a client connects to two namespaces, and has another id in each', async () => {
    const wire = await greeted(kind, url);
    wire.send('40/custom,');
    const id = isConnected(await wire.next(), '/custom,');
    assert.equal(await wire.next(), '42/custom,["auth",{}]');
    assert.equal(new Set([id, wire.id, wire.handshake.sid]).size, 3, 'the ids of both sockets and of the session differ');
    wire.send('42["message","in /"]', '42/custom,["message","in /custom"]');
    const answers = [await wire.next(), await wire.next()].sort();
    assert.deepEqual(answers, ['42/custom,["message-back","in /custom"]', '42["message-back","in /"]']);
  });

  has('an unknown namespace is refused, and the connection goes on', async () => {
    const wire = await opened(kind);
    wire.send('40/random');
    assert.equal(await wire.next(), '44/random,{"message":"Invalid namespace"}');
    wire.send('40/random,{"with":"auth"}');
    assert.equal(await wire.next(), '44/random,{"message":"Invalid namespace"}');
    wire.send('40');
    isConnected(await wire.next(), '');
  });

  has('a client connecting only to an unknown namespace is closed after the connect timeout', async () => {
    const start = performance.now();
    const wire = await opened(kind);
    wire.send('40/random');
    assert.equal(await wire.next(), '44/random,{"message":"Invalid namespace"}');
    closedInTime((await closed(wire)) - start);
  });

  has('a client connecting to no namespace is closed after the connect timeout', async () => {
    const start = performance.now();
    const wire = await opened(kind);
    closedInTime((await closed(wire)) - start);
  });

  has('an invalid first packet closes the connection', async () => {
    const wire = await opened(kind);
    wire.send('4abc');
    await closed(wire, CONNECT_TIMEOUT / 2000);
  });

  has('a first packet other than connect closes the connection', async () => {
    const wire = await opened(kind);
    wire.send('42["message"]');
    await closed(wire, CONNECT_TIMEOUT / 2000);
  });

  has('a client that leaves / keeps the connection and may return', async () => {
    const wire = await greeted(kind, url);
    wire.send('41');
    await sleep(2 * CONNECT_TIMEOUT);
    wire.send('40');
    assert.notEqual(isConnected(await wire.next(), ''), wire.id, 'a client that returns has another id');
    assert.equal(await wire.next(), '42["auth",{}]');
  });

  has('leaving one namespace keeps the other', async () => {
    const wire = await greeted(kind, url);
    wire.send('40/custom');
    isConnected(await wire.next(), '/custom,');
    assert.equal(await wire.next(), '42/custom,["auth",{}]');
    wire.send('41/custom', '42["message","message to main namespace"]');
    assert.equal(await wire.next(), '42["message-back","message to main namespace"]');
    wire.send('40/custom,');
    isConnected(await wire.next(), '/custom,');
  });

  has('a client that the server disconnects is told, and keeps the connection', async () => {
    const wire = await greeted(kind, url);
    wire.send('42["kick-me"]');
    assert.equal(await wire.next(), '41');
    wire.send('40/custom,');
    isConnected(await wire.next(), '/custom,');
  });

  for (const [what, [sent, heard]] of Object.entries({
    'arguments of each kind': ['42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'],
    'no arguments': ['42["message"]', '42["message-back"]'],
    'null, nested empty things and numbers': [
      '42["message",null,{},[],[[{}]],-1.5e-7,0]', '42["message-back",null,{},[],[[{}]],-1.5e-7,0]',
    ],
    'characters of any script': ['42["message","てすと 🦀 \u2028 ß"]', '42["message-back","てすと 🦀 \u2028 ß"]'],
    'escaped characters': ['42["message","\\u001e\\n\\"\\\\"]', '42["message-back","\\u001e\\n\\"\\\\"]'],
    'an acknowledgement': ['42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'],
    'half a surrogate pair': ['42["message",{"t":"\\ud83d"}]', '42["message-back",{"t":"\\ud83d"}]'],
    'lists in lists in lists': [`42["message",${nested(1000)}]`, `42["message-back",${nested(1000)}]`],
    'numbers beyond a double': [`42["message",1e999,-1e999,${'9'.repeat(5000)}]`, '42["message-back",null,null,null]'],
    'an acknowledgement without arguments': ['427["message-with-ack"]', '437[]'],
    'acknowledgement 0': ['420["message-with-ack","zero"]', '430["zero"]'],
  })) {
    has(`an event with ${what}`, async () => {
      const wire = await greeted(kind, url);
      wire.send(sent);
      assert.equal(await wire.next(), heard);
    });
  }

  const header = (kind, event, before = '', after = '') =>
    `4${kind}2-${before}[${event}{"_placeholder":true,"num":0},{"deep":[{"_placeholder":true,"num":1}]}${after}]`;
  for (const [what, sent, heard] of [
    ['an event with binary, nested too', header(5, '"message",'), header(5, '"message-back",')],
    ['an acknowledgement with binary', header(5, '"message-with-ack",', '789'), header(6, '', '789')],
  ]) {
    has(what, async () => {
      const wire = await greeted(kind, url);
      const attachments = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];
      wire.send(sent, ...attachments);
      assert.deepEqual([await wire.next(), await wire.next(), await wire.next()], [heard, ...attachments]);
    });
  }

  has('the maximum number of attachments', async () => {
    const wire = await greeted(kind, url);
    const attachments = Array.from({ length: 10 }, (_, n) => Buffer.from([n]));
    wire.send(`4510-["message",${placeholders(10)}]`, ...attachments);
    assert.equal(await wire.next(), `4510-["message-back",${placeholders(10)}]`);
    for (const attachment of attachments) assert.deepEqual(await wire.next(), attachment);
  });

  has('invalid base64 is decoded up to the error', async () => {
    const wire = await greeted(kind, url);
    wire.send('451-["message",{"_placeholder":true,"num":0}]', 'bA Q*I-_=AQID');
    assert.equal(await wire.next(), '451-["message-back",{"_placeholder":true,"num":0}]');
    assert.deepEqual(await wire.next(), Buffer.from('AQI+/', 'base64'));
  });

  has('an acknowledgement number beyond 2^64', async () => {
    const wire = await greeted(kind, url);
    wire.send('4218446744073709551617["message-with-ack","far"]');
    const [, number, args] = /^43(\d+)(.*)$/.exec(await wire.next());
    assert.deepEqual([Number(number), args], [2 ** 64, '["far"]']);
  });

  has('long numbers are the doubles that JavaScript has for them', async () => {
    const wire = await greeted(kind, url);
    const args = `[${'7'.repeat(60)},0.${'3'.repeat(60)},1e-999,12345678901234567890]`;
    wire.send(`42["message",${args}]`);
    assert.deepEqual(JSON.parse((await wire.next()).slice(2)), ['message-back', JSON.parse(args)]);
  });

  has('an event whose name is half a surrogate pair', async () => {
    const wire = await greeted(kind, url);
    wire.send('42["\\ud83d",1]', '42["message","still here"]');
    assert.equal(await wire.next(), '42["message-back","still here"]');
  });

  has('events, acknowledgements and binary in a custom namespace', async () => {
    const wire = await opened(kind);
    wire.send('40/custom,');
    isConnected(await wire.next(), '/custom,');
    await wire.next();
    wire.send('42/custom,["message","text"]');
    assert.equal(await wire.next(), '42/custom,["message-back","text"]');
    wire.send('42/custom,13["message-with-ack","text"]');
    assert.equal(await wire.next(), '43/custom,13["text"]');
    wire.send('451-/custom,["message",{"_placeholder":true,"num":0}]', Buffer.from([7]));
    assert.equal(await wire.next(), '451-/custom,["message-back",{"_placeholder":true,"num":0}]');
    assert.deepEqual(await wire.next(), Buffer.from([7]));
    wire.send('451-/custom,14["message-with-ack",{"_placeholder":true,"num":0}]', Buffer.from([8]));
    assert.equal(await wire.next(), '461-/custom,14[{"_placeholder":true,"num":0}]');
    assert.deepEqual(await wire.next(), Buffer.from([8]));
  });

  has('events come back in their order', async () => {
    const wire = await greeted(kind, url);
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    for (const n of numbers) wire.send(`42["message",${n}]`);
    for (const n of numbers) assert.equal(await wire.next(), `42["message-back",${n}]`);
  });

  has('acknowledgements come in their order, between the events', async () => {
    const wire = await greeted(kind, url);
    const numbers = Array.from({ length: 50 }, (_, n) => n);
    wire.send(...numbers.flatMap((n) => [`42${n}["message-with-ack",${n}]`, `42["message",${n}]`]));
    for (const n of numbers) {
      assert.equal(await wire.next(), `43${n}[${n}]`);
      assert.equal(await wire.next(), `42["message-back",${n}]`);
    }
  });

  has('a large event comes back whole', async () => {
    const wire = await greeted(kind, url);
    const text = 'ü'.repeat(400_000);
    wire.send(`42["message","${text}"]`);
    assert.equal(await wire.next(), `42["message-back","${text}"]`);
  });

  has('large binary comes back whole', async () => {
    const wire = await greeted(kind, url);
    const bytes = Buffer.alloc(700_000, 'plugnode');
    wire.send('451-["message",{"_placeholder":true,"num":0}]', bytes);
    await wire.next();
    assert.deepEqual(await wire.next(), bytes);
  });

  for (const [what, packets] of Object.entries({
    'a packet of no known type': ['4abc'],
    'a packet of a type past the last': ['47["message"]'],
    'an event that is no array': ['42{}'],
    'an event that is an empty array': ['42[]'],
    'an event that is no JSON': ['42["message"'],
    'an event whose name is no text': ['42[{"message":1}]'],
    'an acknowledgement number that is none': ['42abc["message-with-ack",1,"2",{"3":[false]}]'],
    'an event where an attachment should be': ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
    'an attachment of no event': [Buffer.from([1, 2, 3])],
    'a binary event without attachments': ['450-["message"]'],
    'a binary event with more attachments than a client takes': [`4511-["message",${placeholders(11)}]`],
    'an event in a namespace that was not entered': ['42/custom,["message"]'],
    'leaving a namespace that was not entered': ['41/custom,'],
  })) {
    has(`${what} closes the connection`, async () => {
      const wire = await greeted(kind, url);
      wire.send(...packets);
      await closed(wire);
    });
  }
}

await run(cases, { tries: 3 });

/** Placeholders of `count` attachments. */
function placeholders(count) {
  return Array.from({ length: count }, (_, num) => `{"_placeholder":true,"num":${num}}`).join();
}

/** Nested lists of this depth. */
function nested(depth) {
  return '['.repeat(depth) + ']'.repeat(depth);
}

/** Asserts that an open packet matches the configuration. */
function offers(packet, upgrades) {
  assert.equal(packet[0], '0');
  const { sid, ...rest } = JSON.parse(packet.slice(1));
  assert.equal(typeof sid, 'string');
  assert.deepEqual(rest, { upgrades, pingInterval: PING_INTERVAL, pingTimeout: PING_TIMEOUT, maxPayload: MAX_PAYLOAD });
}

/** The id in a connect packet. */
function isConnected(packet, namespace) {
  assert.ok(packet.startsWith(`40${namespace}{`), `${packet} came instead of a connect packet for ${namespace || '/'}`);
  const { sid, ...rest } = JSON.parse(packet.slice(2 + namespace.length));
  assert.equal(typeof sid, 'string');
  assert.deepEqual(rest, {}, 'a connect packet has the id alone');
  return sid;
}

function closedInTime(ms) {
  assert.ok(ms > CONNECT_TIMEOUT - EARLY, `closed after ${ms} ms already`);
  assert.ok(ms < 2 * CONNECT_TIMEOUT, `closed after ${ms} ms only`);
}

async function opened(kind) {
  return (await kind.open(url)).beat();
}

/** A polling session that has connected to /. */
async function connectedSession() {
  const session = await Polling.open(url);
  await session.push('40');
  await hears(session, 2);
  return session;
}

/** An upgraded session and its websocket. */
async function upgraded() {
  const session = await connectedSession();
  const wire = (await session.upgrade()).beat();
  wire.send('2probe');
  assert.equal(await wire.next(), '3probe');
  wire.send('5');
  // Once an event is answered, the upgrade is complete.
  wire.send('42["message","upgraded"]');
  assert.equal(await wire.next(), '42["message-back","upgraded"]');
  return { session, wire };
}

/** Polls until `count` packets have come; answers pings. */
async function hears(session, count) {
  const packets = [];
  while (packets.length < count) {
    const { status, text } = await within(5, 'a poll', session.poll());
    assert.equal(status, 200, text);
    for (const packet of decode(text)) {
      if (packet === '2') await session.push('3');
      else packets.push(packet);
    }
  }
  return packets;
}

/** A POST with only its first part sent. */
function begun(session) {
  const body = encode(['42["message"]', '42["message"]']);
  const options = { method: 'POST', headers: { 'content-type': 'text/plain', 'content-length': body.length } };
  const slow = httpRequest(engineUrl(url, { ...EIO4, sid: session.sid }), options);
  slow.on('error', () => {});
  // Sent, so that the server reads it before the next request on another connection.
  const sent = new Promise((resolve) => slow.write(body.slice(0, 5), () => setTimeout(resolve, 20)));
  return { sent, abort: () => slow.destroy() };
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
