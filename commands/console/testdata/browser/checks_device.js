import { check, want, wantEqual } from './check.js';
import { clean, refused } from './bench.js';
import { line, lineAt } from './line.js';

check('device page draws history and goes on live', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.waitForFunction(() => /from .* to .*, now/.test(document.querySelector('.strip[data-field="env.temp"] .paper')?.getAttribute('aria-label') ?? ''));
  await line(page);
  // The same look at the canvas finds nothing where nothing is drawn.
  await page.evaluate(() => { document.querySelector('.strip[data-field="env.temp"] canvas').style.setProperty('--line-0', '#ff00ff'); });
  wantEqual(await page.evaluate(lineAt, [0.2, 0.3, 0.7, 0.8]), null, 'a line of a colour that is not drawn');
  await page.evaluate(() => { document.querySelector('.strip[data-field="env.temp"] canvas').style.removeProperty('--line-0'); });
  const before = await page.textContent('.strip[data-field="env.temp"] .strip-value');
  await page.waitForFunction((text) => document.querySelector('.strip[data-field="env.temp"] .strip-value').textContent !== text, before);
  want((await page.textContent('.latest')).includes('phase'), 'a text field is not among the latest values');
  want(await page.$('.strip[data-field="env.phase"]') === null, 'a text field is drawn');
  for (const range of ['1 hour', '24 hours', '7 days', '5 min']) {
    const asked = page.waitForResponse((response) => response.url().includes('/telemetry?') && response.ok());
    await page.click(`.segment:has-text("${range}")`);
    await asked;
    await page.waitForFunction((word) => document.querySelector('.strip[data-field="env.temp"] .paper').getAttribute('aria-label').includes(`last ${word}: from`), range);
    await line(page);
  }
  await bench.shot(page, 'device-light');
  clean(page);
});

check('a gap in the history is a gap in the line', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.click('.segment:has-text("1 hour")');
  await page.waitForFunction(() => document.querySelector('.strip[data-field="env.temp"] .paper')?.getAttribute('aria-label').includes('1 hour: from'));
  const lined = await (await page.waitForFunction(lineAt, [0.3, 0.46, 0.7])).jsonValue();
  wantEqual(lined, { 0.3: true, 0.46: false, 0.7: true }, 'line drawn at these parts of the width');
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
