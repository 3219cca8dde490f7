// node chat-tabs.mjs URL SCREENSHOT: users of the page of the example `chat`, each in a separate tab of a real browser. Two chat, a third
// comes later and sees the history. SCREENSHOT (a .png) shows the first user's page at the end.

import assert from 'node:assert/strict';
import { SECONDS, browse, message, say, sees, visit as visitBy, words } from './chat-page.mjs';
import { argumentsOf, run } from './suite.mjs';

const [url, screenshot] = argumentsOf('chat-tabs.mjs', 'URL', 'SCREENSHOT');
const KEPT = 15;

// Marks this run's messages: the room may have a history.
const now = `(${Date.now()})`;
const HELLO = `Hello, is anybody there? ${now}`;

const browser = await browse();
const wrong = [];
let ada, bob;

await run({
  'two users chat': async () => {
    [ada, bob] = await Promise.all([visit('Ada'), visit('Bob')]);
    await say(ada, HELLO);
    await sees(bob, 'Ada', HELLO);
    await say(bob, `I am! Grüße 🦀 ${now}`);
    await sees(ada, 'Bob', `I am! Grüße 🦀 ${now}`);
  },

  'a sender sees its message once, as delivered': async () => {
    const own = message(ada, 'Ada', HELLO);
    await own.and(ada.locator(':not(.pending):not(.failed)')).waitFor({ timeout: SECONDS });
    assert.equal(await own.count(), 1);
  },

  'messages are shown as text, never as markup': async () => {
    const markup = `<img src=x onerror="document.title='taken over'"> <b>bold</b> & "quotes" ${now}`;
    await say(bob, markup);
    await sees(ada, 'Bob', markup);
    assert.equal(await ada.locator('.message .body img, .message .body b').count(), 0);
    assert.notEqual(await ada.title(), 'taken over');
  },

  'Enter sends, and line breaks are kept': async () => {
    await ada.locator('#text').fill('first line');
    await ada.locator('#text').press('Shift+Enter');
    await ada.locator('#text').pressSequentially(`second line ${now}`);
    await ada.locator('#text').press('Enter');
    await sees(bob, 'Ada', `first line\nsecond line ${now}`);
    assert.equal(await ada.locator('#text').inputValue(), '');
  },

  'a later user sees the history': async () => {
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

  'the others see a user leave': async () => {
    const left = ada.locator('.notice', { hasText: 'Bob left' });
    await bob.context().close();
    await left.waitFor({ timeout: SECONDS });
  },

  'no page had an error': async () => assert.deepEqual(wrong, []),
});

function visit(name, options) {
  return visitBy(browser, url, name, wrong, options);
}
