import { check, want, wantEqual } from './check.js';
import { clean, refused } from './bench.js';

// ink is how many different colours a chart's canvas holds: a blank one holds one.
export const ink = (page, field) => page.$eval(`.strip[data-field="${field}"] canvas`, (canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Map();
  for (let i = 0; i < data.length; i += 4) {
    const colour = `${data[i]},${data[i + 1]},${data[i + 2]},${data[i + 3]}`;
    colours.set(colour, (colours.get(colour) ?? 0) + 1);
  }
  return { colours: colours.size, drawn: [...colours].filter(([colour]) => !colour.endsWith(',0')).reduce((sum, [, n]) => sum + n, 0) };
});

const summary = (page, field) => page.getAttribute(`.strip[data-field="${field}"] .paper`, 'aria-label');

check('device page draws history and goes on live', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.waitForFunction(() => /from .* to .*, now/.test(document.querySelector('.strip[data-field="env.temp"] .paper')?.getAttribute('aria-label') ?? ''));
  const drawn = await ink(page, 'env.temp');
  want(drawn.colours > 8 && drawn.drawn > 2000, `canvas ${JSON.stringify(drawn)}`);
  const blank = await page.evaluate(() => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 50;
    return new Set(canvas.getContext('2d').getImageData(0, 0, 50, 50).data).size;
  });
  wantEqual(blank, 1, 'colours of a blank canvas');
  const before = await page.textContent('.strip[data-field="env.temp"] .strip-value');
  await page.waitForFunction((text) => document.querySelector('.strip[data-field="env.temp"] .strip-value').textContent !== text, before);
  want((await page.textContent('.latest')).includes('phase'), 'a text field is not among the latest values');
  want(await page.$('.strip[data-field="env.phase"]') === null, 'a text field is drawn');
  for (const range of ['1 hour', '24 hours', '7 days', '5 min']) {
    const asked = page.waitForResponse((response) => response.url().includes('/telemetry?') && response.ok());
    await page.click(`.segment:has-text("${range}")`);
    await asked;
    await page.waitForFunction((word) => document.querySelector('.strip[data-field="env.temp"] .paper').getAttribute('aria-label').includes(`last ${word}: from`), range);
    want((await ink(page, 'env.temp')).drawn > 2000, `${range}: nothing drawn`);
  }
  await bench.shot(page, 'device-light');
  clean(page);
});

check('a gap in the history is a gap in the line', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.click('.segment:has-text("1 hour")');
  await page.waitForFunction(() => document.querySelector('.strip[data-field="env.temp"] .paper')?.getAttribute('aria-label').includes('1 hour: from'));
  // The line's own colour, column by column: none where the device was away, some where it was not.
  const columns = await page.$eval('.strip[data-field="env.temp"] canvas', (canvas) => {
    const accent = getComputedStyle(canvas).getPropertyValue('--line-0').trim().match(/\w\w/g).map((hex) => parseInt(hex, 16));
    const { data, width, height } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const has = (x) => {
      for (let y = 0; y < height; y++) {
        const at = (y * width + x) * 4;
        if (data[at + 3] > 200 && accent.every((c, i) => Math.abs(c - data[at + i]) < 30)) return true;
      }
      return false;
    };
    const left = 52 * devicePixelRatio;
    const at = (part) => has(Math.round(left + (width - left) * part));
    return { before: at(0.3), within: at(0.46), after: at(0.7) };
  });
  wantEqual(columns, { before: true, within: false, after: true }, 'line drawn');
});

check('fields are picked', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.waitForSelector('.strip[data-field="env.burner"]');
  await page.click('.choice:has-text("burner")');
  await page.waitForSelector('.strip[data-field="env.burner"]', { state: 'detached' });
  await page.click('.choice:has-text("burner")');
  await page.waitForSelector('.strip[data-field="env.burner"] canvas');
  want(/off|on/.test(await page.textContent('.strip[data-field="env.burner"] .strip-value')), 'a switch reads as a number');
  clean(page);
});

check('presence tells cause and since, and changes live', async (bench) => {
  const page = await bench.signedIn({}, 'devices/cellar-3');
  await page.waitForSelector('.presence-line');
  const line = await page.textContent('.presence-line');
  want(/^Offline for \d+ min .*, since .*: no answer to the heartbeat$/.test(line.trim()), `presence ${line}`);
  await bench.control(page, '/test/event', { event: 'presence', device: 'cellar-3', status: 'online', since: Date.now() });
  await page.waitForFunction(() => document.querySelector('.presence-line').textContent.startsWith('Online'));
  await bench.control(page, '/test/event', { event: 'presence', device: 'cellar-3', status: 'offline', cause: 'timeout', since: Date.now() - 47 * 60_000 });
  await page.waitForFunction(() => document.querySelector('.presence-line').textContent.startsWith('Offline'));
  clean(page, { allow: [refused] });
});

check('desired and reported state stand side by side', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.waitForSelector('.twin .differs');
  wantEqual(await page.$$eval('.twin .differs th', (found) => found.map((th) => th.textContent)), ['mode'], 'what differs');
});

check('a device that is not there is said to be so', async (bench) => {
  const page = await bench.signedIn({}, 'devices/none-such');
  await page.waitForSelector('.fault');
  want((await page.textContent('.fault')).includes('there is no device of that name'), 'no detail');
  await page.goto('/console/commands/none-such');
  await page.waitForSelector('.fault');
  want((await page.textContent('.fault')).includes('there is no such command'), 'no detail');
  await page.goto('/console/no/such/page');
  await page.waitForSelector('text=There is no such page');
});
