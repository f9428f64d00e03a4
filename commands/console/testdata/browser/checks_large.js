import { check, want, wantEqual } from './check.js';
import { clean, reading } from './bench.js';

// spending tells later how many milliseconds of the page's own work each of so many steps took.
async function spending(page) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
  const read = async () => Object.fromEntries((await devtools.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]));
  const before = await read();
  return async (steps) => {
    const after = await read();
    const each = (name) => Number(((after[name] - before[name]) * 1000 / steps).toFixed(2));
    return { script: each('ScriptDuration'), layout: each('LayoutDuration') + each('RecalcStyleDuration') };
  };
}

check('ten thousand devices scroll with a bounded page', async (bench) => {
  const page = await bench.signedIn({ url: process.env.LARGE_URL });
  await page.waitForFunction(() => document.querySelector('.segment .num')?.textContent.replace(/\D/g, '') === '10000', undefined, { timeout: 30_000 });
  wantEqual(await page.getAttribute('.rows', 'aria-rowcount'), '10001', 'rows told to assistive technology');
  const spent = await spending(page);
  const seen = await page.evaluate(async () => {
    const list = document.querySelector('.rows');
    const frame = () => new Promise((done) => { requestAnimationFrame(done); });
    const worst = { rows: 0, elements: 0, blank: 0 };
    const ids = new Set();
    const steps = 240;
    const pauses = [];
    for (let i = 0; i <= steps; i++) {
      const began = performance.now();
      list.scrollTop = (list.scrollHeight - list.clientHeight) * i / steps;
      await frame();
      await frame();
      pauses.push((performance.now() - began) / 2);
      const rows = list.querySelectorAll('.row');
      worst.rows = Math.max(worst.rows, rows.length);
      worst.elements = Math.max(worst.elements, document.querySelectorAll('*').length);
      const box = list.getBoundingClientRect();
      const middle = document.elementFromPoint(box.left + 60, box.top + box.height / 2);
      if (!middle?.closest('.row')) worst.blank++;
      for (const row of rows) ids.add(row.id);
    }
    pauses.sort((a, b) => a - b);
    return { ...worst, last: ids.has('row-pump-09999'), median: pauses[steps >> 1], p95: pauses[Math.floor(steps * 0.95)] };
  });
  // Figures, not conditions: they depend on what else the machine does.
  console.error('scrolling', JSON.stringify({ ...seen, ms_per_screen: await spent(241) }));
  want(seen.rows > 10 && seen.rows < 60, `${seen.rows} rows in the page`);
  want(seen.elements < 2500, `${seen.elements} elements in the page`);
  want(seen.last, 'the last device was not reached');
  wantEqual(seen.blank, 0, 'frames with nothing under the pointer');
  await page.fill('[data-search]', 'pump-07777');
  await page.waitForFunction(() => document.querySelectorAll('.rows .row').length === 1);
  const before = await reading(page, 'pump-07777');
  await page.waitForFunction((text) => document.querySelector('#row-pump-07777 .c-values').textContent !== text, before);
  await bench.shot(page, 'fleet-10000');
  clean(page);
});
