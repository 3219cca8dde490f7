// node habits.mjs URL: the official client against handlers/habits.js.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';

import { acknowledged as ask, argumentsOf, connect, heard, open, run, same } from './suite.mjs';

const [url] = argumentsOf('habits.mjs', 'URL');

await run({
  async 'properties that a middleware adds to the request stay'() {
    const socket = await connect(url);
    same(await ask(socket, 'view'), [1, true]);
    same(await ask(socket, 'view'), [2, true]);
  },
  async 'constructor functions inherit from EventEmitter'() {
    const socket = await connect(url);
    const counted = heard(socket, 'count');
    socket.emit('count');
    same(await counted, [1]);
  },
  async 'onAny comes before middlewares and gets the acknowledgement'() {
    const socket = await connect(url);
    same(await ask(socket, 'answer early'), ['early']);
    const [seen, why] = [heard(socket, 'seen'), heard(socket, 'why')];
    socket.emit('refused');
    same(await seen, ['refused']);
    same(await why, ['not this']);
  },
  async 'modules of Node'() {
    const socket = await connect(url);
    same(await ask(socket, 'rooms'), [1]);
    same(await ask(socket, 'url'), ['/a', '1', null]);
    same(await ask(socket, 'paths'), ['../c/d', { root: '/', dir: '/a', base: 'b.tar.gz', ext: '.gz', name: 'b.tar' }, '/a/b.c']);
    same(await ask(socket, 'sign'), [createHmac('sha256', 'secret').update('abc').digest('hex'), 'secret', true]);
    same(await ask(socket, 'assert'), ['AssertionError', 'one is not two']);
  },
  async 'the namespaces of a program take clients'() {
    const socket = open(`${url}/admin`);
    same(await heard(socket, 'welcome'), ['/admin']);
  },
  async 'a client cannot change the objects of others'() {
    const [socket, other] = await Promise.all([connect(url), connect(url)]);
    await ask(socket, 'settings', JSON.parse('{ "__proto__": { "get": 7, "volatile": true } }'));
    same(await ask(other, 'polluted'), ['undefined', 'undefined']);
    same(await ask(await connect(url), 'view'), [1, true]);
  },
  async 'a client whose connection is closed hears that the server did it'() {
    for (const transports of [['websocket'], ['polling']]) {
      const socket = await connect(url, { transports });
      const gone = heard(socket, 'disconnect');
      socket.emit('kick');
      same((await gone).slice(0, 1), ['io server disconnect']);
      assert(!socket.active);
    }
  },
  async 'fetchSockets has what the event has set'() {
    const socket = await connect(url);
    same(await ask(socket, 'fetch'), [{ seen: 1 }, 'grace']);
  },
  async 'an answer that JSON cannot express leaves room for another'() {
    const socket = await connect(url);
    same(await ask(socket, 'bigint'), ['TypeError']);
  },
  async 'an instance with damaged built-in functions is replaced'() {
    const [socket, other] = await Promise.all([connect(url), connect(url)]);
    const [failed] = await ask(socket, 'damage');
    same(failed.error.code, 'failed');
    same(await ask(other, 'polluted'), ['undefined', 'undefined']);
  },
});
