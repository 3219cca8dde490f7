// Run with `node --test`: tests timers.js with plugnode/test, without a host.

import assert from 'node:assert/strict';
import test from 'node:test';
import { on, schedule } from 'plugnode';
import { connect, fire, reset, stored, timers } from 'plugnode/test';
import './timers.js';

test.beforeEach(reset);

test('a timer of a client fires once', async () => {
  const [ada, bob] = [await connect(), await connect()];
  await ada.emit('timer-after', 'client', 'late', 60_000, { a: 1 });
  assert.deepEqual([ada.timers, bob.timers, timers()], [['late'], [], []]);
  await ada.emit('timer-after', 'client', 'late', 60_000, { a: 2 });
  const effects = await ada.fire('late');
  assert.deepEqual(effects.map(({ type }) => type), ['emit', 'set']);
  assert.deepEqual([ada.take(), bob.take()], [[['due', 'late', { a: 2 }, 0]], []]);
  assert.equal(stored('due:late'), 1);
  await assert.rejects(ada.fire('late'), /has no timer late: its timers are \[\]/);
});

test('a periodic timer of the app fires until it is cancelled', async () => {
  const [ada, bob, eve] = [await connect(), await connect(), await connect({ namespace: '/else' })];
  await ada.emit('timer-every', 'app', 'tick', 1_000, null);
  await fire('tick');
  await fire('tick', { missed: 2 });
  const ticks = [['due', 'tick', null, 0], ['due', 'tick', null, 2]];
  assert.deepEqual([ada.take(), bob.take()], [ticks, ticks]);
  await eve.emit('timer-every', 'app', 'tick', 1_000, 'else');
  await bob.emit('timer-cancel', 'app', 'tick');
  assert.deepEqual([timers(), timers('/else')], [[], ['tick']]);
  await fire('tick', { namespace: '/else' });
  assert.deepEqual([bob.take(), eve.take()], [[], [['due', 'tick', 'else', 0]]]);
});

test('disconnect cancels the timers of a client', async () => {
  const ada = await connect();
  await ada.emit('timer-after', 'client', 'late', 60_000, null);
  await ada.disconnect();
  assert.deepEqual(ada.timers, []);
});

test('a timer event has its due time, and without a client sets no timer of a client', async () => {
  const due = new Date(2_000_000_000_000);
  const came = [];
  on('timer-at', () => schedule.app.at('at', due, 'test.at/1'));
  schedule.on('test.at/1', (_, about) => {
    came.push(about);
    schedule.client.cancel('any');
  });
  const ada = await connect();
  await ada.emit('timer-at');
  await assert.rejects(fire('at'), /no client to own the timer: make the app its owner/);
  assert.deepEqual(came, [{ key: 'at', due, missed: 0, client: undefined }]);
});
