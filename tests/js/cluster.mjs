// node cluster.mjs URL,URL,URL [msgpack]: the official client of Socket.IO 4 against the configuration `cluster` of the handler
// `conformance`: ten clients over several io-nodes, which must act as one server.

import assert from 'node:assert/strict';
import { io } from 'socket.io-client';
import msgpack from 'socket.io-msgpack-parser';
import { acknowledged, argumentsOf, connected, heard, keep, run, same, within } from './suite.mjs';

const [list, parserName] = argumentsOf('cluster.mjs', 'URL,URL,URL', '[msgpack]');
const urls = list.split(',');
const parser = parserName === 'msgpack' ? { parser: msgpack } : {};

const CLIENTS = 10;
const ROOMS = ['room1', 'room2', 'room4', 'room5'];
// Time-out until a departed client is removed on all nodes.
const FORGOTTEN_MS = 50;

const TRANSPORTS = {
  'polling, upgraded': {},
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
};

const cases = {};

for (const [transport, by] of Object.entries(TRANSPORTS)) {
  const has = (what, act) => (cases[`${transport}: ${what}`] = async () => act(await spread(by)));

  for (const event of ['broadcast', 'volatile_broadcast']) {
    has(`${event} reaches every client, the sender too`, async (sockets) => {
      for (const sender of sockets) {
        // A polling client between two polls is not ready and may miss volatile events.
        if (event === 'volatile_broadcast') await sleep(30);
        const everywhere = sockets.map((socket) => heard(socket, event));
        sender.emit(event);
        for (const args of await Promise.all(everywhere)) same(args, [`hello from ${sender.id}`]);
      }
    });
  }

  has('broadcasts of one client come in its order everywhere', async (sockets) => {
    const logs = sockets.map((socket) => {
      const said = [];
      return new Promise((resolve) => socket.on('broadcast', (text) => said.push(text) === 40 && resolve(said)));
    });
    const senders = sockets.slice(0, 2);
    for (let n = 0; n < 20; n++) for (const sender of senders) sender.emit('broadcast');
    for (const said of await within(10, 'all broadcasts', Promise.all(logs))) {
      for (const sender of senders) assert.equal(said.filter((text) => text === `hello from ${sender.id}`).length, 20);
    }
  });

  has('broadcast_with_ack gathers the answers of all', async (sockets) => {
    for (const socket of sockets) {
      socket.on('broadcast_with_ack', (...args) => {
        const answer = args.pop();
        same(args, [null], 'the one argument is null');
        answer(`ack from ${socket.id}`);
      });
    }
    const expected = sockets.map(({ id }) => `ack from ${id}`).sort();
    for (const socket of sockets) {
      const [answers] = await acknowledged(socket, 'broadcast_with_ack');
      same(answers.sort(), expected);
    }
  });

  has('broadcast_with_ack gathers answers of any kind', async (sockets) => {
    const answers = [Buffer.from('bytes'), { nested: [Buffer.from([1]), 'text'] }, null, 0, false, [], ['list'], {}, 'ü', 1.5];
    sockets.forEach((socket, n) => socket.on('broadcast_with_ack', (_, answer) => answer(answers[n])));
    const [gathered] = await acknowledged(sockets[0], 'broadcast_with_ack');
    assert.equal(gathered.length, answers.length);
    for (const answer of answers) assert.ok(gathered.some((given) => equal(given, answer)), JSON.stringify(answer));
  });

  has('disconnect_socket disconnects all', async (sockets) => {
    const gone = sockets.map((socket) => heard(socket, 'disconnect'));
    sockets[0].emit('disconnect_socket');
    for (const [reason] of await Promise.all(gone)) assert.equal(reason, 'io server disconnect');
    assert.ok(sockets.every(({ connected }) => !connected));
  });

  has('rooms names every room of the cluster once', async (sockets) => {
    const expected = [...ROOMS, ...sockets.map(({ id }) => id)].sort();
    for (const socket of sockets) same((await acknowledged(socket, 'rooms'))[0].sort(), expected);
  });

  has('fetch_sockets names every client of the cluster once', async (sockets) => {
    const expected = sockets.map(({ id }) => ({ id, ns: '/' })).sort(byId);
    for (const socket of sockets) {
      const [found] = await acknowledged(socket, 'fetch_sockets');
      same(found.map(({ id, ns }) => ({ id, ns })).sort(byId), expected);
    }
  });

  has('join_room puts all into a room, and is acknowledged once it did', async (sockets) => {
    for (const asker of [sockets[0], sockets[4]]) {
      same(await acknowledged(asker, 'join_room'), []);
      for (const socket of sockets) same(await roomsOf(asker, socket.id), [...ROOMS, 'room7', socket.id].sort());
    }
    same((await acknowledged(sockets[1], 'rooms'))[0].includes('room7'), true);
  });

  has('leave_room takes all out of a room, and is acknowledged once it did', async (sockets) => {
    same(await acknowledged(sockets[0], 'leave_room'), []);
    for (const asker of sockets.slice(0, 3)) {
      for (const socket of sockets) same(await roomsOf(asker, socket.id), without('room4', socket.id));
      same((await acknowledged(asker, 'rooms'))[0].includes('room4'), false);
    }
  });

  has('emit_from_remote_sock reaches one client on any node', async (sockets) => {
    for (const [sender, receiver] of pairs(sockets)) {
      let strays = 0;
      for (const socket of sockets) if (socket !== receiver) socket.on('emit', () => strays++);
      const said = heard(receiver, 'emit');
      same(await acknowledged(sender, 'emit_from_remote_sock', receiver.id), []);
      same(await said, [`hello from ${sender.id}`]);
      assert.equal(strays, 0);
      for (const socket of sockets) socket.off('emit');
    }
  });

  has('emit_with_ack_from_remote_sock is answered by one client on any node', async (sockets) => {
    for (const socket of sockets) socket.on('emit', (text, answer) => answer(`${text}, says ${socket.id}`));
    for (const [sender, receiver] of pairs(sockets)) {
      const answer = await acknowledged(sender, 'emit_with_ack_from_remote_sock', receiver.id);
      same(answer, [`hello from ${sender.id}, says ${receiver.id}`]);
    }
  });

  has('join_room_from_remote_sock puts one client on any node into a room', async (sockets) => {
    for (const [sender, receiver] of pairs(sockets)) {
      same(await acknowledged(sender, 'join_room_from_remote_sock', receiver.id), []);
      const rooms = await roomsOf(sender, receiver.id);
      assert.ok(rooms.includes(`hello from ${sender.id}`), `${rooms}`);
      const [of] = await acknowledged(sockets[5], 'rooms');
      assert.ok(of.includes(`hello from ${sender.id}`), `${of}`);
    }
  });

  has('leave_room_from_remote_sock takes one client on any node out of a room', async (sockets) => {
    for (const [sender, receiver] of pairs(sockets)) {
      same(await acknowledged(sender, 'leave_room_from_remote_sock', receiver.id), []);
      same(await roomsOf(sender, receiver.id), without('room4', receiver.id));
    }
    same(await roomsOf(sockets[0], sockets[9].id), [...ROOMS, sockets[9].id].sort(), 'nobody else left');
  });

  has('get_rooms_remote_sock names the rooms of one client on any node', async (sockets) => {
    for (const [sender, receiver] of pairs(sockets)) same(await roomsOf(sender, receiver.id), [...ROOMS, receiver.id].sort());
  });

  has('disconnect_remote_sock disconnects one client on any node', async (sockets) => {
    const [sender, ...others] = sockets;
    for (const receiver of others.slice(0, 3)) {
      const gone = heard(receiver, 'disconnect');
      same(await acknowledged(sender, 'disconnect_remote_sock', receiver.id), []);
      same((await gone).slice(0, 1), ['io server disconnect']);
    }
    const [found] = await acknowledged(sender, 'fetch_sockets');
    same(found.map(({ id }) => id).sort(), [sender, ...others.slice(3)].map(({ id }) => id).sort());
  });

  has('a disconnected client is no longer listed', async (sockets) => {
    const [stays, ...leave] = sockets;
    for (const socket of leave) socket.disconnect();
    await sleep(FORGOTTEN_MS);
    same((await acknowledged(stays, 'fetch_sockets'))[0], [{ id: stays.id, ns: '/' }]);
    same((await acknowledged(stays, 'rooms'))[0].sort(), [...ROOMS, stays.id].sort());
  });

  has('a client with a closed connection is no longer listed', async (sockets) => {
    const [stays, ...leave] = sockets;
    for (const socket of leave) socket.io.engine.close();
    await sleep(FORGOTTEN_MS);
    same((await acknowledged(stays, 'rooms'))[0].sort(), [...ROOMS, stays.id].sort());
    same((await acknowledged(stays, 'fetch_sockets'))[0], [{ id: stays.id, ns: '/' }]);
  });
}

