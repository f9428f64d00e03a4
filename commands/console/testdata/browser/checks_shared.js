import { check, want, wantEqual } from './check.js';
import { clean, reading, refused } from './bench.js';

check('jobs are listed, steered and looked into', async (bench) => {
  const page = await bench.signedIn({}, 'jobs');
  await page.waitForSelector('tr[data-job=j1]');
  want((await page.textContent('tr[data-job=j1]')).includes('2 of 4'), 'it is not told how many devices are done');
  await page.click('text=More');
  await page.waitForSelector('tr[data-job=j4] .state[data-tone=bad]');
  await bench.shot(page, 'jobs');
  await page.click('tr[data-job=j1] a');
  await page.waitForSelector('.job[data-state=running]');
  await page.waitForFunction(() => document.querySelectorAll('.results tbody tr').length === 4);
  await bench.shot(page, 'job');
  await page.click('.segment:has-text("failed")');
  await page.waitForFunction(() => document.querySelectorAll('.results tbody tr').length === 1);
  want((await page.textContent('.results tbody')).includes('sensor_busy'), 'the reason is not shown');
  await page.click('button:has-text("Pause")');
  await page.waitForSelector('.job[data-state=paused]');
  want((await page.textContent('.job')).includes('paused by kim'), 'who paused it');
  await page.click('button:has-text("Resume")');
  await page.waitForSelector('.job[data-state=running]');
  await page.click('.job button:has-text("Cancel")');
  await page.waitForSelector('.job[data-state=cancelled]');
  wantEqual(await page.$$eval('.job button', (found) => found.length), 0, 'buttons of a job that is over');
  clean(page);
});

check('a job is approved by a second operator only', async (bench) => {
  const page = await bench.signedIn({}, 'jobs/j3');
  await page.waitForSelector('.job[data-state=awaiting_approval]');
  want((await page.textContent('.job')).includes('you asked for it'), 'it is not said who has to agree');
  want(await page.$('button:has-text("Approve")') === null, 'it can be approved by who asked');
  await page.goto('/console/jobs/j2');
  await page.click('button:has-text("Approve")');
  await page.waitForSelector('.job[data-state=running]');
  want((await page.textContent('.job')).includes('Approved by'), 'who approved it');
  clean(page);
});

check('a command that waits is approved or denied', async (bench) => {
  const page = await bench.signedIn({}, 'commands');
  await page.waitForSelector('.page-head');
  for (let i = 0; i < 2; i++) await bench.control(page, '/test/awaiting', { device: 'pump-19', actor: 'lee' });
  await bench.control(page, '/test/awaiting', { device: 'pump-19', actor: 'kim' });
  const section = page.locator('section.part:has-text("commands wait for approval")');
  await page.waitForFunction(() => document.querySelectorAll('section.part .approval').length === 3);
  await bench.shot(page, 'approvals');
  wantEqual(await section.locator('button:has-text("Approve")').count(), 2, 'own commands cannot be approved');
  await section.locator('button:has-text("Approve")').first().click();
  await page.waitForFunction(() => document.querySelectorAll('section.part .approval').length === 2);
  await page.waitForSelector('.command[data-state=succeeded]:has-text("approved by kim")');
  await section.locator('button:has-text("Deny")').click();
  await page.waitForSelector('.command[data-state=cancelled]:has-text("lee")');
  await page.goto('/console/devices/pump-19');
  await page.waitForSelector('.approval:has-text("you asked for it")');
  await page.click('button:has-text("Take it back")');
  await page.waitForSelector('.approval', { state: 'detached' });
  clean(page, { allow: [refused] });
});

