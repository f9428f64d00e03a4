// A browser whose pages are watched: what they print, what their policy refused, which dialogs they opened, where they
// connected to.
import { chromium } from 'playwright-core';

const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export const launch = (executablePath) => chromium.launch({ executablePath, args: flags });

export class Bench {
  constructor({ browser, url, shots }) {
    this.browser = browser;
    this.url = url; // of the hub that its pages are of, if they name no other
    this.shots = shots;
    this.contexts = [];
    this.pages = [];
  }

  async page({ url = this.url, width = 1360, height = 860, scheme = 'light', touch = false, motion = 'no-preference' } = {}) {
    const context = await this.browser.newContext({
      ignoreHTTPSErrors: true, baseURL: url, viewport: { width, height }, colorScheme: scheme, hasTouch: touch, isMobile: touch,
      reducedMotion: motion, locale: 'en-GB',
    });
    context.setDefaultTimeout(30_000);
    this.contexts.push(context);
    const page = await context.newPage();
    page.heard = { console: [], dialogs: [], violations: [], elsewhere: [] };
    await page.exposeFunction('violated', (what) => page.heard.violations.push(what));
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => window.violated(`${event.violatedDirective} ${event.blockedURI}`));
    });
    page.on('console', (message) => {
      if (message.text().includes('willReadFrequently')) return; // the checks read canvases, the console does not
      if (message.type() === 'error' || message.type() === 'warning') page.heard.console.push(message.text());
    });
    page.on('pageerror', (error) => page.heard.console.push(String(error)));
    page.on('dialog', async (dialog) => { page.heard.dialogs.push(dialog.message()); await dialog.dismiss(); });
    page.on('request', (request) => { if (!request.url().startsWith(url) && !request.url().startsWith('data:')) page.heard.elsewhere.push(request.url()); });
    this.pages.push(page);
    return page;
  }

  // signedIn is a page on the fleet, or on to, of somebody who has signed in before; signing in has checks of its own.
  async signedIn(options = {}, to = '') {
    const page = await this.page(options);
    await this.control(page, '/api/v1/session', { token: 'test-operator-token' });
    await page.goto(`/console/${to}`);
    if (!to) await page.waitForSelector('.rows .row');
    return page;
  }

  // control has the stand-in hub make something happen.
  async control(page, path, data = {}) {
    const response = await page.request.post(path, { data });
    if (!response.ok()) throw new Error(`${path}: ${response.status()}`);
  }

  async shot(page, name) {
    if (this.shots) await page.screenshot({ path: `${this.shots}/${name}.png` });
  }

  async onFailure(name) {
    for (const [i, page] of this.pages.entries()) {
      await this.shot(page, `failed-${name.replace(/\W+/g, '-')}-${i}`).catch(() => {});
      if (page.heard.console.length) console.error(name, page.heard.console.slice(0, 5));
    }
  }

  async closeAll() {
    for (const context of this.contexts) await context.close();
    this.contexts = [];
    this.pages = [];
  }
}

// clean wants that a page did nothing that a good page does not do.
export function clean(page, { allow = [] } = {}) {
  const bad = page.heard.console.filter((line) => !allow.some((pattern) => pattern.test(line)));
  const rest = { ...page.heard, console: bad };
  for (const [kind, found] of Object.entries(rest)) {
    if (found.length) throw new Error(`${kind}: ${found.slice(0, 3).join(' ; ')}`);
  }
}

// refused is what Chromium prints of an answer that is an error; some checks provoke one.
export const refused = /Failed to load resource: the server responded with a status of 4\d\d|status of 50\d/;
export const lost = /WebSocket connection to|net::ERR_/;

// reading is what a device of the fleet shows as its last values.
export const reading = (page, id) => page.textContent(`#row-${id} .c-values`);
