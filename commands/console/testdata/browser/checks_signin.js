import { check, eventually, want, wantEqual } from './check.js';
import { clean, refused } from './bench.js';

check('the harness sees a dialog, a policy violation and a request elsewhere', async (bench) => {
  const open = await bench.page();
  await open.goto('/test/hostile?policy=none');
  await open.waitForFunction(() => document.readyState === 'complete');
  want(open.heard.dialogs.includes('inline') && open.heard.dialogs.includes('handler'), `dialogs ${open.heard.dialogs}`);
  const closed = await bench.page();
  await closed.goto('/test/hostile');
  await closed.waitForFunction(() => document.readyState === 'complete');
  wantEqual(closed.heard.dialogs, [], 'dialogs under the policy');
  await eventually(() => closed.heard.violations.length >= 2, 'inline script is not reported as a violation');
  await closed.evaluate(() => fetch('https://127.0.0.1:1/').catch(() => {}));
  await eventually(() => closed.heard.violations.some((v) => v.startsWith('connect-src')), 'a connection elsewhere is not refused');
  wantEqual(closed.heard.elsewhere, [], 'requests elsewhere under the policy');
  await open.evaluate(() => fetch('https://127.0.0.1:1/').catch(() => {}));
  await eventually(() => open.heard.elsewhere.length === 1, 'a request elsewhere is not noticed');
});

check('sign in by token', async (bench) => {
  const page = await bench.page();
  await page.goto('/console/devices/boiler-1');
  await page.fill('input[name=token]', 'wrong');
  await page.click('button[type=submit]');
  await page.waitForSelector('.fault');
  const fault = await page.textContent('.fault');
  want(fault.includes('this token or link is not valid') && fault.includes('fairlead operators add'), `fault ${fault}`);
  await bench.shot(page, 'signin');
  await page.fill('input[name=token]', 'test-operator-token');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.device-head');
  want(page.url().endsWith('/console/devices/boiler-1'), `signed in to ${page.url()}`);
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  want(!stored.includes('operator-token') && !stored.includes('session-'), `kept in the page: ${stored}`);
  clean(page, { allow: [refused] });
});

check('sign in by one-time link', async (bench) => {
  const page = await bench.page();
  await page.goto('/console/signin#test-one-time-secret');
  await page.waitForSelector('.rows .row');
  want(!page.url().includes('secret') && page.url().endsWith('/console/'), `address ${page.url()}`);
  await page.goBack().catch(() => {});
  want(!page.url().includes('secret'), `address after going back ${page.url()}`);
  const again = await bench.page();
  await again.goto('/console/signin#test-one-time-secret');
  await again.waitForSelector('.fault');
  want(!again.url().includes('secret'), 'the secret stays in the address');
});

check('sign out, and being signed out', async (bench) => {
  const page = await bench.signedIn();
  await bench.control(page, '/test/signout');
  await page.waitForSelector('.signin-card');
  want((await page.textContent('.signin-card')).includes('the session has ended'), 'no reason is given');
  await page.fill('input[name=token]', 'test-operator-token');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.rows .row');
  await page.click('text=Sign out');
  await page.waitForSelector('.signin-card');
  await page.goto('/console/');
  await page.waitForSelector('.signin-card');
});
