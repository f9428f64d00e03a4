// Runs every check against the hubs that the Go test has started.
import { Bench } from './bench.js';
import { runAll } from './check.js';
import './checks_signin.js';
import './checks_fleet.js';
import './checks_device.js';
import './checks_commands.js';
import './checks_shared.js';
import './checks_truth.js';
import './checks_look.js';

const bench = new Bench({ executable: process.env.CHROMIUM, shots: process.env.SHOTS });
await bench.start();
try {
  await runAll(bench, process.env.ONLY);
} finally {
  await bench.stop();
}
