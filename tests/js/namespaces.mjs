// node namespaces.mjs URL [SECOND]: two namespaces, `/` and SECOND (`/second` when not given), each with a handler that behaves like `echo`,
// over one connection of the official Socket.IO client.

import assert from 'node:assert/strict';
import { Manager } from 'socket.io-client';
import { acknowledged, argumentsOf, connected, heard, keep, run, same } from './suite.mjs';

const [url, second = '/second'] = argumentsOf('namespaces.mjs', 'URL', '[SECOND]');

const cases = {};

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  const by = transports.join(', then ');

  cases[`${by}: both answer over one connection`] = async () => {
    const { here, there } = await both(transports);
    assert.equal(here.io.engine, there.io.engine);
    for (const [socket, name] of [[here, '/'], [there, second]]) {
      same(await echo(socket, 'where', [name, Buffer.from(name)]), [name, Buffer.from(name)]);
      same(await acknowledged(socket, 'where', name, { name }), [name, { name }]);
    }
  };

  cases[`${by}: an event stays in its namespace`] = async () => {
    const { here, there } = await both(transports);
    let strays = 0;
    there.onAny(() => strays++);
    for (let n = 0; n < 20; n++) await echo(here, 'here', [n]);
    there.offAny();
    same(await echo(there, 'there', []), []);
    assert.equal(strays, 0, `${strays} events of / were heard in ${second}`);
  };

  cases[`${by}: a channel stays in its namespace`] = async () => {
    const { here, there } = await both(transports);
    await echo(there, 'ready', []);
    let strays = 0;
    there.on('chat', () => strays++);
    const chat = heard(here, 'chat');
    here.emit('all', 'for / only');
    same(await chat, ['for / only']);
    // Sent later on the same connection: a stray event would arrive before it.
    await echo(there, 'fence', []);
    assert.equal(strays, 0, `the channel "room" of / was heard in ${second}`);
  };

  cases[`${by}: leaving one keeps the other`] = async () => {
    const { here, there } = await both(transports);
    there.disconnect();
    assert.ok(here.connected);
    same(await echo(here, 'still', ['here']), ['here']);
    there.connect();
    await connected(there);
    same(await echo(there, 'back', ['again']), ['again']);
    here.disconnect();
    same(await echo(there, 'still', ['there']), ['there']);
  };
}

await run(cases);

async function both(transports) {
  const manager = new Manager(url, { transports, reconnection: false, timeout: 10_000 });
  const here = keep(manager.socket('/'));
  const there = keep(manager.socket(second));
  await Promise.all([connected(here), connected(there)]);
  return { here, there };
}

async function echo(socket, event, args) {
  const back = heard(socket, event);
  socket.emit(event, ...args);
  return back;
}
