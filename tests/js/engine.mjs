// The official Engine.IO clients, of protocols 4 and 3, against an echo server that first sends GREETINGS numbers to each session:
//   node engine.mjs URL GREETINGS
// On every transport a session must receive the greetings and then all its own messages, once and in order.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, greetings] = [process.argv[2], Number(process.argv[3])];

const of = (name) => createRequire(createRequire(import.meta.url).resolve(name))('engine.io-client');
const protocol4 = of('socket.io-client').Socket;
const protocol3 = of('socket.io-client-2');

// Messages of each session, every seventh binary.
const OWN = 500;
const CONNECTIONS = 300;
const AT_ONCE = 30;

const BINARY = Buffer.from([0, 1, 2, 250, 251, 252]);

const message = (number) => (number % 7 === 0 ? BINARY : `own ${number} €😀`);

/** Opens a session, sends at once, and closes when everything has arrived. Returns the last transport. */
function session(open, options) {
  return new Promise((resolve, reject) => {
    const socket = open(url, { path: '/engine.io/', ...options });
    let [greeted, heard] = [0, 0];
    const fail = (reason) => {
      clearTimeout(late);
      socket.close();
      reject(new Error(`${JSON.stringify(options)}: ${reason}; ${greeted} of ${greetings} greetings, ${heard} of ${OWN} own messages`));
    };
    const late = setTimeout(() => fail('too slow'), 60_000);
    const moves = (options.transports ?? ['polling', 'websocket']).length > 1;
    const moved = new Promise((resolve) => socket.on(moves ? 'upgrade' : 'open', resolve));
    socket.on('open', async () => {
      for (let number = 0; number < OWN; number++) {
        // Some are sent before, during and after the upgrade.
        if (number === OWN / 2) await moved;
        else if (number % 10 === 0) await new Promise(setImmediate);
        socket.send(message(number));
      }
    });
    socket.on('error', (error) => fail(error.description?.message ?? error.message ?? error));
    socket.on('close', (reason) => fail(`closed by ${reason}`));
    socket.on('message', (data) => {
      try {
        if (greeted < greetings) {
          assert.equal(data, String(greeted));
          greeted += 1;
          return;
        }
        const expected = message(heard);
        if (typeof expected === 'string') assert.equal(data, expected);
        else assert.deepEqual(Buffer.from(data), expected);
        heard += 1;
      } catch (error) {
        fail(error.message);
        return;
      }
      if (heard < OWN) return;
      clearTimeout(late);
      socket.removeAllListeners('close');
      const name = socket.transport.name;
      socket.on('close', () => resolve(name));
      socket.close();
    });
  });
}

const clients = [
  ['protocol 4', (url, options) => new protocol4(url, options)],
  ['protocol 3', (url, options) => protocol3(url, options)],
];
for (const [name, open] of clients) {
  for (const forceBase64 of [false, true]) {
    for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
      await session(open, { transports, forceBase64 });
      console.log(`${name}, ${transports}, ${forceBase64 ? 'base64' : 'binary'}: all heard`);
    }
  }
  let left = CONNECTIONS;
  const next = async () => {
    while (left-- > 0) assert.equal(await session(open, {}), 'websocket');
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  console.log(`${name}: ${CONNECTIONS} sessions moved to a websocket and heard all`);
}
process.exit(0);
