// Run with `node --test`: what plugnode refuses, plugnode/test refuses in the same words, which are those of refusals.json.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';
import { kv, on, schedule, sendCustom } from 'plugnode';
import { makeListener } from 'plugnode/cluster';
import { connect, custom, fire, reset } from 'plugnode/test';

const LONG = 'x'.repeat(1_025);
const every = (key, kind, { ms = 1_000, data = null } = {}) => schedule.client.every(key, ms, kind, data);

const attempts = {
  'timer with a period of 49 ms': () => every('key', 'test.due/1', { ms: 49.9 }),
  'timer without a key': () => every('', 'test.due/1'),
  'timer with a long key': () => every(LONG, 'test.due/1'),
  'cancelled timer without a key': () => schedule.client.cancel(''),
  'timer without a kind': () => every('key', ''),
  'timer with a reserved kind': () => every('key', 'plugnode.mine/1'),
  'timer with large data': () => every('key', 'test.due/1', { data: 'x'.repeat(4_000_000) }),
  'event with a reserved name': (client) => client.emit('connect'),
  'event with a long name': (client) => client.emit(LONG),
  'channel with a long name': (client) => client.join(`${LONG}y`),
  'event with 11 attachments': (client) => client.emit('bytes', ...Array(11).fill(Buffer.of(0))),
  'message with a reserved kind': () => sendCustom('plugnode.mine/1'),
  'value over the limit': () => kv.setBytes('key', new Uint8Array(1_000_001)),
  'addition to a text': () => {
    kv.set('text', 'no number');
    kv.add('text');
  },
};
for (const [attempt, listener] of Object.entries(attempts)) on(attempt, listener);

test.beforeEach(reset);

test('commands are refused in the words of plugnode', async () => {
  const refusals = JSON.parse(await readFile(new URL('refusals.json', import.meta.url), 'utf8'));
  const client = await connect();
  for (const [attempt, words] of Object.entries(refusals)) {
    await assert.rejects(client.emit(attempt), (error) => (assert.equal(error.message, words), true), attempt);
  }
  assert.deepEqual(client.take(), []);
});

test('an event over its limits fails', async () => {
  on('many', (client, count) => {
    for (let n = 0; n < count; n++) client.emit('one');
  });
  on('large', (client, count) => {
    for (let n = 0; n < count; n++) client.emit('large', 'x'.repeat(3_900_000));
  });
  on('writes', () => {
    for (let n = 0; n < 20; n++) kv.set(`key ${n}`, 'x'.repeat(900_000));
  });
  on('payload', (client) => client.emit('large', 'x'.repeat(4_000_000)));
  const client = await connect();
  await client.emit('many', 10_000);
  await assert.rejects(client.emit('many', 10_001), /limit of commands or bytes; raise it in the app's `limits`/);
  await client.emit('large', 4);
  await assert.rejects(client.emit('large', 5), /limit of commands or bytes/);
  await assert.rejects(client.emit('writes'), /writes or bytes: write less, or raise limits.commands or limits.bytes/);
  await assert.rejects(client.emit('payload'), /the payload exceeds `limits.payload`/);
});

test('a timer of a client needs a client', async () => {
  on('set', () => schedule.app.after('key', 1, 'test.none/1'));
  schedule.on('test.none/1', () => schedule.client.cancel('key'));
  on('disconnect', (client) => {
    if (client.attributes.daring) every('key', 'test.due/1');
  });
  on('dare', (client) => client.set({ daring: true }));
  const client = await connect();
  await client.emit('set');
  await assert.rejects(fire('key'), /this event has no client to own the timer: make the app its owner/);
  await client.emit('dare');
  await assert.rejects(client.disconnect(), /the client has disconnected, which ends its timers: make the app the timer's owner/);
});

test('kinds of the host are reserved', async () => {
  const listener = makeListener();
  listener.server.on('custom', () => {});
  on('custom', () => listener.server.createMessage('data').setType('plugnode.mine/1').forAll().send());
  const client = await connect();
  await assert.rejects(client.emit('custom'), /invalid kind "plugnode.mine\/1": the prefix `plugnode\.` is reserved for the host/);
  assert.deepEqual(await custom('unknown/1', {}), []);
});
