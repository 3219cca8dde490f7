// Run with `node --test`: presence and messages of handlers in plugnode/test, and the names that each module exports.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';
import { connect, custom } from 'plugnode/test';
import './presence.js';

test('presence is that of the clients of the test', async () => {
  const [ada, bob] = [await connect(), await connect()];
  await ada.ask('name', 'Ada');
  for (const client of [ada, bob]) await client.ask('join', 'room/1');
  assert.deepEqual(await bob.ask('present', 'room/1'), [[2, [[ada.id, 'Ada'], [bob.id, null]]]]);
  const change = { client: ada.id, joined: ['room/1'], left: [] };
  await custom('plugnode.presence/1', change);
  assert.deepEqual(bob.take().at(-1), ['presence', change]);
  await bob.ask('empty', 'room/1');
  assert.deepEqual(await bob.ask('present', 'room/1'), [[0, []]]);
});

test('messages of handlers are effects', async () => {
  const ada = await connect();
  const effects = await ada.emit('order', { sku: 7 });
  const sent = effects.filter(({ type }) => type === 'custom');
  assert.deepEqual(sent.map(({ kind, data }) => [kind, String(data)])[0], ['acme.order/1', '{"sku":7}']);
});

test('each module exports the same names to import and require', async () => {
  const require = createRequire(import.meta.url);
  for (const name of ['plugnode', 'plugnode/socket.io', 'plugnode/cluster', 'plugnode/test']) {
    const imported = Object.keys(await import(name)).filter((key) => key !== 'default' && key !== 'module.exports');
    const required = Object.keys(require(name)).filter((key) => key !== 'default');
    assert.deepEqual(imported.sort(), required.sort(), name);
  }
});
