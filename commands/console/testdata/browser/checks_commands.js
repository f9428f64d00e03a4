import { check, want, wantEqual } from './check.js';
import { clean, lost, refused } from './bench.js';

const total = async (page) => (await (await page.request.get('/test/refusals')).json());

check('a command is sent and its time line reaches succeeded', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.waitForSelector('.order');
  wantEqual(await page.inputValue('input[name=seconds]'), '10', 'the default');
  await page.fill('input[name=seconds]', '4000');
  await page.click('button:has-text("Send")');
  want((await page.textContent('.field-fault')).includes('at most 3600'), 'the bound is not told');
  await page.fill('input[name=seconds]', '30');
  await page.selectOption('select[name=mode]', { label: 'eco' });
  const request = page.waitForRequest((r) => r.method() === 'POST' && r.url().endsWith('/commands'));
  await page.click('button:has-text("Send")');
  const sent = await request;
  wantEqual(sent.postDataJSON(), { name: 'set_interval', params: { seconds: 30, mode: 'eco', persist: true }, ttl: '1h' }, 'body');
  want(sent.headers()['idempotency-key'].length === 32 && sent.headers()['x-csrf-token'], 'key or CSRF token missing');
  const card = page.locator('.command').first();
  await card.locator('[data-state=queued]').waitFor();
  await page.waitForSelector('.command[data-state=succeeded]');
  await page.waitForFunction(() => document.querySelectorAll('.command .event').length === 5);
  wantEqual(await card.locator('.event').evaluateAll((found) => found.map((event) => event.dataset.state)), ['queued', 'sent', 'delivered', 'running', 'succeeded'], 'states');
  want(/\d\d:\d\d:\d\d\.\d{3}/.test(await card.locator('.event-time').first().textContent()), 'no time');
  await card.locator('.evidence').hover();
  await card.locator('.tip').waitFor({ state: 'visible' });
  want((await card.locator('.tip').textContent()).includes('names this very command'), 'evidence is not explained');
  await bench.shot(page, 'command-light');
  await page.click('.choice:has-text("Calibrate")');
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.command[data-state=failed] .outcome.bad');
  want((await page.textContent('.outcome.bad')).includes('sensor_busy'), 'no error code');
  clean(page);
});

check('evidence that is only observed says so', async (bench) => {
  const page = await bench.signedIn({}, 'devices/plug-1');
  await page.selectOption('select[name=on]', { label: 'on' });
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.command[data-state=succeeded] .evidence[data-evidence=observed]');
  want((await page.textContent('.command .tip')).includes('no reply names this command'), 'evidence is not explained');
  want((await page.textContent('.presence-line')).includes('over MQTT, connection embedded'), 'the link is not told');
  clean(page, { allow: [refused] });
});

check('a dangerous command asks for the device id', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  const before = (await total(page)).commands;
  await page.click('.choice:has-text("Reboot")');
  await page.click('button:has-text("Send")');
  const confirm = page.locator('dialog.confirm');
  await confirm.waitFor();
  want(await confirm.locator('button.danger').isDisabled(), 'it can be sent at once');
  await page.keyboard.type('boiler-2');
  want(await confirm.locator('button.danger').isDisabled(), 'another id will do');
  await bench.shot(page, 'dangerous');
  await page.keyboard.press('Escape');
  await confirm.waitFor({ state: 'detached' });
  wantEqual((await total(page)).commands, before, 'commands after thinking better of it');
  await page.click('button:has-text("Send")');
  await confirm.locator('input:focus').waitFor();
  await page.keyboard.type('boiler-1');
  await page.keyboard.press('Enter');
  await confirm.waitFor({ state: 'detached' });
  await page.waitForFunction(() => document.querySelector('.command')?.dataset.state === 'succeeded' && document.querySelector('.command-name').textContent === 'reboot');
  wantEqual((await total(page)).commands, before + 1, 'commands');
  clean(page);
});