await run(cases, { tries: 3, seconds: 240 });

/** Ten connected clients, round robin over the nodes, after all clients of earlier cases have gone. */
async function spread(by) {
  const sockets = [];
  for (let n = 0; n < CLIENTS; n++) {
    sockets.push(keep(io(urls[n % urls.length], { forceNew: true, reconnection: false, ...parser, ...by })));
  }
  await Promise.all(sockets.map(connected));
  // A connection closed during an upgrade closes only after it.
  if (!by.transports) await Promise.all(sockets.map(({ io: { engine } }) => engine.transport.name === 'websocket' || heard(engine, 'upgrade')));
  await alone(sockets);
  return sockets;
}

/** Waits until only these clients are connected: the previous case may have just ended. */
async function alone(sockets) {
  for (const start = performance.now(); performance.now() - start < 2000; ) {
    const [found] = await acknowledged(sockets[0], 'fetch_sockets');
    if (found.length === sockets.length) return;
    await sleep(10);
  }
  throw new Error('clients of an earlier case are still there, or some of this one are not');
}

async function roomsOf(asker, id) {
  const [rooms] = await acknowledged(asker, 'get_rooms_remote_sock', id);
  return rooms.sort();
}

function without(room, id) {
  return [...ROOMS.filter((name) => name !== room), id].sort();
}

/** Pairs of clients: on one node, on neighbouring nodes, and a client with itself. */
function pairs(sockets) {
  return [[sockets[0], sockets[urls.length]], [sockets[0], sockets[1]], [sockets[2], sockets[1]], [sockets[4], sockets[4]]];
}

function byId(one, other) {
  return one.id < other.id ? -1 : 1;
}

function equal(actual, expected) {
  try {
    same(actual, expected);
    return true;
  } catch {
    return false;
  }
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
