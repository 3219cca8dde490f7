// node auction-page.mjs FOLDER API KEY URL: the page of the example `auction` in a real browser, and its back office, by plugnode-emitter in
// FOLDER.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { SECONDS, browse, visit } from './chat-page.mjs';
import { argumentsOf, run } from './suite.mjs';

const [folder, api, key, url] = argumentsOf('auction-page.mjs', 'FOLDER', 'API', 'KEY', 'URL');
const { Emitter } = createRequire(`${folder}/program.js`)('plugnode-emitter');
const emitter = new Emitter({ url: api, key });
const office = (request, data) => emitter.event('/', `auction.${request}/1`, data);

const browser = await browse();
const wrong = [];
let ada, bob;

async function enter(name) {
  const page = await visit(browser, url, name, wrong);
  await page.locator('#name').press('Enter');
  await page.locator('#status[data-state="online"]').waitFor({ timeout: SECONDS });
  return page;
}

const shows = (page, text) => page.locator('#lot-lamp').getByText(text, { exact: true }).first().waitFor({ timeout: SECONDS });

async function bid(page, amount) {
  // Without the page's own check of the least amount.
  await page.locator('#lot-lamp form').evaluate((form) => (form.noValidate = true));
  await page.locator('#lot-lamp .amount').fill(String(amount));
  await page.locator('#lot-lamp button').click({ timeout: SECONDS });
}

await run({
  'a lot appears in open tabs and in those that come later': async () => {
    ada = await enter('Ada');
    await ada.locator('#empty').waitFor({ timeout: SECONDS });
    await office('open', { id: 'lamp', title: '<b>A lamp</b>', price: 10, seconds: 60 });
    await shows(ada, '<b>A lamp</b>');
    bob = await enter('Bob');
    await shows(bob, '<b>A lamp</b>');
    assert.equal(await bob.locator('#empty').isVisible(), false);
    assert.match(await bob.locator('#lot-lamp .state').textContent(), /^(60|[1-5]\d) s left, 0 bids$/);
  },
  'bids are shown to all': async () => {
    await bid(ada, 10);
    await shows(ada, 'you lead');
    await shows(bob, 'by Ada');
    await bid(bob, 10);
    await shows(bob, 'bid 11 or more');
    await bid(bob, 12);
    await shows(ada, 'by Bob');
    await shows(ada, '12');
  },
  'the close ends the bids': async () => {
    await office('close', { id: 'lamp' });
    for (const page of [ada, bob]) {
      await shows(page, 'sold to Bob');
      assert.equal(await page.locator('#lot-lamp button').isDisabled(), true);
    }
  },
  'no error occurred on a page': async () => {
    assert.deepEqual(wrong, []);
    await browser.close();
  },
});
