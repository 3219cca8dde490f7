// node drain.mjs URL PID: clients behind a load balancer, while this script stops one of two io-nodes, the process PID. No attempt to connect
// fails, and connected clients reconnect.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { acknowledged, argumentsOf, connect, connected, open, run } from './suite.mjs';

const [url, pid] = argumentsOf('drain.mjs', 'URL', 'PID');

const OPTIONS = [{ transports: ['websocket'] }, { transports: ['polling'], withCredentials: true }];
const EACH = 6;

function isRunning() {
  try {
    return process.kill(Number(pid), 0);
  } catch {
    return false;
  }
}

const cases = {
  async 'an io-node ends without a failed connection'() {
    const failures = [];
    let [again, fresh] = [0, 0];
    const stays = [];
    for (const options of OPTIONS) {
      for (let n = 0; n < EACH; n++) {
        const socket = open(url, { ...options, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 });
        socket.on('connect_error', (error) => failures.push(`${options.transports}: ${error.message} ${error.description ?? ''}`));
        socket.on('disconnect', () => again++);
        stays.push(socket);
      }
    }
    await Promise.all(stays.map(connected));
    await Promise.all(stays.map((socket) => acknowledged(socket, 'here')));
    process.kill(Number(pid), 'SIGTERM');
    // Other clients connect and leave until a moment after the end.
    const come = async (options) => {
      for (let left = 10; left > 0; left -= isRunning() ? 0 : 1) {
        const socket = await connect(url, options);
        await acknowledged(socket, 'passing');
        socket.disconnect();
        fresh++;
        await sleep(10);
      }
    };
    await Promise.all(OPTIONS.map(come));
    await Promise.all(stays.map(connected));
    await Promise.all(stays.map((socket) => acknowledged(socket, 'still here')));
    assert.deepEqual(failures, []);
    assert.ok(again > 0, 'none of them was at the io-node that ended');
    return { again, fresh };
  },
};

await run(cases);
