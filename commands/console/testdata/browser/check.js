// What a check is, and how its outcome reaches the Go test: one line each, "ok NAME" or "not ok NAME: WHY".
let checks = [];

export function check(name, run) { checks.push({ name, run }); }

// taken is what the modules imported since the last call check, in their order.
export function taken() {
  const all = checks;
  checks = [];
  return all;
}

export function want(condition, why) {
  if (!condition) throw new Error(why);
}

const patienceMs = 30_000;

// eventually waits for what reaches this process by itself.
export async function eventually(condition, why) {
  const until = Date.now() + patienceMs;
  while (!condition()) {
    want(Date.now() < until, why);
    await new Promise((done) => { setTimeout(done, 20); });
  }
}

export function wantEqual(got, expected, what) {
  want(JSON.stringify(got) === JSON.stringify(expected), `${what}: ${JSON.stringify(got)}, want ${JSON.stringify(expected)}`);
}

export async function runAll(bench, checks, only) {
  for (const { name, run } of checks) {
    if (only && !name.includes(only)) continue;
    try {
      await run(bench);
      console.log(`ok ${name}`);
    } catch (error) {
      await bench.onFailure(name);
      console.log(`not ok ${name}: ${String(error.message).split('\n').slice(0, 6).join(' | ')}`);
    }
    await bench.closeAll();
  }
}
