// Users of the page of the example `chat`, each in a separate tab of a real browser.

import { chromium } from 'playwright-core';

// The browser must contact only the tested server.
const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
export const SECONDS = 10_000;

/** Starts the browser; ends the script if there is none. */
export async function browse() {
  return chromium
    .launch({ executablePath: process.env.PLUGNODE_CHROMIUM ?? '/usr/bin/chromium', args: ARGUMENTS, timeout: 60_000 })
    .catch((error) => {
      console.error(`Chromium does not start (sudo apt-get install chromium, or set PLUGNODE_CHROMIUM): ${error.message}`);
      process.exit(1);
    });
}

/** Opens a tab whose user has joined the chat. Errors of the page are added to `wrong`; `prepare` runs in the page first. */
export async function visit(browser, url, name, wrong, { viewport = { width: 1100, height: 760 }, prepare } = {}) {
  const page = await (await browser.newContext({ viewport })).newPage();
  page.on('pageerror', (error) => wrong.push(`${name}: ${error.stack ?? error}`));
  page.on('console', (line) => line.type() === 'error' && wrong.push(`${name}: ${line.text()} (${line.location().url})`));
  page.on('response', (response) => response.status() >= 400 && wrong.push(`${name}: ${response.status()} ${response.url()}`));
  if (prepare) await page.addInitScript(prepare);
  await page.goto(url, { timeout: SECONDS });
  await page.locator('#status[data-state="online"]').waitFor({ timeout: SECONDS });
  await page.locator('#name').fill(name);
  return page;
}

export async function say(page, text) {
  await page.locator('#text').fill(text);
  await page.locator('#send').click({ timeout: SECONDS });
}

export async function sees(page, author, text) {
  await message(page, author, text).waitFor({ timeout: SECONDS });
}

/** The message of `author` that is exactly `text`. */
export function message(page, author, text) {
  const by = page.locator('.author').and(page.getByText(author, { exact: true }));
  const what = new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);
  return page.locator('.message', { has: by }).filter({ has: page.locator('.body', { hasText: what }) });
}

/** Runs in the page: author and text of each message. */
export function words(messages) {
  return messages.map((message) => [message.querySelector('.author').textContent, message.querySelector('.body').textContent]);
}