check('a device is held, given back and taken over', async (bench) => {
  const page = await bench.signedIn({}, 'devices/pump-18');
  await page.waitForSelector('.lease[data-held=no]');
  await page.click('button:has-text("Hold for 10 min")');
  await page.waitForSelector('.lease[data-held=own]');
  await bench.shot(page, 'lease');
  await page.click('button:has-text("Give back")');
  await page.waitForSelector('.lease[data-held=no]');
  await bench.control(page, '/test/lease', { device: 'pump-18' });
  await page.reload();
  await page.waitForSelector('.lease[data-held=other]');
  want((await page.textContent('.lease')).includes('lee holds this device'), 'who holds it is not told');
  await page.click('button:has-text("Take over")');
  await page.waitForSelector('.lease[data-held=own]');
  await page.click('button:has-text("Give back")');
  await page.waitForSelector('.lease[data-held=no]');
  clean(page, { allow: [refused] });
});

check('silence and conflicts are shown', async (bench) => {
  const page = await bench.signedIn({}, 'devices/pump-17');
  await page.waitForSelector('.presence-line');
  want(await page.$('.trouble') === null, 'trouble with a good device');
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-17', status: 'online', silent: true, silent_since: Date.now() - 90_000, since: Date.now() });
  await page.waitForSelector('.trouble[data-trouble=silent]:has-text("expected every 1m0s")');
  await bench.control(page, '/test/event', { event: 'identity_conflict', device: 'pump-17', flaps: 4, addresses: ['10.0.0.1:5', '10.0.0.2:6'], since: Date.now() });
  await page.waitForSelector('.trouble[data-trouble=conflict]:has-text("10.0.0.1:5 and 10.0.0.2:6")');
  await bench.shot(page, 'troubles');
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-17', status: 'online', silent: true, conflict: true, flaps: 4, since: Date.now() });
  await page.click('.brand');
  await page.waitForSelector('#row-pump-17 .flag:has-text("silent")');
  await page.waitForSelector('#row-pump-17 .flag:has-text("conflict")');
  await bench.control(page, '/test/event', { event: 'presence', device: 'pump-17', status: 'online', since: Date.now() });
  await page.waitForSelector('#row-pump-17 .flag', { state: 'detached' });
  clean(page, { allow: [refused] });
});

check('what happens before the subscription counts is shown', async (bench) => {
  const page = await bench.signedIn();
  await bench.control(page, '/test/subscriptions/held');
  try {
    await page.goto('/console/devices/pump-18');
    await page.waitForSelector('.presence-line');
    want(await page.$('.trouble') === null, 'trouble with a good device');
    await bench.control(page, '/test/event', { event: 'presence', device: 'pump-18', status: 'online', silent: true, since: Date.now() });
  } finally {
    await bench.control(page, '/test/subscriptions/taken');
  }
  await page.waitForSelector('.trouble[data-trouble=silent]');
  clean(page, { allow: [refused] });
});

check('the hub’s notes of commands are not shown as measured', async (bench) => {
  const page = await bench.signedIn();
  await page.waitForSelector('#row-pump-16 .reading');
  const before = await reading(page, 'boiler-1');
  await page.waitForFunction((text) => document.querySelector('#row-boiler-1 .c-values').textContent !== text, before); // values come
  await bench.control(page, '/test/event', { event: 'telemetry', device: 'pump-16', points: [{ measurement: 'command', time: Date.now(), fields: { actor: 'kim' } }, { measurement: 'env', time: Date.now(), fields: { fresh: 77.5 } }] });
  await page.waitForFunction(() => document.querySelector('#row-pump-16 .c-values').textContent.includes('77.5'));
  want(!(await page.textContent('#row-pump-16 .c-values')).includes('kim'), 'they are shown');
  clean(page);
});

check('devices that enrolled are let in or turned away', async (bench) => {
  const page = await bench.signedIn({}, 'hub');
  await page.click('text=Enrollments');
  await page.waitForSelector('.pending tr[data-device=new-1]');
  want((await page.textContent('.enrollments')).includes('2 of 100 devices'), 'it is not told how many devices it was used for');
  await bench.shot(page, 'enrollments');
  await page.click('tr[data-device=new-1] button:has-text("Approve")');
  await page.waitForSelector('tr[data-device=new-1]', { state: 'detached' });
  await page.click('tr[data-device=new-2] button:has-text("Turn away")');
  await page.waitForSelector('text=None.');
  clean(page, { allow: [refused] });
});
