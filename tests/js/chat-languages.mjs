// node chat-languages.mjs URL FIRST DEPLOYS: the official client against the example `chat` in several languages. FIRST is the language
// that runs at the start. DEPLOYS, a JSON array of `[language, [command, ...arguments]]`, deploys the others one after the other while
// clients talk. Each language passes the same cases and keeps the history.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { io } from 'socket.io-client';
import { acknowledged, argumentsOf, connect, connected, heard, open, run, same, within } from './suite.mjs';

const [url, first, deploys] = argumentsOf('chat-languages.mjs', 'URL', 'FIRST', 'DEPLOYS');
const KEPT = 15;
const TALKERS = 8;
/** Messages of each client after a deploy. */
const AFTERWARDS = 25;
const NAME_RULE = { error: 'a name has 1 to 32 characters' };
const BODY_RULE = { error: 'a message is a text of 1 to 2000 characters' };

const talkers = [];
const releases = new Map();
const cases = {};

cases['clients connect that stay to the end'] = async () => {
  for (let n = 0; n < TALKERS; n++) talkers.push(talker(`talker ${n}`));
  await Promise.all(talkers.map(({ socket }) => connected(socket)));
};
chatsIn(first);
for (const [language, [command, ...rest]] of JSON.parse(deploys)) {
  cases[`they exchange messages while ${language} is deployed`] = async () => {
    let isDeployed = false;
    const deployed = promisify(execFile)(command, rest).finally(() => (isDeployed = true));
    await Promise.all([deployed, ...talkers.map((one) => one.talk(() => isDeployed))]);
    await Promise.all(talkers.map((one) => one.talk(atMost(AFTERWARDS))));
  };
  chatsIn(language);
}

cases['nothing is lost, doubled or reordered, and no client was disconnected'] = () => {
  for (const { socket, name, connections, others, heardFrom } of talkers) {
    assert.deepEqual([connections(), others, socket.connected], [1, [], true], name);
    for (const spoke of talkers) {
      const expected = spoke.name === name ? [] : Array.from({ length: spoke.said() }, (_, n) => n);
      assert.deepEqual(heardFrom.get(spoke.name) ?? [], expected, `what ${name} heard of ${spoke.name}`);
    }
  }
  assert.equal(new Set(releases.values()).size, releases.size, 'each language is a release of its own');
  return { messages: talkers.reduce((sum, one) => sum + one.said(), 0), releases: releases.size };
};

await run(cases, { caseSeconds: 100, seconds: 280 });

