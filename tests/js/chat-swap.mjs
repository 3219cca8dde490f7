// node chat-swap.mjs URL SCREENSHOT DEPLOY BEFORE AFTER: two users chat, each in a tab of a real browser, while another build of the chat is
// deployed with DEPLOY, a command as a JSON array. The answer to a message that is too long changes from BEFORE to AFTER; connections stay
// and no message is lost. SCREENSHOT (a .png) shows the first user's page at the end.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { SECONDS, browse, say, sees, visit, words } from './chat-page.mjs';
import { argumentsOf, run } from './suite.mjs';

const [url, screenshot, deploy, before, after] = argumentsOf('chat-swap.mjs', 'URL', 'SCREENSHOT', 'DEPLOY', 'BEFORE', 'AFTER');
const [command, ...rest] = JSON.parse(deploy);

const browser = await browse();
const wrong = [];
const said = [];
let ada, bob, release, speaking, deployed;

await run({
  'two users chat, answered by one release': async () => {
    [ada, bob] = await Promise.all(['Ada', 'Bob'].map((name) => visit(browser, url, name, wrong, { prepare: watch })));
    await speak(ada, 'Ada', 'Hello, Bob');
    await sees(bob, 'Ada', 'Hello, Bob');
    await speak(bob, 'Bob', 'Hello, Ada');
    await sees(ada, 'Bob', 'Hello, Ada');
    await isTold(ada, before);
    release = await shown(ada);
    assert.match(release, /^[0-9a-f]{7}$/);
  },

  'they go on while another build is deployed': async () => {
    speaking = true;
    const talk = (async () => {
      for (let turn = 1; speaking; turn += 1) {
        await speak(ada, 'Ada', `Ada's turn ${turn}`);
        await sees(bob, 'Ada', `Ada's turn ${turn}`);
        await speak(bob, 'Bob', `Bob's turn ${turn}`);
        await sees(ada, 'Bob', `Bob's turn ${turn}`);
      }
    })();
    deployed = promisify(execFile)(command, rest).finally(() => (speaking = false));
    await Promise.all([deployed, talk]);
  },

  'both pages show the new release, and its answer differs': async () => {
    for (const [page, name] of [[ada, 'Ada'], [bob, 'Bob']]) {
      await speak(page, name, `${name}, afterwards`);
      await page.locator('.notice.swap', { hasText: 'Now answered by release' }).waitFor({ timeout: SECONDS });
      assert.notEqual(await shown(page), release);
      await isTold(page, after);
    }
    await Promise.all([sees(ada, 'Bob', 'Bob, afterwards'), sees(bob, 'Ada', 'Ada, afterwards')]);
    await ada.screenshot({ path: screenshot, animations: 'disabled' });
  },

  'no message is lost, doubled or reordered': async () => {
    for (const page of [ada, bob]) {
      const seen = (await page.locator('.message:not(.failed)').evaluateAll(words)).map(([, text]) => text);
      assert.deepEqual(seen, said);
    }
    return { messages: said.length };
  },

  'no page had a reconnect, a disconnect or an error': async () => {
    for (const page of [ada, bob]) {
      const { connects, sockets, others, states } = await page.evaluate(() => window.watched);
      assert.deepEqual(others, []);
      assert.deepEqual(states, ['online']);
      // Engine.IO may start by polling; a second WebSocket would be a new connection.
      assert.deepEqual([connects, sockets <= 1], [1, true]);
    }
    assert.deepEqual(wrong, []);
  },
});

/** Sends a message and records it. */
async function speak(page, name, text) {
  said.push(text);
  await say(page, text);
  await sees(page, name, text);
}

/** Sends a message that is too long, past the check of the page, and returns the chat's answer. */
async function isTold(page, reason) {
  await page.locator('#text').evaluate((field) => {
    field.value = 'long '.repeat(500);
    field.form.requestSubmit();
  });
  await page.locator('.message.failed .fate', { hasText: `Refused: ${reason}.` }).last().waitFor({ timeout: SECONDS });
}

/** The release that the page shows. */
async function shown(page) {
  return page.locator('#release code').textContent();
}

/** Runs in the page first: counts events of its connection. */
function watch() {
  const watched = { connects: 0, sockets: 0, others: [], states: [] };
  window.watched = watched;
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      watched.sockets += 1;
    }
  };
  // The library sets the global `io`, which the page uses.
  let connect;
  Object.defineProperty(window, 'io', {
    configurable: true,
    get: () => connect,
    set: (io) => {
      connect = Object.assign((...given) => {
        const socket = io(...given);
        socket.on('connect', () => (watched.connects += 1));
        for (const event of ['disconnect', 'connect_error']) socket.on(event, (why) => watched.others.push(`${event}: ${why}`));
        for (const event of ['reconnect_attempt', 'reconnect', 'error']) socket.io.on(event, (what) => watched.others.push(`${event}: ${what}`));
        return socket;
      }, io);
    },
  });
  // What the user sees.
  addEventListener('DOMContentLoaded', () => {
    const status = document.getElementById('status');
    const note = () => status.dataset.state !== 'connecting' || watched.states.length > 0 ? watched.states.push(status.dataset.state) : 0;
    new MutationObserver(note).observe(status, { attributeFilter: ['data-state'] });
  });
}
