// node api-client.mjs FOLDER API,API KEY URL,URL: the npm package plugnode-emitter, installed in FOLDER, calls the server API of nodes, and
// official clients of each io-node receive. The program customs.js must serve `/` and `/chat`, with presence of the channel `seats`.

import assert from 'node:assert/strict';
import http from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { argumentsOf, connect, heard, run, same, within } from './suite.mjs';

const [folder, apis, key, list] = argumentsOf('api-client.mjs', 'FOLDER', 'API,API', 'KEY', 'URL,URL');
const installed = createRequire(`${folder}/program.js`);
const { Emitter, EmitterError } = installed('plugnode-emitter');
const url = apis.split(',');
const urls = list.split(',');
const emitter = new Emitter({ url, key });

/** Two clients of each io-node, and what each has heard of the event `n`. */
async function clients(namespace = '/') {
  const sockets = await Promise.all([...urls, ...urls].map((one) => connect(one + namespace, { transports: ['websocket'] })));
  const said = sockets.map((socket) => {
    const args = [];
    socket.on('n', (...given) => args.push(given));
    return args;
  });
  // A client is found by its id once the transport has accepted its connection, which an answer of the handler shows.
  if (namespace === '/') await Promise.all(sockets.map((socket) => socket.emitWithAck('ready')));
  return { sockets, said };
}

