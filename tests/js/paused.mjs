// node paused.mjs URL: the official Socket.IO client while the server accepts no events for longer than the ping time-out.
//
// The handler is `faulty` with one instance: the event `slow` keeps it busy for the given number of milliseconds, any other is sent back to its
// sender. The backlog holds four events.

import assert from 'node:assert/strict';
import { acknowledged, argumentsOf, connect, open, connected, run } from './suite.mjs';

const [url] = argumentsOf('paused.mjs', 'URL');

const MESSAGES = 300;
const BUSY_MS = 2500;

const TRANSPORTS = {
  websocket: { transports: ['websocket'] },
  polling: { transports: ['polling'] },
  'polling, upgraded meanwhile': { transports: ['polling', 'websocket'] },
};

const cases = {};

for (const [name, options] of Object.entries(TRANSPORTS)) {
  cases[name] = async () => {
    const busy = await connect(url, { transports: ['websocket'] });
    await acknowledged(busy, 'where');
    const socket = open(url, options);
    const ended = new Promise((_, reject) => {
      for (const each of [busy, socket]) each.once('disconnect', (reason) => reject(new Error(`disconnected: ${reason}`)));
    });
    ended.catch(() => {});
    await connected(socket);
    const done = acknowledged(busy, 'slow', BUSY_MS);
    for (let n = 0; n < 3; n += 1) busy.emit('behind');

    const numbers = [];
    const all = new Promise((resolve) => {
      socket.on('n', (number) => {
        numbers.push(number);
        if (numbers.length === MESSAGES) resolve();
      });
    });
    const padding = 'x'.repeat(1000);
    // In portions, so that a polling client sends several requests.
    for (let n = 0; n < MESSAGES; n += 1) {
      socket.emit('n', n, padding);
      if (n % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await Promise.race([Promise.all([done, all]), ended]);
    assert.deepEqual(numbers, Array.from({ length: MESSAGES }, (_, n) => n));
    await Promise.race([acknowledged(socket, 'where'), ended]);
    const transport = socket.io.engine.transport.name;
    socket.off('disconnect');
    return { transport };
  };
}

await run(cases);