/** A client that stays connected, records messages of others, and sends messages on request. */
function talker(name) {
  const socket = io(url, { forceNew: true, auth: { name }, transports: ['websocket'] });
  const others = [];
  const heardFrom = new Map();
  let [connections, said] = [0, 0];
  socket.on('connect', () => connections++);
  for (const event of ['disconnect', 'connect_error']) socket.on(event, (why) => others.push(`${event}: ${why}`));
  socket.on('message', ({ name, body }) => {
    const [, number] = /^number (\d+)$/.exec(body) ?? [];
    if (number === undefined) return;
    if (!heardFrom.has(name)) heardFrom.set(name, []);
    heardFrom.get(name).push(Number(number));
  });
  const talk = async (isOver) => {
    while (!isOver()) {
      const body = `number ${said++}`;
      const [answer] = await acknowledged(socket, 'message', body);
      assert.equal(answer.ok?.body, body, JSON.stringify(answer));
      // A moderate rate: this tests delivery, not load.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return { socket, name, others, heardFrom, talk, connections: () => connections, said: () => said };
}

/** Whether it has been called so often. */
function atMost(times) {
  return () => times-- <= 0;
}

/** The behaviour of the chat, the same in every language. */
function chatsIn(language) {
  const has = (what, act) => (cases[`${language}: ${what}`] = act);
  // Each client collects the messages that it receives at its start.
  const enter = async (auth) => {
    const socket = open(url, { auth });
    const [welcome, history] = [heard(socket, 'welcome'), heard(socket, 'history')];
    await connected(socket);
    return { socket, welcome: (await welcome)[0], history: (await history)[0] };
  };
  const nothing = (socket, event) =>
    socket.on(event, (...args) => {
      throw new Error(`${event} is not for this one: ${JSON.stringify(args)}`);
    });

  has('a new client is welcomed and announced', async () => {
    const bob = await enter({ name: 'Bob' });
    const joined = heard(bob.socket, 'joined');
    const ada = await enter({ name: ' Ada\tL.\n' });
    releases.set(language, ada.welcome.release);
    assert.match(ada.welcome.release, /^[0-9a-f]{12}$/);
    same(ada.welcome, { name: 'Ada L.', release: bob.welcome.release });
    same(await joined, [{ id: ada.socket.id, name: 'Ada L.' }]);
    const { id } = ada.socket;
    // Clients of the previous case may still be disconnecting.
    const left = new Promise((resolve) => bob.socket.on('left', (who) => who.id === id && resolve(who)));
    ada.socket.disconnect();
    same(await within(10, 'hearing "left"', left), { id, name: 'Ada L.' });
  });

  has('a client without a valid name is a guest', async () => {
    for (const auth of [undefined, {}, { name: '' }, { name: 7 }, { name: '🦀'.repeat(33) }]) {
      const { socket, welcome } = await enter(auth);
      same(welcome.name, `guest ${socket.id.slice(0, 4)}`);
    }
    same((await enter({ name: '🦀'.repeat(32) })).welcome.name, '🦀'.repeat(32));
  });

  has('a message reaches all others and the history', async () => {
    const [ada, bob] = [await enter({ name: 'Ada' }), await enter({ name: 'Bob' })];
    nothing(ada.socket, 'message');
    for (const [said, body] of [['hello', 'hello'], [' a\n\0b\t ', 'a\nb'], ['Grüße 🦀', 'Grüße 🦀'], ['🦀'.repeat(2000), '🦀'.repeat(2000)]]) {
      const told = heard(bob.socket, 'message');
      const before = Date.now();
      const [{ ok }] = await acknowledged(ada.socket, 'message', said);
      const { id, at, ...rest } = ok;
      same(rest, { from: ada.socket.id, name: 'Ada', body, release: ada.welcome.release });
      assert.ok(typeof id === 'string' && id !== '' && Math.abs(at - before) < 60_000, JSON.stringify([id, at, before]));
      same(await told, [ok]);
      same((await enter()).history.at(-1), ok);
    }
  });

  has('the last fifteen messages are kept in order', async () => {
    const { socket } = await enter({ name: 'Ada' });
    const told = [];
    for (let n = 0; n < KEPT + 5; n++) told.push((await acknowledged(socket, 'message', `in ${language} ${n}`))[0].ok);
    same((await enter()).history, told.slice(-KEPT));
  });

  has('a client changes its name', async () => {
    const [ada, bob] = [await enter({ name: 'Ada' }), await enter({ name: 'Bob' })];
    const { socket } = ada;
    const renamed = heard(bob.socket, 'renamed');
    same(await acknowledged(socket, 'set name', ' Countess  of\nLovelace '), [{ ok: 'Countess of Lovelace' }]);
    same(await renamed, [{ id: socket.id, name: 'Countess of Lovelace', was: 'Ada' }]);
    nothing(bob.socket, 'renamed');
    same(await acknowledged(socket, 'set name', 'Countess of Lovelace'), [{ ok: 'Countess of Lovelace' }]);
    for (const name of ['', ' \t', 7, null, {}, 'x'.repeat(33)]) same(await acknowledged(socket, 'set name', name), [NAME_RULE]);
    same(await acknowledged(socket, 'set name'), [NAME_RULE]);
    const told = heard(bob.socket, 'message');
    await acknowledged(socket, 'message', 'It is I');
    assert.equal((await told)[0].name, 'Countess of Lovelace');
  });

  has('an invalid message is answered and not broadcast', async () => {
    const [ada, bob] = [await enter({ name: 'Ada' }), await enter({ name: 'Bob' })];
    const { history } = await enter();
    nothing(bob.socket, 'message');
    for (const body of ['', ' \n ', '\0', 7, null, ['text'], { text: 1 }, 'x'.repeat(2001)]) {
      same(await acknowledged(ada.socket, 'message', body), [BODY_RULE], JSON.stringify(body));
    }
    same(await acknowledged(ada.socket, 'message'), [BODY_RULE]);
    ada.socket.emit('message', '');
    ada.socket.emit('set name', '');
    const unknown = new Promise((resolve) => ada.socket.timeout(200).emit('shout', 'x', resolve));
    assert.ok((await unknown) instanceof Error);
    same((await enter()).history, history);
  });

  has('clients of earlier releases are still connected', async () => {
    const bob = await connect(url);
    const [{ socket, name }] = talkers;
    for (const [as, was] of [[`${name}, renamed in ${language}`.slice(0, 32), name], [name, undefined]]) {
      const renamed = heard(bob, 'renamed');
      same(await acknowledged(socket, 'set name', as), [{ ok: as }]);
      if (was) same((await renamed)[0].was, was);
      await renamed;
    }
  });
}