check('a command whose answer was lost is not made twice', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.waitForSelector('.order');
  const before = (await total(page)).commands;
  await bench.control(page, '/test/replies/lost');
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.order .fault');
  want((await page.textContent('.order .fault')).includes('cannot act twice'), 'it is not said that sending again is safe');
  await bench.control(page, '/test/replies/kept');
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.order .fault', { state: 'detached' });
  wantEqual((await total(page)).commands, before + 1, 'commands');
  clean(page, { allow: [lost] });
});

check('parameters can be written as JSON', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.click('.choice:has-text("Raw write")');
  await page.fill('textarea[name=json]', '[1]');
  await page.click('button:has-text("Send")');
  want((await page.textContent('.field-fault')).includes('must be a JSON object'), 'a list was taken');
  await page.fill('textarea[name=json]', '{"register": 7}');
  const request = page.waitForRequest((r) => r.method() === 'POST' && r.url().endsWith('/commands'));
  await page.click('button:has-text("Send")');
  wantEqual((await request).postDataJSON().params, { register: 7 }, 'params');
  await page.click('.choice:has-text("Set interval")');
  await page.click('text=Edit as JSON');
  wantEqual(JSON.parse(await page.inputValue('textarea[name=json]')), { seconds: 10, persist: true }, 'the form as JSON');
  clean(page);
});

check('dead letters are shown and written again', async (bench) => {
  const page = await bench.signedIn({}, 'deadletters');
  await page.waitForSelector('.letter');
  want((await page.textContent('.letter')).includes('field type conflict'), 'no reason is shown');
  await page.click('text=Older ones');
  await page.waitForFunction(() => document.querySelectorAll('.letter').length === 2);
  await bench.shot(page, 'deadletters');
  await page.click('text=Write them again');
  await page.waitForSelector('text=2 points put back into the log');
  await page.waitForSelector('.letter', { state: 'detached' });
  clean(page);
});

check('frames are shown when asked for', async (bench) => {
  const page = await bench.signedIn({}, 'devices/boiler-1');
  await page.click('.trace summary');
  await page.waitForSelector('.frames li');
  want((await page.textContent('.frames')).includes('committed'), 'the fate of a frame is not shown');
  clean(page);
});

check('a command to a device that is away waits, and can be cancelled', async (bench) => {
  const page = await bench.signedIn({}, 'devices/cellar-3');
  await page.fill('input[name=name]', 'ping');
  await page.selectOption('select[name=ttl]', '0s');
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.order .fault');
  want((await page.textContent('.order .fault')).includes('give the command a ttl'), 'the hint is not shown');
  await page.selectOption('select[name=ttl]', '1h');
  await page.click('button:has-text("Send")');
  await page.waitForSelector('.command[data-state=queued]');
  want((await page.textContent('.waiting-event')).includes('expires in'), 'it is not said how long it waits');
  await page.click('text=Cancel command');
  await page.waitForSelector('.command[data-state=cancelled]');
  clean(page, { allow: [refused] });
});

check('commands, bridge and what this hub does not have', async (bench) => {
  const page = await bench.signedIn({}, 'commands');
  await page.waitForSelector('.command');
  await bench.shot(page, 'commands');
  await page.selectOption('.filters select', 'cancelled');
  await page.waitForFunction(() => [...document.querySelectorAll('.command')].every((c) => c.dataset.state === 'cancelled'));
  await page.goto('/console/bridge');
  await page.waitForSelector('.card');
  want((await page.textContent('main')).includes('connection refused'), 'the fault of a connection is not shown');
  await page.click('.card summary');
  want((await page.textContent('.topics tbody tr')).includes('no map or profile knows this topic'), 'what is not mapped does not come first');
  await bench.shot(page, 'bridge');
  await page.goto('/console/hub');
  await page.waitForSelector('.absent');
  want((await page.textContent('.absent')).includes('does not offer a list of nodes'), 'it is not said plainly');
  want((await page.textContent('table')).includes('command.create'), 'the audit log is not shown');
  await bench.shot(page, 'hub');
  clean(page, { allow: [refused] });
  wantEqual((await total(page)).refusals, [], 'what the hub refused');
});
