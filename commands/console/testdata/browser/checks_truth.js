// What is shown is so: also when answers are late, the link is silent, somebody else was quicker.
import { check, eventually, want, wantEqual } from './check.js';
import { clean, lost, refused } from './bench.js';

// held answers requests for url as they were at their time, but only when the returned function is called.
async function held(page, url) {
  let release;
  const released = new Promise((done) => { release = done; });
  await page.route(url, async (route) => {
    const response = await route.fetch();
    await released;
    await route.fulfill({ response });
  });
  return release;
}

// module imports a module of the console into the page.
const module = (page, path, use) => page.evaluate(`(async () => {
  const base = document.querySelector('script[type=module]').src.replace(/app\\/main\\.js$/, 'app/');
  return (${use})(await import(base + ${JSON.stringify(path)}));
})()`);

check('a list of commands in one state drops what has left it', async (bench) => {
  const device = await bench.signedIn({}, 'devices/cellar-3');
  await device.fill('input[name=name]', 'leave');
  await device.click('button:has-text("Send")');
  await device.waitForSelector('.command[data-state=queued]');
  const id = await device.getAttribute('.command', 'data-command');
  const list = await bench.signedIn({}, 'commands?state=queued');
  await list.waitForSelector(`.command[data-command="${id}"]`);
  await list.waitForSelector('.light[data-state=up]');
  await device.click('text=Cancel command');
  await device.waitForSelector('.command[data-state=cancelled]');
  await list.waitForSelector(`.command[data-command="${id}"]`, { state: 'detached' });
  clean(list);
});

check('a device that went while the list was on its way is away', async (bench) => {
  const page = await bench.signedIn();
  await page.waitForSelector('.light[data-state=up]');
  const release = await held(page, /\/api\/v1\/devices\?/);
  const asked = page.waitForRequest(/\/api\/v1\/devices\?.*selector=/);
  await page.fill('input[name=selector]', 'line');
  await asked;
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-11', status: 'offline', cause: 'timeout', since: Date.now() });
  await page.waitForSelector('#row-pump-11 .mark[data-status=offline]');
  release();
  await page.waitForSelector('#row-boiler-1', { state: 'detached' });
  wantEqual(await page.getAttribute('#row-pump-11 .mark', 'data-status'), 'offline', 'status after the late answer');
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-11', status: 'online', since: Date.now() });
  await page.waitForSelector('#row-pump-11 .mark[data-status=online]');
  clean(page);
});

check('what is shown of a silent link is as old as its last word', async (bench) => {
  const page = await bench.signedIn();
  await page.clock.install();
  await page.goto('/console/devices/boiler-1');
  await page.waitForSelector('.light[data-state=up]');
  await page.waitForSelector('.strip canvas');
  await bench.control(page, '/test/live/shut');
  await page.route('**/api/v1/**', (route) => route.abort());
  const before = Number((await page.textContent('.presence-line')).match(/for 3 h (\d+) min/)[1]);
  await page.clock.fastForward('20:00');
  await page.waitForSelector('[data-banner=link]');
  const [hours, minutes] = (await page.textContent('[data-banner=link]')).match(/as of (\d\d):(\d\d)/).slice(1).map(Number);
  const [now, then] = [await page.evaluate(() => new Date().getHours() * 60 + new Date().getMinutes()), hours * 60 + minutes];
  want((now - then + 1440) % 1440 >= 15, `as of ${hours}:${minutes}, when nothing was heard for 20 minutes`);
  await page.waitForFunction((most) => Number(document.querySelector('.presence-line').textContent.match(/for 3 h (\d+) min/)[1]) < most, before + 5); // it is not counted on
  await bench.control(page, '/test/live/up');
  clean(page, { allow: [refused, lost] });
});

check('the fleet is fetched at once when the link is back', async (bench) => {
  const page = await bench.signedIn();
  await page.clock.install();
  await page.goto('/console/');
  await page.waitForSelector('#row-boiler-1');
  await page.waitForSelector('.light[data-state=up]');
  await bench.control(page, '/test/live/down');
  await page.waitForSelector('[data-banner=link]');
  await page.clock.pauseAt(Date.now() + 60_000); // no timer runs any more
  await bench.control(page, '/test/live/up');
  let asked = false;
  page.on('request', (request) => { asked ||= /\/api\/v1\/devices\?/.test(request.url()); });
  const tryNow = () => page.evaluate(() => document.querySelector('[data-banner=link] button')?.click()).catch(() => {}); // a real click waits for a frame
  await eventually(() => { tryNow(); return asked; }, 'the fleet waits for a timer');
  clean(page, { allow: [refused, lost] });
});

