import { check, want, wantEqual } from './check.js';
import { clean, refused } from './bench.js';
import { line } from './line.js';

const phone = { width: 390, height: 780, touch: true };
const pages = ['', 'devices/boiler-1', 'devices/hostile-1', 'commands', 'jobs', 'jobs/j1', 'bridge', 'deadletters', 'hub', 'enrollments'];

async function settled(page) {
  await page.waitForSelector('.row, .strip canvas, .command, .card, .letter, .jobs, .enrollments, .absent');
}

check('nothing is wider than a phone', async (bench) => {
  const page = await bench.signedIn(phone);
  for (const to of pages) {
    await page.goto(`/console/${to}`);
    await settled(page);
    const { widest, culprit } = await page.evaluate(() => {
      const scrolls = [document.documentElement, document.querySelector('main')];
      let culprit = '';
      for (const el of document.querySelectorAll('main *')) {
        if (el.getBoundingClientRect().right > innerWidth + 1 && !el.closest('.segments, .rows, .tip, .unseen')) culprit ||= `${el.tagName}.${el.className}`;
      }
      return { widest: Math.max(...scrolls.map((el) => el.scrollWidth - innerWidth)), culprit };
    });
    want(widest <= 0, `${to || 'fleet'} is ${widest} px too wide: ${culprit}`);
    await bench.shot(page, `phone-${(to || 'fleet').replace('/', '-')}`);
  }
  const small = await page.$$eval('.place, .bar button', (found) => found.filter((el) => el.getBoundingClientRect().height < 26).length);
  wantEqual(small, 0, 'targets too small for a thumb');
  clean(page, { allow: [refused] });
});

check('a command can be sent from a phone', async (bench) => {
  const page = await bench.signedIn({ ...phone, scheme: 'dark' }, 'devices/boiler-1');
  await page.tap('button:has-text("Send")');
  await page.waitForSelector('.command[data-state=succeeded]');
  await page.locator('.command').first().scrollIntoViewIfNeeded();
  await bench.shot(page, 'phone-command-dark');
  const tip = page.locator('.command .tip').first();
  want(!await tip.isVisible(), 'the evidence is explained before anybody asked');
  // A touch becomes focus only after a while. On a busy machine it can take so long that it counts as a long press; a person
  // would tap again.
  let explained = false;
  for (let i = 0; i < 5 && !explained; i++) {
    await page.tap('.command .evidence');
    explained = await tip.waitFor({ state: 'visible', timeout: 3000 }).then(() => true, () => false);
  }
  want(explained, 'a tap does not explain the evidence');
  clean(page);
});

const paper = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).reduce((sum, n) => sum + Number(n), 0));

check('dark and light', async (bench) => {
  const dark = await bench.signedIn({ scheme: 'dark' });
  want(await paper(dark) < 150, 'dark is not dark');
  await bench.shot(dark, 'fleet-dark');
  await dark.goto('/console/devices/boiler-1');
  await dark.waitForSelector('.strip canvas');
  await dark.waitForFunction(() => document.querySelector('.paper').getAttribute('aria-label').includes('from'));
  await line(dark);
  await bench.shot(dark, 'device-dark');
  await dark.click('.theme-toggle');
  want(await paper(dark) > 600, 'light chosen over a dark system is not light');
  await dark.reload();
  await dark.waitForSelector('.theme-toggle');
  want(await paper(dark) > 600, 'the choice did not last');
  await dark.click('.theme-toggle');
  want(await paper(dark) < 150, 'dark chosen is not dark');
  await dark.click('.theme-toggle');
  wantEqual(await dark.evaluate(() => localStorage.length), 0, 'kept after going back to the system’s scheme');
  clean(dark, { allow: [refused] });
});

