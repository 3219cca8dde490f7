// node reference.mjs main|client|cluster|hostile [msgpack] [v2]: the official Socket.IO server with the behaviour of the handler `conformance`:
// one server for `main` and `client`, three connected ones for `cluster`. Prints their URLs in one line, comma-separated. With `v2` it accepts
// clients of Socket.IO 2 as well. `hostile` is `main` with Node's default time-outs and namespaces by a pattern, as `plugnode-hostile` requires.
//
// It validates the drivers: a driver that fails against it is wrong.

import { EventEmitter } from 'node:events';
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { ClusterAdapterWithHeartbeat } from 'socket.io-adapter';
import msgpack from 'socket.io-msgpack-parser';

const [configuration, ...options] = process.argv.slice(2);
const parser = options.includes('msgpack') ? msgpack : undefined;
const allowEIO3 = options.includes('v2');

const SERVERS = { main, client, cluster, hostile };
if (!SERVERS[configuration]) {
  console.error(`usage: node reference.mjs ${Object.keys(SERVERS).join('|')} [msgpack] [v2]`);
  process.exit(2);
}
const urls = await SERVERS[configuration]();
console.log(urls.join(','));

async function main() {
  const { io, url } = await serve({ pingInterval: 300, pingTimeout: 200, maxHttpBufferSize: 1_000_000, connectTimeout: 1000 });
  protocol(io, '/custom');
  return [url];
}

async function hostile() {
  const { io, url } = await serve({});
  protocol(io, /^\/hostile-\d+$/);
  return [url];
}

function protocol(io, others) {
  const greet = (socket) => {
    socket.emit('auth', socket.handshake.auth);
    socket.on('message', (...args) => socket.emit('message-back', ...args));
    socket.on('message-with-ack', (...args) => args.pop()?.(...args));
  };
  io.of(others).on('connection', greet);
  io.on('connection', (socket) => {
    greet(socket);
    socket.on('join', (room, done) => (socket.join(room), done(true)));
    socket.on('leave', (room, done) => (socket.leave(room), done(true)));
    socket.on('say', (room, words) => socket.to(room).emit('said', words));
    socket.on('shout', (words) => socket.broadcast.emit('shouted', words));
    socket.on('kick-me', () => socket.disconnect());
  });
}

async function client() {
  const allowRequest = (_, answer) => setTimeout(() => answer(null, true), 10);
  const { io, url } = await serve({ pingInterval: 2000, allowRequest });
  const handshakeOf = ({ handshake: { query, auth } }) => ({ query, auth });
  const isBytes = (value) => Buffer.isBuffer(value);

  for (const accepting of ['/timeout_socket', '/valid', '/asd']) io.of(accepting);
  io.of('/foo').on('connection', (socket) => socket.on('getId', (done) => done(socket.id)));
  io.of('/abc').on('connection', (socket) => socket.emit('handshake', handshakeOf(socket)));
  io.of('/no').use((_, next) => next(new Error('Auth failed (custom namespace)')));
  io.use(({ handshake }, next) => next(handshake.query.fail ? new Error('Auth failed (main namespace)') : undefined));

  io.on('connection', (socket) => {
    let abuff1 = false;
    const answers = {
      hi: () => socket.emit('hi'),
      echo: (value, done) => done(value),
      ack: () => socket.emit('ack', (number, { test } = {}) => number === 5 && test === true && socket.emit('got it')),
      getAckDate: (_, done) => done(new Date()),
      getDate: () => socket.emit('takeDate', new Date()),
      getDateObj: () => socket.emit('takeDateObj', { date: new Date() }),
      getUtf8: () => {
        const texts = ['てすと', 'Я Б Г Д Ж Й', 'Ä ä Ü ü ß', 'utf8 — string', 'utf8 — string'];
        for (const text of texts) socket.emit('takeUtf8', text);
      },
      false: () => socket.emit('false', false),
      doge: () => socket.emit('doge', Buffer.from('asdfasdf')),
      getbin: () => socket.emit('takebin', Buffer.from('asdfasdf')),
      buffa: (bytes) => isBytes(bytes) && socket.emit('buffack'),
      jsonbuff: ({ hello, message, goodbye }) => {
        if (hello === 'lol' && isBytes(message) && goodbye === 'gotcha') socket.emit('jsonbuff-ack');
      },
      abuff1: (bytes) => (abuff1 = isBytes(bytes)),
      abuff2: () => abuff1 && socket.emit('abuff2-ack'),
      getHandshake: (done) => done(handshakeOf(socket)),
      getId: (done) => done(socket.id),
    };
    for (const [event, answer] of Object.entries(answers)) socket.on(event, answer);
  });
  return [url];
}

async function cluster() {
  const bus = new EventEmitter();
  const servers = await Promise.all([1, 2, 3].map((number) => serve({ adapter: adapterOn(bus, number) })));
  for (const { io } of servers) io.on('connection', (socket) => member(io, socket));
  return servers.map(({ url }) => url);
}

function member(io, socket) {
  socket.join(['room1', 'room2', 'room4', 'room5', socket.id]);
  const hello = `hello from ${socket.id}`;
  const the = async (id) => (await io.in(id).fetchSockets())[0];
  const answers = {
    broadcast: () => io.emit('broadcast', hello),
    volatile_broadcast: () => io.volatile.emit('volatile_broadcast', hello),
    broadcast_with_ack: async (done) => done(await io.timeout(1000).emitWithAck('broadcast_with_ack', null)),
    disconnect_socket: () => io.disconnectSockets(),
    rooms: async (done) => done([...new Set((await io.fetchSockets()).flatMap(({ rooms }) => [...rooms]))]),
    fetch_sockets: async (done) => done((await io.fetchSockets()).map(({ id }) => ({ id, ns: '/' }))),
    join_room: (done) => settled(io.socketsJoin('room7'), done),
    leave_room: (done) => settled(io.socketsLeave('room4'), done),
    emit_from_remote_sock: async (id, done) => settled((await the(id)).emit('emit', hello), done),
    emit_with_ack_from_remote_sock: async (id, done) => done((await io.in(id).timeout(1000).emitWithAck('emit', hello))[0]),
    join_room_from_remote_sock: async (id, done) => settled((await the(id)).join(hello), done),
    leave_room_from_remote_sock: async (id, done) => settled((await the(id)).leave('room4'), done),
    get_rooms_remote_sock: async (id, done) => done([...(await the(id)).rooms]),
    disconnect_remote_sock: async (id, done) => settled((await the(id)).disconnect(), done),
  };
  for (const [event, answer] of Object.entries(answers)) socket.on(event, answer);
}

// The servers share a process: once this has arrived, everything published before has.
function settled(_, done) {
  setImmediate(() => setImmediate(done));
}

function adapterOn(bus, number) {
  return class extends ClusterAdapterWithHeartbeat {
    constructor(nsp) {
      super(nsp, { heartbeatInterval: 200, heartbeatTimeout: 2000 });
      bus.on('message', ({ from, message }) => from !== number && this.onMessage(message));
      bus.on('response', ({ to, response }) => to === this.uid && this.onResponse(response));
      this.init();
    }

    async doPublish(message) {
      bus.emit('message', { from: number, message });
      return '';
    }

    async doPublishResponse(to, response) {
      bus.emit('response', { to, response });
    }
  };
}

async function serve(options) {
  const server = createServer();
  const io = new Server(server, { parser, allowEIO3, ...options });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { io, url: `http://127.0.0.1:${server.address().port}` };
}
