// Run with `node --test`: tests server.js with plugnode/test, without a host.

import assert from 'node:assert/strict';
import test from 'node:test';
import { connect, Refused } from 'plugnode/test';
import './server.js';

test('acknowledgements carry bytes, and promises are awaited', async () => {
  const client = await connect();
  assert.deepEqual(await client.ask('echo', 1, Buffer.from('x')), [1, Buffer.from('x')]);
  assert.deepEqual(client.take(), [['echo', 1, Buffer.from('x')]]);
  assert.deepEqual(await client.ask('later', 5), ['done']);
});

test('a room receives its messages, and a request is answered', async () => {
  const [ada, bob] = [await connect({ auth: { name: 'ada' } }), await connect()];
  await bob.ask('join', 'here');
  const effects = await ada.emit('to room', 'here', 1);
  assert.deepEqual(effects.map(({ type, event, args }) => [type, event, args]), [['emit', 'in room', [1]]]);
  assert.deepEqual(bob.take(), [['in room', 1]]);
  ada.answer('question', (question) => `${question} yes`);
  assert.deepEqual(await ada.ask('ask me', 'really?'), ['asking']);
  assert.deepEqual(ada.take(), [['told', 'really? yes']]);
  await ada.ask('join', 'watchers');
  await bob.disconnect();
  assert.equal(bob.isConnected, false);
  assert.deepEqual(ada.take()[0], ['leaves', ['here'], 'client namespace disconnect']);
});

test('a refused client gets the reason', async () => {
  const refused = (error) => error instanceof Refused && error.message === 'not you' && error.data.code === 7;
  await assert.rejects(connect({ auth: { name: 'nobody' } }), refused);
});