// contrast wants 4.5:1 between text and what is behind it, for every text on the page.
const contrast = (page) => page.evaluate(() => {
  const rgb = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (el) => {
    for (let e = el; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const el = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !el.checkVisibility({ visibilityProperty: true }) || el.closest('.unseen, .skip, :disabled, option, script, noscript')) continue;
    const [a, b] = [light(rgb(getComputedStyle(el).color)), light(behind(el))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${el.className || el.tagName} "${walker.currentNode.data.trim().slice(0, 20)}" ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
});

check('text is readable in both schemes', async (bench) => {
  for (const scheme of ['light', 'dark']) {
    const page = await bench.signedIn({ scheme });
    for (const to of pages) {
      await page.goto(`/console/${to}`);
      await settled(page);
      wantEqual(await contrast(page), [], `${scheme}, ${to || 'fleet'}: contrast below 4.5`);
    }
  }
  const page = await bench.signedIn();
  await page.evaluate(() => { document.querySelector('h1').setAttribute('id', 'pale'); document.adoptedStyleSheets = [...document.adoptedStyleSheets, Object.assign(new CSSStyleSheet(), {})]; document.adoptedStyleSheets.at(-1).insertRule('#pale { color: #bbb }'); });
  want((await contrast(page)).length > 0, 'pale text is not noticed');
});

check('everything works by keyboard', async (bench) => {
  const page = await bench.page();
  await page.goto('/console/');
  await page.waitForSelector('input[name=token]');
  await page.keyboard.type('test-operator-token');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.rows .row');
  await page.evaluate(() => document.activeElement?.blur());
  await page.keyboard.press('Tab');
  wantEqual(await page.evaluate(() => document.activeElement.className), 'skip', 'the first stop');
  const outlined = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  want(outlined !== 'none', 'focus cannot be seen');
  await page.keyboard.press('Enter');
  wantEqual(await page.evaluate(() => document.activeElement.id), 'main', 'where skipping leads');
  await page.keyboard.press('/');
  await page.keyboard.type('pump');
  await page.waitForFunction(() => document.querySelector('.rows').getAttribute('aria-rowcount') === '21');
  for (let i = 0; i < 12 && await page.evaluate(() => !document.activeElement.matches('.rows')); i++) await page.keyboard.press('Tab');
  want(await page.evaluate(() => document.activeElement.matches('.rows')), 'the table is not reached');
  await page.keyboard.press('End');
  await page.waitForFunction(() => document.querySelector('.rows').getAttribute('aria-activedescendant') === 'row-pump-20');
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowDown');
  await page.waitForFunction(() => document.querySelector('.row[aria-selected=true]')?.id === 'row-pump-02');
  await bench.shot(page, 'keyboard');
  await page.keyboard.press('/');
  await page.keyboard.press('Control+a');
  await page.keyboard.type('boiler');
  await page.waitForFunction(() => document.querySelector('.rows').getAttribute('aria-rowcount') === '2');
  for (let i = 0; i < 12 && await page.evaluate(() => !document.activeElement.matches('.rows')); i++) await page.keyboard.press('Tab');
  await page.keyboard.press('Home');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.order');
  for (let i = 0; i < 60 && await page.evaluate(() => document.activeElement.name !== 'seconds'); i++) await page.keyboard.press('Tab');
  await page.keyboard.press('Control+a');
  await page.keyboard.type('45');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.command[data-state=succeeded]');
  want((await page.textContent('.command-params')).includes('seconds 45'), 'other parameters were sent');
  clean(page, { allow: [refused] });
});

check('every control has a name', async (bench) => {
  const page = await bench.signedIn();
  for (const to of pages) {
    await page.goto(`/console/${to}`);
    await settled(page);
    const nameless = await page.$$eval('button, input, select, textarea, a[href], dialog', (found) => found.filter((el) => {
      const labelled = el.getAttribute('aria-label') || el.getAttribute('aria-labelledby') || el.closest('label')?.textContent.trim() || el.textContent.trim();
      return !labelled;
    }).map((el) => el.outerHTML.slice(0, 80)));
    wantEqual(nameless, [], `${to || 'fleet'}: without a name`);
    wantEqual(await page.$$eval('h1', (found) => found.length), 1, `${to || 'fleet'}: headings of the first level`);
  }
});