check('numbers, names and causes can be told apart', async (bench) => {
  const page = await bench.signedIn();
  const ticks = await module(page, 'parts/chart.js', '({ tick }) => [1234000, 1236000, 123000000000, 123200000000, 0.0001231, 0.0001234, 20.5, 0].map(tick)');
  wantEqual(new Set(ticks).size, 8, `ticks ${ticks}`);
  wantEqual(ticks.slice(-2), ['20.5', '0'], 'small ones');
  wantEqual(await module(page, 'format.js', '({ value }) => [1763832000, 123456789012, 3, 1e300].map(value)'), ['1,763,832,000', '123,456,789,012', '3', '1.000e+300'], 'values');
  wantEqual(await module(page, 'fleet.js', '({ measured }) => measured({ last: { "t.f10": 1, "t.f9": 1, "command.x": 1 } })'), ['t.f9', 't.f10'], 'order of fields');
  wantEqual(await module(page, 'format.js', '({ cause }) => [cause("node_restarted").includes("hub stopped"), cause("token_expired"), cause("some_thing")]'), [true, 'its token expired', 'some thing'], 'causes');
});

check('a chart of days says of which day a value is', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.click('.segment:has-text("7 days")');
  await page.waitForFunction(() => document.querySelector('.strip[data-field="env.temp"] .paper')?.getAttribute('aria-label').includes('7 days: from'));
  const paper = page.locator('.strip[data-field="env.temp"] .u-over');
  const { width, height } = await paper.boundingBox();
  await paper.hover({ position: { x: width / 3, y: height / 2 } });
  const time = await page.textContent('.strip[data-field="env.temp"] .strip-time');
  want(/\d+ \w{3,4}.*\d\d:\d\d/.test(time), `time ${time}`);
  await page.click('.segment:has-text("5 min")');
  await page.waitForFunction(() => document.querySelector('.strip[data-field="env.temp"] .paper')?.getAttribute('aria-label').includes('5 min: from'));
  await paper.hover({ position: { x: width / 3 + 2, y: height / 2 } });
  await page.waitForFunction(() => /^\d\d:\d\d:\d\d\.\d{3}$/.test(document.querySelector('.strip[data-field="env.temp"] .strip-time')?.textContent));
});

check('a state that could not be fetched is not taken for none', async (bench) => {
  const page = await bench.signedIn();
  await page.route('**/state', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: '{"title":"busy","detail":"the store of states is busy","code":"busy"}' }));
  await page.goto('/console/devices/boiler-1');
  await page.waitForSelector('.twin .fault');
  await page.unroute('**/state');
  await page.click('.twin button:has-text("Try again")');
  await page.waitForSelector('.twin td');
  clean(page, { allow: [refused] });
});

check('older audit records follow on those that are shown', async (bench) => {
  const page = await bench.signedIn();
  let newest = 100;
  await page.route(/\/api\/v1\/audit\?/, (route) => {
    const cursor = new URL(route.request().url()).searchParams.get('cursor');
    const from = cursor ? Number(cursor) : newest;
    const records = [from, from - 1].map((n) => ({ time: Date.now(), hash: `h${n}`, actor: 'kim', action: `act.${n}`, outcome: 'ok' }));
    return route.fulfill({ json: { records, cursor: String(from - 2) } });
  });
  await page.goto('/console/hub');
  await page.click('text=Older ones');
  await page.waitForSelector('text=act.97');
  newest += 2;
  await bench.control(page, '/test/live/up'); // drops the link: the page fetches again when it has it back
  await page.waitForSelector('text=act.102');
  await page.click('text=Older ones');
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 4);
  wantEqual(await page.$$eval('tbody td .mono', (found) => found.map((el) => el.textContent)), ['act.102', 'act.101', 'act.100', 'act.99'], 'records');
  clean(page, { allow: [refused, lost] });
});

check('who holds a device is shown to whom it refused', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.waitForSelector('.lease[data-held=no]');
  await page.route('**/api/v1/devices/boiler-1', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), lease: { holder: 'robin', until: Date.now() + 600_000 } } });
  });
  await page.route('**/devices/boiler-1/commands', (route) => route.fulfill({ status: 409, contentType: 'application/problem+json', body: '{"title":"held","detail":"robin holds boiler-1","code":"device_held"}' }));
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.order .fault');
  await page.waitForSelector('.lease[data-held=other]');
  clean(page, { allow: [refused] });
});

check('a device with many commands leads to the older ones', async (bench) => {
  const page = await bench.signedIn();
  await page.route(/\/api\/v1\/commands\?device=boiler-1/, (route) => route.fulfill({ json: {
    commands: Array.from({ length: 20 }, (_, i) => ({ id: `c${i}`, device: 'boiler-1', name: 'ping', state: 'succeeded', actor: 'kim', created: Date.now() - i * 1000 })),
  } }));
  await page.goto('/console/devices/boiler-1');
  await page.click('text=Older commands of this device');
  await page.waitForFunction(() => document.querySelector('input[placeholder="Device id"]')?.value === 'boiler-1');
});
