import { check, want, wantEqual } from './check.js';
import { clean, lost, reading, refused } from './bench.js';

const rows = (page) => page.$$eval('.rows .row', (found) => found.map((row) => row.id.replace('row-', '')));

check('fleet shows live values and presence', async (bench) => {
  const page = await bench.signedIn();
  await page.waitForSelector('#row-boiler-1');
  wantEqual((await rows(page)).slice(0, 4), ['boiler-1', 'cellar-3', 'hostile-1', 'plug-1'], 'order');
  const before = await reading(page, 'boiler-1');
  await page.waitForFunction((text) => document.querySelector('#row-boiler-1 .c-values').textContent !== text, before);
  const still = await reading(page, 'cellar-3');
  want(still.includes('11.25'), `values of a device that is away: ${still}`);
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-05', status: 'offline', cause: 'timeout', since: Date.now() });
  await page.waitForSelector('#row-pump-05 .mark[data-status=offline]');
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-05', status: 'online', since: Date.now() });
  await page.waitForSelector('#row-pump-05 .mark[data-status=online]');
  await bench.shot(page, 'fleet-light');
  clean(page);
});

check('fleet filters by words, selector and status', async (bench) => {
  const page = await bench.signedIn();
  await page.keyboard.press('/');
  await page.keyboard.type('thermo b2');
  await page.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
  wantEqual(await rows(page), ['boiler-1'], 'by words');
  await page.fill('[data-search]', '');
  await page.fill('input[name=selector]', 'site=plant-7,room=cellar');
  await page.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
  wantEqual(await rows(page), ['cellar-3'], 'by selector');
  want(page.url().includes('selector=site'), 'the filter is not in the address');
  await page.reload();
  await page.waitForSelector('#row-cellar-3');
  wantEqual(await rows(page), ['cellar-3'], 'by selector after a reload');
  await page.fill('input[name=selector]', 'site==');
  await page.waitForSelector('.selector-problem .fault');
  want((await page.textContent('.selector-problem')).includes('write it like'), 'the hint is not shown');
  await page.fill('input[name=selector]', '');
  await page.waitForSelector('.selector-problem .fault', { state: 'detached' });
  await page.click('.segment:has-text("Never seen")');
  await page.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
  wantEqual(await rows(page), ['spare-1'], 'by status');
  await page.fill('[data-search]', 'nothing like it');
  await page.click('text=Clear the filters');
  await page.waitForSelector('#row-boiler-1');
  await page.click('#row-plug-1 .label');
  await page.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
  wantEqual(await rows(page), ['plug-1'], 'by a label clicked');
  await page.fill('input[name=selector]', '');
  await page.click('#row-hostile-1 .label[title^="Only name="]');
  await page.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
  wantEqual(await rows(page), ['hostile-1'], 'by a label whose value has signs of the selectors');
  clean(page, { allow: [refused] });
});

check('text of devices is text', async (bench) => {
  const page = await bench.signedIn();
  await page.waitForSelector('#row-hostile-1 .label');
  const text = await page.textContent('#row-hostile-1');
  want(text.includes('<img src=x onerror='), `row ${text}`);
  await page.click('#row-hostile-1 .device-id');
  await page.waitForSelector('.strip canvas');
  await page.waitForSelector('.latest td');
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.command[data-state=succeeded]');
  want((await page.textContent('.outcome')).includes('<script>'), 'the result is not shown as text');
  want((await page.textContent('.order')).includes('<img src=x'), 'the form is not shown as text');
  await page.goto('/console/commands');
  await page.waitForSelector('.command');
  await page.click('.fold');
  await page.waitForSelector('.outcome');
  wantEqual(await page.$$eval('#console img, #console script', (found) => found.length), 0, 'elements made by device text');
  await bench.shot(page, 'hostile');
  clean(page, { allow: [refused] });
});

check('the live link says when it is down and comes back', async (bench) => {
  const page = await bench.signedIn();
  await page.waitForSelector('.light[data-state=up]');
  await bench.control(page, '/test/live/down');
  await page.waitForSelector('[data-banner=link]');
  const banner = await page.textContent('[data-banner=link]');
  want(/live link is down.*as of \d\d:\d\d:\d\d/.test(banner), `banner ${banner}`);
  await page.waitForFunction(() => document.querySelector('[role=status].unseen, .unseen[aria-live]') && [...document.querySelectorAll('[aria-live]')].some((el) => el.textContent.includes('down')));
  await bench.shot(page, 'link-down');
  // What happens meanwhile is fetched afterwards.
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-09', status: 'offline', cause: 'timeout' });
  await bench.control(page, '/test/live/up');
  await page.click('text=Try now').catch(() => {}); // it may have come back by itself
  await page.waitForSelector('[data-banner=link]', { state: 'detached', timeout: 40_000 });
  await page.waitForSelector('.light[data-state=up]');
  await page.waitForSelector('#row-pump-09 .mark[data-status=offline]');
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-09', status: 'online' });
  await page.waitForSelector('#row-pump-09 .mark[data-status=online]');
  clean(page, { allow: [refused, lost] });
});

check('what a slow view lost is told', async (bench) => {
  const page = await bench.signedIn();
  await page.waitForSelector('#row-boiler-1');
  const before = await reading(page, 'boiler-1');
  await page.waitForFunction((text) => document.querySelector('#row-boiler-1 .c-values').textContent !== text, before); // values come
  await bench.control(page, '/test/event', { event: 'gap', dropped: 120 });
  await page.waitForSelector('[data-banner=gap]');
  want((await page.textContent('[data-banner=gap]')).includes('120 readings'), 'the number is not told');
  await page.click('text=Dismiss');
  await page.waitForSelector('[data-banner=gap]', { state: 'detached' });
  clean(page);
});