/** Waits until a value is as expected. */
async function becomes(actual, expected) {
  for (const end = Date.now() + 10_000; ; await new Promise((resolve) => setTimeout(resolve, 10))) {
    try {
      return same(actual(), expected);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

/** Waits until each of the sockets is in these rooms. */
async function inRooms(sockets, rooms) {
  const found = await Promise.all(sockets.map(({ id }) => emitter.client(id).fetchSockets()));
  found.forEach(([socket], n) => same([...socket.rooms].sort(), [sockets[n].id, ...rooms].sort()));
}

/** An HTTP server in front of the API. `act(request, response, answer, number)` gets the API's answer to request `number`. */
async function front(act) {
  let number = 0;
  const server = http.createServer((request, response) => {
    const passed = http.request(new URL(request.url, url[0]), { method: request.method, headers: request.headers }, async (answer) => {
      const chunks = await answer.toArray();
      act(request, response, { status: answer.statusCode, headers: answer.headers, body: Buffer.concat(chunks) }, number++);
    });
    request.pipe(passed);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.closeAllConnections() || server.close() };
}

const pass = (response, { status, headers, body }) => response.writeHead(status, headers).end(body);

const cases = {
  'an event reaches all clients of its namespace': async () => {
    const [main, chat] = [await clients(), await clients('/chat')];
    const args = [1, 'two', { three: [true, null, 3.5, 'ü'] }];
    const done = await emitter.emit('n', ...args);
    same([typeof done.event, done.repeated], ['string', false]);
    await emitter.of('chat').emit('n', 'chat');
    await becomes(() => main.said, main.said.map(() => [args]));
    await becomes(() => chat.said, chat.said.map(() => [['chat']]));
  },

  'rooms are joined and left, and select clients': async () => {
    const { sockets, said } = await clients();
    const [first, second, third] = sockets;
    const to = (...ids) => ids.reduce((all, { id }) => all.client(id), emitter);
    await to(first).socketsJoin(['a', 'both']);
    await to(second).socketsJoin('a', 'both');
    await to(third).socketsJoin('both');
    await inRooms([first, second], ['a', 'both']);
    await inRooms([third], ['both']);
    await emitter.to('a').emit('n', 1);
    await becomes(() => said, [[[1]], [[1]], [], []].slice(0, said.length));
    await emitter.to(['a', 'both']).emit('n', 2);
    await emitter.to('a', 'both').in('c').except(first.id).emit('n', 3);
    await emitter.to(third.id).volatile.emit('n', 4);
    const expected = [[[1], [2]], [[1], [2], [3]], [[2], [3], [4]], []];
    await becomes(() => said.map((one) => one.toSorted()), expected);
    const found = await emitter.in('both').fetchSockets();
    same(found.map(({ id }) => id).sort(), [first.id, second.id, third.id].sort());
    const { count, sockets: some } = await emitter.in('both').find({ most: 1 });
    same([count, some.length], [3, 1]);
    await found.find(({ id }) => id === third.id).leave('both');
    await emitter.client(second.id).socketsLeave('both');
    await inRooms([second], ['a']);
    await inRooms([third], []);
  },

  'binary values and dates arrive': async () => {
    const { said } = await clients();
    const date = new Date('2024-02-29T12:34:56.789Z');
    await emitter.emit('n', Buffer.from([1, 2, 3]), { deep: [new Uint8Array([120])], date, nothing: undefined }, -7, 2 ** 40, 'ü');
    const expected = [Buffer.from([1, 2, 3]), { deep: [Buffer.from('x')], date: date.toISOString() }, -7, 2 ** 40, 'ü'];
    await becomes(() => said, said.map(() => [expected]));
  },

  'calls stay in order, in batches': async () => {
    const { said } = await clients();
    const done = await Promise.all(Array.from({ length: 1_000 }, (_, n) => emitter.emit('n', n, n % 50 === 7 ? Buffer.from('x') : 'x')));
    const requests = new Set(done.map(({ event }) => event)).size;
    assert.ok(requests < 100, `${requests} requests for 1,000 calls`);
    await becomes(() => said.map((one) => one.map(([n]) => n)), said.map(() => Array.from({ length: 1_000 }, (_, n) => n)));
  },

  'only the wrong call of a batch fails': async () => {
    const { said } = await clients();
    const results = await Promise.allSettled([1, 2, 3, 4, 5].map((n) => emitter.emit(n === 3 ? 'disconnect' : 'n', n)));
    same(results.map(({ status }) => status === 'fulfilled'), [true, true, false, true, true]);
    const { reason } = results[2];
    assert.ok(reason instanceof EmitterError && reason.status === 422 && reason.field === 'event', reason);
    await becomes(() => said, said.map(() => [[1], [2], [4], [5]]));
  },

  'presence is read': async () => {
    const { sockets } = await clients();
    const ids = sockets.map(({ id }) => id).sort();
    const from = Date.now();
    for (const id of ids) await emitter.client(id).socketsJoin('seats');
    let members = [];
    const present = async () => (members = await emitter.presence('/', 'seats'));
    for (const end = Date.now() + 10_000; (await present()).length < ids.length && Date.now() < end; );
    same(members.map(({ id }) => id).sort(), ids);
    assert.ok(members.every(({ since, attributes }) => Math.abs(since - from) < 20_000 && attributes), JSON.stringify(members));
    await assert.rejects(emitter.presence('/', 'none'), ({ status }) => status >= 400 && status < 500);
  },

  'a handler answers an event': async () => {
    const { args } = await emitter.event('/', 'test.echo/1', { a: ['ü', null] });
    same(args, [[{ a: ['ü', null] }]]);
    const bytes = await emitter.event('chat', 'test.echo/1', Buffer.from([0, 255]));
    same(bytes.args, [[Buffer.from([0, 255])]]);
    same((await emitter.event('/', 'test.quiet/1')).args, undefined);
    same((await emitter.event('/', 'faulty.late/1', null, { wait: 'acknowledged' })).args, ['late']);
    same((await emitter.event('/', 'test.quiet/1', null, { wait: 'accepted' })).event, undefined);
    await assert.rejects(emitter.event('/', 'faulty.reject/1'), ({ status, type }) => status === 502 && type.endsWith(':handler-failed'));
    await assert.rejects(emitter.event('/', 'test.quiet/1', null, { wait: 'acknowledged', timeout: 100 }), ({ status }) => status === 504);
    const [once, again] = [await emitter.event('/', 'faulty.count/1', 1, { idempotencyKey: 'one' }), await emitter.event('/', 'faulty.count/1', 1, { idempotencyKey: 'one' })];
    same([again.args, again.repeated], [once.args, true]);
    const ordered = await Promise.all([1, 2, 3, 4].map((n) => emitter.event('/', 'faulty.count/1', n, { order: 'o' })));
    same(ordered.map(({ args }) => args[0] - ordered[0].args[0]), [0, 1, 2, 3]);
  },

  'a call whose answer is lost takes effect once': async () => {
    const { said } = await clients();
    const keys = [];
    const lossy = await front((request, response, answer, number) => {
      keys.push(request.headers['idempotency-key']);
      if (number === 0) request.socket.destroy();
      else if (number === 1) response.writeHead(503, { 'retry-after': '0' }).end('a proxy');
      else pass(response, answer);
    });
    const calls = new Emitter({ url: lossy.url, key });
    same((await calls.emit('n', 1)).repeated, true);
    same([keys.length, new Set(keys).size], [3, 1]);
    await calls.emit('n', 2);
    await becomes(() => said, said.map(() => [[1], [2]]));
    lossy.close();
  },

  'another node is called when one is away': async () => {
    const { said } = await clients();
    const calls = new Emitter({ url: ['http://127.0.0.1:9', ...url], key });
    await Promise.all([calls.emit('n', 1), calls.emit('n', 2), calls.to('none').emit('n', 3)]);
    await becomes(() => said, said.map(() => [[1], [2]]));
    const nowhere = new Emitter({ url: 'http://127.0.0.1:9', key, timeout: 200 });
    await assert.rejects(nowhere.emit('n'), ({ status, idempotencyKey, message }) => status === undefined && idempotencyKey && /no answer of the server API/.test(message));
  },

  'refusals are errors, and are not repeated': async () => {
    const wrong = new Emitter({ url, key: 'x'.repeat(32) });
    await assert.rejects(wrong.emit('n'), ({ status, type }) => status === 401 && type === 'urn:plugnode:api:unauthorized');
    await assert.rejects(emitter.of('/none').emit('n'), ({ status, field }) => status === 404 && field === 'namespace');
    await assert.rejects(emitter.emit('n', 1n), TypeError);
    const itself = [];
    itself.push(itself);
    await assert.rejects(emitter.emit('n', itself), RangeError);
    assert.throws(() => new Emitter({ url: 'nowhere', key }), TypeError);
    const many = await Promise.allSettled(Array.from({ length: 10_100 }, () => emitter.to('none').emit('n')));
    const refused = many.filter(({ reason }) => reason);
    assert.ok(refused.length === 100 && refused.every(({ reason }) => /wait for their answers/.test(reason.message)), `${refused.length} were refused`);
  },

  'clients are disconnected': async () => {
    const { sockets } = await clients();
    const [first, ...others] = sockets;
    const gone = heard(first, 'disconnect');
    await emitter.in(first.id).disconnectSockets();
    same((await gone)[0], 'io server disconnect');
    const closed = others.map((socket) => heard(socket, 'disconnect'));
    await emitter.disconnectSockets(true);
    await within(10, 'all are closed', Promise.all(closed));
    assert.ok(sockets.every((socket) => !socket.connected));
  },

  'the module can be imported': async () => {
    const module = await import(pathToFileURL(installed.resolve('plugnode-emitter').replace('emitter.js', 'index.mjs')));
    assert.equal(module.Emitter, Emitter);
  },
};

await run(cases);
