// node auction.mjs FOLDER API,API KEY URL,URL: bidders of the example `auction` on all io-nodes, and its back office, by plugnode-emitter in
// FOLDER. Its configuration must have `extension = "1"`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { acknowledged, argumentsOf, connect, heard, run, same, within } from './suite.mjs';

const [folder, apis, key, list] = argumentsOf('auction.mjs', 'FOLDER', 'API,API', 'KEY', 'URL,URL');
const { Emitter } = createRequire(`${folder}/program.js`)('plugnode-emitter');
const emitter = new Emitter({ url: apis.split(','), key });
const urls = list.split(',');
const office = async (request, data) => (await emitter.event('/', `auction.${request}/1`, data)).args[0];
const stateOf = async (id) => (await office('state')).find((lot) => lot.id === id);

let bidders = 0;
/** A client, with each state of the lot `id` that it has heard. */
async function bidder(id, name = `bidder ${++bidders}`) {
  const socket = await connect(urls[bidders % urls.length], { auth: { name }, transports: ['websocket'] });
  const states = [];
  socket.on('lot', (lot) => lot.id === id && states.push(lot));
  const bid = async (amount) => (await acknowledged(socket, 'bid', id, amount))[0];
  /** Waits until a state of the lot satisfies the condition. */
  const sees = (what, condition) =>
    within(10, what, (async () => {
      while (!states.some(condition)) await new Promise((resolve) => socket.once('lot', () => setImmediate(resolve)));
      return states.find(condition);
    })());
  return { socket, name, states, bid, sees };
}

const cases = {
  'the office opens a lot, and clients see it': async () => {
    const ada = await bidder('vase');
    const opened = await office('open', { id: 'vase', title: ' A\tvase ', price: 10, seconds: 60 });
    const lot = { id: 'vase', title: 'A vase', price: 10, bidder: null, bids: 0, ends: opened.ok.ends, isOpen: true };
    same(opened, { ok: lot });
    same(await ada.sees('the lot', () => true), lot);
    same(await office('open', { id: 'vase', title: 'x', price: 1, seconds: 1 }), { error: 'lot vase is open already' });
    for (const wrong of [{}, { id: '../x' }, { id: 'a', title: '' }, { id: 'a', title: 'b', price: 0 }, { id: 'a', title: 'b', price: 1, seconds: 0 }]) {
      assert.match((await office('open', wrong)).error, /^`/);
    }
    const late = await connect(urls[0], { auth: { name: 'late' } }).then((socket) => acknowledged(socket, 'bid', 'vase', 5));
    same(late, [{ error: 'bid 10 or more' }]);
  },

  'bids at the same time are each higher than the one before': async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => bidder('vase')));
    const results = await Promise.all(
      all.map(async ({ name, bid }, n) => {
        const accepted = [];
        for (let round = 1; round <= 12; round++) {
          const answer = await bid(10 * round + ((n * 7 + round) % 10));
          if (answer.ok) accepted.push(answer.ok.price);
          else assert.match(answer.error, /^bid \d+ or more$/);
        }
        return accepted.map((price) => ({ name, price }));
      }),
    );
    const accepted = results.flat().sort((one, other) => one.price - other.price);
    const last = accepted.at(-1);
    const lot = await stateOf('vase');
    same([lot.price, lot.bidder, lot.bids], [last.price, last.name, accepted.length]);
    assert.equal(new Set(accepted.map(({ price }) => price)).size, accepted.length, 'no price is accepted twice');
    for (const { states, sees } of all) {
      await sees('the last bid', ({ bids }) => bids === accepted.length);
      // States of one lot that different clients cause have no promised order on their way: each has the number of its bid.
      const inOrder = states.toSorted((one, other) => one.bids - other.bids);
      same(inOrder.map(({ price, bidder }) => ({ name: bidder, price })), accepted.slice(-inOrder.length));
    }
    return { accepted: accepted.length };
  },

  'the office closes a lot early': async () => {
    const ada = await bidder('vase');
    const { bidder: leader, price } = await stateOf('vase');
    const closed = await office('close', { id: 'vase' });
    same([closed.ok.isOpen, closed.ok.bidder, closed.ok.price], [false, leader, price]);
    await ada.sees('the close', ({ isOpen }) => !isOpen);
    same(await ada.bid(1_000), { error: 'the lot is closed' });
    same(await office('close', { id: 'vase' }), { error: 'there is no such open lot' });
  },

  'a late bid moves the end, and the timer closes the lot then': async () => {
    const [ada, bob] = [await bidder('clock', 'Ada'), await bidder('clock', 'Bob')];
    const called = heard(bob.socket, 'call');
    const { ok: opened } = await office('open', { id: 'clock', title: 'A clock', price: 5, seconds: 4 });
    same(await called, ['clock', 'going twice']);
    const early = await ada.bid(5);
    assert.equal(early.ok.ends, opened.ends);
    await new Promise((resolve) => setTimeout(resolve, opened.ends - Date.now() - 600));
    const late = await bob.bid(6);
    assert.ok(late.ok.ends > opened.ends, JSON.stringify(late));
    const end = await ada.sees('the close', ({ isOpen }) => !isOpen);
    assert.ok(Date.now() >= late.ok.ends);
    same([end.price, end.bidder, end.bids, end.ends], [6, 'Bob', 2, late.ok.ends]);
    same(await ada.bid(7), { error: 'the lot is closed' });
    const again = await office('open', { id: 'clock', title: 'The clock again', price: 1, seconds: 60 });
    same([again.ok.bids, (await stateOf('clock')).isOpen], [0, true]);
  },
};

await run(cases);
