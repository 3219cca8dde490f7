// Run with `node --test`: what plugnode/test says about its wrong use.

import assert from 'node:assert/strict';
import test from 'node:test';
import { ask, connect, custom, Refused } from 'plugnode/test';

test('without a program, the kit names what is missing', async () => {
  const missing = { message: 'no handler is loaded: import your program, such as ./server.js, in this test' };
  await assert.rejects(connect(), missing);
  await assert.rejects(custom('due', 1), missing);
  await assert.rejects(ask('due'), missing);
  await import('./server.js');
  await connect();
});

test('a namespace is an option, and must be defined', async () => {
  await import('./server.js');
  const options = { name: 'TypeError', message: 'connect takes options: connect({ namespace: "/chat" })' };
  await assert.rejects(connect('/chat'), options);
  const refused = (error) => error instanceof Refused && error.message === 'Invalid namespace';
  await assert.rejects(connect({ namespace: '/nowhere' }), refused);
});
