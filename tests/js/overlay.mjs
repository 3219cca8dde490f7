// The page of a handler that is being written, in a real browser: what `plugnode dev` shows over it, and that its connection stays.
// Arguments: the URL, and the folder of the handler.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { SECONDS, browse } from './chat-page.mjs';

const [url, folder] = process.argv.slice(2);
const save = (text) => writeFileSync(join(folder, 'answers.js'), text);
const browser = await browse();
const page = await (await browser.newContext()).newPage();
const wrong = [];
page.on('pageerror', (error) => wrong.push(String(error)));
await page.goto(url, { timeout: SECONDS });
await page.waitForFunction(() => window.socket.connected, undefined, { timeout: SECONDS });
await page.evaluate(() => {
  window.first = window.socket.id;
  window.lost = 0;
  window.socket.on('disconnect', () => (window.lost += 1));
});

const overlay = page.locator('plugnode-overlay');
const shows = async (...texts) => {
  for (const text of texts) await overlay.getByText(text).first().waitFor({ timeout: SECONDS });
};
const goesAway = () => overlay.waitFor({ state: 'detached', timeout: SECONDS });
const ask = (text) => page.evaluate((text) => window.socket.timeout(8000).emitWithAck('ask', text), text);
assert.equal(await overlay.count(), 0);

// What does not build: the file, the line and the code, as text.
save('export const answer = (text) => "<img src=x onerror=window.hurt=1>" + ;\n');
await shows('The handler does not build', 'answers.js:1', 'onerror=window.hurt=1');
assert.equal(await overlay.locator('img').count(), 0);
assert.equal(await overlay.locator('.here').textContent(), '1export const answer = (text) => "<img src=x onerror=window.hurt=1>" + ;');
// A page that is opened now shows it, too.
const other = await (await browser.newContext()).newPage();
await other.goto(url, { timeout: SECONDS });
await other.locator('plugnode-overlay').getByText('answers.js:1').first().waitFor({ timeout: SECONDS });
await other.close();
// The handler before it is at work.
assert.equal(await ask('well'), 'well');

// The same as before it: nothing to deploy, and nothing to show.
save('export const answer = (text) => text;\n');
await goesAway();

// What throws: its message, and the place in the file that was written.
save('export const answer = (text) => {\n  if (text === "bad")\n    throw new Error(`<b>${text}</b>`);\n  return text + "!";\n};\n');
// Asked again and again: a release takes the time that it takes, and the test as long as tests do.
while ((await ask('well')) !== 'well!') await new Promise((done) => setTimeout(done, 100));
await ask('bad');
await shows('The handler failed: message "ask"', 'answers.js:3', '<b>bad</b>');
assert.equal(await overlay.locator('b').count(), 0);
await page.keyboard.press('Escape');
await goesAway();
// It is shown again when it happens again, and goes away at the next build.
await ask('bad');
await shows('answers.js:3');
save('export const answer = (text) => text + "?";\n');
await goesAway();
assert.equal(await ask('bad'), 'bad?');

assert.deepEqual(await page.evaluate(() => [window.socket.id === window.first, window.lost, window.hurt ?? 0]), [true, 0, 0]);
assert.deepEqual(wrong, []);
await browser.close();
