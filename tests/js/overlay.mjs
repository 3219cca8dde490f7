// A handler's page under `plugnode dev`, in a real browser: errors are shown over it, and its connection stays.
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

// A build error shows file, line and code, as text.
save('export const answer = (text) => "<img src=x onerror=window.hurt=1>" + ;\n');
await shows('The handler does not build', 'answers.js:1', 'onerror=window.hurt=1');
assert.equal(await overlay.locator('img').count(), 0);
assert.equal(await overlay.locator('.here').textContent(), '1export const answer = (text) => "<img src=x onerror=window.hurt=1>" + ;');
// A page opened now shows it as well.
const other = await (await browser.newContext()).newPage();
await other.goto(url, { timeout: SECONDS });
await other.locator('plugnode-overlay').getByText('answers.js:1').first().waitFor({ timeout: SECONDS });
await other.close();
// The previous handler still runs.
assert.equal(await ask('well'), 'well');

// The same source as before: nothing to deploy or to show.
save('export const answer = (text) => text;\n');
await goesAway();

// An exception shows its message and its place in the source.
save('export const answer = (text) => {\n  if (text === "bad")\n    throw new Error(`<b>${text}</b>`);\n  return text + "!";\n};\n');
// Retried: a release takes an unknown time.
while ((await ask('well')) !== 'well!') await new Promise((done) => setTimeout(done, 100));
await ask('bad');
await shows('The handler failed: message "ask"', 'answers.js:3', '<b>bad</b>');
assert.equal(await overlay.locator('b').count(), 0);
await page.keyboard.press('Escape');
await goesAway();
// It is shown again when it happens again, and disappears at the next build.
await ask('bad');
await shows('answers.js:3');
save('export const answer = (text) => text + "?";\n');
await goesAway();
assert.equal(await ask('bad'), 'bad?');

assert.deepEqual(await page.evaluate(() => [window.socket.id === window.first, window.lost, window.hurt ?? 0]), [true, 0, 0]);
assert.deepEqual(wrong, []);
await browser.close();
