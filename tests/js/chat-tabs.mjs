// node chat-tabs.mjs URL SCREENSHOT: people at the page of the example `chat`, each in a tab of a real browser that shares nothing with the
// others. Two chat with each other, a third comes later and finds what was said. SCREENSHOT (a .png) shows the first one's page at the end.

import assert from 'node:assert/strict';
import { SECONDS, browse, message, say, sees, visit as visitBy, words } from './chat-page.mjs';
import { argumentsOf, run } from './suite.mjs';

const [url, screenshot] = argumentsOf('chat-tabs.mjs', 'URL', 'SCREENSHOT');
const KEPT = 15;

// The room may have a history; what is said here is told from it by this.
const now = `(${Date.now()})`;
const HELLO = `Hello, is anybody there? ${now}`;

const browser = await browse();
const wrong = [];
let ada, bob;

await run({
  'two people chat': async () => {
    [ada, bob] = await Promise.all([visit('Ada'), visit('Bob')]);
    await say(ada, HELLO);
    await sees(bob, 'Ada', HELLO);
    await say(bob, `I am! Grüße 🦀 ${now}`);
    await sees(ada, 'Bob', `I am! Grüße 🦀 ${now}`);
  },

  'one sees what one says once, as delivered': async () => {
    const own = message(ada, 'Ada', HELLO);
    await own.and(ada.locator(':not(.pending):not(.failed)')).waitFor({ timeout: SECONDS });
    assert.equal(await own.count(), 1);
  },

  'what people type is text, never markup': async () => {
    const markup = `<img src=x onerror="document.title='taken over'"> <b>bold</b> & "quotes" ${now}`;
    await say(bob, markup);
    await sees(ada, 'Bob', markup);
    assert.equal(await ada.locator('.message .body img, .message .body b').count(), 0);
    assert.notEqual(await ada.title(), 'taken over');
  },

  'lines are sent by Enter, and kept': async () => {
    await ada.locator('#text').fill('first line');
    await ada.locator('#text').press('Shift+Enter');
    await ada.locator('#text').pressSequentially(`second line ${now}`);
    await ada.locator('#text').press('Enter');
    await sees(bob, 'Ada', `first line\nsecond line ${now}`);
    assert.equal(await ada.locator('#text').inputValue(), '');
  },

  'who comes later finds what was said': async () => {
    const spoken = (await ada.locator('.message').evaluateAll(words)).slice(-KEPT);
    const cleo = await visit('Cleo', { viewport: { width: 390, height: 780 } });
    await cleo.locator('.message').nth(spoken.length - 1).waitFor({ timeout: SECONDS });
    assert.deepEqual(await cleo.locator('.message').evaluateAll(words), spoken);
    const [wide, seen] = await cleo.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(wide <= seen, `on a phone the page is ${wide} px wide where ${seen} px are seen`);
    const read = `I read it all. ${now}`;
    await say(cleo, read);
    await Promise.all([sees(ada, 'Cleo', read), sees(bob, 'Cleo', read)]);
    await ada.screenshot({ path: screenshot, animations: 'disabled' });
  },

  'who goes is seen to go': async () => {
    const left = ada.locator('.notice', { hasText: 'Bob left' });
    await bob.context().close();
    await left.waitFor({ timeout: SECONDS });
  },

  'no page met an error': async () => assert.deepEqual(wrong, []),
});

function visit(name, options) {
  return visitBy(browser, url, name, wrong, options);
}
