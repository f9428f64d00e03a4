// Runs every check against the hubs that the Go test has started: two rows of them beside each other, since a check waits
// more than it works. Each row has a hub of its own, where it can pull the link and sign everybody out. Within a row the
// order counts: how things look is checked last, on the commands and jobs that the checks before it have left.
import { Bench, launch } from './bench.js';
import { check, runAll, taken, wantEqual } from './check.js';

const rows = [
  { url: process.env.HUB_URL, parts: ['fleet', 'commands', 'shared', 'look'] },
  { url: process.env.OTHER_URL, parts: ['large', 'signin', 'device', 'truth'] },
];

for (const row of rows) {
  row.checks = [];
  for (const part of row.parts) {
    await import(`./checks_${part}.js`);
    row.checks.push(...taken());
  }
  check(`the hub of ${row.parts.join(', ')} refused nothing`, async (bench) => {
    const page = await bench.page();
    wantEqual((await (await page.request.get('/test/refusals')).json()).refusals, [], 'what the hub refused');
  });
  row.checks.push(...taken());
}

const browser = await launch(process.env.CHROMIUM);
try {
  await Promise.all(rows.map(({ url, checks }) => runAll(new Bench({ browser, url, shots: process.env.SHOTS }), checks, process.env.ONLY)));
} finally {
  await browser.close();
}
