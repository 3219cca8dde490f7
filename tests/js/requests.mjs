// node requests.mjs URL: requests of the server to the client, against the handler `faulty`. On `request` (event, argument, ms) it sends the
// event with an acknowledgement to the client, then returns the answer as `replied` (event, answer), with null for none in time.

import assert from 'node:assert/strict';
import { argumentsOf, connect, heard, run, same } from './suite.mjs';

const [url] = argumentsOf('requests.mjs', 'URL');

const TRANSPORTS = { websocket: ['websocket'], polling: ['polling'], 'polling, upgraded': ['polling', 'websocket'] };
const PATIENT = 10_000;
const SHORT = 200;

const cases = {};

for (const [transport, transports] of Object.entries(TRANSPORTS)) {
  cases[`${transport}: the handler gets the client's answer`] = async () => {
    const socket = await connect(url, { transports });
    socket.on('question', (argument, answer) => answer({ got: argument }));
    for (const argument of ['text', 42, null, { nested: [1, { a: 'grüße 🦀' }] }]) {
      same(await ask(socket, 'question', argument, PATIENT), ['question', { got: argument }]);
    }
  };

  cases[`${transport}: answers are matched to their requests in any order`] = async () => {
    const socket = await connect(url, { transports });
    const names = Array.from({ length: 10 }, (_, n) => `question ${n}`);
    const asked = names.map((name) => heard(socket, name));
    const replied = new Map();
    const all = new Promise((resolve) => {
      socket.on('replied', (name, answer) => {
        replied.set(name, answer);
        if (replied.size === names.length) resolve();
      });
    });
    for (const name of names) socket.emit('request', name, `for ${name}`, PATIENT);
    for (const [argument, answer] of (await Promise.all(asked)).reverse()) answer(`answer ${argument}`);
    await all;
    for (const name of names) assert.equal(replied.get(name), `answer for ${name}`);
  };

  cases[`${transport}: the handler gets a time-out for a missing answer`] = async () => {
    const socket = await connect(url, { transports });
    same(await ask(socket, 'nobody listens', 'x', SHORT), ['nobody listens', null]);

    const question = heard(socket, 'question');
    same(await ask(socket, 'question', 'x', SHORT), ['question', null]);
    // The late answer is ignored, and later events are answered as usual.
    let replies = 0;
    socket.on('replied', () => replies++);
    const [, answer] = await question;
    answer('too late');
    const fence = heard(socket, 'fence');
    socket.emit('fence');
    await fence;
    assert.equal(replies, 0, 'a late answer must be ignored');
  };
}

await run(cases);

async function ask(socket, event, argument, patience) {
  const replied = heard(socket, 'replied');
  socket.emit('request', event, argument, patience);
  return replied;
}
