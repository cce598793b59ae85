#!/usr/bin/env node
// A person with a web browser, for the tests: headless Chromium, driven by playwright-core.
//
//   node browser.mjs ACTION ADDRESS [SCREENSHOT.png]
//
//   consent   logs in at the provider (the forms of oidc_provider.mjs) and consents
//   deny      logs in and cancels; in the device flow, aborts
//   open      only opens the address
//
// The browser follows everything until it has left the origin of ADDRESS, or until the provider has nothing more to ask: the end
// of the device flow, or an error. It then prints one line of JSON about the page it is at:
//
//   address   what the address bar shows, also if that page could not be loaded
//   title, text, console   the title, the visible text, and the console's errors and uncaught errors
//
// The exit code is 1 after 60 s without an end.
//
// With one argument it is a program for the environment variable BROWSER: browser.mjs ADDRESS. Its action is then BROWSER_ACTION
// (consent by default), its screenshot BROWSER_SCREENSHOT, and the line is appended to the file BROWSER_LOG. So is a failure, as
// {"address": …, "error": …}, because the program that opens a browser often hides its output.
//
// CHROMIUM is the path of Chromium (/usr/bin/chromium by default). It reaches only this machine: no other name is resolved.

import { appendFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const ACTIONS = ['consent', 'deny', 'open'];
const END_SECONDS = 60;
const QUIET_SECONDS = 5; // a page that never stops loading things is at its end too

// The provider's pages ask for a font from there. They would wait for it without the resolver rules, and its absence is no error.
const FONTS = 'https://fonts.googleapis.com/';
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--no-proxy-server',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]',
];

/** Collects what the main frame does. `loading` is true from the start of a navigation to the page that it leads to. */
function watch(page) {
  const seen = { requested: '', console: [], loading: false };
  page.on('request', (request) => {
    if (!request.isNavigationRequest() || request.frame() !== page.mainFrame()) return;
    Object.assign(seen, { requested: request.url(), loading: true });
  });
  page.on('framenavigated', (frame) => {
    if (frame !== page.mainFrame()) return;
    if (seen.loading) seen.console = []; // false after history.replaceState
    seen.loading = false;
  });
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.location().url.startsWith(FONTS)) seen.console.push(message.text());
  });
  page.on('pageerror', (error) => seen.console.push(String(error)));
  return seen;
}

/** What the address bar shows. page.url() has another address if a page could not be loaded: that of the browser's error page. */
async function addressBar(page) {
  const session = await page.context().newCDPSession(page);
  const { entries, currentIndex } = await session.send('Page.getNavigationHistory');
  await session.detach();
  return entries[currentIndex].url;
}

/** Returns when the page has loaded and does not lead to another one by itself. */
async function settle(page, seen) {
  for (;;) {
    await page.waitForLoadState('load', { timeout: 0 });
    await page.waitForLoadState('networkidle', { timeout: QUIET_SECONDS * 1000 }).catch(() => {});
    if (!seen.loading) return;
    await page.waitForTimeout(20);
  }
}

/** The next thing to click on a page of the provider. Undefined if it asks for nothing. */
async function nextClick(page, action) {
  if (await page.locator('p.red').count()) return undefined; // a user code that is wrong, used or aborted
  if (await page.locator('input[name=login]').count()) {
    await page.fill('input[name=login]', 'alice');
    await page.fill('input[name=password]', 'any');
    return page.locator('button[type=submit]');
  }
  const device = 'button[form="op.deviceConfirmForm"]';
  if (await page.locator(device).count()) {
    return page.locator(action === 'deny' ? `${device}[name=abort]` : `${device}:not([name])`);
  }
  if (await page.locator('input[name=prompt][value=consent]').count()) {
    return page.locator(action === 'deny' ? '.login-help a[href$="/abort"]' : 'button[type=submit]');
  }
  return undefined;
}

async function visit(page, seen, action, address) {
  await page.goto(address, { timeout: 0 }).catch((error) => {
    // This is an end as well: the page could not be loaded, or a redirect led to one that could not.
    if (!/net::ERR_|interrupted by another navigation/.test(error.message)) throw error;
  });
  await settle(page, seen);
  while (action !== 'open' && new URL(await addressBar(page)).origin === new URL(address).origin) {
    const click = await nextClick(page, action);
    if (!click) break;
    seen.loading = true; // the request starts a moment after the click
    await click.click({ noWaitAfter: true, timeout: 0 });
    await settle(page, seen);
  }
}

async function browse(action, address, screenshot) {
  // An empty path is a new profile in the folder for temporary files. Playwright removes it at the end.
  const context = await chromium.launchPersistentContext('', {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS, timeout: END_SECONDS * 1000,
    viewport: { width: 800, height: 600 },
  });
  const [page] = context.pages();
  const seen = watch(page);
  let timer;
  const late = new Promise((_resolve, reject) => {
    const end = () => reject(new Error(`no end after ${END_SECONDS} s; the last request was ${seen.requested}`));
    timer = setTimeout(end, END_SECONDS * 1000);
  });
  const ended = async () => {
    await visit(page, seen, action, address);
    const [title, text] = await page.evaluate(() => [document.title, document.body?.innerText ?? '']);
    if (screenshot) await page.screenshot({ path: screenshot });
    return { address: await addressBar(page), title, text, console: seen.console };
  };
  try {
    return await Promise.race([ended(), late]);
  } finally {
    clearTimeout(timer);
    await context.close();
  }
}

const called = process.argv.slice(2);
const { BROWSER_ACTION, BROWSER_SCREENSHOT, BROWSER_LOG } = process.env;
const asProgram = called.length === 1;
const [action, address, screenshot] = asProgram ? [BROWSER_ACTION || 'consent', called[0], BROWSER_SCREENSHOT] : called;
const report = (line) => (asProgram && BROWSER_LOG ? appendFileSync(BROWSER_LOG, `${line}\n`) : console.log(line));

if (!ACTIONS.includes(action) || !URL.canParse(address) || called.length > 3) {
  console.error(`usage: browser.mjs ${ACTIONS.join('|')} ADDRESS [SCREENSHOT.png]`);
  process.exit(2);
}
try {
  report(JSON.stringify(await browse(action, address, screenshot)));
} catch (error) {
  const [message] = error.message.split('\n'); // without the log of playwright-core
  console.error(`browser: ${message}`);
  if (asProgram && BROWSER_LOG) report(JSON.stringify({ address, error: message }));
  process.exitCode = 1;
}
