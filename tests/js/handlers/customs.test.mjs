// Run with `node --test`: tests customs.js with plugnode/test, without a host.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ask, connect, custom, fire, reset, stored } from 'plugnode/test';
import './customs.js';

test.beforeEach(reset);

test('a custom event is answered by what its listener returns', async () => {
  assert.deepEqual(await ask('test.echo/1', { a: [null, 'é'] }), [[{ a: [null, 'é'] }]]);
  const [effect] = await custom('test.echo/1', Buffer.from([0, 255]), 'application/octet-stream');
  assert.deepEqual([effect.type, [...effect.args[0][0]]], ['ack', [0, 255]]);
  assert.equal(await ask('faulty.quiet/1'), undefined);
  assert.equal(await ask('test.unknown/1'), undefined);
});

test('an answer with several arguments has the effects of its event beside it', async () => {
  const [ada, eve] = [await connect(), await connect({ namespace: '/else' })];
  assert.deepEqual(await ask('faulty.count/1', 'x'), [1, 'x']);
  assert.deepEqual(await ask('faulty.count/1'), [2, null]);
  assert.deepEqual([ada.take(), eve.take()], [[['counted', 1], ['counted', 2]], []]);
  assert.equal(stored('customs'), 2);
  await assert.rejects(ask('faulty.reject/1'), /asked to reject/);
});

test('a later event answers by the id', async () => {
  assert.equal(await ask('faulty.late/1'), undefined);
  const effects = await fire('late');
  assert.deepEqual(effects, [{ type: 'ack', args: ['late'] }]);
});
